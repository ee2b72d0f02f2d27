"""The folder of the clips that the page records. ``clips/gesture_folder.py`` writes them. Needs no torch."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from dynagest.clips.adapters.common import IndexOptions
from dynagest.clips.adapters.folders import index_folders
from dynagest.clips.depth import DEPTH_FILE
from dynagest.clips.gesture_folder import SUFFIX, check_label, gestures, refresh_manifest, write_clip
from dynagest.clips.manifest import CLASSES_FILE, MANIFEST_FILE, Manifest
from dynagest.clips.pseudo_depth import RECORD_FILE, depth_path, list_pseudo_depth
from dynagest.errors import DynagestError, RunError
from dynagest.web.guard import RequestError
from dynagest.web.recording import Limits, Recording, read_recording, unfit

_LONGEST_NAME = 255  # bytes in UTF-8: the limit of common file systems
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A clip in the folder: its name within its gesture, its frames and seconds, and why it cannot be shown, if so.

    ``written`` (seconds since 1970) tells it from an earlier clip of that name, because deleting one frees its name.
    """

    name: str
    frames: int
    seconds: float
    written: float
    fault: str = ""


class ClipFolder:
    """The folder of the user's gestures. Several browsers may use it at once; it is changed by one at a time."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder, self.limits = folder, limits or Limits()
        self._change = threading.Lock()
        self._known: dict[tuple[Path, int], Recorded] = {}

    def listing(self) -> list[dict[str, Any]]:
        """The gestures in natural order, with their clips.

        Each is a dict ``{"label": ..., "clips": [{"name", "frames", "seconds", "written", "fault"}, ...]}``.
        """
        return [{"label": label, "clips": list(self._described(label))} for label in gestures(self.folder)]

    def add(self, label: str, body: bytes) -> Recorded:
        """Store a recording, and return its description.

        Raises ``RequestError``: 422 for a name or body that cannot be accepted, 409 when there are too many gestures or
        clips, 507 when the disk is nearly full. Raises another ``DynagestError`` when the folder cannot be used.
        """
        self._check(label, new=True)
        recording = Recording.unpack(body, self.limits)
        frames = recording.frames(self.limits)
        with self._change:
            self._check_list()
            if (self.folder / label).is_symlink():
                raise unfit(f"{label} is a link to another folder, where nothing is recorded; choose another name")
            here = gestures(self.folder)
            if label not in here and len(here) >= self.limits.gestures:
                raise _full(f"there are {len(here)} gestures, as many as are taken; delete one")
            if len(self._clips(label)) >= self.limits.clips:
                raise _full(f"{label} has {self.limits.clips} clips, as many as are taken; delete some")
            with _changing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < self.limits.free_bytes:
                raise RequestError(HTTPStatus.INSUFFICIENT_STORAGE, "the disk of this machine is nearly full")
            return self._describe(write_clip(self.folder, label, frames, recording.times))

    def read(self, label: str, name: str) -> Recording:
        """Return a stored recording. Raises ``RequestError``: 404 if there is none, 409 if it cannot be read."""
        return read_recording(self._find(label, name))

    def delete(self, label: str, name: str) -> None:
        """Delete a clip, and with the last one the gesture's folder.

        Raises ``RequestError`` 404 if there is no such clip, and another ``DynagestError`` when the folder cannot be
        used.
        """
        with self._change, _changing(self.folder):
            path = self._find(label, name)
            self._check_list()
            path.unlink(missing_ok=True)  # another server with the same folder may have deleted it already
            depth_path(path).unlink(missing_ok=True)  # the depth that a teacher gave it, if any
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
            if index_folders(self.folder, IndexOptions()).clips:
                refresh_manifest(self.folder)
            else:
                # A teacher's own declaration of its depth goes; that of a sensor, which the user wrote, stays.
                declared = (DEPTH_FILE, RECORD_FILE) if (self.folder / RECORD_FILE).exists() else ()
                for left in (MANIFEST_FILE, CLASSES_FILE, *declared):
                    (self.folder / left).unlink(missing_ok=True)

    def refresh(self) -> None:
        """Update the manifest to what is in the folder. Raises ``ManifestError`` when that fails."""
        with self._change:
            refresh_manifest(self.folder)

    def list_depth(self) -> Manifest:
        """Enter the depth that a teacher wrote into the manifest, and return it.

        The teacher's command does so as well, but a clip that is added at the same moment may undo it.
        """
        with self._change:
            return list_pseudo_depth(self.folder / MANIFEST_FILE)

    def count_depth(self) -> tuple[int, int]:
        """The number of clips that have a teacher's depth, and the number of all clips."""
        clips = [path for label in gestures(self.folder) for path in self._clips(label)]
        return sum(depth_path(path).exists() for path in clips), len(clips)

    def _check_list(self) -> None:
        # Called before a change. If the manifest could not be updated after it, the change would be reported as failed
        # although it was made, and the user would make it again.
        if self.folder.exists() and index_folders(self.folder, IndexOptions()).clips:
            refresh_manifest(self.folder)
        elif (self.folder / MANIFEST_FILE).exists():
            Manifest.read(self.folder)

    def _clips(self, label: str) -> list[Path]:
        home = self.folder / label
        if home.is_symlink():
            return []
        try:
            found = [path for path in home.iterdir() if path.suffix == SUFFIX and _NAME.fullmatch(path.stem)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(path for path in found if path.is_file() and not path.is_symlink())

    def _find(self, label: str, name: str) -> Path:
        self._check(label, new=False)
        if not _NAME.fullmatch(name):
            raise RequestError(HTTPStatus.NOT_FOUND, "there is no such clip")
        path = self.folder / label / f"{name}{SUFFIX}"
        if path not in self._clips(label):
            raise RequestError(HTTPStatus.NOT_FOUND, f"there is no clip {name} of {label}; it may have been deleted")
        return path

    def _check(self, label: str, new: bool) -> None:
        if (size := len(label.encode())) > _LONGEST_NAME:
            raise unfit(
                f"this name takes {size} bytes, and {_LONGEST_NAME} are what a folder's may; choose a shorter one"
            )
        try:
            check_label(label, self.folder if new else None)
        except DynagestError as error:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None

    def _described(self, label: str) -> Iterator[dict[str, Any]]:
        for path in self._clips(label):
            with suppress(FileNotFoundError):  # another browser has just deleted it
                yield asdict(self._describe(path))

    def _describe(self, path: Path) -> Recorded:
        stat = path.stat()
        key = (path, stat.st_mtime_ns)
        if key not in self._known:
            try:
                times = read_recording(path).times
            except RequestError as error:
                return Recorded(path.stem, 0, 0.0, stat.st_mtime, error.message)
            self._known[key] = Recorded(path.stem, len(times), round(times[-1] - times[0], 3), stat.st_mtime)
        return self._known[key]


@contextmanager
def _changing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{folder}: cannot be changed ({error.strerror}); start with another --data") from error


def _full(message: str) -> RequestError:
    return RequestError(HTTPStatus.CONFLICT, message)
