"""Turns a manifest, or any other source of clips, into the batches of a run."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Self

import torch
from torch.utils.data import DataLoader

from dynagest.card import check_classes
from dynagest.clips.dataset import Batch, ClipDataset, ClipSource, Sample, collate, read_clip
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.manifest import Clip, Manifest, refuse_path
from dynagest.clips.table import relative
from dynagest.clips.view import View
from dynagest.clips.workers import open_loader
from dynagest.errors import DynagestError, ManifestError, RecipeError
from dynagest.machine import available_cores, shared_memory_suffices
from dynagest.training.batches import Key
from dynagest.training.recipe import Recipe

Read = tuple[Batch | None, list[UnreadableClip]]  # the readable clips of a batch, and the unreadable ones
Loader = DataLoader[Read | DynagestError]


def training_view(recipe: Recipe) -> View:
    """The view of clips in training: random frames, crops and colours."""
    return replace(
        validation_view(recipe),
        augment=True,
        crop=recipe.crop,
        scales=recipe.scales,
        jitter=recipe.jitter,
        brightness=recipe.brightness,
        contrast=recipe.contrast,
        saturation=recipe.saturation,
        hue=recipe.hue,
        flip_labels=recipe.flip_labels,
    )


def validation_view(recipe: Recipe) -> View:
    """The view of clips in validation: the middle frame of each segment, the centre crop."""
    return View(
        num_segments=recipe.num_segments,
        size=recipe.size,
        augment=False,
        sampling=recipe.sampling,
        stride=recipe.stride,
        depth=recipe.uses_depth,
    )


@dataclass(frozen=True)
class TrainingData:
    """The clips that a run trains and validates on. ``fingerprint`` detects other clips when a run is resumed.

    Raises ``ManifestError`` for a source without clips, for fewer than two classes or two of the same name, and when
    the sources differ in their classes or the order of these.
    """

    train: ClipSource
    validation: ClipSource | None
    fingerprint: str
    description: str

    def __post_init__(self) -> None:
        for source, use, way_out in (
            (self.train, "train", "give it some"),
            (self.validation, "validate", "give it some, or None in its place to keep the last epoch"),
        ):
            if source is not None and not len(source):
                raise ManifestError(f"{self.description}: the source to {use} on has no clips; {way_out}")
        classes = tuple(self.train.classes)
        try:
            check_classes(classes)
        except ValueError as error:
            raise ManifestError(f"{self.description}: classes: {error}") from error
        if self.validation is not None:
            names = zip_longest(map(repr, classes), map(repr, self.validation.classes), fillvalue="missing")
            for k, (ours, theirs) in enumerate(names):
                if ours != theirs:
                    raise ManifestError(
                        f"{self.description}: class {k} of the source to train on is {ours}, but of that to validate "
                        f"on {theirs}; give both the same classes in the same order"
                    )

    @classmethod
    def of_sources(cls, train: ClipSource, validation: ClipSource | None, description: str = "") -> Self:
        """Training data from sources that have their views already (see ``training_view`` and ``validation_view``).

        The fingerprint covers a source's classes, its labels and, when it is generated, its ``spec``. Raises
        ``ManifestError`` as the class does.
        """
        sources = [source for source in (train, validation) if source is not None]
        parts = [
            [
                repr(getattr(source, "spec", None)),
                list(source.classes),
                [source.label(i) for i in range(len(source))],
            ]
            for source in sources
        ]
        return cls(train, validation, _digest(parts), description or type(train).__name__)

    @classmethod
    def of_manifest(cls, manifest: Manifest, recipe: Recipe) -> Self:
        """Training data from the splits that the recipe names.

        Raises ``ManifestError`` or ``RecipeError`` when they lack clips, depth or classes that the recipe needs.
        """
        train = replace(manifest, clips=tuple(clip for clip in manifest.clips if clip.split in recipe.train_splits))
        name = str(manifest.path or "the manifest")
        if not train.clips:
            raise ManifestError(f"{name}: has no clips in split {' or '.join(recipe.train_splits)} to train on")
        if recipe.uses_depth and not any(clip.depth for clip in train.clips):
            way_out = "set msd=none" if recipe.msd != "none" else "choose a recipe that learns from RGB alone"
            raise RecipeError(f"{name}: no training clip has depth, so there is none to learn from; {way_out}")
        validation = None
        if recipe.validate_on is not None:
            held_out = manifest.split(recipe.validate_on)
            if not held_out.clips:
                raise RecipeError(
                    f"{name}: has no clips in split {recipe.validate_on!r} to choose the best epoch on; "
                    "set validate_on=none to keep the last epoch, or move some clips to that split"
                )
            validation = ClipDataset(held_out, validation_view(recipe), recipe.seed)
        if len(manifest.classes) < 2:
            raise ManifestError(
                f"{name}: {', '.join(manifest.classes)} is its only class, so there is nothing to learn; "
                "perhaps the folders of the classes lie one level deeper than was indexed"
            )
        used = (*train.clips, *(held_out.clips if validation else ()))
        folder = manifest.path.parent if manifest.path else Path("/")
        rows = [_row(clip, folder) for clip in used]
        depth = manifest.depth.model_dump(mode="json") if manifest.depth else None
        source = ClipDataset(train, training_view(recipe), recipe.seed)
        return cls(source, validation, _digest([rows, list(manifest.classes), depth]), name)


DataOfRecipe = Callable[[Recipe], TrainingData]


def data_of(data: Manifest | TrainingData | DataOfRecipe, recipe: Recipe, whole: Recipe) -> TrainingData:
    """The training data of ``recipe``, which is a stage of ``whole`` or ``whole`` itself.

    Raises ``RecipeError`` for a source whose view does not suit that recipe, and ``ManifestError`` for a path in place
    of a manifest, or a source by itself.
    """
    refuse_path(data)
    if isinstance(data, Manifest):
        return TrainingData.of_manifest(data, recipe)
    if not isinstance(data, TrainingData) and not callable(data):
        raise ManifestError(
            f"{type(data).__name__}: training takes a manifest, or sources of clips as TrainingData.of_sources(train, "
            "validation) of dynagest.training.data, where validation may be None"
        )
    if not isinstance(data, TrainingData):
        return _check_views(data(recipe), recipe)
    ours, theirs = (asdict(replace(training_view(each), depth=True)) for each in (recipe, whole))
    differing = [f"{key} {ours[key]} instead of {theirs[key]}" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise RecipeError(
            f"{data.description}: a stage of {whole.name} looks at clips otherwise than its last training "
            f"({', '.join(differing)}); give a manifest, or a function from a recipe to its TrainingData"
        )
    return _check_views(data, recipe)


def _check_views(data: TrainingData, recipe: Recipe) -> TrainingData:
    """The data, if every source that has a ``View`` sees clips as the recipe's network takes them.

    How a view crops and colours them is left to its owner; depth that the recipe does not use does no harm.
    """
    for source, wanted in ((data.train, training_view(recipe)), (data.validation, validation_view(recipe))):
        view = getattr(source, "view", None)
        if isinstance(view, View) and (misfit := view.misfit(wanted)):
            has, takes = misfit
            use = "train" if source is data.train else "validate"
            raise RecipeError(
                f"{data.description}: the view of the clips to {use} on has {has}, but the recipe {recipe.name} takes "
                f"{takes}; give it View({takes}, ...), or change the recipe"
            )
    return data


def build_loader(
    source: ClipSource,
    batches: Iterable[list[Key]],
    workers: int,
    prefetch: int,
    pin: bool,
    *,
    frames: int,
    size: int,
    needs_depth: bool = False,
) -> Loader:
    """A loader of ``batches``. Each item is a ``Read``, or the error of the user that a worker met.

    The network takes clips of ``frames`` frames of ``size`` x ``size``; others are an error. The workers live as long
    as the loader. With ``needs_depth`` a clip without depth counts as unreadable, because the network is fed depth.
    """
    read = partial(read_clip, source, frames=frames, size=size, needs_depth=needs_depth)
    return open_loader(partial(_read_batch, read), batches, workers, prefetch=prefetch, pin=pin)


def _read_batch(read: Callable[[Key], Sample | UnreadableClip], keys: list[Key]) -> Read:
    return collate([read(key) for key in keys])


def choose_workers(recipe: Recipe, device: torch.device, local_processes: int) -> tuple[int, str]:
    """The number of data workers for each training process, and a sentence that says why."""
    if recipe.workers is not None:
        return recipe.workers, f"{recipe.workers} data workers, as the recipe says"
    if not shared_memory_suffices():
        return 0, "autodetected 0 data workers because /dev/shm is too small for their batches"
    share = max(available_cores() // local_processes, 1)
    if device.type == "cpu":
        # The network keeps all cores busy; the workers only fill the gaps.
        count, why = max(share // 2, 1), "half, since training itself runs on the CPU"
    else:
        count, why = max(min(share - 1, 16), 1), f"all but one and at most 16, since training runs on {device.type}"
    return count, f"autodetected {count} data workers because there are {share} cores for each process ({why})"


def cut(batch: Batch, parts: int) -> list[Batch]:
    """A batch in ``parts`` pieces of almost equal size."""
    keys = ("rgb", "depth", "has_depth", "label", "index")
    pieces = zip(*(torch.tensor_split(batch[key], parts) for key in keys), strict=True)  # type: ignore[literal-required]
    return [Batch(**dict(zip(keys, piece, strict=True))) for piece in pieces]  # type: ignore[typeddict-item]


def _row(clip: Clip, folder: Path) -> list[str | int | None]:
    """The fields that identify a clip, wherever the data set lies."""
    depth = relative(clip.depth, folder) if clip.depth else None
    frames = (clip.start, clip.end, clip.depth_start, clip.depth_end)
    return [relative(clip.video, folder), depth, clip.label, clip.split, *frames]


def _digest(parts: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(parts), ensure_ascii=False).encode()).hexdigest()
