"""The findings of ``data check``: problems, counts and lengths, as objects, JSON and text. Needs no torch."""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dynagest.clips.checks.polarity import Polarity
from dynagest.errors import counted

Severity = Literal["error", "warning"]
_LISTED = textwrap.TextWrapper(
    width=100, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
)


@dataclass(frozen=True)
class Problem:
    """One finding.

    An error spoils training or testing and must be mended; a warning is worth knowing. ``kind`` is one word for
    grouping: row, missing, unreadable, range, short, long, pace, pixels, length, numbers, size, depth, label, class,
    subject, duplicate, unlisted, polarity. ``row`` is the line in the manifest, None if the finding is not about one
    clip.
    """

    severity: Severity
    kind: str
    message: str
    file: Path | None = None
    row: int | None = None

    def __str__(self) -> str:
        where = f"line {self.row}: " if self.row else ""
        # Errors of the frame readers begin with the file's name already.
        named = "" if self.file is None or self.message.startswith(str(self.file)) else f"{self.file}: "
        return f"{self.severity}: {where}{named}{self.message}"


@dataclass(frozen=True)
class Lengths:
    """Statistics of the lengths, in frames, of the ``clips`` clips of a split whose length is known.

    ``short`` counts those with fewer than T frames.
    """

    clips: int
    shortest: int
    median: float
    mean: float
    longest: int
    short: int


@dataclass(frozen=True)
class CheckReport:
    """The state of a manifest and its files.

    ``counts`` maps split -> class -> number of clips (every class, also those with none), ``with_depth`` maps split ->
    number of clips that list depth, ``lengths`` maps split -> Lengths. Only splits with clips occur, and in ``lengths``
    only those with a clip of known length. ``polarity`` is None if no clip's depth could be judged.
    """

    manifest: Path | None
    classes: tuple[str, ...]
    num_segments: int
    thorough: bool
    counts: Mapping[str, Mapping[str, int]]
    with_depth: Mapping[str, int]
    lengths: Mapping[str, Lengths]
    polarity: Polarity | None
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that must be mended."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems worth knowing."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    def majority(self, split: str) -> float:
        """The accuracy of always naming the split's most frequent class, which a network has to beat."""
        counts = self.counts[split]
        return max(counts.values()) / sum(counts.values())

    def to_dict(self) -> dict[str, Any]:
        """The whole report in types that JSON has."""
        return {
            "manifest": str(self.manifest) if self.manifest else None,
            "num_segments": self.num_segments,
            "thorough": self.thorough,
            "classes": list(self.classes),
            "splits": {
                split: {
                    "clips": sum(counts.values()),
                    "with_depth": self.with_depth[split],
                    "majority": self.majority(split),
                    "lengths": asdict(self.lengths[split]) if split in self.lengths else None,
                    "per_class": dict(counts),
                }
                for split, counts in self.counts.items()
            },
            "polarity": None if self.polarity is None else {**asdict(self.polarity), "looks": self.polarity.looks},
            "problems": [
                {**asdict(problem), "file": str(problem.file) if problem.file else None} for problem in self.problems
            ],
            "errors": len(self.errors),
            "warnings": len(self.warnings),
        }

    def to_text(self, warnings_shown: int = 10) -> str:
        """The report as text: every split and its classes, every error, the first ``warnings_shown`` of each kind of
        warning.
        """
        lines = [f"{self.manifest or 'manifest'}: {counted(len(self.classes), 'class')}"]
        for split in self.counts:
            lines += [self._split_line(split), *self._class_lines(split)]
        if self.polarity is not None:
            lines.append(f"depth: {self.polarity}")
        lines += [str(problem) for problem in self.errors]
        shown: Counter[str] = Counter()
        for problem in self.warnings:
            shown[problem.kind] += 1
            if shown[problem.kind] <= warnings_shown:
                lines.append(str(problem))
        hidden = {kind: count - warnings_shown for kind, count in shown.items() if count > warnings_shown}
        lines += [f"warning: ... and {count} more of the kind '{kind}'" for kind, count in hidden.items()]
        lines.append(f"errors: {len(self.errors)}, warnings: {len(self.warnings)}")
        return "\n".join(lines)

    def _split_line(self, split: str) -> str:
        counts = [count for count in self.counts[split].values() if count]
        each = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        line = f"{split}: {counted(sum(counts), 'clip')} of {counted(len(counts), 'class')} ({each} each)"
        line += f", {self.with_depth[split]} with depth"
        if split in self.lengths:
            n = self.lengths[split]
            line += f"; frames {n.shortest} / {n.median:g} / {n.longest} (shortest, median, longest)"
            line += f", {n.short} shorter than {self.num_segments}" if n.short else ""
        return f"{line}; always naming its most frequent class: {self.majority(split):.1%}"

    def _class_lines(self, split: str) -> Iterator[str]:
        """Yield which classes have how many clips, unless all have as many, as ``_split_line`` says."""
        classes: dict[int, list[str]] = defaultdict(list)
        for name, count in self.counts[split].items():
            classes[count].append(name)
        for count in sorted(classes.keys() - {0}, reverse=True) if len(classes) > 1 else ():
            line = f"{counted(count, 'clip')}: {', '.join(classes[count])}"
            yield from _LISTED.wrap(line)
