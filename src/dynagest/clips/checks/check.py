"""``data check``: looks for everything in a manifest and its files that would spoil training or testing.

Needs no torch. From each clip it decodes the middle frame of each segment and the first and last frame of the range; if
``thorough``, every frame. No finding ends the check; each is listed with its file and its line.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dynagest.clips.checks.cues import SMEAR_8BIT
from dynagest.clips.checks.files import image_faults
from dynagest.clips.checks.lists import list_problems
from dynagest.clips.checks.polarity import Polarity, vote
from dynagest.clips.checks.report import CheckReport, Lengths, Problem, Severity
from dynagest.clips.depth import ASPECT_TOLERANCE, DEPTH_FILE, DepthSpec, shape_fault
from dynagest.clips.frames import FrameReader, is_folder
from dynagest.clips.manifest import Manifest
from dynagest.clips.sampling import DEPTH_LENGTH_TOLERANCE, LONG, segment_indices
from dynagest.clips.splits import SPLITS
from dynagest.clips.table import BadRow
from dynagest.clips.video import pixel_shape, video_times
from dynagest.errors import ClipError, DepthError, counted

SMEARED_HOLES = 0.005
_VOTERS = 300
_GLANCED = 16  # clips that a training looks at
_VOTING_FRAMES = 20  # depth frames read at least from a voter, because fewer do not show the outlines clearly enough
_CHUNK = 64

_Add = Callable[[Severity, str, str, Path], None]
"""Adds a problem of the clip that is being examined: severity, kind, message, file."""


@dataclass
class _Examined:
    """The findings on one clip: problems, RGB length in frames, and its vote on the depth's polarity.

    ``asked``: whether the clip was asked for its vote. ``smeared``: the share of its depth pixels above ``invalid`` and
    up to 7, only for 8-bit depth in which near is dark.
    """

    problems: list[Problem] = field(default_factory=list)
    length: int | None = None
    vote: Literal["bright", "dark"] | None = None
    asked: bool = False
    smeared: float | None = None


def check(
    manifest: Manifest,
    num_segments: int = 8,
    workers: int = 2,
    thorough: bool = False,
    progress: Callable[[int, int], None] | None = None,
    bad_rows: Sequence[BadRow] = (),
) -> CheckReport:
    """Check every clip of a manifest, and the clips against each other.

    ``num_segments``: T, the number of frames that a network takes from a clip. ``workers``: threads that decode; 200
    clips of IsoGD take four seconds on two cores. ``thorough``: decode every frame of every range. ``progress``: called
    with (clips done, number of clips) after each clip. ``bad_rows``: the rows that ``Manifest.read`` left out.

    Example: ``print(check(Manifest.read("data/manifest.csv")).to_text())``
    """
    examiner = _Examiner(manifest, num_segments, thorough)
    examined: list[_Examined] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for result in pool.map(examiner.examine, range(len(manifest))):
                examined.append(result)
                if progress:
                    progress(len(examined), len(manifest))
        except BaseException:
            # Ctrl-C must not have to wait for thousands of queued clips.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    polarity = _polarity(manifest, examined)
    problems = [Problem("error", "row", fault, manifest.path, line) for line, fault in bad_rows]
    problems += [problem for result in examined for problem in result.problems]
    # The clips of bad rows are listed, though the manifest as it was read does not have them.
    problems += [problem for problem in list_problems(manifest) if not (bad_rows and problem.kind == "unlisted")]
    problems += _depth_problems(manifest, examined, polarity)
    present = [split for split in SPLITS if any(clip.split == split for clip in manifest.clips)]
    return CheckReport(
        manifest=manifest.path,
        classes=manifest.classes,
        num_segments=num_segments,
        thorough=thorough,
        counts={split: _counts(manifest, split) for split in present},
        with_depth={split: sum(c.depth is not None for c in manifest.split(split).clips) for split in present},
        lengths=dict(_lengths(manifest, examined, present, num_segments)),
        polarity=polarity,
        problems=tuple(problems),
    )


def upside_down(manifest: Manifest) -> Problem | None:
    """Look at the depth of a few clips, and return the error if near is surely not what is declared.

    A network would learn inverted masks from such clips. ``check`` looks at more of them.
    """
    with_depth = [clip for clip in manifest.clips if clip.depth is not None]
    few = with_depth[:: max(1, len(with_depth) // _GLANCED)][:_GLANCED]
    found = check(replace(manifest, clips=tuple(few))).problems
    return next((each for each in found if (each.kind, each.severity) == ("polarity", "error")), None)


class _Examiner:
    """Examines the files of one clip at a time; remembers lengths and faults of files that several clips share."""

    def __init__(self, manifest: Manifest, num_segments: int, thorough: bool) -> None:
        self.manifest = manifest
        self.num_segments = num_segments
        self.thorough = thorough
        self.reader = FrameReader()
        self.faults: dict[Path, dict[int, str]] = {}
        self.times: dict[Path, list[float] | None] = {}
        with_depth = [index for index, clip in enumerate(manifest.clips) if clip.depth is not None]
        # Spread evenly over the manifest, so that all subjects and splits are represented.
        self.voters = set(with_depth[:: max(1, len(with_depth) // _VOTERS)])

    def examine(self, index: int) -> _Examined:
        clip = self.manifest.clips[index]
        result = _Examined()

        def add(severity: Severity, kind: str, message: str, file: Path) -> None:
            result.problems.append(Problem(severity, kind, message, file, clip.row or None))

        rgb = self._read(clip.video, clip.start, clip.end, self.reader.frames, add, self.num_segments)
        result.length = rgb.length
        if rgb.length is not None and rgb.length < self.num_segments:
            told = f"{counted(rgb.length, 'frame')}, fewer than {self.num_segments}: some repeat"
            add("warning", "short", told, clip.video)
        if rgb.length is not None and rgb.length > LONG:
            told = f"{rgb.length} frames, of which a network takes {self.num_segments}: hardly one gesture"
            add("warning", "long", f"{told}; name its range (start, end) in the manifest, or cut it out", clip.video)
        if rgb.frames is not None and not is_folder(clip.video):
            _compare_pixels(clip.video, add)
            if clip.fps is None:
                self._pace(clip.video, clip.start, clip.end, add)
        if clip.depth is None:
            return result
        tolerance = DEPTH_LENGTH_TOLERANCE
        sampled = max(self.num_segments, _VOTING_FRAMES) if index in self.voters else self.num_segments
        depth = self._read(clip.depth, clip.depth_start, clip.depth_end, self.reader.depth, add, sampled, tolerance)
        if rgb.length is not None and depth.length is not None and rgb.length != depth.length:
            severity: Severity = "warning" if abs(rgb.length - depth.length) <= tolerance else "error"
            lengths = f"{counted(depth.length, 'depth frame')} for {counted(rgb.length, 'RGB frame')}"
            add(severity, "length", lengths, clip.depth)
        if rgb.length is not None and depth.length is not None and clip.start == clip.depth_start:
            self._compare_numbers(clip.video, clip.depth, clip.start, add)
        if depth.frames is not None:
            if rgb.frames is not None:
                _compare_sizes(rgb.frames, depth.frames, self.manifest.depth, clip.depth, add)
            self._judge(index, depth.frames, clip.depth, add, result)
        return result

    def _read(
        self,
        path: Path,
        start: int,
        end: int | None,
        read: Callable[[Path, Sequence[int]], npt.NDArray[Any]],
        add: _Add,
        sampled: int,
        tolerance: int = 0,
    ) -> "_Read":
        """Read the length of a range and its sampled frames; None for what cannot be read, with the problem added.

        An ``end`` up to ``tolerance`` frames beyond the file's is a warning, not an error.
        """
        try:
            if not _exists(path):
                add("error", "missing", "no such file or folder", path)
                return _Read()
            count = self.reader.count(path)
            all_faults = self._faults(path)
        except ClipError as error:
            add("error", "unreadable", str(error), path)
            return _Read()
        if end is not None and end > count:
            severity: Severity = "warning" if end - count <= tolerance else "error"
            add(severity, "range", f"the range ends at frame {end}, but the file has {count}", path)
        end = count if end is None else min(end, count)
        if start >= end:
            add("error", "range", f"no frame in the range from {start} to {end}; the file has {count}", path)
            return _Read()
        faults = [fault for index, fault in sorted(all_faults.items()) if start <= index < end]
        for fault in faults:
            add("error", "unreadable", fault, path)
        if faults:
            return _Read(end - start)
        try:
            return _Read(end - start, self._decode(path, start, end, read, sampled))
        except ClipError as error:
            add("error", "unreadable", str(error), path)
            return _Read(end - start)

    def _compare_numbers(self, video: Path, depth: Path, start: int, add: _Add) -> None:
        """Add a warning if the images of depth, read from ``start`` on, are numbered from another number than RGB's.

        A recorder that loses the first frames of one stream leaves such folders: depth then lags, or is ahead.
        """
        colour, first = self.reader.first_number(video), self.reader.first_number(depth)
        if colour is None or first is None or colour == first:
            return
        late = first - colour
        starts = f"start {max(start, late)} and depth_start {max(start, late) - late}"
        message = f"its images are numbered from {first}, those of RGB from {colour}, and the first of both are paired"
        advice = f"if equal numbers are equal times, write {starts} in the manifest, and the ends likewise"
        add("warning", "numbers", f"{message}; {advice}", depth)

    def _pace(self, path: Path, start: int, end: int | None, add: _Add) -> None:
        """Add a warning if frames drawn by number are further from those drawn by time than a segment is long."""
        if path not in self.times:
            self.times[path] = video_times(path)
        times = np.array((self.times[path] or [])[start:end])
        if len(times) < self.num_segments:
            return
        off = float(np.abs(times - np.linspace(times[0], times[-1], len(times))).max())
        if off > (times[-1] - times[0]) / self.num_segments:
            message = f"its pictures come at uneven times, so that some, taken by their numbers, are off by {off:.1f} s"
            advice = "store it, and depth beside it, at one rate, as `ffmpeg -i IN -r 30 OUT` does"
            add("warning", "pace", f"{message}; {advice}", path)

    def _faults(self, path: Path) -> dict[int, str]:
        if path not in self.faults:
            self.faults[path] = image_faults(self.reader.images(path)) if is_folder(path) else {}
        return self.faults[path]

    def _decode(
        self, path: Path, start: int, end: int, read: Callable[[Path, Sequence[int]], npt.NDArray[Any]], sampled: int
    ) -> npt.NDArray[Any]:
        if self.thorough:
            for first in range(start, end, _CHUNK):
                read(path, range(first, min(first + _CHUNK, end)))
        indices = {0, end - start - 1, *segment_indices(end - start, sampled).tolist()}
        return read(path, [start + index for index in sorted(indices)])

    def _judge(
        self,
        index: int,
        raw: npt.NDArray[Any],
        path: Path,
        add: _Add,
        result: _Examined,
    ) -> None:
        """Compare the raw depth frames of a clip, (F, H, W), with what the manifest declares about depth."""
        spec = self.manifest.depth
        if spec is None:
            return
        try:
            canonical = spec.canonical(raw)
        except DepthError as error:
            add("error", "depth", str(error), path)
            return
        if not canonical.any():
            reason = "outside of the declared range" if raw.any() else "0"
            add("warning", "depth", f"no usable depth in the sampled frames: every pixel is {reason}", path)
        if index in self.voters:
            result.asked = True
            result.vote = vote(raw)
            if raw.dtype == np.uint8 and spec.near == "dark":
                result.smeared = float(np.mean((raw > spec.invalid) & (raw <= SMEAR_8BIT)))


@dataclass(frozen=True)
class _Read:
    length: int | None = None
    frames: npt.NDArray[Any] | None = None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({error.strerror})") from error


def _compare_pixels(path: Path, add: _Add) -> None:
    """Add a warning for a video whose pixels are not square, because they are taken as if they were."""
    wide = pixel_shape(path)
    if abs(wide - 1) > ASPECT_TOLERANCE:
        message = f"its pixels are meant {wide:.2f} times as wide as high, but taken as square, unlike a camera's"
        advice = "store it with square ones, as `ffmpeg -i IN -vf scale=iw*sar:ih,setsar=1 OUT` does"
        add("warning", "pixels", f"{message}; {advice}", path)


def _compare_sizes(
    rgb: npt.NDArray[Any],
    depth: npt.NDArray[Any],
    spec: DepthSpec | None,
    path: Path,
    add: _Add,
) -> None:
    (height, width), (depth_height, depth_width) = rgb.shape[1:3], depth.shape[1:3]
    if (height, width) == (depth_height, depth_width):
        return
    fault = shape_fault((depth_height, depth_width), (height, width), spec)
    if fault:
        add("error", "size", fault, path)
    else:
        sizes = f"depth is {depth_width}x{depth_height}, RGB {width}x{height}"
        add("warning", "size", f"{sizes}: it is scaled to fit", path)


def _counts(manifest: Manifest, split: str) -> dict[str, int]:
    counts = dict.fromkeys(manifest.classes, 0)
    for clip in manifest.clips:
        if clip.split == split:
            counts[clip.label] = counts.get(clip.label, 0) + 1
    return counts


def _lengths(
    manifest: Manifest, examined: Sequence[_Examined], splits: Sequence[str], num_segments: int
) -> Iterator[tuple[str, Lengths]]:
    for split in splits:
        pairs = zip(manifest.clips, examined, strict=True)
        lengths = [r.length for clip, r in pairs if clip.split == split and r.length is not None]
        if lengths:
            short = sum(length < num_segments for length in lengths)
            median, mean = statistics.median(lengths), statistics.fmean(lengths)
            yield split, Lengths(len(lengths), min(lengths), median, mean, max(lengths), short)


def _polarity(manifest: Manifest, examined: Sequence[_Examined]) -> Polarity | None:
    votes = [result.vote for result in examined if result.asked]
    if not votes or manifest.depth is None:
        return None
    return Polarity(manifest.depth.near, votes.count("bright"), votes.count("dark"), votes.count(None))


def _depth_problems(manifest: Manifest, examined: Sequence[_Examined], polarity: Polarity | None) -> Iterator[Problem]:
    """Yield the problems of the declared depth that only show over all clips together."""
    declared = manifest.path.with_name(DEPTH_FILE) if manifest.path else None
    if manifest.depth is None:
        if any(clip.depth for clip in manifest.clips):
            yield Problem("error", "depth", "clips have depth, but no depth.yaml says what it means", declared)
        return
    if polarity is not None and polarity.contradicts and polarity.reportable:
        advice = f"write near: {polarity.looks} if that is so" if polarity.certain else "too few to be sure; look at it"
        yield Problem("error" if polarity.certain else "warning", "polarity", f"{polarity}; {advice}", declared)
    smeared = [result.smeared for result in examined if result.smeared is not None]
    if smeared and statistics.fmean(smeared) > SMEARED_HOLES:
        message = (
            f"{statistics.fmean(smeared):.1%} of the depth pixels have values above invalid ({manifest.depth.invalid}) "
            f"and up to {SMEAR_8BIT}, and would be the nearest; they look like holes smeared by compression: "
            f"write invalid: {SMEAR_8BIT}"
        )
        yield Problem("warning", "depth", message, declared)
