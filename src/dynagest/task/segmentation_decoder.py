"""The mask decoder of Segmentation + LSTM: it serves training only and is no part of the network."""

from itertools import pairwise

from torch import Tensor, nn

HALVINGS = (4, 8, 16, 32)  # divisors of the encoder's channels: 256 become 64, 32, 16 and 8 before the two classes


class SegmentationDecoder(nn.Sequential):
    """Five 4x4 transposed convolutions with stride 2, bias and ReLU between them: 256 -> 64 -> 32 -> 16 -> 8 -> 2.

    It reads the output of the module ``encoder`` of a ``SegmentationLSTM``.

        >>> decoder = SegmentationDecoder(net.encoder.out_channels)
        >>> decoder(net.encoder(frames), frames.shape[2:])     # logits of background and hand, (B, 2, H, W)
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, *(max(2, in_channels // part) for part in HALVINGS), 2)
        for inputs, outputs in pairwise(widths):
            up = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
            # He's initialisation with the true fan-in: along each axis two of the four taps reach an output pixel.
            nn.init.normal_(up.weight, std=(2 / (4 * inputs)) ** 0.5)
            self.extend((up, nn.ReLU(inplace=True)))
        del self[-1]

    def forward(self, map_BCHW: Tensor, frame_size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """The encoder's map (B, 256, h, w) -> logits (B, 2, height, width), cropped evenly to ``frame_size``."""
        mask = super().forward(map_BCHW)
        height, width = frame_size
        top, left = (mask.shape[2] - height) // 2, (mask.shape[3] - width) // 2
        assert min(top, left) >= 0, f"a mask of {tuple(mask.shape[2:])} is smaller than the frames, {frame_size}"
        return mask[:, :, top : top + height, left : left + width]
