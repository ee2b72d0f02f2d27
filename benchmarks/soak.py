"""Tests live recognition over a long time and with all kinds of faults: ``python benchmarks/soak.py``.

A stand-in for a camera plays generated gestures in real time, as JPEG pictures that are decoded one by one, through
the same capture, recogniser, display and actions as ``dynagest live``. Every minute a few pictures are corrupt; every
other minute the camera drops from 30 to 15 pictures per second; every third minute it is unplugged for some seconds.
Memory, threads, open files and the delay from capture to answer are sampled; a table and ``soak.json`` say whether they
stayed flat. Files of other versions must be refused with a named error. Exit code 1 if anything failed.

``--model runs/demo --fps 8`` tests that network; the default is one of the demo's size with random weights, which costs
the same. ``--minutes 2`` is enough to see that it runs.
"""

import argparse
import itertools
import json
import math
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from dynagest.errors import CameraError, ClipError, DynagestError
from dynagest.live.actions import Action, Actions
from dynagest.live.capture import Capture
from dynagest.live.display import Terminal
from dynagest.live.loop import Meter, recognise
from dynagest.runtimes.load import is_exported
from dynagest.stream.events import EventDetector, EventSettings
from dynagest.stream.load import load_recogniser
from dynagest.stream.recogniser import Recogniser

SAMPLE = 5.0  # seconds between two samples of memory and delay
LOOKS = 4  # samples to have time for, so that three are sure: with fewer the second and the last quarter would be one
FLAT_MIB = 8.0  # growth of memory from the second to the last quarter that still counts as flat
FLAT_DELAY = 1.25  # likewise of the delay, as a factor
FLAT_SECONDS = 0.010  # growth of the delay that counts as flat in any case
AWAY = 4.0  # seconds for which the camera is unplugged
WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Sample:
    """One sample, at ``minute`` of the soak: ``rss`` in MiB; ``fps`` and ``delay`` over the last two seconds.

    ``delay`` is in ms, from capture to answer.
    """

    minute: float
    rss: float
    threads: int
    files: int
    fps: float
    delay: float | None
    taken: int
    dropped: int
    corrupt: int
    lost: int
    gestures: int


@dataclass(frozen=True)
class Check:
    """Something that must hold, what was found, and whether it passed."""

    name: str
    found: str
    passed: bool


