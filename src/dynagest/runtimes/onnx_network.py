"""Exported networks run by ONNX Runtime. Needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynagest.card import NetworkCard
from dynagest.errors import RecipeError, WeightsError
from dynagest.runtimes.arrays import run_in_batches
from dynagest.runtimes.model_file import (
    CLIPS,
    FRAME,
    KEY,
    LOGITS,
    STATE_IN,
    STATE_OUT,
    ModelInfo,
    Tensor,
    check_file,
    check_graph,
    check_use,
)

CPU = ("CPUExecutionProvider",)
_KINDS = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


class OnnxNetwork:
    """A ``ClipNetwork`` from an ONNX file.

    ``threads``: how many it computes with (default: one for each core). ``providers``: ONNX Runtime's, first choice
    first. Raises ``WeightsError`` for a file that is missing, damaged, foreign or of another version.
    """

    def __init__(self, path: Path | str, threads: int | None = None, providers: Sequence[str] = CPU) -> None:
        self._session, self.info = _open(Path(path), threads, providers)
        check_use(self.info, Path(path), "clip")

    @property
    def card(self) -> NetworkCard:
        return self.info.card

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """See ``ClipNetwork.logits``."""
        return run_in_batches(
            lambda part: self._session.run([LOGITS], {CLIPS: part})[0], clips, self.info.batch, self.card
        )


class OnnxStream:
    """A ``StreamNetwork`` from an ONNX file; its state is a map of numpy arrays. Arguments and errors as of
    ``OnnxNetwork``."""

    def __init__(self, path: Path | str, threads: int | None = None, providers: Sequence[str] = CPU) -> None:
        self._session, self.info = _open(Path(path), threads, providers)
        check_use(self.info, Path(path), "stream")
        self._outputs = [LOGITS, *(STATE_OUT + name for name in self.info.state)]

    @property
    def card(self) -> NetworkCard:
        return self.info.card

    @property
    def frames(self) -> int:
        """See ``StreamNetwork``."""
        return self.info.frames

    def initial_state(self) -> dict[str, np.ndarray]:
        """The state before the first frame."""
        return self.info.initial_state()

    def step(self, frames: np.ndarray, state: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """See ``StreamNetwork.step``."""
        inputs = {STATE_IN + name: tensor for name, tensor in state.items()}
        logits, *left = self._session.run(self._outputs, {FRAME: frames, **inputs})
        return logits, dict(zip(self.info.state, left, strict=True))


def _open(path: Path, threads: int | None, providers: Sequence[str]) -> tuple[Any, ModelInfo]:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise RecipeError(f"{path}: needs ONNX Runtime: pip install 'dynagest[run]'") from error
    check_file(path)
    absent = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if absent:
        raise RecipeError(
            f"this ONNX Runtime has no {absent[0]}; it has {', '.join(onnxruntime.get_available_providers())}"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # its errors have no common kind below Exception
        reason = str(error).strip().splitlines()[0][:300]
        raise WeightsError(
            f"{path}: damaged, or no ONNX network ({reason}); copy it again, or export the network again"
        ) from error
    info = ModelInfo.parse(session.get_modelmeta().custom_metadata_map.get(KEY), path)
    check_graph(info, path, _tensors(session.get_inputs()), _tensors(session.get_outputs()))
    return session, info


def _tensors(nodes: Sequence[Any]) -> dict[str, Tensor]:
    # A length that is open has a name in place of a number.
    return {
        node.name: (_KINDS.get(node.type, node.type), tuple(n if isinstance(n, int) else None for n in node.shape))
        for node in nodes
    }
