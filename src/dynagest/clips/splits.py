"""The splits of a dataset, indexed or generated. Needs no torch."""

from collections.abc import Iterable
from typing import Literal, Protocol, TypeVar, get_args

from dynagest.errors import ManifestError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class _InSplit(Protocol):
    @property
    def split(self) -> str: ...


_Item = TypeVar("_Item", bound=_InSplit)


def of_split(items: Iterable[_Item], name: str) -> tuple[_Item, ...]:
    """The clips or streams of a split, maybe none. Raises ``ManifestError`` if there is no split of this name."""
    if name not in SPLITS:
        raise ManifestError(f"there is no split {name!r}; the splits are {', '.join(SPLITS)}")
    return tuple(item for item in items if item.split == name)
