"""Clips that cannot be read: left out, written down, shown, and counted; a run with too many of them stops."""

import json
from pathlib import Path

from accelerate.utils import gather_object

from dynagest.atomic import write_atomically
from dynagest.clips.dataset import UnreadableClip
from dynagest.errors import TrainingError
from dynagest.run_folder import UNREADABLE_FILE
from dynagest.training.display import Display

A_FEW = 3  # never too many, unless they are all there is: no run shall die on its first bad clip


class UnreadableClips:
    """Keeps ``unreadable.jsonl``: each clip of each split that could not be read, once. One of it in each process."""

    def __init__(self, run_dir: Path, allowed_share: float, display: Display, writes: bool) -> None:
        self.path = run_dir / UNREADABLE_FILE
        self._allowed_share, self._display, self._writes = allowed_share, display, writes
        self._lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self._known = {(entry["split"], entry["index"]) for entry in map(json.loads, self._lines)}

    def report(self, clips: list[UnreadableClip], split: str, epoch: int, before: int, total: int) -> int:
        """Take this process's unreadable clips of ``split``; returns how many there are in ``epoch`` (1-based) by now.

        ``before`` of the epoch's ``total`` clips were unreadable already. All processes call this together. Raises
        ``TrainingError`` when more than the allowed share are, and more than a few; or all of them.
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
            self._lines.append(json.dumps(entry | {"file": str(clip.file), "reason": clip.reason}))
            self._known.add((split, clip.index))
        # As a whole: half a line, left by a full disk, could not be read when the run is resumed.
        write_atomically(self.path, "".join(f"{line}\n" for line in self._lines).encode())
        for clip in clips:
            self._display.note(f"unreadable, left out of {split}: {clip.reason}")
