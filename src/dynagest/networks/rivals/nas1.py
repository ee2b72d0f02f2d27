"""NAS1, the RGB network family of AutoGesture: Yu et al., "Searching Multi-Rate and Multi-Modal Temporal Enhanced
Networks for Gesture Recognition" (TIP 2021).

Three branches see the clip at its full, half and quarter frame rate; a slower branch is wider. Their cells come from a
genotype. Lateral convolutions pass features from each rate to the next lower one.
"""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynagest.errors import ModelError
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.rivals.central_difference import CentralDifferenceConv
from dynagest.networks.rivals.convolution import ConvUnit, scaled, volume
from dynagest.networks.rivals.genotype import BRANCHES, DEFAULT_GENOTYPE, NODES, Cell, parse_genotype
from dynagest.networks.spec import NetworkSpec

WIDTHS = {"high": 16, "mid": 32, "low": 48}  # of the stem at width 64; cells start with twice that
RATES = {"high": 1, "mid": 2, "low": 4}  # every n-th frame
GROUPS = (3, 5, 4)  # 12 cells, pooled between the groups; the channels double at the 4th and the 9th cell


class CellNet(nn.Module):
    """A cell: brings its two input states to ``channels`` by 1x1x1, and returns its four nodes, concatenated."""

    def __init__(self, cell: Cell, before_last: int, last: int, channels: int) -> None:
        super().__init__()
        self.states = [edge.state for node in cell for edge in node]
        self.preprocess = nn.ModuleList(
            # A state that no node reads gets no weights: they would never have a gradient.
            ConvUnit(inputs, channels, 1) if state in self.states else nn.Identity()
            for state, inputs in enumerate((before_last, last))
        )
        self.edges = nn.ModuleList(_operation(edge.operation, channels) for node in cell for edge in node)

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """Volumes (N, C, T, H, W) of the cell before the last one and of the last -> (N, 4 * channels, T, H, W)."""
        states = [self.preprocess[0](before_last), self.preprocess[1](last)]
        edges = list(zip(self.edges, self.states, strict=True))
        for first, second in zip(edges[::2], edges[1::2], strict=True):
            states.append(sum(edge(states[state]) for edge, state in (first, second)))
        return torch.cat(states[-NODES:], dim=1)


class Branch(nn.Module):
    """The branch of one frame rate: a stem, then cells in groups, each group at one resolution.

    ``outputs`` are the channels after the stem and after each group.
    """

    def __init__(self, cell: Cell, in_channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvUnit(in_channels, width, 3),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            ConvUnit(width, 2 * width, 3),
            nn.MaxPool3d(3, 2, 1),
        )
        self.outputs = [2 * width]
        self.groups = nn.ModuleList()
        before_last = last = 2 * width
        for group, cells in enumerate(GROUPS):
            channels = 2 * width * 2**group
            nets = nn.ModuleList()
            for _ in range(cells):
                nets.append(CellNet(cell, before_last, last, channels))
                before_last, last = last, NODES * channels
            self.groups.append(nets)
            self.outputs.append(last)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))


class NAS1(ClipNet):
    """Three branches of 12 cells, global average pooling of each, the classifier on 512 + 1024 + 1536 features.

    Takes any size, and a T that is a multiple of 4. Option ``genotype``: see ``parse_genotype``; the default is
    ``DEFAULT_GENOTYPE``, our choice and not the published search result. Published dropout: 0.5. Raises ``ModelError``
    for another T and for a malformed genotype.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self._check_frames(self.num_segments)
        cells = parse_genotype(self.options.get("genotype", DEFAULT_GENOTYPE))
        self.branches = nn.ModuleDict(
            {name: Branch(cell, self.channels, scaled(WIDTHS[name], self.width)) for name, cell in cells.items()}
        )
        self.laterals = nn.ModuleDict(
            {f"{high}_to_{low}": self._laterals(high, low) for high, low in pairwise(BRANCHES)}
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(sum(self._branch(branch).outputs[-1] for branch in BRANCHES), self.num_classes)
        self.reset_classifier()

    def _branch(self, name: str) -> Branch:
        return cast(Branch, self.branches[name])

    def _laterals(self, high: str, low: str) -> nn.ModuleList:
        channels = zip(self._branch(high).outputs[:-1], self._branch(low).outputs[:-1], strict=True)
        return nn.ModuleList(ConvUnit(source, target, (5, 1, 1), (2, 1, 1)) for source, target in channels)

    def forward(self, clip_NTCHW: Tensor) -> Tensor:
        """Normalised clips (N, T, 3, H, W) -> logits (N, num_classes). Raises ``ModelError`` on another shape."""
        self.check_clip(clip_NTCHW)
        self._check_frames(clip_NTCHW.shape[1])
        x = volume(clip_NTCHW)
        last = {name: self._branch(name).stem(x[:, :, :: RATES[name]]) for name in BRANCHES}
        before_last = dict(last)
        for group in range(len(GROUPS)):
            self._pass_down(last, group)
            for name in BRANCHES:
                for cell in cast(nn.ModuleList, self._branch(name).groups[group]):
                    before_last[name], last[name] = last[name], cell(before_last[name], last[name])
                if group + 1 < len(GROUPS):
                    pool = self._branch(name).pool
                    before_last[name], last[name] = pool(before_last[name]), pool(last[name])
        pooled = [F.adaptive_avg_pool3d(last[name], 1).flatten(1) for name in BRANCHES]
        return cast(Tensor, self.classifier(self.dropout(torch.cat(pooled, dim=1))))

    def _pass_down(self, last: dict[str, Tensor], group: int) -> None:
        """Add the features of each higher rate to the next lower one, in place, before the cells of ``group``."""
        for high, low in pairwise(BRANCHES):
            lateral = cast(nn.ModuleList, self.laterals[f"{high}_to_{low}"])[group]
            last[low] = last[low] + lateral(last[high])

    def _check_frames(self, frames: int) -> None:
        if frames % 4:
            raise ModelError(
                f"{self.name}: {frames} frames; its branches see all, every second and every fourth of "
                "them: choose a multiple of 4"
            )


def _operation(name: str, channels: int) -> nn.Module:
    if name == "skip":
        return nn.Identity()
    if name == "conv_1x3x3":
        return ConvUnit(channels, channels, (1, 3, 3))
    kind, theta = name.rsplit("_", 1)
    conv = CentralDifferenceConv(channels, float(theta), "frame" if kind == "cdc_t" else "average")
    return nn.Sequential(conv, nn.BatchNorm3d(channels), nn.ReLU(inplace=True))
