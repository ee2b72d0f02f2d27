"""The paper's training task: a network, the depth decoders that are attached to it in training, and their loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from dynagest.errors import ModelError
from dynagest.networks.forward import evaluating
from dynagest.networks.video import VideoNet
from dynagest.task.base import Task, TaskOutput, Term
from dynagest.task.decoder import GLOBAL, LOCAL, Masks, MultiScaleDecoder
from dynagest.task.inputs import network_input
from dynagest.task.loss import Counts, DepthLoss
from dynagest.task.saved import save_decoders


@dataclass(frozen=True, slots=True)
class DepthOutput(TaskOutput):
    """A ``TaskOutput`` with the predicted ``masks`` (N*T, 1, h, w); ``None`` without decoders."""

    masks: Masks | None


class DepthTask(Task):
    """Adds depth supervision to a network that itself knows nothing of depth.

    The network has hooks during ``forward`` only; ``task.network`` is what is saved for use. Without a ``decoder`` the
    task is plain classification (of a network that is fed depth, if its ``inputs`` say so). ``loss`` is by default the
    paper's (eqs. 4 to 7): cross-entropy, local and global squared error at 1 : 1 : 0.01. Shapes are those of
    ``Task.forward``.

    ``chained``: in training, an online ``network`` sees the N clips as one stream. A clip alone starts without a past,
    but in a stream only the first frame does. In the chain every clip but the first starts with the memory of another
    clip, which says nothing about its class. Raises ``ModelError`` for a network that is not online.

    Example of a step in your own training loop. ``net`` maps normalised clips (N, T, 3, H, W) to logits (N, K), and
    ``optimiser`` has ``task.parameters()``, the decoders' among them. ``depth`` (N, T, 1, H, W) is in [0, 1], near = 1;
    ``has_depth`` (N,) bool says which clips have any::

        loss = DepthLoss(LossWeights(global_=10), threshold=10 / 255)  # both of dynagest.task.loss
        task = DepthTask(net, MultiScaleDecoder.for_model(net, "stem", "stages.3"), loss)
        task(rgb, label, depth, has_depth).loss.backward()
        optimiser.step()
    """

    def __init__(
        self,
        network: nn.Module,
        decoder: MultiScaleDecoder | None = None,
        loss: DepthLoss | None = None,
        *,
        chained: bool = False,
    ) -> None:
        if chained and not (isinstance(network, VideoNet) and network.options.get("online")):
            raise ModelError(
                f"chained: {type(network).__name__} is no online network, and would see into the next clip"
            )
        loss = loss or DepthLoss()
        kinds = decoder.taps if decoder is not None else {}
        terms = {
            "cross_entropy": Term(loss.weights.cross_entropy),
            LOCAL: Term(loss.weights.local if LOCAL in kinds else None, "with_depth"),
            GLOBAL: Term(loss.weights.global_ if GLOBAL in kinds else None, "with_depth"),
        }
        super().__init__(network, terms, uses_depth=decoder is not None)
        self.decoder = decoder
        self.loss = loss
        self.chained = chained

    def forward(
        self,
        rgb: torch.Tensor,
        label: torch.Tensor,
        depth: torch.Tensor | None = None,
        has_depth: torch.Tensor | None = None,
        counts: Counts | None = None,
    ) -> DepthOutput:
        """See ``Task.forward``. ``depth`` and ``has_depth`` are required where there is a ``decoder``.

        Raises ``ModelError`` for a network that takes images instead of clips or gives anything but logits, and for
        decoders that did not read each frame once.
        """
        clip = network_input(rgb, depth, self.inputs)
        if self.decoder is None:
            logits, masks = self._logits(clip), None
        else:
            with self.decoder.attached(self.network) as taps:
                logits = self._logits(clip)
            masks = self.decoder(taps)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
            found = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ModelError(
                f"{type(self.network).__name__} gives {found} for clips; give the task a module that returns their "
                "logits (N, K) alone"
            )
        loss, terms = self.loss(logits, label, masks, depth, has_depth, counts)
        return DepthOutput(loss, logits, terms, masks)

    def _logits(self, clip_NTCHW: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of the clips."""
        if not (self.chained and self.training):
            try:
                return cast(torch.Tensor, self.network(clip_NTCHW))
            except torch.OutOfMemoryError:
                raise  # says nothing about shapes
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                if not _takes(self.network, clip_NTCHW[0]):
                    raise
                raise ModelError(
                    f"{type(self.network).__name__} takes images, and is given clips (N, T, C, H, W): put it, as net, "
                    "into a module whose forward(clip) returns net(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])"
                    ".mean(dim=1), and make task and decoders of that module"
                ) from error
        frames_1BK = cast(VideoNet, self.network).frame_logits(clip_NTCHW.flatten(0, 1)[None])
        return frames_1BK.unflatten(1, clip_NTCHW.shape[:2])[0].mean(dim=1)

    def save_companions(self, run_dir: Path | str) -> None:
        """Write the decoders beside the network. Raises ``RunError`` when they cannot be written."""
        if self.decoder is not None:
            save_decoders(Path(run_dir), self.decoder, self.loss.threshold)


@torch.no_grad()
def _takes(network: nn.Module, images_BCHW: torch.Tensor) -> bool:
    """Whether the network takes images."""
    with evaluating(network):
        try:
            network(images_BCHW)
        except (RuntimeError, ValueError, TypeError, IndexError, ModelError):
            return False
    return True
