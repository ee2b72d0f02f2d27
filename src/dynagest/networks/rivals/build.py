"""The rivals by name, each with its published input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynagest.networks.clipnet import CHANNELS, ClipNet
from dynagest.networks.rivals.attention_lstm import AttentionLSTM
from dynagest.networks.rivals.c3d import C3D
from dynagest.networks.rivals.i3d import I3D
from dynagest.networks.rivals.nas1 import NAS1
from dynagest.networks.rivals.prernn_c3d import PreRnnC3D
from dynagest.networks.rivals.resc3d import ResC3D
from dynagest.networks.rivals.resnext101_3d import ResNeXt3D
from dynagest.networks.rivals.segmentation_lstm import SegmentationLSTM
from dynagest.networks.spec import NetworkSpec

Options = Mapping[str, tuple[Any, ...] | None]
"""The values that each option of a network may take; None for an option that the network checks itself."""

INPUTS: Options = {"inputs": tuple(CHANNELS)}


@dataclass(frozen=True)
class Rival:
    """How to build a network, its published input (``frames`` of ``size`` x ``size``), and its options.

    ``flattens``: the network only takes frames of the size that it was built for.
    """

    build: Callable[[NetworkSpec], ClipNet]
    frames: int
    size: int
    options: Options = field(default_factory=lambda: INPUTS)
    flattens: bool = False


RIVALS: dict[str, Rival] = {
    "c3d": Rival(C3D, 32, 112, flattens=True),
    "resnext101_3d": Rival(ResNeXt3D, 32, 112),
    "i3d": Rival(I3D, 64, 224),
    "nas1": Rival(NAS1, 32, 112, {**INPUTS, "genotype": None}),
    "resc3d": Rival(ResC3D, 32, 112),
    "prernn_c3d": Rival(PreRnnC3D, 32, 112, {**INPUTS, "clip": None}, flattens=True),
    "attention_lstm": Rival(AttentionLSTM, 32, 112, {**INPUTS, "gated": (False, True)}),
    "segmentation_lstm": Rival(SegmentationLSTM, 8, 224, flattens=True),
}
