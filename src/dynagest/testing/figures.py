"""Figures of the report as inline SVG and PNG. Colours are CSS variables, so that they follow light and dark mode.

A figure is ``Markup``: text from outside, such as class names, is escaped here.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import east_asian_width

import numpy as np
from markupsafe import Markup, escape

from dynagest.clips.png import encode_png
from dynagest.testing.metrics import Summary

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 38
LABEL_LENGTH = 26


@dataclass(frozen=True, slots=True)
class Series:
    """A named line. ``x`` and ``y`` have the same length and are finite."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Axis:
    """A range with its ticks; ``log`` places values by their logarithm."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """The position of ``value`` between the ends, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(values: Sequence[float], include: Sequence[float] = (), ticks: int = 5, least: float = 0.0) -> Axis:
    """An axis over ``values`` and ``include`` that ends at round numbers.

    Its ticks are 1, 2 or 5 times a power of ten apart, and not less than ``least``.
    """
    known = (*values, *include)
    low, high = min(known), max(known)
    if low == high:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / ticks
    power = 10 ** math.floor(math.log10(raw))
    step = max(least, power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - raw)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(index * step for index in range(first, last + 1)))


def log_axis(values: Sequence[float]) -> Axis:
    """An axis of whole powers of ten around positive ``values``."""
    known = [value for value in values if value > 0]
    first, last = math.floor(math.log10(min(known)) + 1e-9), math.ceil(math.log10(max(known)) - 1e-9)
    last = max(last, first + 1)
    return Axis(10.0**first, 10.0**last, tuple(10.0**power for power in range(first, last + 1)), log=True)


def line_chart(
    name: str,
    series: Sequence[Series],
    x_label: str,
    *,
    log: bool = False,
    percent: bool = False,
    reference: tuple[str, float] | None = None,
) -> Markup:
    """Lines over a common x. The y axis starts at 0, unless ``log``; ``reference`` is a named horizontal line."""
    points = [value for line in series for value in line.y]
    extra = [0.0, *([1.0] if percent else []), *([reference[1]] if reference else [])]
    y_axis = log_axis(points) if log else linear_axis(points, extra)
    x_axis = linear_axis([value for line in series for value in line.x], ticks=6, least=1.0)  # whole epochs

    def across(value: float) -> float:
        return LEFT + x_axis.place(value) * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - y_axis.place(value) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">']
    for tick in y_axis.ticks:
        y = down(tick)
        text = f"{100 * tick:g} %" if percent else f"{tick:.3g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
    for tick in x_axis.ticks:
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>'
    )
    if reference:
        y = down(reference[1])
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        # Named below the axis, where no line of the chart can cover the words.
        label = f"{escape(reference[0])} {100 * reference[1]:.3g} %"
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{LEFT + 18}" y1="{HEIGHT - 9}" y2="{HEIGHT - 9}"/>')
        parts.append(f'<text x="{LEFT + 24}" y="{HEIGHT - 5}">{label}</text>')
    for slot, line in enumerate(series, start=1):
        known = [(across(x), down(y)) for x, y in zip(line.x, line.y, strict=True) if y > 0 or not log]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
        parts.append(f'<polyline class="line s{slot}" points="{path}"/>')
        if len(known) <= 40:
            parts += [f'<circle class="dot s{slot}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in known]
    return Markup("".join(map(str, [*parts, "</svg>"])))


def accuracy_bar(summary: Summary) -> Markup:
    """A bar of top-1 with its interval on a scale from 0 to 100 %, with marks for chance and the majority class."""
    width, height, left, right = 640, 74, 8, 8

    def across(share: float) -> float:
        return left + share * (width - left - right)

    low, high = summary.interval
    label = (
        f"Top-1 accuracy {100 * summary.top1:.1f} percent, 95 percent interval {100 * low:.1f} to {100 * high:.1f}, "
        f"chance {100 * summary.chance:.1f} percent, majority class {100 * summary.majority:.1f} percent"
    )
    marks = [("chance", summary.chance)]
    if summary.majority > summary.chance * 1.05:
        marks.append(("always the commonest class", summary.majority))
    filled = max(12.0, across(summary.top1) - left)
    parts = [
        f'<svg class="accuracy" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
        f'<rect class="rail" x="{left}" y="27" width="{width - left - right}" height="12" rx="6"/>',
        f'<rect class="fill" x="{left}" y="27" width="{filled:.1f}" height="12" rx="6"/>',
        f'<line class="whisker" x1="{across(low):.1f}" x2="{across(high):.1f}" y1="33" y2="33"/>',
        *(
            f'<line class="whisker" x1="{across(end):.1f}" x2="{across(end):.1f}" y1="26" y2="40"/>'
            for end in (low, high)
        ),
    ]
    for row, (name, share) in enumerate(marks):
        x = across(share)
        y1, y2, text_y = (22, 44, 16) if row == 0 else (22, 50, 64)
        anchor = "start" if share < 0.75 else "end"
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y1}" y2="{y2}"/>')
        parts.append(f'<text x="{x:.1f}" y="{text_y}" text-anchor="{anchor}">{name} {100 * share:.1f} %</text>')
    return Markup("".join([*parts, "</svg>"]))


