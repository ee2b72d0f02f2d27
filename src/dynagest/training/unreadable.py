"""Clips that cannot be read: left out, written down, shown, and counted; a run with too many of them stops."""

import json
from pathlib import Path

from accelerate.utils import gather_object

from dynagest.clips.dataset import UnreadableClip
from dynagest.errors import RunError, TrainingError
from dynagest.training.display import Display

UNREADABLE_FILE = "unreadable.jsonl"


class UnreadableClips:
    """Keeps ``unreadable.jsonl``: each clip of each split that could not be read, once. One of it in each process."""

    def __init__(self, run_dir: Path, allowed_share: float, display: Display, writes: bool) -> None:
        self.path = run_dir / UNREADABLE_FILE
        self._allowed_share, self._display, self._writes = allowed_share, display, writes
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self._known = {(entry["split"], entry["index"]) for entry in map(json.loads, lines)}

    def report(self, clips: list[UnreadableClip], split: str, epoch: int, before: int, total: int) -> int:
        """Take this process's unreadable clips of ``split``; returns how many there are in ``epoch`` (1-based) by now.

        ``before`` of the epoch's ``total`` clips were unreadable already. All processes call this together. Raises
        ``TrainingError`` when more than the allowed share are.
        """
        everyone: list[UnreadableClip] = gather_object(clips)
        new = [clip for clip in everyone if (split, clip.index) not in self._known]
        if new and self._writes:
            self._write(new, split, epoch)
        count = before + len(everyone)
        if count > self._allowed_share * total:
            named = "\n".join(f"  {clip.reason}" for clip in everyone[:5])
            raise TrainingError(
                f"{count} of {total} {split} clips are unreadable, more than the {100 * self._allowed_share:g} % that "
                f"the recipe allows (unreadable_share). They are listed in {self.path}; the last:\n{named}\n"
                "Repair or remove them (`dynagest data check` finds all)"
            )
        return count

    def _write(self, clips: list[UnreadableClip], split: str, epoch: int) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                for clip in clips:
                    entry = {"split": split, "index": clip.index, "epoch": epoch}
                    file.write(json.dumps(entry | {"file": str(clip.file), "reason": clip.reason}) + "\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror})") from error
        for clip in clips:
            self._known.add((split, clip.index))
            self._display.note(f"unreadable, left out of {split}: {clip.reason}")
