"""Runs exported networks in ONNX Runtime. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynagest.errors import RecipeError, WeightsError, first_line
from dynagest.runtimes.exported import Run
from dynagest.runtimes.model_file import KEY, ModelInfo, Tensor, check_file, check_graph

CPU = ("CPUExecutionProvider",)
_KINDS = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


def open_onnx(path: Path, threads: int | None, providers: Sequence[str]) -> tuple[ModelInfo, Run]:
    """Open an ONNX file. Returns its description and a function that runs it.

    ``threads``: the number of threads (default: one for each core). ``providers``: ONNX Runtime's, first choice first.
    Raises ``WeightsError`` for a file that is missing, damaged, not from dynagest or of another version, and
    ``RecipeError`` when ONNX Runtime or a provider is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise RecipeError(f'{path}: needs ONNX Runtime: pip install "dynagest[run]"') from error
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
        said = session.get_modelmeta().custom_metadata_map.get(KEY)
        takes, gives = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    except Exception as error:  # ONNX Runtime's errors have no common base class below Exception
        raise WeightsError(
            f"{path}: damaged, or no ONNX network ({first_line(error)}); copy it again, or export the network again"
        ) from error
    info = ModelInfo.parse(said, path)
    check_graph(info, path, takes, gives)
    names = list(info.gives())
    return info, lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _tensors(nodes: Sequence[Any]) -> dict[str, Tensor]:
    # A free length has a name instead of a number.
    return {
        node.name: (_KINDS.get(node.type, node.type), tuple(n if isinstance(n, int) else None for n in node.shape))
        for node in nodes
    }
