"""Quantises an OpenVINO model to int8: weights per channel, activations and streams' state by calibration clips."""

from collections.abc import Iterable, Mapping, Sequence

import nncf
import numpy as np
import openvino
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from openvino import opset13 as ops

from dynagest.export.quantise_onnx import Inputs, quiet
from dynagest.runtimes.model_file import STATE_IN, STATE_OUT, StateTensor


def quantise_openvino(model: openvino.Model, calibration: Iterable[Inputs], in_float: Sequence[str]) -> openvino.Model:
    """An int8 model by NNCF's post-training quantisation; the nodes named ``in_float`` stay in float.

    Convolutions are quantised with their inputs and outputs. Elementwise products (gates, ACTION's shift), sums of
    products and sums that products read are not: NNCF would round after each of them, but OpenVINO computes them
    together in one pass from bytes to bytes.
    """
    samples = list(calibration)
    sums = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "Add"
        and ("Multiply" in _readers(node) or any(_comes_from(node, place, "Multiply") for place in (0, 1)))
    ]
    with quiet():
        quantised = nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            # NNCF's default clips rare activations, which loses a tenth of the answers.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
            ignored_scope=nncf.IgnoredScope(
                names=[*in_float, *sums], types=["MatMul", "Sigmoid", "Multiply"], validate=False
            ),
        )
    _quantise_once(quantised)
    _pool_bytes(quantised)
    _gate_bytes(quantised)
    _keep_matrices_in_bytes(quantised)
    return quantised


def _quantise_once(model: openvino.Model) -> None:
    """Quantise each tensor once: where its quantisers have the same range, all its readers read the output of one.

    NNCF gives some readers a quantiser each and others none, so that a block's output would be kept as float32 and
    rounded three times. Means still read the float tensor, because OpenVINO rounds a mean of bytes to a byte.
    """
    apart = ("ShapeOf", "Result", "AvgPool", "ReduceMean")
    for node in model.get_ordered_ops():
        for output in node.outputs():
            readers = list(output.get_target_inputs())
            quantisers = [each.get_node() for each in readers if _is_quantiser(each)]
            agree = len({_range(each) for each in quantisers}) == 1
            if node.get_type_name() == "Constant" or len(readers) < 2 or not agree:
                continue
            once = quantisers[0].output(0)
            for reader in readers:
                if reader.get_node().get_type_name() in apart or reader.get_node() == quantisers[0]:
                    continue
                for each in reader.get_node().output(0).get_target_inputs() if _is_quantiser(reader) else {reader}:
                    each.replace_source_output(once)


def _pool_bytes(model: openvino.Model) -> None:
    """Quantise before max-pooling, not after it: the largest value stays the largest, and there is less to read."""
    for node in model.get_ops():
        if node.get_type_name() != "MaxPool" or _readers(node) != ["FakeQuantize"]:
            continue
        (reader,) = _targets(node)
        quantiser = reader.get_node()
        for each in _targets(quantiser):
            each.replace_source_output(node.output(0))
        quantiser.input(0).replace_source_output(node.input_value(0))
        node.input(0).replace_source_output(quantiser.output(0))


def _gate_bytes(model: openvino.Model) -> None:
    """Let OpenVINO multiply quantised features by a sum of gates without converting them to float32 first.

    It does so only if the other factor, too, is multiplied by a constant, as dequantised values are. So the sum is
    doubled, and so is the input range of the quantiser after the product, which then gives the same numbers as before.
    """
    for node in model.get_ops():
        gated = node.get_type_name() == "Multiply" and _comes_from(node, 0, "FakeQuantize")
        if not gated or not _comes_from(node, 1, "Add") or _readers(node) != ["FakeQuantize"]:
            continue
        node.input(1).replace_source_output(ops.multiply(node.input_value(1), np.float32(2)).output(0))
        (reader,) = _targets(node)
        for place in (1, 2):
            limit = reader.get_node().input(place)
            doubled = 2 * limit.get_source_output().get_node().get_data()
            limit.replace_source_output(ops.constant(doubled).output(0))


