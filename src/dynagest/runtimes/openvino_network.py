"""Runs exported networks in OpenVINO on the CPU. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynagest.errors import RecipeError, WeightsError
from dynagest.runtimes.exported import Run
from dynagest.runtimes.model_file import CLIPS, KEY, ModelInfo, Tensor, check_file, check_graph

_KINDS = {"f32": "float32", "u8": "uint8"}


def open_openvino(path: Path, threads: int | None) -> tuple[ModelInfo, Run]:
    """Open an OpenVINO network (``.xml`` with ``.bin`` beside it). Returns its description and a function that runs it.

    ``threads``: the number of threads (default: one for each core). Raises ``WeightsError`` for files that are missing,
    damaged, not from dynagest or of another version, and ``RecipeError`` for bf16 on a CPU that lacks it or when
    OpenVINO is not installed.
    """
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
    # Without a hint OpenVINO chooses bf16 by itself where the CPU has it.
    hint = "bf16" if info.precision == "bf16" else "f32"
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        if info.mode == "clip":  # one clip at a time, because OpenVINO fuses more when their number is fixed
            shape = model.input(CLIPS).partial_shape
            shape[0] = 1
            model.reshape({CLIPS: shape})
            info = info.model_copy(update={"batch": 1})
        request = core.compile_model(model, "CPU", config).create_infer_request()
    except RuntimeError as error:
        raise WeightsError(f"{path}: OpenVINO cannot run it ({_reason(error)}); export the network again") from error
    return info, request.infer if info.mode == "clip" else _StreamRun(request, info)


class _StreamRun:
    """Runs a stream without copying its state, which is megabytes per frame: OpenVINO reads and writes numpy's memory.

    Tensors are set by index. Finding 104 tensors by name takes half a millisecond, of the 17 ms per frame that an int8
    ACTION-ResNet-50 takes.
    """

    def __init__(self, request: Any, info: ModelInfo) -> None:
        self._request, model = request, request.get_compiled_model()
        self._takes = [next(name for name in port.names if name in info.takes()) for port in model.inputs]
        self._gives = [
            (next(name for name in port.names if name in info.gives()), tuple(port.shape), port.element_type.to_dtype())
            for port in model.outputs
        ]

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        # OpenVINO does not own these arrays, so they must live until it has run.
        taken = [np.ascontiguousarray(inputs[name]) for name in self._takes]
        given = {name: np.empty(shape, dtype) for name, shape, dtype in self._gives}
        for index, array in enumerate(taken):
            self._request.set_input_tensor(index, _shared(array))
        for index, array in enumerate(given.values()):
            self._request.set_output_tensor(index, _shared(array))
        self._request.infer(share_outputs=True)
        return given


def _shared(array: np.ndarray) -> Any:
    import openvino

    return openvino.Tensor(array, shared_memory=True)


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
