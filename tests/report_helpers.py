"""Made-up tests, and the page that a report is."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from dynagest.clips.labelled import UnreadableClip
from dynagest.testing.evaluation import Conditions, Evaluation
from dynagest.testing.report import write_report

VOID = {"meta", "img", "br", "wbr", "hr", "link", "input", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Fails on tags that do not match; keeps elements, text and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and (kind is None or kind in (attributes.get("class") or "").split())
        ]


def made_up(
    classes: tuple[str, ...], clips: int, right: float, unread: int = 0, protocol: str = "center"
) -> Evaluation:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(classes), clips)
    scores = rng.random((clips, len(classes)))
    hit = rng.random(clips) < right
    scores[np.arange(clips), np.where(hit, labels, (labels + 1) % len(classes))] += 2
    views, size = (30, 64) if protocol == "paper" else (1, 56)
    return Evaluation.from_scores(
        Conditions(
            "tsm_resnet18", "/data/set/manifest.csv", "test", protocol, 5, 4, size, views, "cpu", "float32", 61.0
        ),
        classes,
        scores / scores.sum(axis=1, keepdims=True),
        labels,
        [(index, f"/data/set/{index}.avi") for index in range(clips)],
        tuple(UnreadableClip(clips + index, f"/data/set/torn{index}.avi", "truncated") for index in range(unread)),
    )


def report(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))