def _keep_matrices_in_bytes(model: openvino.Model) -> None:
    """Store the weights of float matrix products in int8 with a scale per row.

    For a single frame, reading these weights takes longer than the product.
    """
    for node in model.get_ops():
        if node.get_type_name() != "MatMul" or not _comes_from(node, 1, "Constant"):
            continue
        weight = node.input_value(1).get_node().get_data()
        step = np.abs(weight).max(axis=-1 if node.get_attributes()["transpose_b"] else -2, keepdims=True) / 127
        step = np.where(step == 0, 1, step).astype(np.float32)
        levels = ops.convert(ops.constant(np.round(weight / step).astype(np.int8)), "f32")
        node.input(1).replace_source_output(ops.multiply(levels, step).output(0))


def keep_state_in_bytes(model: openvino.Model, state: Mapping[str, StateTensor]) -> dict[str, StateTensor]:
    """Change the full-size features in a quantised network's state to uint8, in place. Returns the new state.

    If the network quantises a feature anyway, the next frame needs no more than those eight bits: an int8
    ACTION-ResNet-50 at 224 then reads and writes 6 MB per frame instead of 22. Other state stays float32.
    """
    before = {name: node for node in model.get_parameters() for name in node.output(0).names}
    after = {name: node for node in model.get_results() for name in node.input_value(0).names}
    kept = dict(state)
    for name, tensor in state.items():
        parameter, result = before[STATE_IN + name], after[STATE_OUT + name]
        turned = result.input_value(0).get_node()
        if turned.get_type_name() != "Transpose":  # not full-size features, so too small to matter
            continue
        feature = turned.input_value(0).get_node()
        rounded = feature
        # A slice takes the last of several frames; pooling keeps the levels that it was given.
        while rounded.get_type_name() in ("Slice", "StridedSlice", "MaxPool"):
            rounded = rounded.input_value(0).get_node()
        if rounded.get_type_name() != "FakeQuantize" or len(bounds := _range(rounded)) > 4 or bounds[0]:
            continue
        step = bounds[1] / 255
        read = ops.parameter(list(tensor.shape), np.uint8, name=STATE_IN + name)
        read.output(0).set_names({STATE_IN + name})
        model.remove_parameter(parameter)
        model.add_parameters([read])
        _read_bytes(_targets(parameter), read, step)
        # ACTION's shift reads the bytes, too. Then every reader of a block's input comes before the block's sum, so
        # that OpenVINO can add in place, within the last convolution.
        shifts = [each for each in _targets(feature) if each.get_node().get_type_name() in ("Transpose", "Multiply")]
        _read_bytes(shifts, ops.convert(ops.round(ops.multiply(feature.output(0), np.float32(1 / step))), "u8"), step)
        kept[name] = StateTensor(shape=tensor.shape, dtype="uint8")
    model.validate_nodes_and_infer_types()
    return kept


def _read_bytes(readers: Iterable[openvino.Input], levels: openvino.Node, step: float) -> None:
    """Make ``readers`` read the features as ``levels`` (uint8) times ``step``. A transpose is done on the bytes."""
    for reader in readers:
        node = reader.get_node()
        if node.get_type_name() == "Transpose":
            onward = _targets(node)
            reader.replace_source_output(levels.output(0))
            _read_bytes(onward, node, step)
        elif node.get_type_name() != "Result":
            features = ops.multiply(ops.convert(levels, "f32"), np.float32(step))
            reader.replace_source_output(features.output(0))


def _targets(node: openvino.Node) -> list[openvino.Input]:
    return list(node.output(0).get_target_inputs())


def _comes_from(node: openvino.Node, place: int, kind: str) -> bool:
    return bool(node.input_value(place).get_node().get_type_name() == kind)


def _readers(node: openvino.Node) -> list[str]:
    """The types of the nodes that read a node's only output."""
    return [each.get_node().get_type_name() for each in _targets(node)]


def _is_quantiser(reader: openvino.Input) -> bool:
    return bool(reader.get_node().get_type_name() == "FakeQuantize" and reader.get_index() == 0)


def _range(quantiser: openvino.Node) -> tuple[float, ...]:
    """A quantiser's lowest and highest input and output, in this order and flattened; each may be per channel."""
    return tuple(float(x) for place in (1, 2, 3, 4) for x in quantiser.input_value(place).get_node().get_data().ravel())
