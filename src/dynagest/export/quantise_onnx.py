"""Quantises an ONNX model to int8 for ONNX Runtime: weights per channel, activations by calibration clips."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

Inputs = dict[str, np.ndarray]

_QUANTISED = (
    *("Conv", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "MaxPool", "Relu"),
    *("Transpose", "Reshape", "Pad", "Slice", "Split", "Squeeze", "Unsqueeze"),
)


def quantise_onnx(model: onnx.ModelProto, calibration: Iterable[Inputs]) -> onnx.ModelProto:
    """An int8 model with quantise-dequantise pairs for ONNX Runtime. Inputs and outputs keep their names."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=pooled_nodes(model),
        )
        return onnx.load(target)


def pooled_nodes(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes after global pooling (ACTION's channel gates, the classifier), which stay in float.

    They have almost nothing to compute, and each rounding would shift a whole channel or a logit.
    """
    shapes = {
        each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*model.graph.value_info, *model.graph.output)
    }

    def pooled(name: str) -> bool:
        shape = shapes.get(name)
        return shape is not None and (len(shape) < 4 or all(size == 1 for size in shape[2:]))

    return [
        node.name
        for node in model.graph.node
        if node.op_type not in ("GlobalAveragePool", "ReduceMean") and all(map(pooled, node.output))
    ]


class _Reader(CalibrationDataReader):
    def __init__(self, samples: Iterable[Inputs]) -> None:
        self._samples: Iterator[Inputs] = iter(samples)

    def get_next(self) -> Inputs | None:
        return next(self._samples, None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence both tools, which print progress and advice that are meant for their own command lines."""
    onnxruntime.set_default_logger_severity(3)
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
        onnxruntime.set_default_logger_severity(2)
