"""The splits of a dataset, indexed or generated. Needs no torch."""

from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
