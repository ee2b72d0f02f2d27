"""What a network is built from. Needs no torch, so that a card and a recipe can name their network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NetworkSpec:
    """The arguments of ``create_model``, which describes them."""

    name: str
    num_classes: int
    num_segments: int = 8
    width: int = 64
    dropout: float = 0.0
    size: int = 224
    options: Mapping[str, Any] = field(default_factory=dict)


def inputs_of(options: Mapping[str, Any]) -> str:
    """What a network with these options is fed: "rgb", "rgbd" or "depth"."""
    return str(options.get("inputs", "rgb"))
