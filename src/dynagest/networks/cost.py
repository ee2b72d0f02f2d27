"""What a network costs by its name: it is built without weights."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from dynagest.networks.build import create_model
from dynagest.networks.count import Count, count


def cost_of(
    name: str,
    num_classes: int,
    num_segments: int,
    *,
    width: int = 64,
    size: int = 224,
    options: Mapping[str, Any] | None = None,
) -> Count:
    """The cost of one view of ``num_segments`` frames of ``size`` x ``size``; the arguments are ``create_model``'s.

    Raises ``ModelError`` as ``create_model`` does.

    Example: ``cost_of("c3d", 83, 32, size=112).parameters``
    """
    return _cost(name, num_classes, num_segments, width, size, json.dumps(dict(options or {})))


@cache
def _cost(name: str, num_classes: int, num_segments: int, width: int, size: int, options: str) -> Count:
    with torch.device("meta"):
        net = create_model(name, num_classes, num_segments, width=width, size=size, options=json.loads(options))
    return count(net, (1, num_segments, net.channels, size, size))
