"""A stand-in for a monocular depth model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynagest.clips.teacher import Teacher, TeacherSpec

LUMA = (0.299, 0.587, 0.114)


def luminance(
    path: Path, shape: tuple[Any, ...] = (1, 3, 32, 48), weights: tuple[float, ...] = LUMA, offset: float = 0.0
) -> Path:
    """A network whose "depth" is the luminance of its input, as (1, 1, H, W): bright is near."""
    onnx = pytest.importorskip("onnx")
    channels_last = shape[1] != 3
    image = "image"
    nodes = []
    if channels_last:
        nodes.append(onnx.helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
        image = "planes"
    nodes.append(onnx.helper.make_node("Conv", [image, "weights", "offset"], ["depth"]))
    tensors = [
        onnx.numpy_helper.from_array(np.array(weights, np.float32).reshape(1, 3, 1, 1), "weights"),
        onnx.numpy_helper.from_array(np.array([offset], np.float32), "offset"),
    ]
    value = onnx.helper.make_tensor_value_info
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "luminance", [value("image", float32, shape)], [value("depth", float32, None)], tensors
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def plain(path: Path, **fields: Any) -> Teacher:
    """The model in the file ``path``, fed values of 0 to 1 without normalisation."""
    return Teacher(path, TeacherSpec(mean=(0, 0, 0), std=(1, 1, 1), **fields))
