"""A user's own clips, with a folder for each class and depth beside the clips."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dynagest.clips.adapters.common import SPLIT_WORDS, Found, IndexOptions, visible
from dynagest.clips.depth import DEPTH_FILE, DepthSpec
from dynagest.clips.frames import ARRAY_SUFFIX, VIDEO_SUFFIXES
from dynagest.clips.image_folder import IMAGE_SUFFIXES
from dynagest.clips.manifest import CLASSES_FILE, MANIFEST_FILE, Clip, natural_order
from dynagest.errors import ManifestError, counted, some

LAYOUT = """<root>/{train,val,test}/<class>/<clip>.{mp4,avi,mov,mkv,webm,...}   (or <root>/<class>/..., all train)
    depth, if there is any: <clip>.depth.{mkv,avi,...,npz} beside the clip
<root>/{train,val,test}/<class>/<clip>/{color,depth}/000001.{jpg,png,...}   (or rgb/ for color/, or <clip>/000001.jpg)
who it is, if known: <class>/<subject>/<clip>, or S01_ (P01_, subject01_, ...) before the clip's name
<root>/depth.yaml says what the depth means (or --depth)"""

# S01_wave.mp4, subject3-02.avi, P12_000.mp4: a letter or word for a person, a number, and a separator.
_SUBJECT = re.compile(r"((?:s|p|subject|subj|person|participant|user)[-_ ]?[0-9]+)[-_. ]", re.IGNORECASE)
_COLOUR_FOLDERS = ("color", "colour", "rgb")
# Names like depth/ and 01_depth.mp4, which are refused as clips: a network would silently learn from them as RGB.
_CALLED_DEPTH = re.compile(r"(^|[-_. ])depth(\.\w+)?$", re.IGNORECASE)
_SHOWN = 10
_DEPTH_SUFFIXES = VIDEO_SUFFIXES | {ARRAY_SUFFIX}

# Files that are left out without a note: this program's own, and texts about the clips.
_EXPECTED = {MANIFEST_FILE, CLASSES_FILE, DEPTH_FILE, "readme.md", "readme.txt", "license", "license.txt"}


def index_folders(root: Path, options: IndexOptions) -> Found:
    """List every video and every folder of images as a clip whose label is the name of its class folder.

    The subject is the name of the folder between class and clip, if there is one; else it is read from the beginning of
    the clip's name (``S01_``, ``P01_``, ``subject01_``, ``person01_`` and the like); else it is empty. Raises
    ``ManifestError`` if videos lie outside of any class folder, if a folder is no clip or depth has no clip, if other
    folders lie beside the split folders, or if a folder cannot be read; ``DepthError`` for a faulty ``depth.yaml``.
    """
    clips: list[Clip] = []
    ignored = [path for path in visible(root) if path.is_file()]
    wrong: list[str] = []
    empty: list[str] = []
    for split, folder in _split_folders(root):
        for class_folder in visible(folder):
            if class_folder.is_dir():
                inside = list(_clips_in(class_folder, class_folder.name, split, ignored, wrong))
                clips += inside
                if not inside:
                    empty.append(class_folder.relative_to(root).as_posix())
    if not clips and any(_holds_frames(path) for path in ignored):
        raise ManifestError(
            f"{root}: has videos, but in no class folder, so nothing says what they show; name the folder above, or "
            f"move them into a folder for each class\n{LAYOUT}"
        )
    if wrong:
        listed = "\n  ".join([f"{root} has what is no clip; rename it or move it elsewhere:", *wrong])
        raise ManifestError(f"{listed}\n{LAYOUT}")
    notes = _subject_notes(clips)
    unknown = [path for path in ignored if path.name.lower() not in _EXPECTED]
    if unknown:
        suffixes = Counter(path.suffix or "no suffix" for path in unknown)
        kinds = ", ".join(f"{suffix} ({count})" for suffix, count in suffixes.most_common())
        left = counted(len(unknown), "file", "is no clip and was", "are no clips and were")
        notes.append(f"{left} left out, the first {unknown[0]}; by suffix: {kinds}")
    if empty:
        notes.append(f"{counted(len(empty), 'class folder', 'has', 'have')} no clip in them: {some(empty, _SHOWN)}")
    spec = root / DEPTH_FILE
    depth = DepthSpec.read(spec) if spec.is_file() and options.depth is None else None
    return Found(clips, natural_order(clip.label for clip in clips), depth, notes)


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    folders = [path for path in visible(root) if path.is_dir()]
    splits = [(SPLIT_WORDS[path.name.lower()], path) for path in folders if path.name.lower() in SPLIT_WORDS]
    if not splits:
        return [("train", root)]
    stray = [path.name for path in folders if path.name.lower() not in SPLIT_WORDS]
    if stray:
        raise ManifestError(
            f"{root} has split folders ({', '.join(path.name for _, path in splits)}) and others ({', '.join(stray)}); "
            "move the others into a split, or elsewhere"
        )
    return splits


def _subject_notes(clips: list[Clip]) -> list[str]:
    subjects = natural_order(clip.subject for clip in clips if clip.subject)
    if not subjects:
        return []
    named = ", ".join(subjects[:_SHOWN]) + (", ..." if len(subjects) > _SHOWN else "")
    nobody = sum(not clip.subject for clip in clips)
    return [
        f"{counted(len(subjects), 'subject')}, by folder or by the beginning of the name: {named}"
        + (f"; {counted(nobody, 'clip', 'names', 'name')} none" if nobody else "")
    ]


def _clips_in(
    folder: Path, label: str, split: str, ignored: list[Path], wrong: list[str], subject: str = ""
) -> Iterator[Clip]:
    """Yield the clips of a class folder and of the subject folders in it; with ``subject``, of one subject folder.

    Adds files that are no clips to ``ignored``, and to ``wrong`` a message for each thing that has to be mended.
    """
    entries = visible(folder)
    depth_of = {path.stem[: -len(".depth")].lower(): path for path in entries if _is_depth(path)}
    for path in entries:
        who = subject or _subject_of(path)
        if _is_depth(path):
            continue
        folders = {entry.name.lower(): entry for entry in visible(path) if entry.is_dir()} if path.is_dir() else {}
        color = next((folders[name] for name in _COLOUR_FOLDERS if name in folders), None)
        if color is not None:
            yield Clip(color, label, folders.get("depth"), split=split, subject=who)
        elif _holds_frames(path):
            if _CALLED_DEPTH.search(path.name):
                wrong.append(f"{path}: depth by its name, but not where the depth of a clip is looked for")
                continue
            depth = depth_of.pop(path.stem.lower(), None) if path.is_file() else folders.get("depth")
            yield Clip(path, label, depth, split=split, subject=who)
        elif path.is_dir():
            faults = len(wrong)
            inside = [] if subject else list(_clips_in(path, label, split, ignored, wrong, subject=path.name))
            if subject and any(map(_holds_frames, visible(path))):
                wrong.append(f"{path}: its clips lie one folder too deep; move them up, into {path.parent}")
            elif not inside and len(wrong) == faults:
                wrong.append(f"{path}: neither a folder of frames nor one with color/ or with clips in it")
            yield from inside
        else:
            ignored.append(path)
    wrong += [f"{path}: depth without a clip of that name beside it" for path in depth_of.values()]


def _holds_frames(path: Path) -> bool:
    """Whether ``path`` is a video, judged by its suffix, or a folder of images."""
    if path.is_dir():
        return any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in visible(path))
    return path.suffix.lower() in VIDEO_SUFFIXES


def _subject_of(path: Path) -> str:
    match = _SUBJECT.match(path.stem)
    return match[1] if match else ""


def _is_depth(path: Path) -> bool:
    return path.is_file() and path.stem.lower().endswith(".depth") and path.suffix.lower() in _DEPTH_SUFFIXES
