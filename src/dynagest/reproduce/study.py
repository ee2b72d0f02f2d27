"""The study's comparisons on generated clips, as tables without numbers from the paper: where does MSD help?

All arms of a seed share the initial network, the clips, their order and their augmentation. The reported number is the
paired difference.
"""

from collections.abc import Mapping
from typing import Any

from dynagest.reproduce.tables import BOTH, GLOBAL, LOCAL, PLAIN, Row, Table

_NETWORKS = {"TSN": "tsn", "TSM": "tsm", "TEA": "tea", "ACTION-Net": "action"}
_STRONG = "both, 1 : 1 : 10"  # CE : local : global, the weights of `_WEIGHTS` at which TSM gained
_ARMS: dict[str, Mapping[str, Any]] = {
    "none": PLAIN,
    "local": LOCAL,
    "global": GLOBAL,
    "both": BOTH,
    _STRONG: BOTH | {"local_weight": 1.0, "global_weight": 10.0},
}


def _decoders() -> Table:
    rows = [
        Row(f"{name}, {arm}", system, changes, against=None if arm == "none" else f"{name}, none")
        for name, system in _NETWORKS.items()
        for arm, changes in _ARMS.items()
    ]
    return Table("decoders", "No MSD, local, global, both, on four networks", (), tuple(rows))


# The fields of a row that a condition sets: the state of the depth sensor, fewer and more clips, scenes from empty to
# crowded. ``rounds``: as many steps on fewer or more clips, or more steps on as many; does longer training give what
# the decoders give? ``before``: clips that were learnt first; do decoders give more than a start?
_EMPTY, _CROWDED = {"clutter": 0.0, "distractors": 0.0}, {"clutter": 1.0, "distractors": 1.0}
_CONDITIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "clean depth": {"data": {"depth_noise": 0.0, "depth_holes": 0.0}},
    "noisy depth, as IsoGD's": {"data": {"depth_noise": 1.0, "depth_holes": 1.0}},
    "misaligned depth, as NVGesture's": {"data": {"misalign": "nvgesture"}},
    "a quarter of the clips and steps": {"data": {"share": 0.25}},
    "a quarter of the clips": {"data": {"share": 0.25}, "rounds": 4},
    "four times the clips": {"data": {"share": 4.0}, "rounds": 0.25},
    "no clutter": {"data": _EMPTY},
    "hard clutter": {"data": _CROWDED},
    "twice the epochs": {"rounds": 2},
    "hard clutter, twice the epochs": {"data": _CROWDED, "rounds": 2},
    "first without, then hard clutter": {"data": _CROWDED, "before": _EMPTY},
}


def _conditions() -> Table:
    rows = [
        Row(f"{condition}: {arm}", "tsm", _ARMS[arm], against=None if arm == "none" else f"{condition}: none", **fields)
        for condition, fields in _CONDITIONS.items()
        for arm in ("none", "both", _STRONG)
    ]
    return Table("conditions", "Depth, data and clutter (TSM)", (), tuple(rows))


# The paper's weights, then both ten and a hundred times as large, then the global one alone: at 1 : 100 : 1 it still
# makes only a twentieth of the gradient in the layers that the local one does not reach.
_WEIGHTS = ((1, 0.01), (10, 0.1), (100, 1), (1, 10), (1, 100))


def _weights() -> Table:
    rows = [Row("none", "tsm", PLAIN)]
    for local, global_ in _WEIGHTS:
        weights = {"local_weight": float(local), "global_weight": float(global_)}
        rows.append(Row(f"1 : {local} : {global_}", "tsm", BOTH | weights, against="none"))
    # Masks bounded as depth is, in case a linear output spends its gradient on values that depth cannot have.
    rows.append(Row("1 : 1 : 0.01, sigmoid", "tsm", BOTH | {"activation": "sigmoid"}, against="none"))
    return Table("weights", "The decoders' weights, CE : local : global, from the paper's up (TSM)", (), tuple(rows))


# Real clips are few and show large scenes, so they need more pixels and more epochs than generated ones.
_REAL = {"size": 112, "epochs": 40, "batch": 16}
MASKS = Table(
    "masks",
    "What the decoders find in clips that they never saw",
    (),
    (
        Row("raw depth", "action", BOTH, data={"depth": "raw"}, small=_REAL),
        Row("aligned depth", "action", BOTH, data={"depth": "aligned"}, small=_REAL),
        Row("binarised depth", "action", BOTH | {"binarise": True}, data={"depth": "raw"}, small=_REAL),
    ),
)

_RIVALS = {
    "C3D": "c3d",
    "PreRNN": "prernn",
    "ResC3D": "resc3d",
    "MTUT": "mtut",
    "NAS1": "nas1",
    "3D ResNeXt-101": "resnext101_3d",
    "attentionLSTM": "attention_lstm",
    "Redundancy + AttentionLSTM": "redundancy",
    "Segmentation+LSTM": "segmentation_lstm",
    "TSM": "tsm",
    "TEA": "tea",
    "ACTION-Net": "action",
}
REFERENCE = "ACTION-Net + MSD"  # the others get as much training time as this one takes


def _rivals() -> Table:
    rows = [Row(REFERENCE, "action", BOTH)]
    for budget in ("clips", "time"):
        for name, system in _RIVALS.items():
            changes = PLAIN if system in ("tsm", "tea", "action") else {}
            rows.append(Row(f"{name}, same {budget}", system, changes, against=REFERENCE, budget=budget))
    return Table("rivals", "All systems at one budget of training: as many clips, or as much time", (), tuple(rows))


STUDY: dict[str, Table] = {
    "decoders": _decoders(),
    "weights": _weights(),
    "conditions": _conditions(),
    "rivals": _rivals(),
    "masks": MASKS,
}