def confusion_svg(confusion: np.ndarray, classes: Sequence[str]) -> Markup:
    """The matrix as squares with counts, for few classes: rows true, columns predicted, shade = share of the row."""
    cell, side, longest = 26, 26 * len(classes), max(_width(_short(name)) for name in classes)
    # The columns' labels slant to the upper right, so they take sin(45 degrees) of their length and letter height.
    slant = 0.71 * (longest + 11)
    margin, top = longest + 10, slant + 6
    width, height = margin + side + slant, top + side + 8
    label = f"Confusion matrix of {len(classes)} classes; the table below has the most frequent confusions"
    style = f"max-width:{width:.0f}px"
    parts = [
        f'<svg class="matrix" viewBox="0 0 {width:.0f} {height:.0f}" style="{style}" role="img" aria-label="{label}">'
    ]
    totals = confusion.sum(axis=1)
    for row, name in enumerate(classes):
        y = top + row * cell
        parts.append(
            f'<text x="{margin - 6:.1f}" y="{y + cell / 2 + 4:.1f}" text-anchor="end">{escape(_short(name))}</text>'
        )
        x = margin + row * cell + cell / 2
        turned = f"rotate(-45 {x:.1f} {top - 6:.1f})"
        parts.append(f'<text x="{x:.1f}" y="{top - 6:.1f}" transform="{turned}">{escape(_short(name))}</text>')
        for column, other in enumerate(classes):
            count = int(confusion[row, column])
            share = count / totals[row] if totals[row] else 0.0
            kind = "hit" if row == column else "miss"
            x = margin + column * cell
            rect = f'x="{x:.1f}" y="{y:.1f}" width="{cell - 2}" height="{cell - 2}" rx="3"'
            parts.append(f'<rect class="empty" {rect}/>')
            if count:
                title = (
                    f"{name}, taken for {other}: {count} of {totals[row]}"
                    if kind == "miss"
                    else f"{name}: {count} of {totals[row]}"
                )
                strong = " strong" if share > 0.55 else ""
                parts.append(
                    f"<g><title>{escape(title)}</title>"
                    f'<rect class="{kind}" {rect} fill-opacity="{0.15 + 0.85 * share:.2f}"/>'
                )
                middle = f'x="{x + cell / 2 - 1:.1f}" y="{y + cell / 2 + 3:.1f}"'
                parts.append(f'<text class="count{strong}" {middle} text-anchor="middle">{count}</text></g>')
    return Markup("".join(map(str, [*parts, "</svg>"])))


def confusion_png(confusion: np.ndarray) -> Markup:
    """The matrix as a data URI of a transparent PNG, one pixel per cell: hits blue-green, mistakes orange."""
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    share = confusion / totals
    image = np.empty((*confusion.shape, 4), dtype=np.uint8)
    image[..., :3] = (224, 100, 22)
    image[np.arange(len(image)), np.arange(len(image)), :3] = (14, 130, 150)
    # The square root makes a single mistake among many clips visible.
    image[..., 3] = np.where(confusion > 0, 40 + 215 * np.sqrt(share), 0).astype(np.uint8)
    return Markup(png_uri(encode_png(image)))


def png_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _width(text: str) -> float:
    """An upper estimate of a text's width at 11 pixels in the report's fonts, so that no label is cut off."""
    return sum(11.5 if east_asian_width(c) in "WF" or c in "mwMWQ@%—…" else 6.6 for c in text)


def _short(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else name[: LABEL_LENGTH - 1] + "…"
