"""A network's card says in plain words what is wrong with it."""

import json
from pathlib import Path

import pytest

from dynagest.card import NetworkCard
from dynagest.errors import WeightsError

GOOD = {"model": "tsn_resnet18", "classes": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model: is None, but must be text"),
        ({"classes": "ab"}, "classes: is 'ab', but must be a list"),
        ({"num_segments": 0}, "num_segments: is 0, but must be at least 1"),
        ({"num_segments": "many"}, "num_segments: is 'many', but must be a whole number"),
        ({"size": 3.5}, "size: is 3.5, but must be a whole number"),
        ({"fps": -1}, "fps: is -1, but must be more than 0"),
        ({"sampling": "random"}, "sampling: is 'random', but must be 'segment' or 'dense'"),
        ({"mean": [0.1, 0.2]}, "mean, entry 3: is missing"),
        ({"fps": float("inf")}, "fps: is inf, but must be a finite number"),
        ({"fps": 1e9}, "fps: is 1000000000.0, but must be at most 1000"),
        ({"size": 10**9}, "size: is 1000000000, but must be at most 4096"),
        ({"std": [0.2, 0, 0.2]}, "std, entry 2: is 0, but must be more than 0"),
        ({"mean": [0.2, float("nan"), 0.2]}, "mean, entry 2: is nan, but must be a finite number"),
        ({"classes": []}, "classes: there are none, but a network tells at least two apart; train it on more"),
        ({"classes": ["a"]}, "classes: there is one, but"),
        ({"classes": ["a", "b", "a"]}, "classes: 'a' is there twice"),
        ({"options": 3}, "options: is 3, but must be a map"),
        ({"depth": True}, "depth: there is no such field; there are model, classes"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_should_be(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps(GOOD | change), encoding="utf-8")
    with pytest.raises(WeightsError) as caught:
        NetworkCard.read(path)
    assert str(caught.value).startswith(f"{path}: not a network card")
    assert message in str(caught.value)
    for raw in ("pydantic", "Input should", "validation error"):
        assert raw not in str(caught.value)


def test_a_path_may_be_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert NetworkCard.read(str(path)) == NetworkCard(model="tsn_resnet18", classes=("a", "b"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is not JSON"),
        (b'{"model": "tsn', "it is not JSON"),
        (b"these are words", "it is not JSON"),
        (b"\xff\xfe\x00", "it is not text"),
        (b"[1, 2]", "it holds [1, 2], but must be a map"),
        (b"{}", "model: is missing; classes: is missing"),
    ],
)
def test_a_file_that_is_no_card(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        NetworkCard.read(path)
    assert message in str(caught.value)
    assert "pydantic" not in str(caught.value)
