"""What a network costs: parameters, true multiply-adds, and the figure that the papers print as GFLOPs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dynagest.networks.action import Action
from dynagest.networks.build import build_network
from dynagest.networks.forward import evaluating, shapes_only
from dynagest.networks.rivals.convolution import Conv3d
from dynagest.networks.spec import NetworkSpec


@dataclass(frozen=True)
class Count:
    """The cost of one forward pass.

    ``parameters`` excludes buffers. ``multiply_adds`` covers all convolutions (transposed ones too) and matrix
    products. ``legacy_flops`` counts as the published tables do. All three are plain numbers, not millions or billions.
    """

    parameters: int
    multiply_adds: int
    legacy_flops: int

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.3f} M parameters, {self.multiply_adds / 1e9:.3f} G multiply-adds, "
            f"{self.legacy_flops / 1e9:.3f} GFLOPs by the legacy count"
        )


def count(net: nn.Module, clip_shape: tuple[int, ...] = (1, 8, 3, 224, 224)) -> Count:
    """The cost of ``net`` in evaluation mode on an input of ``clip_shape``, (N, T, 3, H, W) for a ``ClipNet``.

    Only shapes are computed, which takes milliseconds at any size. The network is left as it was. ACTION is counted as
    published; in evaluation it does less (see ``networks.action``). A ``ClipNet`` raises ``ModelError`` for a shape
    that it does not take.

        >>> print(count(create_model("action_resnet50", num_classes=83)))
        27.896 M parameters, 34.435 G multiply-adds, 29.803 GFLOPs by the legacy count
    """
    flops = FlopCounterMode(display=False)
    with evaluating(net), _as_published(net), _legacy_counter(net) as legacy, flops:
        shapes_only(net, torch.empty(clip_shape, device="meta"))
    return Count(
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        multiply_adds=flops.get_total_flops() // 2,
        legacy_flops=sum(legacy),
    )


def cost_of(spec: NetworkSpec) -> Count:
    """The cost of one view: ``num_segments`` frames of ``size`` x ``size``.

    Raises ``ModelError`` as ``build_network`` does.

    Example: ``cost_of(NetworkSpec("c3d", 83, 32, size=112)).parameters``
    """
    return _cost(json.dumps(asdict(spec)))


@cache
def _cost(fields: str) -> Count:
    spec = NetworkSpec(**json.loads(fields))
    with torch.device("meta"):
        net = build_network(spec)
    return count(net, (1, spec.num_segments, net.channels, spec.size, spec.size))


def _legacy_convolution(conv: nn.Conv2d | nn.Conv3d, x: Tensor, y: Tensor) -> int:
    # The mistake that gives this count its name: the output size is divided by the stride a second time.
    positions = prod(size // stride for size, stride in zip(y.shape[2:], conv.stride, strict=True))
    kernel = prod(conv.kernel_size) * conv.in_channels // conv.groups
    return y.shape[0] * positions * conv.out_channels * (kernel + (conv.bias is not None))


def _legacy_linear(linear: nn.Linear, x: Tensor, y: Tensor) -> int:
    return (2 * linear.in_features - 1) * y.numel()


def _legacy_norm(norm: nn.Module, x: Tensor, y: Tensor) -> int:
    return 2 * x.numel()


def _legacy_relu(relu: nn.Module, x: Tensor, y: Tensor) -> int:
    return x.numel()


# Looked up by exact type, as the published counter does: it misses convolutions over T alone (Conv1d), pooling,
# sigmoids and ACTION's 3x3x3 convolution.
_LEGACY: dict[type[nn.Module], Callable[..., int]] = {
    nn.Conv2d: _legacy_convolution,
    nn.Conv3d: _legacy_convolution,
    Conv3d: _legacy_convolution,
    nn.Linear: _legacy_linear,
    nn.BatchNorm2d: _legacy_norm,
    nn.BatchNorm3d: _legacy_norm,
    nn.ReLU: _legacy_relu,
}


@contextmanager
def _as_published(net: nn.Module) -> Iterator[None]:
    """Let ACTION's modules do all that the published ones do."""
    modules = [module for module in net.modules() if isinstance(module, Action) and module.means_first]
    for module in modules:
        module.means_first = False
    try:
        yield
    finally:
        for module in modules:
            module.means_first = True


@contextmanager
def _legacy_counter(net: nn.Module) -> Iterator[list[int]]:
    counts: list[int] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(_LEGACY[type(module)](module, inputs[0], output))

    handles = [module.register_forward_hook(hook) for module in net.modules() if type(module) in _LEGACY]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()
