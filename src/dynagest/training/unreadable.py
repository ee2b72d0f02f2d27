"""Handles clips that cannot be read: they are left out, listed, shown and counted; too many of them stop the run."""

import json
from pathlib import Path

from accelerate.utils import gather_object

from dynagest.atomic import write_atomically
from dynagest.clips.labelled import UnreadableClip
from dynagest.errors import TrainingError
from dynagest.run_folder import UNREADABLE_FILE, unreadable_clips
from dynagest.training.display import Display

A_FEW = 3  # always allowed, unless no clip is left, so that no run stops at its first bad clip


class UnreadableClips:
    """Keeps ``unreadable.jsonl``, which lists each unreadable clip of each split once. Each process has its own."""

    def __init__(self, run_dir: Path, allowed_share: float, display: Display, writes: bool) -> None:
        self.path = run_dir / UNREADABLE_FILE
        self._allowed_share, self._display, self._writes = allowed_share, display, writes
        self._entries = unreadable_clips(run_dir)
        self._known = {(entry["split"], entry["index"]) for entry in self._entries}

    def report(self, clips: list[UnreadableClip], split: str, epoch: int, before: int, total: int) -> int:
        """Record this process's unreadable clips of ``split``. Returns how many ``epoch`` (1-based) has by now.

        ``before`` of the epoch's ``total`` clips were unreadable already. All processes call this together. Raises
        ``TrainingError`` when more than the allowed share of the clips is unreadable and more than ``A_FEW``, or all.
        """
        everyone: list[UnreadableClip] = gather_object(clips)
        new = [clip for clip in everyone if (split, clip.index) not in self._known]
        if new and self._writes:
            self._write(new, split, epoch)
        count, allowed = before + len(everyone), max(int(self._allowed_share * total), A_FEW)
        if count > allowed or count >= total:
            named = "\n".join(f"  {clip.reason}" for clip in everyone[:5])
            raise TrainingError(
                f"{count} of {total} {split} clips are unreadable, too many to go on: the recipe allows "
                f"{100 * self._allowed_share:g} % of them, or {A_FEW} (unreadable_share). They are listed in "
                f"{self.path}; the last:\n{named}\nRepair or remove them (`dynagest data check` finds all)"
            )
        return count

    def _write(self, clips: list[UnreadableClip], split: str, epoch: int) -> None:
        for clip in clips:
            entry = {"split": split, "index": clip.index, "epoch": epoch}
            self._entries.append(entry | {"file": clip.file, "reason": clip.reason})
            self._known.add((split, clip.index))
        # Written as a whole, because half a line, left by a full disk, could not be read when the run is resumed.
        write_atomically(self.path, "".join(f"{json.dumps(entry)}\n" for entry in self._entries).encode())
        for clip in clips:
            self._display.note(f"unreadable, left out of {split}: {clip.reason}")
