"""Adapters, each of which turns one kind of dataset on disk into a manifest. They read lists and names, never a frame.

The one for ``streams`` also reads the times of the recordings' pictures.
``dynagest data index NAME ROOT`` calls ``index_dataset``. ``ADAPTERS`` maps each name to its adapter.
"""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from dynagest.clips.adapters import congd, egogesture, folders, ipn_hand, isogd, jester, nvgesture, tsm
from dynagest.clips.adapters import streams as own_streams
from dynagest.clips.adapters.common import Found, IndexOptions, parse_lists
from dynagest.clips.adapters.holdout import hold_out
from dynagest.clips.depth import PRESETS, DepthSpec
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.streams import StreamSet
from dynagest.errors import DepthError, ManifestError, hint

__all__ = ["ADAPTERS", "Adapter", "Index", "IndexOptions", "flip_labels", "index_dataset", "parse_lists"]


@dataclass(frozen=True)
class Adapter:
    """How one kind of dataset is indexed.

    ``summary`` describes the dataset in a line, ``layout`` the files that are looked for. ``index`` reads the lists
    under a root. ``options`` names the ``IndexOptions`` that it takes besides those that all adapters take.
    ``flip_pairs``: pairs of class indices (from 0) that a horizontal mirror exchanges, ``None`` if they are not known.
    ``published``: the published number of clips of each split, empty if it is not known.
    """

    summary: str
    layout: str
    index: Callable[[Path, IndexOptions], Found]
    options: frozenset[str] = frozenset()
    flip_pairs: tuple[tuple[int, int], ...] | None = None
    published: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """An indexed dataset: its manifest, not written yet, and notes for the user.

    ``streams`` are the recordings from which the clips were cut, ``None`` for a dataset without continuous recordings.
    """

    manifest: Manifest
    notes: tuple[str, ...] = ()
    streams: StreamSet | None = None


ADAPTERS: dict[str, Adapter] = {
    "egogesture": Adapter(
        "EgoGesture: 83 classes, 24,161 clips with depth, split by subject",
        egogesture.LAYOUT,
        egogesture.index_egogesture,
        frozenset({"labels", "end_trim"}),
        egogesture.FLIP_PAIRS,
        {"train": 14_416, "val": 4_768, "test": 4_977},
    ),
    "nvgesture": Adapter(
        "NVGesture: 25 classes, 1,050 train and 482 test clips with depth",
        nvgesture.LAYOUT,
        nvgesture.index_nvgesture,
        frozenset({"labels", "lists", "aligned"}),
        nvgesture.FLIP_PAIRS,
        {"train": 1_050, "test": 482},
    ),
    "isogd": Adapter(
        "ChaLearn IsoGD: 249 classes, 35,878 / 5,784 / 6,271 clips with depth",
        isogd.LAYOUT,
        isogd.index_isogd,
        frozenset({"labels", "lists", "aligned"}),
        published={"train": 35_878, "val": 5_784, "test": 6_271},
    ),
    "congd": Adapter(
        "ChaLearn ConGD: streams of the 249 gestures of IsoGD, with depth",
        congd.LAYOUT,
        congd.index_congd,
        frozenset({"labels", "lists", "aligned"}),
    ),
    "jester": Adapter(
        "20BN Jester v1: 27 classes, RGB only", jester.LAYOUT, jester.index_jester, frozenset({"labels", "lists"})
    ),
    "ipn-hand": Adapter(
        "IPN Hand: 13 gestures, RGB only", ipn_hand.LAYOUT, ipn_hand.index_ipn_hand, frozenset({"labels", "lists"})
    ),
    "tsm": Adapter(
        "lists 'FOLDER NUM_FRAMES LABEL', RGB only", tsm.LAYOUT, tsm.index_tsm, frozenset({"labels", "lists"})
    ),
    "folders": Adapter(
        "your own clips, a folder for each class, depth beside them", folders.LAYOUT, folders.index_folders
    ),
    "streams": Adapter(
        "your own long recordings, their gestures listed in seconds",
        own_streams.LAYOUT,
        own_streams.index_streams,
        frozenset({"labels"}),
    ),
}

_COMMON_OPTIONS = {"depth", "holdout", "seed", "require_files"}


def index_dataset(name: str, root: Path | str, options: IndexOptions | None = None) -> Index:
    """List the clips of the dataset ``name`` that lies under ``root``.

    Reads annotations and folder names only (of ``streams``, also when the pictures are shown); ``clips.checks.check``
    finds out whether each clip can be read. Raises ``ManifestError`` for an unknown dataset, an option that it does not
    take, bad rows (all are counted, the first 20 shown with file and line), a root that does not have the dataset's
    layout, and a folder that may not be read; ``DepthError`` if clips have depth but nothing declares what its values
    mean.

    Example: ``index_dataset("isogd", "/sets/isogd").manifest.write("isogd/manifest.csv")``
    """
    options = options or IndexOptions()
    if name not in ADAPTERS:
        raise ManifestError(f"no dataset adapter named {name!r}; {hint(name, ADAPTERS)}")
    _refuse_foreign_options(name, ADAPTERS[name], options)
    try:
        return _index(name, Path(root).absolute(), options)
    except OSError as error:
        # Any of the many places that look for a file may meet a folder or a file that may not be read.
        raise ManifestError(f"{error.filename or root}: cannot be read ({error.strerror})") from error


