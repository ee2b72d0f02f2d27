"""Exported networks run by OpenVINO on the CPU. Needs no torch."""

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

_KINDS = {"f32": "float32", "u8": "uint8"}


class OpenVinoNetwork:
    """A ``ClipNetwork`` from an OpenVINO network (``.xml`` with its ``.bin`` beside it).

    It takes clips one by one: where their number is known beforehand, OpenVINO fuses more.

    ``threads``: how many it computes with (default: one for each core). Raises ``WeightsError`` for files that are
    missing, damaged, foreign or of another version, ``RecipeError`` for bf16 on a CPU that lacks it.
    """

    def __init__(self, path: Path | str, threads: int | None = None) -> None:
        self._compiled, self.info = _open(Path(path), threads)
        check_use(self.info, Path(path), "clip")
        self._request = self._compiled.create_infer_request()

    @property
    def card(self) -> NetworkCard:
        return self.info.card

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """See ``ClipNetwork.logits``."""
        return run_in_batches(lambda part: self._request.infer({CLIPS: part})[LOGITS], clips, 1, self.card)


class OpenVinoStream:
    """A ``StreamNetwork`` from an OpenVINO network; its state is a map of numpy arrays. As ``OpenVinoNetwork``."""

    def __init__(self, path: Path | str, threads: int | None = None) -> None:
        self._compiled, self.info = _open(Path(path), threads)
        check_use(self.info, Path(path), "stream")
        self._request = self._compiled.create_infer_request()

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
        results = self._request.infer({FRAME: frames, **inputs}, share_inputs=True)
        return results[LOGITS], {name: results[STATE_OUT + name] for name in self.info.state}


def _open(path: Path, threads: int | None) -> tuple[Any, ModelInfo]:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise RecipeError(f"{path}: needs OpenVINO: pip install openvino") from error
    check_file(path)
    core = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: damaged, or no OpenVINO network ({_reason(error)}); copy both files again, or export again"
        ) from error
    info = ModelInfo.parse(model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None, path)
    check_graph(info, path, _tensors(model.inputs), _tensors(model.outputs))
    if info.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RecipeError(
            f"{path}: this CPU does not compute in bf16; export the network with --precision fp32 or int8"
        )
    # Without a hint OpenVINO takes bf16 on its own where the CPU has it.
    hint = "bf16" if info.precision == "bf16" else "f32"
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        if info.mode == "clip":
            shape = model.input(CLIPS).partial_shape
            shape[0] = 1
            model.reshape({CLIPS: shape})
        return core.compile_model(model, "CPU", config), info
    except RuntimeError as error:
        raise WeightsError(f"{path}: OpenVINO cannot run it ({_reason(error)}); export the network again") from error


def _tensors(ports: Sequence[Any]) -> dict[str, Tensor]:
    found = {}
    for port in ports:
        kind = port.get_element_type().get_type_name()
        shape = port.partial_shape
        lengths = [None if each.is_dynamic else each.get_length() for each in shape] if shape.rank.is_static else [None]
        for name in port.names or {"(nameless)"}:
            found[name] = _KINDS.get(kind, kind), tuple(lengths)
    return found


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (telling or lines or [type(error).__name__])[0][:300]
