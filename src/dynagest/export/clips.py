"""The clips that an export is calibrated and compared on, from a manifest or generated."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dynagest.card import BACKGROUND, NetworkCard
from dynagest.clips.labelled import ManifestVideos, VideoSource
from dynagest.clips.manifest import Manifest
from dynagest.clips.protocols import cut_squares, get_protocol, iterate_views, plan_frames
from dynagest.clips.splits import Split
from dynagest.errors import ClipError, ManifestError
from dynagest.run_folder import ENVIRONMENT_FILE, recorded_data
from dynagest.runtimes.arrays import normalise_frames
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.gestures import GESTURES
from dynagest.synth.recording import label_of, plan, record
from dynagest.synth.spec import PerSplit, SynthSpec

_HOW = get_protocol("center")
_RECIPES = ("demo", "live")  # the recipes for generated gestures
# What runs on generated clips without a manifest record as their data: in programs, in `reproduce`.
_SOURCES = (SynthDataset.__name__, "generated")


@dataclass(frozen=True)
class ClipSet:
    """Normalised clips (n, T, 3, s, s) float32 and their labels (n,) int64.

    A label is the index of the network's logit, or -1 for a class that the network does not have. ``source`` says in
    words where the clips come from; ``unreadable`` has a line for each clip that could not be read.
    """

    clips: np.ndarray
    labels: np.ndarray
    source: str
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class GeneratedVideos:
    """A ``VideoSource`` of generated gestures, which are rendered on demand."""

    spec: SynthSpec
    split: Split

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    def __len__(self) -> int:
        return self.spec.length(self.split)

    def label(self, index: int) -> int:
        return label_of(self.spec, index)

    def name(self, index: int) -> str:
        return f"generated clip {index}"

    def num_frames(self, index: int) -> int:
        return self.spec.num_frames

    def frames(self, index: int, wanted: np.ndarray) -> np.ndarray:
        return record(self.spec, plan(self.spec, self.split, index), wanted).pictures()


def gather(run: Path, card: NetworkCard, data: Path | None, count: int, *, calibrates: bool) -> tuple[ClipSet, ClipSet]:
    """At most ``count`` clips for calibration, none unless it ``calibrates``, and as many others for the comparison.

    They come from the manifest ``data``, or by default from the one that the run was trained on: the former clips from
    its training split, the latter from its test split (or validation; without either from training, which is halved if
    both are needed). Without a manifest they are generated gestures. A clip that cannot be read is left out. Raises
    ``ManifestError`` where an export that ``calibrates`` would need generated gestures although the network did not
    learn such, and for a faulty manifest or one with too few clips; ``ClipError`` when no clip can be read;
    ``RunError`` for a run that does not say what it was trained on.
    """
    none = ClipSet(np.empty((0, card.num_segments, 3, card.size, card.size), np.float32), np.empty(0, np.int64), "")
    manifest = _manifest(run, data)
    if isinstance(manifest, str):
        if calibrates and not _learnt_generated(card):
            raise ManifestError(
                f"{manifest}, and int8 wants clips of the kind that the network is for, or it loses accuracy unseen; "
                "name a manifest of such clips with --data, or export in fp32"
            )
        spec = _spec(card, count)
        return (
            _read(GeneratedVideos(spec, "train"), card, count, 0, f"generated train clips ({manifest})")
            if calibrates
            else none,
            _read(GeneratedVideos(spec, "test"), card, count, 0, f"generated test clips ({manifest})"),
        )
    training, split = manifest.split("train"), manifest.held_out()
    held_out = manifest.split(split) if split else training
    if calibrates and not split:
        training, held_out = _halves(training)
    return (
        _read(ManifestVideos(training), card, count, 0, f"{manifest.path} (train)") if calibrates else none,
        _read(ManifestVideos(held_out), card, count, 1, f"{manifest.path} ({split or 'train'})"),
    )


def _manifest(run: Path, data: Path | None) -> Manifest | str:
    """The manifest to take clips from, or the reason why there is none: the run or its data is missing."""
    if data is not None:
        return Manifest.read(data)
    if not (run / ENVIRONMENT_FILE).exists():
        return f"{run} does not tell what the network was trained on"
    recorded = recorded_data(run)
    return Manifest.read(recorded) if recorded.exists() else f"{recorded}, which it was trained on, is not there"


def _learnt_generated(card: NetworkCard) -> bool:
    """Whether the network was trained on generated gestures. Real clips may have the same class names, so the card's
    provenance decides, too.
    """
    told = card.provenance.get("recipe") in _RECIPES or card.provenance.get("data") in _SOURCES
    return told and all(name in GESTURES or name == BACKGROUND for name in card.classes)


def _halves(manifest: Manifest) -> tuple[Manifest, Manifest]:
    """Two manifests that share no clip."""
    if len(manifest) < 2:
        raise ManifestError(
            f"{manifest.path}: has too few clips: an export is calibrated on one clip of training at least and "
            "compared on another; name other --data"
        )
    order, middle = np.random.default_rng(0).permutation(len(manifest)), len(manifest) // 2
    first, second = (
        replace(manifest, clips=tuple(manifest.clips[index] for index in np.sort(half)))
        for half in (order[:middle], order[middle:])
    )
    return first, second


def _spec(card: NetworkCard, count: int) -> SynthSpec:
    """The spec of generated clips: of the gestures that the network knows, or of all if it knows none of them."""
    classes = tuple(name for name in card.classes if name in GESTURES) or tuple(GESTURES)
    each = -(-count // len(classes))
    return SynthSpec(
        classes=classes,
        size=max(card.size, 72),
        num_frames=max(12, card.num_segments),
        clips_per_class=PerSplit(train=each, val=each, test=each),
    )


def _read(videos: VideoSource, card: NetworkCard, count: int, seed: int, source: str) -> ClipSet:
    if len(videos) == 0:
        raise ManifestError(f"{source}: has no clips; an export is calibrated on the training split: name other --data")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(videos))[:count])
    logits = {name: index for index, name in enumerate(card.classes)}
    clips, labels, unreadable = [], [], []
    for index in map(int, chosen):
        try:
            plan_ = plan_frames(_HOW, videos.num_frames(index), card, seed, index)
            squares = cut_squares(videos.frames(index, plan_.frames), _HOW, card.size)
        except ClipError as error:
            unreadable.append(str(error))
            continue
        (view,) = iterate_views(squares, plan_.samples)
        clips.append(normalise_frames(view, card))
        labels.append(logits.get(videos.classes[videos.label(index)], -1))
    if not clips:
        raise ClipError(f"{source}: none of {len(chosen)} clips can be read; the first: {unreadable[0]}")
    return ClipSet(np.stack(clips), np.array(labels, dtype=np.int64), source, tuple(unreadable))
