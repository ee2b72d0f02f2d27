"""``--set FIELD=VALUE``."""

from typing import Literal

import pytest
from pydantic import BaseModel, Field

from dynagest.errors import RecipeError
from dynagest.settings import describe, override, parse_settings


class Inner(BaseModel):
    x: int = 1


class Model(BaseModel):
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    rate: float = Field(0.1, gt=0, description="how fast")
    steps: tuple[int, ...] = (1, 2)
    # Words of no other file: Python keeps unions, and one of "test" and "val" would change their order in the message.
    split: Literal["late", "soon"] | None = "late"
    flips: dict[str, str] | None = None
    width: int | None = 3
    name: str = "none of these"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("rate=1e-3", "rate", 0.001),
        ("steps=10, 15,20", "steps", (10, 15, 20)),
        ("steps=", "steps", ()),
        ("steps=[3, 4]", "steps", (3, 4)),
        ('names=["a", "b"]', "names", ("a", "b")),
        ("inner={x: 2}", "inner", Inner(x=2)),
        ("split=none", "split", None),
        ("split=soon", "split", "soon"),
        ("flips={left: right, right: left}", "flips", {"left": "right", "right": "left"}),
        ("flips=left=right, right=left", "flips", {"left": "right", "right": "left"}),
        ("flips=none", "flips", None),
        ("width=None", "width", None),
        ("width=7", "width", 7),
        ("name=none", "name", "none"),
        ("name=a=b", "name", "a=b"),
    ],
)
def test_text_becomes_the_type_of_the_field(text: str, field: str, value: object) -> None:
    assert getattr(override(Model(), parse_settings([text])), field) == value


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["rate"], "FIELD=VALUE"),
        (["rate=1", "rate=2"], "twice"),
        (["rat=1"], "did you mean rate"),
        (["rate=-1"], r"rate: is '-1', but must be more than 0.0 \(how fast\)"),
        (["rate=fast"], "rate: is 'fast', but must be a number"),
        (["rate=none"], "rate: is 'none', but must be a number"),
        (["split=train"], "split: is 'train', but must be 'late' or 'soon'"),
        (["flips={a: [}"], "not a list or a map"),
        (["flips=" + "[" * 4000], "not a list or a map"),
        (["inner=2"], r"inner=2: it has parts, which are given by name: inner=\{x: ...\}"),
        (["inner=x:2"], r"inner=x:2: it has parts"),
        (["flips=a=2026-02-30"], "flips=a=2026-02-30: not a list or a map"),
    ],
)
def test_mistakes_are_named(texts: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        override(Model(), parse_settings(texts))


def test_describe_has_a_line_for_each_field() -> None:
    assert describe(Model()).splitlines()[2] == "rate = 0.1   # how fast"
    assert len(describe(Model()).splitlines()) == len(Model.model_fields)
