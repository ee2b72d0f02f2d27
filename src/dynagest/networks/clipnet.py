"""What every network of clips is to the rest of dynagest, ours and the rivals alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dynagest.errors import ModelError

CHANNELS = {"rgb": 3, "rgbd": 4, "depth": 1}  # of a frame, by the option ``inputs``


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is built from: the arguments of ``create_model``."""

    name: str
    num_classes: int
    num_segments: int = 8
    width: int = 64
    dropout: float = 0.0
    size: int = 224
    options: Mapping[str, Any] = field(default_factory=dict)


class ClipNet(nn.Module):
    """Normalised RGB clips (N, T, 3, H, W) in, logits (N, num_classes) out.

    Attributes: ``name`` (as in ``list_models``), ``num_classes``, ``num_segments`` (the T that it was built for),
    ``width`` (channels of the stem, 64 as published), ``options`` (the network's own switches, plain JSON values),
    ``taps`` (names of the two modules that the depth decoders read, or ``None`` in a network that is not 2D).
    A subclass names the layer that gives the logits ``classifier``; ``head`` names all modules whose shape depends on
    the number of classes: the classifier, and whatever else ``reset_classifier`` gives new values.
    """

    taps: tuple[str, str] | None = None
    head: tuple[str, ...] = ("classifier",)
    classifier: nn.Module

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.name = spec.name
        self.num_classes = spec.num_classes
        self.num_segments = spec.num_segments
        self.width = spec.width
        self.options = dict(spec.options)

    @property
    def inputs(self) -> str:
        """What it sees: "rgb", or "rgbd" or "depth" in the networks that say how much depth has to give."""
        return str(self.options.get("inputs", "rgb"))

    @property
    def channels(self) -> int:
        """Channels of a frame that it sees: 3 of RGB."""
        return CHANNELS[self.inputs]

    def reset_classifier(self) -> None:
        """Give the classifier its initial values anew: weight N(0, 0.001), bias 0."""
        for name, parameter in self.classifier.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.001)

    def check_clip(self, clip_NTCHW: Tensor) -> None:
        """Raise ``ModelError`` for a tensor of another shape than (N, T, C, H, W), C = 3 for RGB."""
        if clip_NTCHW.ndim != 5 or clip_NTCHW.shape[2] != self.channels:
            wanted = {"rgb": "RGB", "depth": "depth", "rgbd": "RGB and depth"}[self.inputs]
            raise ModelError(
                f"{self.name}: a clip of shape {tuple(clip_NTCHW.shape)}; "
                f"give (N, T, {self.channels}, H, W): clips, frames, {wanted}, height, width"
            )
