"""Runs exported networks in OpenVINO on the CPU. Needs no torch."""

import math
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dynagest.errors import ModelError, RecipeError, WeightsError
from dynagest.runtimes.exported import Run
from dynagest.runtimes.model_file import (
    CLIPS,
    FRAME,
    KEY,
    LOGITS,
    STATE_IN,
    STATE_OUT,
    ModelInfo,
    StateTensor,
    Tensor,
    check_file,
    check_graph,
)

_KINDS = {"f32": "float32", "u8": "uint8"}
_REQUESTS = 8  # the most that a stream's network keeps; two streams need at most six
_ALIGNED = 64  # bytes, a line of the cache


def open_openvino(path: Path, threads: int | None) -> tuple[ModelInfo, Run]:
    """Open an OpenVINO network (``.xml`` with ``.bin`` beside it). Returns its description and a function that runs it.

    ``threads``: the number of threads (default: one for each core). Raises ``WeightsError`` for files that are missing,
    damaged, not from dynagest or of another version, and ``RecipeError`` for bf16 on a CPU that lacks it or when
    OpenVINO is not installed.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise RecipeError(f'{path}: needs OpenVINO: pip install "dynagest[openvino]"') from error
    check_file(path)
    core = openvino.Core()
    try:
        model = core.read_model(path)
        said = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    except (RuntimeError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path}: damaged, or no OpenVINO network ({_reason(error)}); copy both files again, or export again"
        ) from error
    info = ModelInfo.parse(said, path)
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
        compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise WeightsError(f"{path}: OpenVINO cannot run it ({_reason(error)}); export the network again") from error
    return info, compiled.create_infer_request().infer if info.mode == "clip" else _StreamRun(compiled, info)


class _StreamRun:
    """Runs a stream without copying its state or telling OpenVINO anew where it is.

    Of an int8 ACTION-ResNet-50 the state is 6 MB in 51 tensors, read and written at every frame, and setting these 102
    tensors takes a millisecond of 17. So each state lies in a block, and a request is kept for each pair of a block to
    read and one to write. A loop that keeps only the newest state needs two blocks and two requests.

    Raises ``ModelError`` for a state that is not of this network.
    """

    def __init__(self, compiled: Any, info: ModelInfo) -> None:
        self._state = info.state
        self._free: deque[_Block] = deque(maxlen=_REQUESTS)  # more would only keep memory
        # Not of a method, which would keep the network in a cycle, and its file mapped, until the next collection.
        self._request = lru_cache(maxsize=_REQUESTS)(partial(_bind, compiled))

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        state = {name: inputs[STATE_IN + name] for name in self._state}
        before = _block_of(state)
        if before is None:  # a stream's first state
            before = self._take()
            copied = before.lend(self._free)  # until this step is done
            for name, array in copied.items():
                _copy(name, state[name], array)
        after = self._take()
        given = after.lend(self._free)  # before anything can fail, so that the block is not lost
        request, frames, logits = self._request(before, after)
        np.copyto(frames, inputs[FRAME])
        request.start_async()  # infer() would make arrays of all outputs, which takes 0.35 ms of 17
        request.wait()
        return {LOGITS: logits.copy(), **{STATE_OUT + name: each for name, each in given.items()}}

    def _take(self) -> "_Block":
        try:
            return self._free.pop()
        except IndexError:
            return _Block(self._state)


def _bind(compiled: Any, before: "_Block", after: "_Block") -> tuple[Any, np.ndarray, np.ndarray]:
    """A request that reads one block and writes the other, and the arrays of its frames and of its logits."""
    request = compiled.create_infer_request()
    frames = np.empty(tuple(compiled.input(FRAME).shape), np.float32)
    logits = np.empty(tuple(compiled.output(LOGITS).shape), np.float32)
    request.set_tensor(FRAME, _shared(frames))
    request.set_tensor(LOGITS, _shared(logits))
    for name in after.arrays:
        request.set_tensor(STATE_IN + name, _shared(before.arrays[name]))
        request.set_tensor(STATE_OUT + name, _shared(after.arrays[name]))
    return request, frames, logits


def _copy(name: str, given: np.ndarray, to: np.ndarray) -> None:
    """Copy a tensor of the state. Raises ``ModelError`` for another type or shape; numpy would stretch the latter."""
    if np.shape(given) != to.shape or given.dtype != to.dtype:
        raise ModelError(
            f"state {name}: {given.dtype} {np.shape(given)}, but this network's is {to.dtype} {to.shape}; a stream "
            "begins with initial_state() and goes on with what step() gave"
        )
    np.copyto(to, given)


class _Block:
    """Memory that holds one state of a stream."""

    def __init__(self, layout: Mapping[str, StateTensor]) -> None:
        self._places, size = {}, 0
        for name, each in layout.items():
            self._places[name] = each.shape, np.dtype(each.dtype), size
            size += -(-math.prod(each.shape) * np.dtype(each.dtype).itemsize // _ALIGNED) * _ALIGNED
        memory = np.empty(size + _ALIGNED, np.uint8)
        self.memory = memory[-memory.ctypes.data % _ALIGNED :][:size]
        self.arrays = self._within(self.memory)

    def lend(self, free: "deque[_Block]") -> dict[str, np.ndarray]:
        """The state as arrays. When none of them is left, nor a view of any, the block is added to ``free``."""
        loan = _Loan(self)
        weakref.finalize(loan, free.append, self).atexit = False  # at exit it is still lent
        arrays = self._within(np.asarray(loan))
        loan.arrays = {name: weakref.ref(array) for name, array in arrays.items()}
        return arrays

    def _within(self, memory: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.ndarray(shape, kind, memory, at) for name, (shape, kind, at) in self._places.items()}


class _Loan:
    """What numpy takes for the owner of a lent block's memory, and keeps as long as there is an array in it."""

    arrays: dict[str, "weakref.ref[np.ndarray]"]

    def __init__(self, block: _Block) -> None:
        self.block, self.__array_interface__ = block, block.memory.__array_interface__


def _block_of(state: Mapping[str, np.ndarray]) -> _Block | None:
    """The block that was lent as these very arrays; ``None`` for arrays from elsewhere."""
    whole = next((array.base for array in state.values()), None)
    loan = whole.base if isinstance(whole, np.ndarray) else None
    if isinstance(loan, _Loan) and all(array is loan.arrays[name]() for name, array in state.items()):
        return loan.block
    return None


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


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return (telling or lines or [type(error).__name__])[0][:300]
