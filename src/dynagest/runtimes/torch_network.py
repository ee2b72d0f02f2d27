"""Runs networks of clips and of streams in torch, which is imported only when such a network is made."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dynagest.card import NetworkCard
from dynagest.errors import RecipeError, first_line
from dynagest.runtimes.model_file import check_rgb

if TYPE_CHECKING:
    import torch

    from dynagest.networks.clipnet import ClipNet
    from dynagest.networks.video import VideoNet

Net = TypeVar("Net", bound="torch.nn.Module")


def check_device(name: str, said: str) -> None:
    """Raise ``RecipeError`` unless torch can compute on the device. ``said`` names it in the message."""
    import torch

    try:
        torch.empty(0, device=name).cpu()
    except Exception as error:  # each missing device fails in its own way
        told = name.partition(":")[0] in ("cpu", "cuda")  # torch's messages on other devices are long and about itself
        reason = first_line(error) if told else "PyTorch computes nothing on it here"
        raise RecipeError(f"{said}: not to be used here ({reason}); see `dynagest doctor`") from error


def _placed(net: "Net", device: str) -> "Net":
    """``net`` on ``device``, in evaluation mode. Raises ``RecipeError`` if that is missing or its memory is full."""
    check_device(device, f"device {device!r}")
    try:
        return net.to(device).eval()
    except RuntimeError as error:
        raise RecipeError(
            f"device {device!r}: not to be used here ({first_line(error)}); see `dynagest doctor`"
        ) from error


def load_saved(path: Path) -> "tuple[ClipNet, NetworkCard]":
    """Load a saved network with its card. Raises ``WeightsError`` when it is missing, damaged or without its card, and
    ``RecipeError`` when torch or safetensors is not installed.
    """
    try:
        from dynagest.networks.weights import load_network
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise RecipeError(
            f'{path}: running a network of PyTorch needs {error.name}: pip install "dynagest[train]"; or export it '
            "where torch is installed (`dynagest export`) and use the file"
        ) from error
    return load_network(path)


class TorchNetwork:
    """A ``ClipNetwork`` run by torch.

    Raises ``WeightsError`` for a network that is fed depth, ``RecipeError`` for a device that cannot be used.
    """

    def __init__(self, net: "torch.nn.Module", card: NetworkCard, device: str = "cpu") -> None:
        check_rgb(card, card.model)
        self.card, self._net, self._device = card, _placed(net, device), device

    def logits(self, clips: np.ndarray) -> np.ndarray:
        """See ``ClipNetwork.logits``."""
        import torch

        with torch.inference_mode():
            return self._net(torch.from_numpy(clips).to(self._device)).float().cpu().numpy()


class TorchStream:
    """A ``StreamNetwork`` run by torch, the streaming form of ``net``; its state stays on ``device`` as tensors.

    Raises ``ModelError`` if ``net`` is not 2D, ``RecipeError`` for a device that cannot be used.
    """

    frames = 1

    def __init__(self, net: "ClipNet", card: NetworkCard, device: str = "cpu") -> None:
        from dynagest.networks.streaming import streaming_form

        self.card, self._net, self._device = card, streaming_form(_placed(net, device)), device

    def initial_state(self) -> "dict[str, torch.Tensor]":
        """The state of one stream before its first frame, all zero."""
        return self._net.initial_state(1, self.card.size)

    def step(self, frame: np.ndarray, state: Mapping[str, Any]) -> "tuple[np.ndarray, dict[str, torch.Tensor]]":
        """See ``StreamNetwork.step``."""
        import torch

        with torch.inference_mode():
            logits, left = self._net(torch.from_numpy(frame).to(self._device), state)
            return logits.float().cpu().numpy(), left


class TorchSplit:
    """A ``SplitNetwork`` run by torch: the stem (convolution, BatchNorm, ReLU, max-pooling) and the stages after it.

    Raises ``RecipeError`` for a device that cannot be used.
    """

    def __init__(self, net: "VideoNet", card: NetworkCard, device: str = "cpu") -> None:
        self.card, self._net, self._device = card, _placed(net, device), device

    def stem(self, frames: np.ndarray) -> np.ndarray:
        """See ``SplitNetwork.stem``."""
        import torch

        with torch.inference_mode():
            return self._net.stem(torch.from_numpy(frames).to(self._device)[None])[0].float().cpu().numpy()

    def rest(self, features: np.ndarray) -> np.ndarray:
        """See ``SplitNetwork.rest``."""
        import torch

        with torch.inference_mode():
            return self._net.rest(torch.from_numpy(features).to(self._device)).float().cpu().numpy()
