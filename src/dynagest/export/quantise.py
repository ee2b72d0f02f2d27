"""int8 by static calibration: weights by channel, activations by what calibration clips showed, streams' state too."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from dynagest.runtimes.model_file import STATE_IN, STATE_OUT, StateTensor

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


def keep_state_in_bytes(model: "openvino.Model", state: Mapping[str, StateTensor]) -> dict[str, StateTensor]:
    """Turn what a quantised network remembers at full size into uint8, in place, and return the state as it is now.

    Of a feature that the network quantises anyway the next frame needs no more than those eight bits: an int8
    ACTION-ResNet-50 at 224 reads and writes 6 MB a frame then instead of 22. What it does not quantise stays float32.
    """
    from openvino import opset13 as ops

    before = {name: node for node in model.get_parameters() for name in node.output(0).names}
    after = {name: node for node in model.get_results() for name in node.input_value(0).names}
    kept = dict(state)
    for name, tensor in state.items():
        parameter, result = before[STATE_IN + name], after[STATE_OUT + name]
        turned = result.input_value(0).get_node()
        if turned.get_type_name() != "Transpose":  # small, and not features
            continue
        feature, order = turned.input_value(0), turned.input_value(1)
        top = _quantised_up_to(feature)
        if top is None:
            continue
        read = ops.parameter(list(tensor.shape), np.uint8, name=STATE_IN + name)
        read.output(0).set_names({STATE_IN + name})
        (users,) = (target.get_node() for target in parameter.output(0).get_target_inputs())
        as_float = ops.convert(ops.transpose(read, users.input_value(1)), "f32")
        value = ops.multiply(as_float, np.float32(top / 255))
        for target in list(users.output(0).get_target_inputs()):
            target.replace_source_output(value.output(0))
        levels = ops.fake_quantize(feature, *map(np.float32, (0, top, 0, 255)), 256)
        left = ops.transpose(ops.convert(levels, "u8"), order)
        turned.output(0).set_names(set())
        left.output(0).set_names({STATE_OUT + name})
        model.remove_parameter(parameter)
        model.remove_result(result)
        model.add_parameters([read])
        model.add_results([ops.result(left)])
        kept[name] = StateTensor(shape=tensor.shape, dtype="uint8")
    model.validate_nodes_and_infer_types()
    return kept


def _quantised_up_to(feature: "openvino.Output") -> float | None:
    """The largest value of a feature, all of it quantised from 0 on; ``None`` where it is not, or not in that way."""
    for target in feature.get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "FakeQuantize":
            low, high = (node.input_value(place).get_node().get_data().ravel() for place in (1, 2))
            if len(low) == len(high) == 1 and low[0] == 0:
                return float(high[0])
    return None


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
