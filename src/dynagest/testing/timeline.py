"""Timelines of streams as SVG: the true gestures above, the found ones below. Text from outside is escaped.

In a report the colours are the report's CSS variables; ``timeline_file`` brings its own, for light and dark mode. Needs
none of the report's packages, so that exported files are tested where they run.
"""

from collections.abc import Sequence, Set
from html import escape

from dynagest.clips.streams import Span
from dynagest.stream.events import Event
from dynagest.stream.metrics import Recording, match

WIDTH, LEFT, RIGHT, LANE, GAP, TICKS = 960, 64, 18, 18, 3, 18
ROW_SECONDS = 20.0  # longer recordings continue in the next row
_TICK = 5  # seconds
_LETTER = 6.2  # width of a letter in pixels, about

_STYLE = """
svg { --card: #ffffff; --ink: #1c2024; --soft: #5b636b; --rule: #e0ddd6; --faint: #efede8; --s1: #0e7c86;
 --miss: #d0561b; font: 10px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif; background: var(--card); }
@media (prefers-color-scheme: dark) { svg { --card: #191f23; --ink: #e9ecee; --soft: #a3adb5; --rule: #2d363c;
 --faint: #222a2f; --s1: #35b3bd; --miss: #f0824a; } }
"""
CSS = """
.timeline { margin-top: 1rem; min-width: 60rem; }
.timeline text { fill: var(--soft); font-size: 10px; } .timeline .name { fill: var(--ink); font-size: 11px; }
.timeline .rail { fill: var(--faint); } .timeline .tick { stroke: var(--rule); }
.timeline .true { fill: var(--soft); fill-opacity: .28; } .timeline .missed { stroke: var(--miss); stroke-width: 1.5; }
.timeline .hit { fill: var(--s1); fill-opacity: .45; } .timeline .false { fill: var(--miss); fill-opacity: .45; }
.timeline .fired { stroke: var(--ink); stroke-width: 1.5; } .timeline .label { fill: var(--ink); }
"""


def timeline(recording: Recording) -> str:
    """The timeline of one recording. A line marks when a found gesture was activated.

    Missed gestures are outlined, false ones have another colour.
    """
    return _svg([recording])


def timeline_file(recordings: Sequence[Recording]) -> str:
    """All recordings as an SVG file."""
    return _svg(recordings, f"<style>{_STYLE}{CSS}</style>") + "\n"


def _svg(recordings: Sequence[Recording], head: str = "") -> str:
    parts: list[str] = []
    y = 0.0
    for one in recordings:
        pairs = match(one.truth, one.found)
        told = f"{one.name}: {len(pairs)} of {len(one.truth)} gestures, {len(one.found) - len(pairs)} false"
        parts.append(f'<text class="name" x="{LEFT}" y="{y + 13:.0f}">{escape(told)}</text>')
        y += 18
        matched = {item for pair in pairs for item in pair}
        for row in range(max(1, -int(-one.seconds // ROW_SECONDS))):
            parts += _row(one, matched, ROW_SECONDS * row, y)
            y += LANE * 2 + GAP + TICKS
    what = ", ".join(one.name for one in recordings)
    label = escape(f"Timeline of {what}: true gestures above, found ones below")
    size = f'viewBox="0 0 {WIDTH} {y:.0f}"'
    open_tag = f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" {size} role="img" aria-label="{label}">'
    return "".join((open_tag, head, *parts, "</svg>"))


def _row(one: Recording, matched: Set[Span | Event], start: float, y: float) -> list[str]:
    end = start + ROW_SECONDS

    def across(time: float) -> float:
        share = (min(max(time, start), end) - start) / ROW_SECONDS
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def bar(begin: float, stop: float, lane: float, kind: str, label: str, title: str) -> list[str]:
        if stop <= start or begin >= min(end, one.seconds):
            return []
        x, width = across(begin), max(across(stop) - across(begin), 1.5)
        shown = label if len(label) * _LETTER <= width - 4 else label[: max(0, int((width - 4) / _LETTER))]
        text = f'<text class="label" x="{x + 2:.1f}" y="{lane + 12:.1f}">{escape(shown)}</text>'
        rect = f'<rect class="{kind}" x="{x:.1f}" y="{lane:.1f}" width="{width:.1f}" height="{LANE}" rx="2"/>'
        return [f"<g><title>{escape(title)}</title>{rect}{text}</g>"]

    found_y = y + LANE + GAP
    parts = []
    for name, lane in (("true", y), ("found", found_y)):
        width = across(one.seconds) - LEFT
        parts.append(f'<rect class="rail" x="{LEFT}" y="{lane:.1f}" width="{width:.1f}" height="{LANE}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{lane + 12:.1f}" text-anchor="end">{name}</text>')
    for second in range(int(start), int(min(end, one.seconds)) + 1, _TICK):
        x = across(second)
        parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{found_y + LANE:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{found_y + LANE + 11:.1f}" text-anchor="middle">{second} s</text>')
    for span in one.truth:
        kind = "true" if span in matched else "true missed"
        title = f"{span.label}, {span.begin:.2f} to {span.end:.2f} s" + ("" if span in matched else ", missed")
        parts += bar(span.begin, span.end, y, kind, span.label, title)
    for event in one.found:
        assert event.end is not None
        kind = "hit" if event in matched else "false"
        title = (
            f"{event.label} ({event.confidence:.0%}), {event.begin:.2f} to {event.end:.2f} s, at {event.fired:.2f} s"
        )
        parts += bar(event.begin, event.end, found_y, kind, event.label, title)
        if start <= event.fired < end:
            x = across(event.fired)
            ends = f'y1="{found_y - 2:.1f}" y2="{found_y + LANE + 2:.1f}"'
            parts.append(f'<line class="fired" x1="{x:.1f}" x2="{x:.1f}" {ends}/>')
    return parts
