"""What the network tests share: literal networks with weights that are not trivial."""

from typing import Any, TypeVar

import torch
from literal import LiteralVideoNet, literal_model
from torch import Tensor, nn

from dynagest.networks.build import create_model
from dynagest.networks.video import VideoNet

Net = TypeVar("Net", bound=nn.Module)


def random_clip(*, clips: int = 2, frames: int = 4, size: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips, frames, 3, size, size, generator=generator)


def trained_literal(name: str, num_classes: int = 5, *, width: int = 64, dropout: float = 0.0) -> LiteralVideoNet:
    """A literal network as training might leave it: no weight, shift or BatchNorm statistic at its initial value."""
    torch.manual_seed(0)
    net = literal_model(name, num_classes, num_frames=4, width=width, dropout=dropout)
    return _stirred(net, 0.1)


def trained(name: str, num_classes: int = 5, num_segments: int = 4, **arguments: Any) -> VideoNet:
    """A network of ours as training might leave it: no weight, tap or BatchNorm statistic at its initial value."""
    torch.manual_seed(0)
    return _stirred(create_model(name, num_classes, num_segments, **arguments), 0.02)


def _stirred(net: Net, spread: float) -> Net:
    """With a classifier of weights that differ by ``spread``."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = None
        elif isinstance(module, nn.Conv1d):
            with torch.no_grad():
                module.weight.add_(torch.randn_like(module.weight), alpha=0.3)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=spread)
            nn.init.normal_(module.bias, std=0.1)
    net.train()
    with torch.no_grad():
        net(random_clip(clips=4, seed=1))
    return net.eval()
