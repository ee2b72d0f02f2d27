"""The interface of every network that classifies clips, ours and the rivals alike."""

from torch import Tensor, nn

from dynagest.errors import ModelError
from dynagest.networks.spec import NetworkSpec, inputs_of

CHANNELS = {"rgb": 3, "rgbd": 4, "depth": 1}  # channels of a frame, by the option ``inputs``


class ClipNet(nn.Module):
    """A network that maps normalised RGB clips (N, T, 3, H, W) to logits (N, num_classes).

    Attributes: ``name`` (as in ``list_models``), ``num_classes``, ``num_segments`` (the T that it was built for),
    ``width`` (channels of the stem, 64 as published), ``options`` (the network's own switches, plain JSON values),
    ``taps`` (names of the two modules that the depth decoders read, or ``None`` in a network that is not 2D).
    A subclass calls the layer that computes the logits ``classifier``. ``head`` names all modules whose shape depends
    on the number of classes: the classifier and whatever else ``reset_classifier`` initialises again.
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
        """What the network is fed: "rgb"; "rgbd" or "depth" in networks that measure how much depth can add at most."""
        return inputs_of(self.options)

    @property
    def channels(self) -> int:
        """Channels of an input frame: 3 for RGB, 4 for RGB-D, 1 for depth."""
        return CHANNELS[self.inputs]

    def reset_classifier(self) -> None:
        """Initialise the classifier again: weights normal with standard deviation 0.001, bias 0."""
        for name, parameter in self.classifier.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.001)

    def check_clip(self, clip_NTCHW: Tensor) -> None:
        """Raise ``ModelError`` unless the tensor has the shape (N, T, C, H, W) with C = ``channels``."""
        if clip_NTCHW.ndim != 5 or clip_NTCHW.shape[2] != self.channels:
            wanted = {"rgb": "RGB", "depth": "depth", "rgbd": "RGB and depth"}[self.inputs]
            raise ModelError(
                f"{self.name}: a clip of shape {tuple(clip_NTCHW.shape)}; "
                f"give (N, T, {self.channels}, H, W): clips, frames, {wanted}, height, width"
            )
