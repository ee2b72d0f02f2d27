"""The Multi-Scale-Decoder (paper, section III): predicts depth from two places in a 2D CNN, during training only.

N clips of T frames are B = N*T images for the decoders. A decoder is a chain of 4x4 transposed convolutions (stride 2,
padding 1, no bias, no normalisation) with ReLU between them. On ResNet-50 the local decoder is 64 -> 32 -> 1 and the
global one 2048 -> 256 -> 32 -> 1, together 8,553,472 weights.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import log2, sqrt
from typing import Literal, NamedTuple, Self, get_args

import torch
from torch import nn
from torch.nn.utils import skip_init

from dynagest.errors import ModelError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.forward import evaluating
from dynagest.task.taps import NoFeatureMap, Taps

Which = Literal["both", "local", "global"]
Scale = Literal["full", "quarter"]
Activation = Literal["linear", "sigmoid"]

SHRINK: dict[Scale, int] = {"full": 1, "quarter": 4}
LOCAL, GLOBAL = "local", "global"

# Channels between the tap and the mask, by the number of transposed convolutions. Two and three are the paper's. The
# widths for five (global at full resolution, Table VII) are not published: after 256 they halve, so that every layer
# but the last costs the same while its maps grow fourfold.
HIDDEN_WIDTHS = {1: (), 2: (32,), 3: (256, 32), 4: (256, 64, 32), 5: (256, 128, 64, 32)}


class Masks(NamedTuple):
    """Predicted depth, (B, 1, h, w) each, near = 1; ``None`` where a decoder is missing.

    With ``activation`` "sigmoid" values lie in (0, 1); with "linear" they may leave [0, 1].
    """

    local: torch.Tensor | None
    global_: torch.Tensor | None


class MultiScaleDecoder(nn.Module):
    """The paper's two depth decoders, either of which may be missing, and the names of the modules that they read.

    It is not part of the network and leaves no trace in it: ``attached`` adds forward hooks for one ``with`` block.

    Example::

        msd = MultiScaleDecoder.for_model(net)
        with msd.attached(net) as taps:
            logits = net(clip)              # normalised clips (N, T, 3, 224, 224); B = N * T
        masks = msd(taps)                   # masks.local (B, 1, 224, 224), masks.global_ (B, 1, 56, 56)
    """

    def __init__(self, taps: dict[str, str], decoders: dict[str, "Decoder"]) -> None:
        super().__init__()
        assert taps.keys() == decoders.keys()
        self.taps = taps
        self.decoders = nn.ModuleDict(decoders)

    @classmethod
    def for_model(
        cls,
        net: nn.Module,
        local: str | None = None,
        global_: str | None = None,
        *,
        which: Which = "both",
        local_scale: Scale = "full",
        global_scale: Scale = "quarter",
        activation: Activation = "linear",
        image_size: int = 224,
        num_frames: int = 8,
        seed: int = 0,
    ) -> Self:
        """Build decoders that fit ``net``, which takes clips (N, T, 3, H, W) or images (B, 3, H, W).

        ``which`` chooses the decoders (Table VI). ``local_scale`` and ``global_scale`` set the side of their masks:
        "full" is that of the frame, "quarter" a fourth of it (Table VII). The paper does not give the output's
        ``activation``.

        ``local`` and ``global_`` name modules as in ``net.named_modules()`` (default: ``net.taps``). Their channels and
        strides are found by a dry run at ``image_size``, on a clip of ``num_frames``, which matter only to a network of
        fixed T. It runs in evaluation mode and leaves the network as it was. Of a module that is called more than once
        in a pass, the last call counts; each must have seen all N*T frames in one. The weights depend on ``seed`` alone
        and torch's global generator is not used, so that a run's network and data are the same with and without
        decoders. Raises ``ModelError`` for an unknown choice or module, a tap whose output is no feature map, or a
        stride that no decoder can bridge.
        """
        for option, value, choices in (
            ("which", which, Which),
            ("local_scale", local_scale, Scale),
            ("global_scale", global_scale, Scale),
            ("activation", activation, Activation),
        ):
            if value not in get_args(choices):
                raise ModelError(f"{option}: there is no {value!r}; there are {', '.join(get_args(choices))}")
        wanted = {LOCAL: (local, local_scale, 0), GLOBAL: (global_, global_scale, 1)}
        if which != "both":
            wanted = {which: wanted[which]}
        taps = {kind: name or _default_tap(net, place) for kind, (name, _, place) in wanted.items()}
        maps = _dry_run(net, list(taps.values()), num_frames, image_size)
        generator = torch.Generator().manual_seed(seed)
        dtype = next((each.dtype for each in net.parameters() if each.is_floating_point()), torch.float32)
        decoders = {}
        for kind, (_, scale, _) in wanted.items():
            tapped = maps[taps[kind]]
            channels, height, width = tapped.shape[1:]
            decoder = Decoder.from_stride(channels, image_size / height, scale, activation)
            decoder.initialise(generator)
            decoder.tap_size = (height, width)
            decoders[kind] = decoder.to(tapped.device, dtype)
        return cls(taps, decoders)

    def attached(self, net: nn.Module) -> Taps:
        """A context manager that captures the outputs of the tapped modules of ``net``."""
        return Taps(net, list(self.taps.values()))

    def forward(self, taps: Taps | Mapping[str, torch.Tensor]) -> Masks:
        """Feature maps (B, C, h, w) by module, as the network's last forward pass left them, to masks (B, 1, H, W).

        H and W are h and w times 2 for each upsampling stage.
        """
        return Masks(
            *(self.decoders[kind](taps[self.taps[kind]]) if kind in self.decoders else None for kind in (LOCAL, GLOBAL))
        )

    def multiply_adds(self, frames: int) -> int:
        """Multiply-adds of both decoders for this many frames of the size that they were built for."""
        return frames * sum(decoder.multiply_adds() for _, decoder in self.parts())

    def parts(self) -> list[tuple[str, "Decoder"]]:
        """The decoders with their kinds, "local" and "global"."""
        return [(kind, decoder) for kind, decoder in self.decoders.items() if isinstance(decoder, Decoder)]


class Decoder(nn.Sequential):
    """One decoder: maps (B, ``widths[0]``, h, w) to a mask, upsampling by 2 per stage, or not at all (``plain``)."""

    def __init__(self, widths: tuple[int, ...], *, plain: bool, activation: Activation) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            # skip_init, because the constructors would draw from the global generator; see `initialise`.
            if plain:
                layers.append(skip_init(nn.Conv2d, inputs, outputs, 3, padding=1, bias=False))
            else:
                layers.append(skip_init(nn.ConvTranspose2d, inputs, outputs, 4, stride=2, padding=1, bias=False))
            layers.append(nn.ReLU())
        layers[-1] = nn.Sigmoid() if activation == "sigmoid" else nn.Identity()
        super().__init__(*layers)
        self.widths, self.plain, self.activation = widths, plain, activation
        self.tap_size: tuple[int, int] = (0, 0)

    @classmethod
    def from_stride(cls, channels: int, stride: float, scale: Scale, activation: Activation) -> Self:
        """Build the decoder that maps features of ``channels`` channels at ``stride`` to a mask at ``scale``.

        A stride that is not a power of two is rounded to one, because targets are resized to any mask. Where nothing
        is to be upsampled, the decoder is two plain 3x3 convolutions (Table VII, local at quarter). No layer is wider
        than the tap, so that a small network gets small decoders. Raises ``ModelError`` for a stride that no decoder
        can bridge.
        """
        stages = round(log2(stride / SHRINK[scale]))
        if stages < 0 or stages > max(HIDDEN_WIDTHS):
            raise ModelError(
                f"a decoder at scale {scale!r} cannot read a module of stride {stride:g}: it needs {stages} upsampling "
                f"stages, and 0 to {max(HIDDEN_WIDTHS)} are possible; name another module or scale"
            )
        hidden = HIDDEN_WIDTHS[stages or 2]
        return cls((channels, *(min(width, channels) for width in hidden), 1), plain=stages == 0, activation=activation)

    @property
    def stages(self) -> int:
        """The number of upsampling stages."""
        return 0 if self.plain else len(self.widths) - 1

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights from ``generator``: He's normal in the hidden layers, N(0, 0.001) in the last.

        He's fan-in is the true one: only 2 x 2 of the 4 x 4 taps reach a pixel. The last layer is small, as the
        classifier is. So the first masks are close to 0, like most of a depth frame, and the first gradients in the
        (often pre-trained) network are those of the class.
        """
        convolutions = [layer for layer in self if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        for layer in convolutions[:-1]:
            fan_in = layer.in_channels * (9 if self.plain else 4)
            layer.weight.normal_(0, sqrt(2 / fan_in), generator=generator)
        convolutions[-1].weight.normal_(0, 1e-3, generator=generator)

    def multiply_adds(self) -> int:
        """Multiply-adds of one frame of the dry run's size: each weight is applied once at each input position."""
        weights = [parameter.numel() for parameter in self.parameters()]
        positions = self.tap_size[0] * self.tap_size[1]
        return sum(count * positions * (1 if self.plain else 4**k) for k, count in enumerate(weights))


def _default_tap(net: nn.Module, place: int) -> str:
    taps = getattr(net, "taps", None)
    if taps is None:
        raise ModelError(
            f"{type(net).__name__} does not say where to tap it; depth decoders are for 2D networks: set "
            "msd=none, or name two of its modules (local, global_)"
        )
    return taps[place]


@torch.no_grad()
def _dry_run(net: nn.Module, names: list[str], frames: int, size: int) -> dict[str, torch.Tensor]:
    """The outputs (B, C, h, w) of the named modules for all-zero frames. ``net`` is left as it was."""
    first = next(net.parameters(), torch.empty(0))
    channels, failures = net.channels if isinstance(net, ClipNet) else 3, []
    misplaced: NoFeatureMap | None = None
    with evaluating(net):
        for shape in ((1, frames, channels, size, size), (1, channels, size, size)):
            with Taps(net, names) as taps:
                try:
                    net(torch.zeros(shape, dtype=first.dtype, device=first.device))
                except NoFeatureMap as error:
                    misplaced = error
                    continue
                except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, ModelError) as error:
                    failures.append(f"{shape}: {error}")
                    continue
            return {name: taps[name] for name in names}
    if misplaced is not None:
        raise misplaced
    raise ModelError(
        f"{type(net).__name__} took neither clips (N, T, 3, H, W) of num_frames {frames} nor images (B, 3, H, W), of "
        f"image_size {size}:\n  " + "\n  ".join(failures)
    )
