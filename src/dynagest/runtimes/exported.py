"""Networks from exported files, independent of the runtime. Needs no torch."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dynagest.card import NetworkCard
from dynagest.errors import ModelError
from dynagest.runtimes.arrays import fill_up
from dynagest.runtimes.model_file import CLIPS, FRAME, LOGITS, STATE_IN, STATE_OUT, ModelInfo
from dynagest.runtimes.torch_network import TorchStream

Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
"""A graph in a runtime: maps all inputs by name to all outputs by name."""


class ExportedNetwork:
    """A ``ClipNetwork`` from a file that was exported with ``--mode clip``."""

    def __init__(self, info: ModelInfo, run: Run) -> None:
        self.info, self.card, self._run = info, info.card, run

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """See ``ClipNetwork.logits``. Raises ``ModelError`` for clips of another T, size or type than the card's."""
        _check_clips(clips, self.card)
        batch = self.info.batch or len(clips)
        parts = (clips[begin : begin + batch] for begin in range(0, len(clips), batch))
        return np.concatenate([self._run({CLIPS: part})[LOGITS] for part in parts])


class ExportedStream:
    """A ``StreamNetwork`` from a file that was exported with ``--mode stream``; its state is a dict of numpy arrays."""

    def __init__(self, info: ModelInfo, run: Run) -> None:
        self.info, self.card, self.frames, self._run = info, info.card, info.frames, run

    def initial_state(self) -> dict[str, np.ndarray]:
        """The state before the first frame, all zero."""
        return {name: np.zeros(each.shape, each.dtype) for name, each in self.info.state.items()}

    def step(self, frames: np.ndarray, state: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See ``StreamNetwork.step``. Raises ``ModelError`` for frames of another number, size or type."""
        takes = (self.frames, 3, self.card.size, self.card.size)
        if frames.shape != takes:
            raise ModelError(f"{self.card.model}: frames of shape {frames.shape}, but a step takes {takes}")
        _check_type(frames, self.card)
        given = self._run({FRAME: frames, **{STATE_IN + name: tensor for name, tensor in state.items()}})
        return given[LOGITS], {name: given[STATE_OUT + name] for name in self.info.state}


class StreamedClips:
    """An exported stream as a ``ClipNetwork``: it begins anew at each clip, and answers as the clip network does."""

    def __init__(self, stream: ExportedStream) -> None:
        self.info, self.card, self._stream = stream.info, stream.card, stream

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """See ``ClipNetwork.logits``. Raises ``ModelError`` for clips of another T, size or type than the card's."""
        _check_clips(clips, self.card)
        return np.stack([stream_logits(self._stream, clip)[-1] for clip in clips])


def stream_logits(stream: ExportedStream | TorchStream, clip: np.ndarray) -> np.ndarray:
    """The logits (T, K) after every frame of a clip (T, 3, s, s), with which a stream begins."""
    rows, state = [], stream.initial_state()
    for begin in range(0, len(clip), stream.frames):
        logits, state = stream.step(fill_up(clip[begin : begin + stream.frames], stream.frames), state)
        rows.append(logits)
    return np.concatenate(rows)[: len(clip)]


def _check_clips(clips: np.ndarray, card: NetworkCard) -> None:
    if clips.shape[1:] != (card.num_segments, 3, card.size, card.size):
        raise ModelError(
            f"{card.model}: a clip of shape {clips.shape[1:]}, but when exported it takes {card.num_segments} frames "
            f"of {card.size} x {card.size} only; use the protocol center or clips10, or the network that was exported"
        )
    _check_type(clips, card)


def _check_type(frames: np.ndarray, card: NetworkCard) -> None:
    if frames.dtype != np.float32:
        raise ModelError(f"{card.model}: frames of {frames.dtype}, but it takes float32, normalised as its card says")
