"""Builds networks by name: which blocks, how many, how wide, with which temporal module.

What is the same in every network, such as the share of channels that TSM shifts, stands with its module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from dynagest.errors import ModelError, hint
from dynagest.networks.action import Action
from dynagest.networks.clipnet import CHANNELS, ClipNet
from dynagest.networks.online import OnlineAction, OnlineShift
from dynagest.networks.res2net import Res2NetBlock
from dynagest.networks.resnet import BasicBlock, Bottleneck, ResNet, Wrap, plain
from dynagest.networks.rivals.build import INPUTS, RIVALS, Options
from dynagest.networks.spec import NetworkSpec, inputs_of
from dynagest.networks.tea import MotionExcitation, TemporalAggregation
from dynagest.networks.tsm import TemporalShift
from dynagest.networks.video import VideoNet

RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


@dataclass(frozen=True)
class Temporal:
    """What wraps the first convolution of every block, and its form that looks at no future frame, if it has one."""

    wrap: Wrap
    online: Wrap | None = None


TEMPORAL: dict[str, Temporal] = {
    "tsn": Temporal(plain),
    "tsm": Temporal(TemporalShift, OnlineShift),
    "action": Temporal(Action, OnlineAction),
}


def list_models() -> list[str]:
    """The names that ``create_model`` knows: first the networks that depth can supervise, then the rivals.

    Example: ``[name for name in list_models() if name.startswith("tsm_")]``
    """
    return [*(f"{temporal}_{resnet}" for temporal in TEMPORAL for resnet in RESNETS), "tea_res2net50", *RIVALS]


def natural_input(name: str) -> tuple[int, int]:
    """Published frames per clip and frame side in pixels: 8 and 224 for our networks, 32 and 112 for most rivals."""
    return (RIVALS[name].frames, RIVALS[name].size) if name in RIVALS else (8, 224)


def create_model(
    name: str,
    num_classes: int,
    num_segments: int = 8,
    *,
    width: int = 64,
    dropout: float = 0.0,
    size: int = 224,
    options: Mapping[str, Any] | None = None,
) -> ClipNet:
    """Build a network by name, randomly initialised: normalised clips (N, T, 3, H, W) -> logits (N, num_classes).

    ``width`` is the number of channels of the stem: 64 as published, less (down to 8) for small networks; all other
    widths scale with it. ``num_segments`` is the T that the network is meant for, ``size`` the side of its input in
    pixels; only networks that flatten their features depend on them. ``dropout``, in [0, 1), acts before the
    classifier. ``options`` are the network's own switches: ``inputs`` is "rgb", "rgbd" or "depth" (3, 4 or 1 channels);
    ``online`` (TSM and ACTION) makes a network that looks at no future frame and so has a streaming form; a rival's
    options are in the docstring of its class (``dynagest.networks.rivals``).
    Raises ``ModelError`` for an unknown network or option, and for numbers that the network cannot be built with.

    Example: ``net = create_model("action_resnet50", num_classes=25, options={"online": True})``
    """
    return build_network(NetworkSpec(name, num_classes, num_segments, width, dropout, size, options or {}))


def build_network(spec: NetworkSpec) -> ClipNet:
    """Build the network of a card or of a recipe, as ``create_model`` does."""
    name, width, options = spec.name, spec.width, spec.options
    if name not in list_models():
        raise ModelError(f"there is no network {name!r}; {hint(name, list_models())}")
    if spec.num_classes < 1 or spec.num_segments < 1 or width < 8 or not 0 <= spec.dropout < 1:
        raise ModelError(
            f"{name}: num_classes={spec.num_classes}, num_segments={spec.num_segments}, width={width}, "
            f"dropout={spec.dropout}; at least 1 class, 1 segment, width 8, and a dropout in [0, 1) are needed"
        )
    _check_options(name, options, RIVALS[name].options if name in RIVALS else _options(name))
    if name in RIVALS:
        return RIVALS[name].build(spec)
    channels = CHANNELS[inputs_of(options)]
    base_model = _res2net(width, channels) if name == "tea_res2net50" else _resnet(name, width, channels, options)
    return VideoNet(base_model, spec)


def _options(name: str) -> Options:
    temporal = TEMPORAL.get(name.rpartition("_")[0])
    return {**INPUTS, "online": (False, True)} if temporal and temporal.online else INPUTS


def _check_options(name: str, options: Mapping[str, Any], known: Options) -> None:
    for option, value in options.items():
        if option not in known:
            raise ModelError(f"{name}: has no option {option!r}; there are {', '.join(known) or 'none'}")
        values = known[option]
        if values is not None and value not in values:
            raise ModelError(f"{name}: {option}={value!r}; it is one of {', '.join(map(repr, values))}")


def _resnet(name: str, width: int, channels: int, options: Mapping[str, Any]) -> ResNet:
    prefix, _, resnet = name.rpartition("_")
    temporal, (block, depths) = TEMPORAL[prefix], RESNETS[resnet]
    wrap = temporal.online if temporal.online and options.get("online") else temporal.wrap

    def make_block(in_channels: int, planes: int, stride: int, index: int) -> nn.Module:
        # TSM's own rule for very deep networks: every second block of a stage.
        bare = name == "tsm_resnet101" and index % 2 == 1
        return block(in_channels, planes, stride, plain if bare else wrap)

    return ResNet(make_block, depths, width, channels)


def _res2net(width: int, channels: int) -> ResNet:
    def make_block(in_channels: int, planes: int, stride: int, index: int) -> nn.Module:
        return Res2NetBlock(in_channels, planes, stride, index == 0, MotionExcitation, TemporalAggregation)

    return ResNet(make_block, RESNETS["resnet50"][1], width, channels)
