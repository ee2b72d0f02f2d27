"""PreRNN: Yang, Molchanov, Kautz, "Making Convolutional Networks Recurrent for Visual Sequence Learning" (CVPR 2018).

A pretrained fully connected layer becomes recurrent: its weights W stay as input-to-hidden, and a hidden-to-hidden
matrix U is added, h_t = relu(W x_t + b + U h_(t-1)). Here these are C3D's fc6 and fc7, and t counts short clips.
"""

from typing import cast

import torch
from torch import Tensor, nn

from dynagest.errors import ModelError
from dynagest.networks.rivals.c3d import C3D, MIN_FRAMES
from dynagest.networks.spec import NetworkSpec


class PreRnnC3D(C3D):
    """C3D on overlapping short clips, with recurrent ``fc6`` and ``fc7``; the logits are averaged over the short clips.

    Option ``clip``: frames of a short clip, at least 9; default 16, or half of a clip shorter than 32. Neighbours
    overlap by at least half; the first begins and the last ends with the clip. All weights except ``recurrent.*`` have
    C3D's names and shapes: ``load_weights`` takes those of a ``c3d`` built for ``clip`` frames and leaves ``recurrent``
    as initialised. Raises ``ModelError`` when fewer than two short clips fit, or when the size is too small for the
    five poolings.

        >>> create_model("prernn_c3d", 25, num_segments=32, size=112, options={"clip": 16}).starts
        (0, 8, 16)
    """

    def __init__(self, spec: NetworkSpec) -> None:
        clip = spec.options.get("clip", min(16, max(MIN_FRAMES, spec.num_segments // 2)))
        if type(clip) is not int or not MIN_FRAMES <= clip < spec.num_segments:
            raise ModelError(
                f"{spec.name}: short clips of {clip!r} frames in a clip of {spec.num_segments}; at least {MIN_FRAMES} "
                "and fewer than the clip has: choose the option clip, or more segments"
            )
        super().__init__(spec, clip)
        self.starts = short_clips(self.num_segments, clip)
        self.recurrent = nn.ModuleDict(
            {layer: nn.Linear(32 * self.width, 32 * self.width, bias=False) for layer in ("fc6", "fc7")}
        )

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        self.check_clip(clip_NTCHW)
        short = [clip_NTCHW[:, start : start + self.clip_frames] for start in self.starts]
        x_NSF = self.flat_features(torch.cat(short)).unflatten(0, (len(short), -1)).transpose(0, 1)
        for layer, name in ((self.fc6, "fc6"), (self.fc7, "fc7")):
            x_NSF = self.dropout(self._recur(layer(x_NSF), self.recurrent[name]))
        return cast(Tensor, self.classifier(x_NSF).mean(dim=1))

    def _recur(self, from_input_NSF: Tensor, hidden_to_hidden: nn.Module) -> Tensor:
        hidden = [self.relu(from_input_NSF[:, 0])]
        for step in from_input_NSF.unbind(1)[1:]:
            hidden.append(self.relu(step + hidden_to_hidden(hidden[-1])))
        return torch.stack(hidden, dim=1)


def short_clips(frames: int, clip: int) -> tuple[int, ...]:
    """First frames of the fewest short clips that cover all frames while neighbours overlap by at least half."""
    gaps = -(-(frames - clip) // (clip // 2))
    return tuple(round(index * (frames - clip) / gaps) for index in range(gaps + 1))