def _index(name: str, root: Path, options: IndexOptions) -> Index:
    adapter = ADAPTERS[name]
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; {name} is looked for as\n{adapter.layout}")

    found = adapter.index(root, options)
    clips, notes = list(found.clips), list(found.notes)
    if not clips:
        told = "; ".join(["found no clip with a label", *notes])
        raise ManifestError(f"{root}: {told}; {name} is looked for as\n{adapter.layout}")
    if options.require_files:
        clips, more = _with_files(name, root, adapter, clips)
        notes += more
    listed = Counter(clip.split for clip in clips)
    if adapter.published and listed != Counter(adapter.published):
        theirs = ", ".join(f"{count:,} {split}" for split, count in adapter.published.items())
        notes.append(f"as published the set has {theirs} clips, unlike these lists")
    depth = _declared(options.depth) if options.depth else found.depth
    if depth is None and any(clip.depth for clip in clips):
        count = sum(clip.depth is not None for clip in clips)
        again = shlex.join(["dynagest", "data", "index", name, str(root), "--depth"])
        raise DepthError(
            f"{root}: {count} clips have depth, but nothing says what it means; write {root / 'depth.yaml'} "
            f"(near: bright or dark, ...) or index it with `{again} NAME`, NAME one of {', '.join(PRESETS)}"
        )
    if options.holdout and found.streams:
        raise ManifestError(f"--holdout: {name} is recorded in streams, which it would cut apart; leave it out")
    if options.holdout:
        clips, note = hold_out(clips, options.holdout, options.seed)
        notes.append(note)
    if adapter.flip_pairs:
        swap = json.dumps(flip_labels(name, found.classes), ensure_ascii=False)
        notes.append(f"no clip is mirrored in training unless you say so: --set {shlex.quote(f'flip_labels={swap}')}")
    has_depth = any(clip.depth for clip in clips)
    manifest = Manifest(tuple(clips), tuple(found.classes), depth if has_depth else None)
    streams = StreamSet(tuple(found.streams), manifest.classes) if found.streams else None
    return Index(manifest, tuple(notes), streams)


def flip_labels(name: str, classes: Sequence[str]) -> dict[str, str]:
    """Map each class that becomes another one in a mirror to that other class, for the ``flip_labels`` of a recipe.

    Raises ``ManifestError`` if the left and right classes of dataset ``name`` are not known, because its clips must not
    be mirrored then.

    Example: ``flip_labels("nvgesture", manifest.classes)["class_01"] == "class_02"``
    """
    pairs = ADAPTERS[name].flip_pairs if name in ADAPTERS else None
    if pairs is None:
        known = ", ".join(key for key, adapter in ADAPTERS.items() if adapter.flip_pairs)
        raise ManifestError(f"no left and right classes known for {name!r}, only for {known}; train it without flips")
    return {classes[a]: classes[b] for left, right in pairs for a, b in ((left, right), (right, left))}


def _refuse_foreign_options(name: str, adapter: Adapter, options: IndexOptions) -> None:
    for option in fields(IndexOptions):
        given = getattr(options, option.name) != option.default
        if given and option.name not in adapter.options | _COMMON_OPTIONS:
            flag = {"lists": "list"}.get(option.name, option.name.replace("_", "-"))
            raise ManifestError(f"--{flag} means nothing to {name}; leave it out")


def _with_files(name: str, root: Path, adapter: Adapter, clips: list[Clip]) -> tuple[list[Clip], list[str]]:
    """Drop the depth of all clips, with a note, if no depth file exists; raise ``ManifestError`` if no video exists.

    ``data check`` lists single missing files.
    """
    if not any(clip.video.exists() for clip in clips):
        raise ManifestError(
            f"{root}: none of the {len(clips)} listed videos is there, the first is {clips[0].video}; "
            f"{name} is looked for as\n{adapter.layout}"
        )
    listed = [clip.depth for clip in clips if clip.depth is not None]
    if listed and not any(path.exists() for path in listed):
        note = f"none of the {len(listed)} depth files is there, the first {listed[0]}: indexed without depth"
        return [replace(clip, depth=None, depth_start=0, depth_end=None) for clip in clips], [note]
    return clips, []


def _declared(depth: str) -> DepthSpec:
    if depth in PRESETS:
        return PRESETS[depth]
    path = Path(depth)
    if path.is_file():
        return DepthSpec.read(path)
    raise DepthError(f"--depth {depth}: neither a file nor one of the presets {', '.join(PRESETS)}")
