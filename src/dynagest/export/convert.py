"""Converts a torch module to an ONNX model, simplifies it for the runtimes and checks it."""

import ast
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import onnx_ir
import torch
from onnx_ir.passes import Sequential, common
from onnxscript.optimizer import fold_constants
from torch import nn

from dynagest.errors import ExportError, first_line

_EXPORTER = "torch.onnx._internal.exporter._registration"
_SPATIAL = {4: {2, 3}, 5: {2, 3, 4}}


def to_onnx(
    net: nn.Module,
    inputs: Sequence[Any],
    input_names: Sequence[str],
    output_names: Sequence[str],
    *,
    dynamic: bool,
) -> onnx.ModelProto:
    """Convert ``net``, called with ``inputs``, to an ONNX model. ``dynamic``: each input's first dimension is free.

    Raises ``ExportError`` when torch cannot trace or translate the network.
    """
    axes = torch.utils._pytree.tree_map(lambda _: {0: torch.export.Dim.DYNAMIC} if dynamic else None, tuple(inputs))
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(net.eval(), tuple(inputs), dynamic_shapes=axes, strict=False)
            exported = torch.onnx.export(
                program, dynamo=True, input_names=input_names, output_names=output_names, verbose=False, optimize=False
            )
            assert exported is not None
            _tidy(exported.model)
            model = onnx_ir.to_proto(exported.model)
    except Exception as error:  # the exporter raises its own errors, torch's, and those of whatever it calls
        raise ExportError(
            f"{type(net).__name__}: torch {torch.__version__} cannot export this network to ONNX "
            f"({first_line(error)}); run it in PyTorch, or report it with the name of the network"
        ) from error
    drop_zero_biases(model)
    name_by_module(model)
    pool_globally(model)
    drop_unused_constants(model)
    check(model)
    return model


def check(model: onnx.ModelProto) -> None:
    """Raise ``ExportError`` unless the ONNX checker accepts the model and its shapes."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker refuses what was made: {error}; please report this") from error


def set_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Replace all of the model's metadata by ``metadata``: the exporter's own contains paths on this machine."""
    del model.metadata_props[:]
    for owner in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del owner.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
    onnx.helper.set_model_props(model, dict(metadata))


def drop_zero_biases(model: onnx.ModelProto) -> None:
    """Remove the zero biases that the exporter gives to convolutions without bias, in a shape that OpenVINO refuses."""
    zeros = {each.name for each in model.graph.initializer if not onnx.numpy_helper.to_array(each).any()}
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]


def drop_unused_constants(model: onnx.ModelProto) -> None:
    """Remove the constants that no operator reads any more: ONNX Runtime warns of each when it loads the file."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def name_by_module(model: onnx.ModelProto) -> None:
    """Rename every node to ``module/path/Operator_k``, after the module that it comes from, so that it can be found."""
    for index, node in enumerate(model.graph.node):
        scopes = next((each.value for each in node.metadata_props if each.key == "pkg.torch.onnx.name_scopes"), "[]")
        path = ast.literal_eval(scopes)
        inner = path[-2] if len(path) > 1 else ""  # the last one is the operator's own name
        node.name = "/".join(filter(None, (*inner.split("."), f"{node.op_type}_{index}")))


def pool_globally(model: onnx.ModelProto) -> None:
    """Turn means over all axes of frames or volumes into ``GlobalAveragePool``, which runtimes have in int8 as well."""
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    ranks = {each.name: len(each.type.tensor_type.shape.dim) for each in model.graph.value_info}
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        rank = ranks.get(node.input[0], 0)
        axes = {int(axis) % rank for axis in constants[node.input[1]]} if rank else set()
        keeps = all(each.i for each in node.attribute if each.name == "keepdims")
        if keeps and axes and axes == _SPATIAL.get(rank):
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


def _tidy(model: onnx_ir.Model) -> None:
    # Like `optimize=True` but without its 40 rewriting rules, which take a minute and change nothing here.
    fold_constants(model)
    passes = (
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.NameFixPass(),
    )
    Sequential(*passes)(model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warning about torchvision, which is absent on purpose, and torch's about its internals."""
    logger = logging.getLogger(_EXPORTER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
