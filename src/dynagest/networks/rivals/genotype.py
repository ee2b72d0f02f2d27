"""The result of NAS1's architecture search: one cell of four nodes for each branch, as plain JSON values."""

from dataclasses import dataclass
from typing import Any

from dynagest.errors import ModelError

BRANCHES = ("high", "mid", "low")  # frame rates
OPERATIONS = ("cdc_t_0.6", "cdc_t_0.3", "cdc_tr_0.6", "cdc_tr_0.3", "conv_1x3x3", "skip")
NODES, EDGES = 4, 2


@dataclass(frozen=True)
class Edge:
    """An operation on one of a cell's states.

    States 0 and 1 are the outputs of the two cells before (the nearer one is 1), states 2 to 5 the cell's own nodes.
    """

    operation: str
    state: int


Cell = tuple[tuple[Edge, Edge], ...]
"""The nodes of a cell. A node is the sum of two edges; a cell's output is the concatenation of its nodes."""


def parse_genotype(value: Any) -> dict[str, Cell]:
    """The cell of each branch, from ``{"high": cell, "mid": cell, "low": cell}``.

    A cell is a list of four nodes, a node two pairs of [operation, state], as in ``[["cdc_t_0.6", 1], ["skip", 0]]``.
    Raises ``ModelError`` that says what is wrong and where.
    """
    if not isinstance(value, dict) or set(value) != set(BRANCHES):
        found = f"the keys {', '.join(map(str, value)) or 'none'}" if isinstance(value, dict) else repr(value)
        raise ModelError(f"genotype: it has {found}; give one cell for each of {', '.join(BRANCHES)}")
    return {branch: _cell(branch, value[branch]) for branch in BRANCHES}


def _cell(branch: str, value: Any) -> Cell:
    if not isinstance(value, list) or len(value) != NODES:
        raise ModelError(f"genotype {branch}: a cell is a list of {NODES} nodes, not {value!r}")
    return tuple(_node(branch, index, node) for index, node in enumerate(value))


def _node(branch: str, index: int, value: Any) -> tuple[Edge, Edge]:
    where = f"genotype {branch}, node {index + 1}"
    if not isinstance(value, list) or len(value) != EDGES:
        raise ModelError(f"{where}: a node is two pairs of [operation, state], not {value!r}")
    first, second = (_edge(where, 2 + index, edge) for edge in value)
    return first, second


def _edge(where: str, states: int, value: Any) -> Edge:
    if not isinstance(value, list) or len(value) != 2:
        raise ModelError(f"{where}: {value!r} is no pair of [operation, state]")
    operation, state = value
    if operation not in OPERATIONS:
        raise ModelError(f"{where}: there is no operation {operation!r}; there are {', '.join(OPERATIONS)}")
    if type(state) is not int or not 0 <= state < states:
        raise ModelError(f"{where}: state {state!r}; it can read the states 0 to {states - 1}")
    return Edge(operation, state)


_CELL = [
    [["cdc_t_0.6", 1], ["skip", 0]],
    [["cdc_t_0.6", 2], ["skip", 1]],
    [["cdc_tr_0.3", 3], ["skip", 2]],
    [["conv_1x3x3", 4], ["skip", 3]],
]
# Our choice, NOT the published result of the search: a chain of central differences that ends in a spatial
# convolution, with a skip around each.
DEFAULT_GENOTYPE: dict[str, Any] = {"high": _CELL, "mid": _CELL, "low": _CELL}
