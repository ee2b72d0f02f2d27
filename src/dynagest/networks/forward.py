"""Forward passes that leave a network as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put ``net`` into evaluation mode inside the block. Afterwards each module has its own mode back."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def shapes_only(net: nn.Module, *inputs: Any) -> Any:
    """The output of ``net`` for ``inputs`` on the meta device, where tensors have shapes but no values.

    The weights are replaced by such tensors during the pass, so that it takes milliseconds at any size.
    """
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    without_storage = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    return torch.func.functional_call(net, without_storage, inputs)
