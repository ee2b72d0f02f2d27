"""Networks by name: the only place with their numbers."""

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from dynagest.errors import ModelError
from dynagest.networks.action import Action
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.res2net import Res2NetBlock
from dynagest.networks.resnet import BasicBlock, Bottleneck, ResNet
from dynagest.networks.tea import MotionExcitation, TemporalAggregation
from dynagest.networks.tsm import TemporalShift
from dynagest.networks.video import VideoNet

RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}
TEMPORAL = ("tsn", "tsm", "action")


# What each kind of network can be told beyond its name, and the values that there are.
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "tsn": {"inputs": ("rgb", "rgbd", "depth")},
    "tsm": {"inputs": ("rgb", "rgbd", "depth")},
    "action": {"inputs": ("rgb", "rgbd", "depth")},
    "tea": {"inputs": ("rgb", "rgbd", "depth")},
}
CHANNELS = {"rgb": 3, "rgbd": 4, "depth": 1}


def list_models() -> list[str]:
    """The names that ``create_model`` knows."""
    return [*(f"{temporal}_{resnet}" for temporal in TEMPORAL for resnet in RESNETS), "tea_res2net50"]


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
    """Build a network by name, randomly initialised.

    ``width`` is the number of channels of the stem: 64 as published, less for small networks; all others follow.
    ``num_segments`` is the T that it is meant for, ``size`` the side of its input in pixels; only networks that flatten
    their features depend on them. ``options`` are the network's own switches: ``inputs`` "rgb", "rgbd" or "depth".
    Raises ``ModelError`` when there is no such network or option.
    """
    if name not in list_models():
        close = difflib.get_close_matches(name, list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(list_models())}"
        raise ModelError(f"there is no network {name!r}; {hint}")
    if num_classes < 1 or num_segments < 1 or width < 8 or not 0 <= dropout < 1:
        raise ModelError(
            f"{name}: num_classes={num_classes}, num_segments={num_segments}, width={width}, dropout={dropout}; "
            "at least 1 class, 1 segment, width 8, and a dropout in [0, 1) are needed"
        )
    options = dict(options or {})
    _check_options(name, options, OPTIONS[name.split("_")[0]])
    channels = CHANNELS[options.get("inputs", "rgb")]
    base_model = _res2net(width, channels) if name == "tea_res2net50" else _resnet(name, width, channels)
    return VideoNet(base_model, name, num_classes, num_segments, width, dropout, options)


def _check_options(name: str, options: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]]) -> None:
    for option, value in options.items():
        if option not in known:
            raise ModelError(f"{name}: has no option {option!r}; there are {', '.join(known) or 'none'}")
        if value not in known[option]:
            raise ModelError(f"{name}: {option}={value!r}; it is one of {', '.join(map(repr, known[option]))}")


def _resnet(name: str, width: int, channels: int) -> ResNet:
    temporal, resnet = name.split("_")
    block, depths = RESNETS[resnet]

    def make_block(in_channels: int, planes: int, stride: int, index: int) -> nn.Module:
        return block(in_channels, planes, stride, _wrapper(temporal, resnet, index))

    return ResNet(make_block, depths, width, channels)


def _wrapper(temporal: str, resnet: str, index: int) -> Callable[[nn.Conv2d], nn.Module]:
    if temporal == "action":
        return Action
    # TSM's own rule for very deep networks: every second block of a stage.
    if temporal == "tsm" and (resnet != "resnet101" or index % 2 == 0):
        return TemporalShift
    return _plain


def _plain(conv: nn.Conv2d) -> nn.Module:
    return conv


def _res2net(width: int, channels: int) -> ResNet:
    block = partial(Res2NetBlock, excite=MotionExcitation, aggregate=TemporalAggregation)

    def make_block(in_channels: int, planes: int, stride: int, index: int) -> nn.Module:
        return block(in_channels, planes, stride, index == 0)

    return ResNet(make_block, RESNETS["resnet50"][1], width, channels)
