"""The splits of a dataset, indexed or generated. Needs no torch."""

from typing import Literal, get_args

from dynagest.errors import ManifestError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def check_split(name: str) -> None:
    """Raise ``ManifestError`` if there is no split of this name."""
    if name not in SPLITS:
        raise ManifestError(f"there is no split {name!r}; the splits are {', '.join(SPLITS)}")
