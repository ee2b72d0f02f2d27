"""int8 by static calibration: weights by channel, activations by what calibration clips showed."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

if TYPE_CHECKING:
    import openvino

Inputs = dict[str, np.ndarray]

_QUANTISED = (
    *("Conv", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "MaxPool", "Relu"),
    *("Transpose", "Reshape", "Pad", "Slice", "Split", "Squeeze", "Unsqueeze"),
)


def quantise_onnx(model: onnx.ModelProto, calibration: Iterable[Inputs]) -> onnx.ModelProto:
    """An int8 model with quantise-dequantise pairs, as ONNX Runtime takes them. Names of inputs and outputs stay."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
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


def quantise_openvino(
    model: "openvino.Model", calibration: Iterable[Inputs], in_float: Sequence[str]
) -> "openvino.Model":
    """An int8 model by NNCF's post-training quantisation, but for the nodes ``in_float``."""
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    samples = list(calibration)
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            # Its default cuts off what few clips reach, and with it a tenth of the answers.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
            ignored_scope=nncf.IgnoredScope(names=list(in_float), types=["MatMul", "Sigmoid"], validate=False),
        )


def pooled_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes behind global pooling: ACTION's channel gates, the classifier. They are to stay in float.

    There is next to nothing to compute, and each rounding moves a whole channel or a logit.
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
def _quiet() -> Iterator[None]:
    """Both tools print progress and advice meant for their own command lines."""
    onnxruntime.set_default_logger_severity(3)
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
        onnxruntime.set_default_logger_severity(2)
