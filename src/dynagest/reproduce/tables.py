"""The paper's tables as data: each row's system, its changes to the recipe, and the paper's numbers.

Accuracies are in %, for RGB only (Fan et al., arXiv 2110.15639, Tables I to VIII). A dataset is missing where the paper
has no number for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from dynagest.errors import RecipeError, hint

DATASETS = {"egogesture": "EgoGesture", "nvgesture": "NVGesture", "isogd": "IsoGD"}
CLASSES = {"egogesture": 83, "nvgesture": 25, "isogd": 249}

# Of systems of which only a part is public: what stands for them. Said below a table; more is in docs/rivals.md.
STAND_INS = {
    "nas1": "NAS1's genotype is ours, not the published result of its search",
    "attention_lstm": "attentionLSTM has two plain ConvLSTMs, as its 20.7 M parameters ask for",
    "resc3d": "ResC3D is its RGB stream, without choice of frames by motion and without SVM",
}


@dataclass(frozen=True)
class Row:
    """One row of a table.

    ``system`` names an entry of ``recipes_systems.SYSTEMS``; ``changes`` are the fields in which the row differs from
    that system's recipe. ``paper`` is the printed accuracy for each dataset, ``printed`` the GFLOPs and parameters.
    ``against`` names the row that the paired difference is taken from. ``data`` changes the generated clips: fields of
    their spec, and ``share``, which multiplies the number of training clips. ``rounds`` multiplies the scale's epochs.
    With ``before`` the row starts from a network without decoders that was first trained on generated clips with these
    changes. ``small`` are further fields at scale ``small`` only. ``budget`` on generated clips is "clips" (over all
    stages as many as in the scale's epochs) or "time" (as much as the row ``against`` takes).
    """

    name: str
    system: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)
    printed: tuple[str, str] | None = None
    against: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    rounds: float = 1
    before: Mapping[str, Any] | None = None
    small: Mapping[str, Any] = field(default_factory=dict)
    budget: Literal["clips", "time"] = "clips"


@dataclass(frozen=True)
class Table:
    """A table: its rows, and the datasets that it was printed for."""

    name: str
    title: str
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)

    def only(self, patterns: Sequence[str]) -> "Table":
        """The table with only the rows that match one of ``patterns`` (``TSM*``) and those that they are compared with.

        It has no rows when none matches; see ``only_rows``.
        """
        matching = [row for row in self.rows if any(fnmatchcase(row.name, pattern) for pattern in patterns)]
        chosen = {name for row in matching for name in (row.name, row.against)}
        return replace(self, rows=tuple(row for row in self.rows if row.name in chosen))


def only_rows(tables: Sequence[Table], patterns: Sequence[str]) -> list[Table]:
    """The tables with only the rows of ``Table.only``, without those tables that have none.

    Raises ``RecipeError``, which lists the rows, for a pattern that matches none in any table.
    """
    rows = list(dict.fromkeys(row.name for table in tables for row in table.rows))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in rows):
            names, listed = " or ".join(table.name for table in tables), "".join(f"\n  {name}" for name in rows)
            raise RecipeError(f"there is no row {pattern!r} in table {names}; * stands for any text. The rows:{listed}")
    return [chosen for table in tables if (chosen := table.only(patterns)).rows]


def _accuracies(ego: float | None, nv: float | None, isogd: float | None = None) -> dict[str, float]:
    printed = {"egogesture": ego, "nvgesture": nv, "isogd": isogd}
    return {dataset: value for dataset, value in printed.items() if value is not None}


PLAIN = {"msd": "none"}
# The decoders of Table VI's best rows; other rows change one field of these.
LOCAL = {"msd": "local", "local_weight": 1.0}
GLOBAL = {"msd": "global", "global_weight": 0.01}
BOTH = {"msd": "both", "local_weight": 1.0, "global_weight": 0.01}

_COMPARISON = (
    Row("C3D", "c3d", {}, _accuracies(90.6, 69.3, 40.2), ("71.7", "65.6M")),
    Row("PreRNN", "prernn", {}, _accuracies(None, 76.5), ("71.7", "65.6M")),
    Row("ResC3D", "resc3d", {}, _accuracies(None, None, 45.1), ("77.9", "38.4M")),
    Row("MTUT", "mtut", {}, _accuracies(92.5, 81.3), ("88.2", "12.7M")),
    Row("NAS1", "nas1", {}, _accuracies(93.3, 83.6, 58.9)),
    Row("3D ResNeXt-101", "resnext101_3d", {}, _accuracies(93.7, 78.6, 52.1), ("13.9", "47.7M")),
    Row("attentionLSTM", "attention_lstm", {}, _accuracies(None, None, 56.0), ("48.7", "20.7M")),
    Row("Redundancy + AttentionLSTM", "redundancy", {}, _accuracies(None, None, 57.4), ("48.7", "20.7M")),
    Row("TSM", "tsm", PLAIN, _accuracies(92.1, 80.2, 64.1), ("28.2", "23.7M")),
    Row("TEA", "tea", PLAIN, _accuracies(92.3, 80.5, 64.5), ("31.1", "24.3M")),
    Row("ACTION-Net", "action", PLAIN, _accuracies(94.2, 80.7, 65.0), ("29.8", "27.9M")),
    Row("ACTION-Net + MSD", "action", BOTH, _accuracies(94.5, 84.0, 66.9), ("29.8", "27.9M"), "ACTION-Net"),
)
# Not in the paper: the same network fed with depth at inference too, which shows how much depth can add at most.
_BOUNDS = (
    Row("ACTION-Net, RGB-D at inference", "action", PLAIN | {"options": {"inputs": "rgbd"}}, against="ACTION-Net"),
    Row("ACTION-Net, depth alone", "action", PLAIN | {"options": {"inputs": "depth"}}, against="ACTION-Net"),
)


def _comparison(name: str, dataset: str) -> Table:
    rows = tuple(row for row in _COMPARISON if dataset in row.paper) + _BOUNDS
    return Table(name, f"Comparison on {DATASETS[dataset]}", (dataset,), rows)


_NONE_VI = Row("none", "action", PLAIN, _accuracies(94.2, 80.7))

TABLES: dict[str, Table] = {
    "I": _comparison("I", "egogesture"),
    "II": _comparison("II", "nvgesture"),
    "III": _comparison("III", "isogd"),
    "IV": Table(
        "IV",
        "MSD plugged into other 2D networks",
        ("egogesture", "nvgesture"),
        (
            Row("TSM", "tsm", PLAIN, _accuracies(92.1, 80.2)),
            Row("TSM + MSD", "tsm", BOTH, _accuracies(93.7, 81.9), against="TSM"),
            Row("TEA", "tea", PLAIN, _accuracies(92.3, 80.5)),
            Row("TEA + MSD", "tea", BOTH, _accuracies(94.2, 82.2), against="TEA"),
        ),
    ),
    "V": Table(
        "V",
        "Other ways to use depth in training only",
        ("egogesture",),
        (
            Row("MTUT, 64 frames", "mtut", {}, _accuracies(92.5, None)),
            Row("Segmentation+LSTM, 8 frames", "segmentation_lstm", {"num_segments": 8}, _accuracies(55.4, None)),
            Row("Segmentation+LSTM, 16 frames", "segmentation_lstm", {"num_segments": 16}, _accuracies(81.4, None)),
            Row("Segmentation+LSTM, 24 frames", "segmentation_lstm", {"num_segments": 24}, _accuracies(88.4, None)),
            # The paper uses all frames; EgoGesture's clips have about 40.
            Row(
                "Segmentation+LSTM, all (40) frames", "segmentation_lstm", {"num_segments": 40}, _accuracies(93.3, None)
            ),
            Row("ACTION-Net + MSD, 8 frames", "action", BOTH, _accuracies(94.5, None)),
        ),
    ),
    "VI": Table(
        "VI",
        "Which decoder, and at which CE:MSE ratio",
        ("egogesture", "nvgesture"),
        (
            _NONE_VI,
            Row("local 1:0.1", "action", LOCAL | {"local_weight": 0.1}, _accuracies(94.3, 81.1), against="none"),
            Row("local 1:1", "action", LOCAL, _accuracies(94.4, 82.3), against="none"),
            Row("global 1:1", "action", GLOBAL | {"global_weight": 1.0}, _accuracies(94.1, 80.3), against="none"),
            Row("global 1:0.1", "action", GLOBAL | {"global_weight": 0.1}, _accuracies(94.2, 80.5), against="none"),
            Row("global 1:0.01", "action", GLOBAL, _accuracies(94.3, 82.4), against="none"),
            Row("local 1:1, global 1:0.01", "action", BOTH, _accuracies(94.5, 84.0), against="none"),
        ),
    ),
    "VII": Table(
        "VII",
        "Scale of supervision",
        ("egogesture", "nvgesture"),
        (
            _NONE_VI,
            Row("local, quarter", "action", LOCAL | {"local_scale": "quarter"}, _accuracies(93.8, 77.8), None, "none"),
            Row("local, full", "action", LOCAL, _accuracies(94.4, 82.3), against="none"),
            Row("global, full", "action", GLOBAL | {"global_scale": "full"}, _accuracies(94.0, 82.4), against="none"),
            Row("global, quarter", "action", GLOBAL, _accuracies(94.3, 82.4), against="none"),
        ),
    ),
    "VIII": Table(
        "VIII",
        "Depth binarised at 10 of 255",
        ("egogesture", "nvgesture", "isogd"),
        (
            Row("without MSD", "action", PLAIN, _accuracies(94.2, 80.7, 65.0)),
            Row("raw depth", "action", BOTH, _accuracies(94.5, 84.0, 66.9), against="without MSD"),
            Row("binarised", "action", BOTH | {"binarise": True}, _accuracies(94.5, 84.0, 65.4), against="without MSD"),
        ),
    ),
    "fig5": Table(
        "fig5",
        "RGB, depth, local mask and global mask",
        ("egogesture", "nvgesture", "isogd"),
        (Row("ACTION-Net + MSD", "action", BOTH, _accuracies(94.5, 84.0, 66.9)),),
    ),
}


def get_table(name: str, tables: Mapping[str, Table]) -> Table:
    """The table of this name, in capitals or not. Raises ``RecipeError``, which lists the tables, for no such name."""
    for known, table in tables.items():
        if known.casefold() == name.casefold():
            return table
    raise RecipeError(f"there is no table {name!r}; {hint(name, tables)}")
