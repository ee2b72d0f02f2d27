"""A user's own long recordings, whose gestures ``streams.csv`` lists in seconds: each gesture becomes a clip."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from dynagest.clips.adapters.common import BadRows, Found, IndexOptions
from dynagest.clips.manifest import Clip
from dynagest.clips.streams import COLUMNS, STREAMS_FILE, Stream, StreamSet
from dynagest.errors import ClipError, some

LAYOUT = f"""<root>/{STREAMS_FILE} with the columns {",".join(COLUMNS)}   (or --labels FILE)
    the list that `dynagest evaluate --stream` reads: a row for each gesture, begin and end in seconds"""


def index_streams(root: Path, options: IndexOptions) -> Found:
    """Take the frames of each gesture by the times of the recording's pictures; a list without splits is ``train``.

    A frame belongs to a gesture if the middle of the time that it is shown lies between begin and end, so that gestures
    which follow each other at once share no frame.
    """
    found = StreamSet.read(options.labels or root / STREAMS_FILE)
    assert found.path is not None
    notes = []
    if not found.names_splits:
        told = (
            "all are train here, though test where streams are tested; a column split tells train, val and test apart"
        )
        notes.append(f"{found.path.name} names no split: {told}")
    empty = [stream.video.name for stream in found.streams if not stream.spans]
    if empty:
        notes.append(f"{len(empty)} recordings without gestures give no clip: {some(empty)}")
    bad = BadRows()
    clips: list[Clip] = []
    for stream in found.streams:
        if stream.spans:
            try:
                clips += _clips(stream, stream.split if found.names_splits else "train", found.path, bad)
            except ClipError as error:
                bad.add(found.path, stream.row, str(error))
    bad.raise_if_any()
    return Found(clips, found.classes, None, notes)


def _clips(stream: Stream, split: str, path: Path, bad: BadRows) -> list[Clip]:
    """The gestures of a recording as clips; those that do not lie within it are added to ``bad``."""
    edges = stream.edges()
    middles = (edges[:-1] + edges[1:]) / 2
    clips: list[Clip] = []
    for span in stream.spans:
        start, end = (int(index) for index in np.searchsorted(middles, (span.begin, span.end)))
        told = f"{stream.video}: {span.label!r} from {span.begin:g} to {span.end:g} s"
        if span.end > 2 * edges[-1] - middles[-1]:  # half a frame beyond the end
            bad.add(path, span.row, f"{told} ends beyond the recording, which has {edges[-1]:.2f} s")
        elif start == end:
            bad.add(path, span.row, f"{told} holds no frame")
        else:
            clip = Clip(stream.video, span.label, start=start, end=end, split=split, subject=stream.subject)
            clips.append(replace(clip, fps=stream.fps))
    return clips
