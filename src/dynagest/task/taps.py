"""Reads feature maps from the middle of a network without changing the network."""

from types import TracebackType
from typing import Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from dynagest.errors import ModelError, hint, some

_SHAPES = {4: "(B, C, h, w)", 5: "(N, C, T, h, w)"}


class NoFeatureMap(ModelError):
    """A tapped module whose output is no feature map."""


class Taps:
    """A context manager that captures the outputs of named modules.

    The hooks exist inside the ``with`` block only, so that a network that is saved, copied or exported never has any.
    Raises ``ModelError`` for a name that ``net.named_modules()`` does not have, and when an output is not a tensor of
    ``dims`` dimensions: 4 for feature maps of frames (B, C, h, w), 5 for those of clips (N, C, T, h, w).

    Example: ``with Taps(net, ["layer1"]) as taps: net(x); features = taps["layer1"]``
    """

    def __init__(self, net: nn.Module, names: list[str], dims: tuple[int, ...] = (4,)) -> None:
        self._dims = dims
        self._modules = {name: _find(net, name) for name in names}
        self._outputs: dict[str, torch.Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        assert not self._handles, "already attached"
        self._outputs.clear()
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._capture(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __getitem__(self, name: str) -> torch.Tensor:
        """The output of the module's last call. Raises ``ModelError`` if it was not called."""
        if name not in self._outputs:
            raise ModelError(
                f"module {name!r} took no part in the forward pass; tap one that every clip goes through, and attach "
                "to a network under torch.compile before its first pass, which is when it is compiled"
            )
        return self._outputs[name]

    def _capture(self, name: str):  # type: ignore[no-untyped-def]  # a hook's type is private to torch
        def hook(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            if not isinstance(output, torch.Tensor) or output.dim() not in self._dims:
                found = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
                raise NoFeatureMap(
                    f"module {name!r} ({type(module).__name__}) gives {found}; taps need feature maps "
                    f"{' or '.join(_SHAPES[each] for each in self._dims)}"
                )
            self._outputs[name] = output

        return hook


def _find(net: nn.Module, name: str) -> nn.Module:
    modules = dict(net.named_modules())
    if name not in modules or name == "":
        top = some([each for each, _ in net.named_children()])
        known = hint(name, modules, f"there are {top} and what is below them" if top else "it has none")
        raise ModelError(f"{type(net).__name__} has no module {name!r}; {known}")
    return modules[name]