class FaultyCamera:
    """A live source that plays JPEG pictures in a loop at its own rate, and has faults at fixed times.

    A minute is ``minute`` seconds long, so that a short soak has every fault, too. ``clock`` and ``sleep`` can be
    replaced in tests.
    """

    name, live = "camera of the soak", True

    def __init__(
        self,
        pictures: list[bytes],
        seconds: float,
        minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pictures, self._minute, self._clock, self._sleep = pictures, minute, clock, sleep
        self._begin = clock()
        self._end = self._begin + seconds
        self._next = self._begin
        self._count = 0

    def open(self) -> None:
        """Open the camera. Raises ``CameraError`` while it is unplugged."""
        if self._unplugged():
            raise CameraError(f"{self.name}: not there")
        self._next = self._clock()

    def read(self) -> tuple[np.ndarray, float] | None:
        """See ``Source.read``."""
        if self._clock() >= self._end:
            return None
        if self._unplugged():
            raise CameraError(f"{self.name}: unplugged")
        elapsed = self._clock() - self._begin
        minute, within = divmod(elapsed, self._minute)
        self._next += 1 / (15 if minute % 2 else 30)
        self._sleep(max(self._next - self._clock(), 0))
        moment = self._clock()
        self._count += 1
        data = self._pictures[self._count % len(self._pictures)]
        corrupt = within > 0.8 * self._minute and self._count % 10 == 0
        image = cv2.imdecode(np.frombuffer(data[: 40 if corrupt else None], np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise ClipError(f"{self.name}: picture {self._count} cannot be decoded")
        return image, moment

    def close(self) -> None:
        """Does nothing, because the camera holds nothing."""

    def _unplugged(self) -> bool:
        minute, within = divmod(self._clock() - self._begin, self._minute)
        return minute % 3 == 1 and 0.5 * self._minute < within < 0.5 * self._minute + min(AWAY, 0.3 * self._minute)


def generated_pictures(seconds: float = 20.0) -> list[bytes]:
    """JPEG pictures of generated gestures and pauses."""
    from dynagest.synth.spec import get_preset
    from dynagest.synth.stream import StreamSpec, film_stream, plan_stream

    spec = StreamSpec(clips=get_preset("demo"), minutes=seconds / 60, fps=15.0)
    take, _ = plan_stream(spec, "test", 0)
    pictures = []
    for frame in film_stream(spec, take):
        larger = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        pictures.append(cv2.imencode(".jpg", cv2.cvtColor(larger, cv2.COLOR_RGB2BGR))[1].tobytes())
    return [picture for picture in pictures for _ in range(2)]  # each twice: 15 pictures per second become 30


def random_run(folder: Path) -> Path:
    """A run folder with a network of the demo's size and random weights."""
    from dynagest.card import NetworkCard
    from dynagest.networks.build import create_model
    from dynagest.networks.weights import save_network

    classes = tuple(f"gesture_{number}" for number in range(18))
    net = create_model("action_resnet18", len(classes), 8, width=16)
    card = NetworkCard(model="action_resnet18", classes=classes, num_segments=8, stride=1, size=64, width=16, fps=8.0)
    save_network(folder, net, card)
    return folder


def soak(model: Path, fps: float | None, minutes: float, progress: Callable[[Sample], None]) -> list[Sample]:
    """Run live recognition for ``minutes`` and sample it."""
    scorer = load_recogniser(model, fps=fps).scorer
    # Low thresholds, so that even an undecided network gives gestures: what follows from them is to be tested.
    recogniser = Recogniser(scorer, EventDetector(scorer.card.classes, EventSettings(threshold=0.15, dip=0.1)))
    process = psutil.Process()
    samples: list[Sample] = []
    gestures, due, begin = 0, time.monotonic(), time.monotonic()
    wanted = [Action(gesture=("any",), print="{label}"), Action(gesture=("any",), run=("true",))]
    camera = FaultyCamera(generated_pictures(), minutes * 60, minute=min(60.0, minutes * 60 / 6))
    meter = Meter()
    with Path(os.devnull).open("w") as nowhere:
        display = Terminal("soak", scorer.card.classes, Console(file=nowhere, force_terminal=True))
        with Capture(camera) as capture, Actions(wanted, display.say) as actions:
            for look in recognise(capture, recogniser):
                meter.add(look)
                actions.on(look.events)
                display.show(look, meter)
                gestures += sum(event.end is None for event in look.events)
                if time.monotonic() < due:
                    continue
                due += SAMPLE
                samples.append(
                    Sample(
                        minute=round((time.monotonic() - begin) / 60, 3),
                        rss=round(process.memory_info().rss / 2**20, 2),
                        threads=process.num_threads(),
                        files=process.num_fds(),
                        fps=round(meter.fps, 2),
                        delay=None if meter.latency is None else round(meter.latency * 1000, 2),
                        taken=look.status.taken,
                        dropped=look.status.dropped,
                        corrupt=look.status.corrupt,
                        lost=look.status.lost,
                        gestures=gestures,
                    )
                )
                progress(samples[-1])
        display.close()
    return samples


def line_of(sample: Any) -> str:
    """The sample as a line of names and numbers."""
    return "  ".join(f"{name} {value}" for name, value in asdict(sample).items())


def medians(samples: Sequence[Any], name: str) -> tuple[float, float]:
    """The medians of one field over the second and over the last quarter of the samples; the first is the warm-up.

    NaN where no sample has the field; every check of it then fails.
    """
    quarter = max(len(samples) // 4, 1)
    parts = samples[quarter : 2 * quarter], samples[-quarter:]
    early, late = ([value for each in part if (value := getattr(each, name)) is not None] for part in parts)
    return statistics.median(early or [math.nan]), statistics.median(late or [math.nan])


def slower(early: float, late: float) -> bool:
    """Whether a delay in ms has grown."""
    return not late <= max(early * FLAT_DELAY, early + FLAT_SECONDS * 1000)


def judge(samples: list[Sample]) -> list[Check]:
    """The checks of what must hold for the samples."""
    rss, delay, files, threads = (medians(samples, name) for name in ("rss", "delay", "files", "threads"))
    last = samples[-1]
    back = any(b.lost > a.lost and b.taken < last.taken for a, b in itertools.pairwise(samples))
    return [
        Check("memory stays flat", f"{rss[0]:.1f} -> {rss[1]:.1f} MiB", rss[1] - rss[0] < FLAT_MIB),
        Check("delay does not grow", f"{delay[0]:.1f} -> {delay[1]:.1f} ms", not slower(*delay)),
        Check("no files are left open", f"{files[0]:.0f} -> {files[1]:.0f}", files[1] <= files[0] + 1),
        Check("no threads are left", f"{threads[0]:.0f} -> {threads[1]:.0f}", threads[1] <= threads[0] + 1),
        Check("unplugged and back", f"{last.lost} times", last.lost > 0 and back),
        Check("corrupt pictures left out", f"{last.corrupt} of {last.taken + last.corrupt}", last.corrupt > 0),
    ]


def other_versions(model: Path, folder: Path) -> Iterator[Check]:
    """Checks that copies of the model that are damaged, or claim another version, are refused with a named error."""
    place = folder / "changed"
    place.mkdir()

    def refused(name: str, path: Path) -> Check:
        try:
            load_recogniser(path)
        except DynagestError as error:
            return Check(name, f"{type(error).__name__}: {str(error)[:90]}", True)
        return Check(name, "was taken", False)

    if is_exported(model):
        data, weights = model.read_bytes(), place / model.name
        if model.suffix == ".xml":
            shutil.copy(model.with_suffix(".bin"), place)
        weights.write_bytes(re.sub(rb'(format("|&quot;): ?)1', rb"\g<1>9", data))
        yield refused("export of another version", weights)
    else:
        data, weights = (model / "network.safetensors").read_bytes(), place / "network.safetensors"
        weights.write_bytes(data)
        card = json.loads((model / "network.json").read_text())
        for name, changed in (
            ("card of another version", {**card, "fields_of_tomorrow": 1}),
            ("card without classes", {key: value for key, value in card.items() if key != "classes"}),
        ):
            (place / "network.json").write_text(json.dumps(changed))
            yield refused(name, place)
        shutil.copy(model / "network.json", place)
    weights.write_bytes(data[: len(data) // 2])
    yield refused("half a file", weights if is_exported(model) else place)


def report(title: str, checks: list[Check], samples: Sequence[Any], options: argparse.Namespace) -> NoReturn:
    """Print the table, write the JSON, and exit with 0 if all checks passed, else 1."""
    console = Console()
    table = Table("", "found", "", title=title)
    for check in checks:
        table.add_row(check.name, check.found, "[green]ok[/]" if check.passed else "[red]failed[/]")
    console.print(table)
    result = {
        "model": str(options.model or "random weights"),
        "minutes": options.minutes,
        "cpus": os.cpu_count(),
        "checks": [asdict(check) for check in checks],
        "samples": [asdict(sample) for sample in samples],
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"{options.out}")
    raise SystemExit(0 if all(check.passed for check in checks) else 1)


def read_options(parser: argparse.ArgumentParser, sample: float) -> argparse.Namespace:
    """Parse the command line. Exits if the soak is too short for ``LOOKS`` samples, ``sample`` seconds apart."""
    options = parser.parse_args()
    least = LOOKS * sample / 60
    if options.minutes < least:
        parser.error(f"--minutes {options.minutes:g}: too short to be judged; give {least:g} or more")
    return options


def main() -> None:
    """Soak, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", type=Path, help="a run folder or an exported network")
    parser.add_argument("--fps", type=float, help="for a network whose card knows no rate")
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    options = read_options(parser, SAMPLE)
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or random_run(Path(scratch) / "run")
        samples = soak(
            model, options.fps, options.minutes, lambda sample: console.print(line_of(sample), highlight=False)
        )
        checks = [*judge(samples), *other_versions(model, Path(scratch))]
    report(f"{options.minutes:g} minutes of live recognition, {samples[-1].taken} pictures", checks, samples, options)


if __name__ == "__main__":
    main()
