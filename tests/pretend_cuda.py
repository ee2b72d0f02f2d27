"""A GPU played on the CPU: tensors that say they are on cuda and hold real values, and a mode that refuses to mix."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
META = torch.device("meta")


class DeviceMix(AssertionError):
    """Tensors of two devices met in one operation: on a GPU, a RuntimeError."""


class OnCuda(torch.Tensor):
    """Holds a CPU tensor and says that it is on ``cuda:0``. To C++ it is a meta tensor, so it has no ``numpy()``."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnCuda":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=META, **layout)
        made.held = held
        return made

    @property
    def device(self) -> torch.device:
        return CUDA

    def __repr__(self) -> str:
        return f"OnCuda({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a tensor of a pretended GPU, outside of pretended_cuda()")


@contextmanager
def pretended_cuda() -> Iterator["PretendedCuda"]:
    """Within it ``device="cuda"`` works without a GPU, and what a GPU would refuse raises ``DeviceMix``.

    Values are real, computed on the CPU: shapes that depend on them are right, results can be compared.
    """
    # A tensor subclass made in inference mode cannot be viewed; to the devices it makes no difference.
    with mock.patch.object(torch._C, "_InferenceMode", _no_grad), _AskForMeta(), PretendedCuda() as mode:
        yield mode


def _no_grad(wanted: bool) -> AbstractContextManager[None]:
    return torch.no_grad() if wanted else nullcontext()


class _AskForMeta(TorchFunctionMode):
    """Sees calls before torch does, which would start CUDA, and asks for the meta device instead."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device or "autocast" in getattr(func, "__name__", ""):
            return func(*args, **(kwargs or {}))
        asked = [value for value in tree_iter((args, kwargs)) if _is_cuda(value)]
        args, kwargs = tree_map(lambda value: META if _is_cuda(value) else value, (args, kwargs or {}))
        if asked and func in (torch.tensor, torch.as_tensor):  # of meta, they would be without values
            return func(*args, **{**kwargs, "device": "cpu"}).to(META)
        if func is torch.Tensor.__getitem__ and isinstance(args[1], list):  # likewise
            args = (args[0], torch.tensor(args[1]))
        if func is torch.Tensor.tolist:
            args = (args[0].cpu(),)
        return func(*args, **kwargs)


class PretendedCuda(TorchDispatchMode):
    """Counts ``launched``, the operations on the GPU, and ``waited``, those for whose result the CPU has to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.launched = 0
        self.waited: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, OnCuda)]
        wanted = kwargs.get("device")
        on_cuda = wanted.type == "meta" if wanted is not None else bool(there)
        if there:
            _refuse_mix(func, args, tensors)
            if func in _WAIT or (func in _COPIES and not on_cuda):
                self.waited[str(func)] += 1
        self.launched += on_cuda and not func.is_view
        if on_cuda and any(isinstance(value, torch.Generator) for value in tree_iter((args, kwargs))):
            raise DeviceMix(f"{func} on cuda got a generator of the CPU")
        if on_cuda and wanted is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        given = {id(tensor.held): tensor for tensor in there}
        held_args, held_kwargs = tree_map(lambda x: x.held if isinstance(x, OnCuda) else x, (args, kwargs))
        result = func(*held_args, **held_kwargs)
        if not on_cuda:
            return result

        def there_too(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            # What an operation in place gives back is the very tensor that it was given.
            return given[id(value)] if id(value) in given else OnCuda(value)

        return tree_map(there_too, result)


def _is_cuda(value: Any) -> bool:
    return str(value).startswith("cuda") if isinstance(value, str | torch.device) else False


_WAIT = frozenset({aten._local_scalar_dense.default, aten.nonzero.default, aten.repeat_interleave.Tensor})
_COPIES = frozenset({aten._to_copy.default, aten.copy_.default, aten.to.dtype_layout, aten.to.device, aten.to.dtype})
_INDEXING = frozenset({aten.index.Tensor, aten.index_put.default, aten.index_put_.default})


def _refuse_mix(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    """As CUDA does: a single number on the CPU may meet GPU tensors pixel by pixel, and CPU indices may index them."""
    if func in _COPIES:
        return
    if func in _INDEXING:
        tensors = [value for value in tree_iter((args[0], *args[2:])) if isinstance(value, torch.Tensor)]
    here = [tensor for tensor in tensors if not isinstance(tensor, OnCuda)]
    if torch.Tag.pointwise in func.tags or func is aten.where.self:
        here = [tensor for tensor in here if tensor.dim()]
    if here and len(here) < len(tensors):
        raise DeviceMix(f"{func} got tensors on cuda and others of {[tuple(t.shape) for t in here]} on the CPU")
