"""The source of a test's frames: a manifest's videos, or any other source, as the network sees it."""

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipDataset, ClipSource
from dynagest.clips.labelled import ManifestVideos, VideoSource
from dynagest.clips.manifest import SPLITS, Manifest
from dynagest.clips.view import View
from dynagest.errors import ManifestError, ModelError


def open_source(source: Manifest | VideoSource | ClipSource, split: str, card: NetworkCard) -> VideoSource | ClipSource:
    """Open the source of the tested frames: the RGB videos of a manifest's ``split``, or any other source as it is.

    A network that is fed depth gets a manifest's clips with their depth. Raises ``ManifestError`` when there are no
    clips, and ``ModelError`` for such a network on RGB videos.
    """
    if isinstance(source, Manifest):
        if not source.split(split).clips:
            name = str(source.path or "the manifest")
            counts = [f"{each!r} ({len(source.split(each))})" for each in SPLITS if source.split(each).clips]
            raise ManifestError(
                f"{name}: split {split!r} has no clips to test on; there are clips in {' and '.join(counts) or 'none'}"
            )
        if card.inputs == "rgb":
            return ManifestVideos(source.split(split))
        return with_depth(source.split(split), card)
    if card.inputs != "rgb" and isinstance(source, VideoSource):
        raise ModelError(
            f"this network is fed {card.inputs}, so it cannot be tested on videos of RGB; give a manifest of clips "
            "with depth, or a dataset whose view gives depth"
        )
    if len(source) == 0:
        raise ManifestError(f"{type(source).__name__}: has no clips to test on")
    return source


def with_depth(clips: Manifest, card: NetworkCard) -> ClipDataset:
    """The clips with their depth, through the view in which the network of ``card`` is tested."""
    view = View(num_segments=card.num_segments, size=card.size, sampling=card.sampling, stride=card.stride)
    return ClipDataset(clips, view, seed=0)
