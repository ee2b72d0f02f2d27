"""The source of a test's frames: a manifest's videos, or any other source, as the network sees it."""

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipSource
from dynagest.clips.labelled import ManifestVideos, VideoSource
from dynagest.clips.manifest import SPLITS, Manifest
from dynagest.errors import ManifestError, ModelError


def open_source(source: Manifest | VideoSource | ClipSource, split: str, card: NetworkCard) -> VideoSource | ClipSource:
    """Open the source of the tested frames: the videos of a manifest's ``split``, or any other source as it is.

    Raises ``ManifestError`` when there are no clips; for a network that is fed depth, ``ModelError`` when the videos
    are of RGB alone, and ``DepthError`` as ``ManifestVideos.probe_depth`` does.
    """
    if isinstance(source, Manifest):
        if not source.split(split).clips:
            name = str(source.path or "the manifest")
            counts = [f"{each!r} ({len(source.split(each))})" for each in SPLITS if source.split(each).clips]
            raise ManifestError(
                f"{name}: split {split!r} has no clips to test on; there are clips in {' and '.join(counts) or 'none'}"
            )
        source = ManifestVideos(source.split(split))
    if card.inputs != "rgb" and isinstance(source, VideoSource):
        if not isinstance(source, ManifestVideos):
            raise ModelError(
                f"this network is fed {card.inputs}, so it cannot be tested on videos of RGB; give a manifest of clips "
                "with depth, or a dataset whose view gives depth"
            )
        source.probe_depth()
    if len(source) == 0:
        raise ManifestError(f"{type(source).__name__}: has no clips to test on")
    return source
