"""Small networks in run folders, trained enough for their answers to be sure, and their exports."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dynagest.card import NetworkCard
from dynagest.networks.build import create_model
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.weights import save_network

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
    card = NetworkCard(model=name, classes=CLASSES, num_segments=4, size=size, width=8, options=options or {}, fps=10.0)
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
