"""Finds the faults of a manifest that show without decoding: in its rows, copied files, unlisted clips. No torch."""

import os
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from dynagest.clips.adapters.common import IndexOptions
from dynagest.clips.adapters.folders import index_folders
from dynagest.clips.checks.files import equal_files
from dynagest.clips.checks.report import Problem
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.splits import SPLITS
from dynagest.errors import ManifestError, counted, some

_NAMED = 10


def list_problems(manifest: Manifest) -> Iterator[Problem]:
    """Yield the problems with labels, classes, subjects, repeated frames, copied files and unlisted clips."""
    yield from _labels(manifest)
    yield from _classes(manifest)
    yield from _subjects(manifest)
    yield from _repeated(manifest)
    yield from _copies(manifest)
    yield from unlisted(manifest)


def _labels(manifest: Manifest) -> Iterator[Problem]:
    known = set(manifest.classes)
    for clip in manifest.clips:
        if clip.label not in known:
            message = f"label {clip.label!r} is not one of the {len(known)} classes"
            yield Problem("error", "label", message, clip.video, clip.row or None)


def _classes(manifest: Manifest) -> Iterator[Problem]:
    labels = {split: {clip.label for clip in manifest.clips if clip.split == split} for split in SPLITS}
    if not labels["train"]:
        yield Problem("warning", "class", "the train split has no clip: good for testing only", manifest.path)
    elif len(manifest.classes) < 2:
        message = (
            f"{manifest.classes[0]!r} is the only class, so training has nothing to learn; "
            "perhaps the folders of the classes lie one level deeper than was indexed"
        )
        yield Problem("error", "class", message, manifest.path)
    alike: dict[str, list[str]] = defaultdict(list)
    for name in manifest.classes:
        alike[unicodedata.normalize("NFC", name).casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            message = (
                f"{' and '.join(map(repr, names))} are different classes, though only their capitals or the encoding "
                "of their accents differ; if one gesture is meant, give it one name"
            )
            yield Problem("warning", "class", message, manifest.path)
    for split in SPLITS:
        absent = [name for name in manifest.classes if name not in labels[split]]
        if labels[split] and absent:
            have = "has" if len(absent) == 1 else "have"
            message = f"{split}: {len(absent)} of {len(manifest.classes)} classes {have} no clip"
            yield Problem("warning", "class", f"{message}: {some(absent, _NAMED)}", manifest.path)
        unlearnt = [name for name in manifest.classes if name in labels[split] - labels["train"]]
        if labels["train"] and unlearnt:
            absence = counted(len(unlearnt), "class", "has", "have")
            message = f"{split}: {absence} no train clip and cannot be learnt: {some(unlearnt, _NAMED)}"
            yield Problem("warning", "class", message, manifest.path)


def _subjects(manifest: Manifest) -> Iterator[Problem]:
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in manifest.clips:
        if clip.subject:
            splits[clip.subject][clip.split] += 1
    for subject, counts in splits.items():
        if len(counts) > 1:
            spread = ", ".join(f"{counted(counts[split], 'clip')} in {split}" for split in SPLITS if counts[split])
            message = f"subject {subject!r} is in more than one split ({spread}): the accuracy on new people is lower"
            yield Problem("warning", "subject", message, manifest.path)


def _repeated(manifest: Manifest) -> Iterator[Problem]:
    """Yield a problem for each clip that shares frames with another clip of the same file."""
    by_video: dict[str, list[Clip]] = defaultdict(list)
    for clip in manifest.clips:
        by_video[str(clip.video)].append(clip)
    for clips in by_video.values():
        clips.sort(key=lambda clip: (clip.start, _end(clip)))
        furthest = clips[0]
        for clip in clips[1:]:
            # If any earlier clip overlaps with this one, the one that reaches furthest does.
            if _end(furthest) > clip.start:
                yield _shared(clip, furthest)
            furthest = max(furthest, clip, key=_end)


def _end(clip: Clip) -> float:
    return float("inf") if clip.end is None else clip.end


def _shared(clip: Clip, other: Clip) -> Problem:
    same = (clip.start, clip.end) == (other.start, other.end)
    where = f"line {other.row}" if other.row else "another row"
    what = f"the same frames as {where}" if same else f"frames that {where} has too"
    if clip.split != other.split:
        what += f", which is {other.split} while this is {clip.split}"
    if clip.label != other.label:
        what += f", labelled {other.label!r} there and {clip.label!r} here"
    # Overlapping ranges of one split occur in continuous recordings. The same frames in two splits, or the same range
    # with two labels, are a mistake.
    mistake = clip.split != other.split or (same and clip.label != other.label)
    return Problem("error" if mistake else "warning", "duplicate", what, clip.video, clip.row or None)


def _copies(manifest: Manifest) -> Iterator[Problem]:
    """Yield a problem for each video file that has the same contents as another, and for each that cannot be read."""
    clips: dict[Path, Clip] = {}
    for clip in manifest.clips:
        clips.setdefault(clip.video, clip)
    place = {video: index for index, video in enumerate(clips)}
    groups, unreadable = equal_files(clips)
    for path, reason in unreadable.items():
        yield Problem("error", "unreadable", reason, path, clips[path].row or None)
    for same in groups:
        first, *copies = sorted(same, key=place.__getitem__)
        for path in copies:
            clip, original = clips[path], clips[first]
            apart = clip.split != original.split or clip.label != original.label
            message = f"a copy of {first}"
            if apart:
                message += f" ({original.split}, {original.label!r}), but this is {clip.split}, {clip.label!r}"
            yield Problem("error" if apart else "warning", "duplicate", message, path, clip.row or None)


def unlisted(manifest: Manifest) -> Iterator[Problem]:
    """Yield a problem if class folders beside the manifest hold clips that it does not list: new or renamed ones."""
    if manifest.path is None:
        return
    folder = manifest.path.parent
    try:
        found = {clip.video: clip.label for clip in index_folders(folder, IndexOptions()).clips}
    except (ManifestError, OSError):
        return  # no class folders, or some that may not be looked into
    listed = {clip.video: clip.label for clip in manifest.clips}
    # If the manifest has other labels than the folders' names, folders do not tell which videos are clips.
    # os.path.exists, because Path.exists raises where a folder may not be entered.
    by_folder = all(found.get(video) == label for video, label in listed.items() if os.path.exists(video))  # noqa: PTH110
    more = [video for video in found if video not in listed]
    if by_folder and more:
        home = shlex.quote(str(folder))
        message = (
            f"{counted(len(more), 'clip')} in its folder not listed, the first {more[0]}: not trained on; "
            f"index the folder anew, with the hold-out that it had: `dynagest data index folders {home} --out {home} "
            "--overwrite`"
        )
        yield Problem("warning", "unlisted", message, manifest.path)
