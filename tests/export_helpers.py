"""Small networks in run folders, trained enough for their answers to be sure, and their exports."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from dynagest.card import NetworkCard
from dynagest.export.write import Runtime, write_model
from dynagest.networks.build import create_model
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.weights import save_network
from dynagest.runtimes.model_file import ModelInfo
from dynagest.stream.events import EventSettings

CLASSES = ("wave", "grab", "push")


def make_network(name: str, options: dict | None = None, *, size: int = 64) -> tuple[ClipNet, NetworkCard]:
    """A network whose BatchNorm statistics fit noise, with logits that are far apart."""
    torch.manual_seed(0)
    net = create_model(name, len(CLASSES), 4, width=8, size=size, options=options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    nn.init.normal_(net.classifier.weight, std=1.0)
    net.train()
    with torch.no_grad():
        net(torch.randn(8, 4, 3, size, size))
    card = NetworkCard(
        model=name,
        classes=CLASSES,
        num_segments=4,
        size=size,
        width=8,
        options=options or {},
        fps=10.0,
        provenance={"recipe": "demo"},  # as if it had learnt generated gestures
    )
    return net.eval(), card


def save_run(folder: Path, name: str, options: dict | None = None) -> Path:
    """A run folder with nothing but the network."""
    net, card = make_network(name, options)
    save_network(folder, net, card)
    return folder


def noise(count: int, size: int = 64, seed: int = 1) -> np.ndarray:
    """Normalised clips (count, 4, 3, size, size)."""
    return np.random.default_rng(seed).standard_normal((count, 4, 3, size, size), dtype=np.float32)


def reference(net: nn.Module, clips: np.ndarray) -> np.ndarray:
    """The logits of PyTorch."""
    with torch.inference_mode():
        return net(torch.from_numpy(clips)).numpy()


def kernels(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """The shape of each convolution's kernel. Each must be stored, as it is in fp32."""
    stored = {each.name: tuple(each.dims) for each in model.graph.initializer}
    return [stored[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


def export_colours(
    path: Path,
    red: str,
    green: str,
    events: EventSettings | None = None,
    *,
    fps: float | None = 10.0,
    frames: int = 1,
) -> Path:
    """A stream exported to ``path``, of a network made by hand: red frames are one gesture, green ones another."""
    card = NetworkCard(
        model="colours", classes=(red, green, "none"), size=32, fps=fps, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    nodes = [
        helper.make_node("ReduceMean", ["frame", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weight"], ["each"]),
        helper.make_node("Add", ["each", "bias"], ["logits"]),
    ]
    constants = {
        "axes": np.array([2, 3]),
        "weight": np.float32([[20, -20, 0], [-20, 20, 0], [0, 0, 0]]),
        "bias": np.float32([0, 0, 8]),
    }
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, [frames, 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [frames, 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    to: Runtime = "onnx" if path.suffix == ".onnx" else "openvino"
    kept = events.model_dump() if events else None
    info = ModelInfo(mode="stream", precision="fp32", frames=frames, card=card, events=kept)
    write_model(model, info, to, (), path)
    return path
