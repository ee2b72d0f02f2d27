"""The soaks' own judgement: they must see what they are there to see."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import soak_page
from soak import FaultyCamera, Sample, judge

from dynagest.errors import CameraError, ClipError

FLAT = [
    Sample(index / 12, 400.0 + index % 2, 8, 12, 30.0, 20.0 + index % 3, 150 * index, index, index, index // 30, index)
    for index in range(120)
]


def failed(samples: list[Sample]) -> list[str]:
    return [check.name for check in judge(samples) if not check.passed]


def test_a_flat_soak_passes() -> None:
    assert failed(FLAT) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda index, each: replace(each, rss=each.rss + index * 0.2), "memory stays flat"),
        (lambda index, each: replace(each, delay=20 + index * 0.5), "delay does not grow"),
        (lambda index, each: replace(each, delay=20 if index < 60 else None), "delay does not grow"),
        (lambda index, each: replace(each, files=12 + index // 10), "no files are left open"),
        (lambda index, each: replace(each, threads=8 + index // 10), "no threads are left"),
        (lambda index, each: replace(each, lost=0), "unplugged and back"),
        (lambda index, each: replace(each, corrupt=0), "corrupt pictures left out"),
    ],
)
def test_what_grows_or_is_missing_fails(change: object, name: str) -> None:
    assert callable(change)
    assert failed([change(index, each) for index, each in enumerate(FLAT)]) == [name]


PAGE = [
    soak_page.Sample(
        minute, 38.0 + minute % 2 / 4, 800 + minute % 5, 56, 580.0, 950.0, 138.0, 24.0, 30.0, 8.0, 12 * minute
    )
    for minute in range(1, 31)
]


def test_a_flat_soak_of_the_page_passes() -> None:
    assert [check.name for check in soak_page.judge(PAGE) if not check.passed] == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"heap": 0.1}, "flat: heap"),
        ({"nodes": 6}, "flat: nodes"),
        ({"listeners": 1}, "flat: listeners"),
        ({"renderer": 2.0}, "flat: renderer"),
        ({"browser": 4.0}, "flat: browser"),
        ({"server": 1.0}, "flat: server"),
        ({"delay": 2.0}, "delay does not grow"),
        ({"camera": -0.5}, "camera keeps its rate"),
        ({"network": -0.2}, "network keeps its rate"),
    ],
)
def test_what_grows_in_the_page_fails(change: dict[str, float], name: str) -> None:
    grown = [
        replace(each, **{field: getattr(each, field) + index * step for field, step in change.items()})
        for index, each in enumerate(PAGE)
    ]
    assert [check.name for check in soak_page.judge(grown) if not check.passed] == [name]


def test_a_page_that_falls_silent_fails() -> None:
    silent = [replace(each, gestures=min(each.gestures, 200)) for each in PAGE]
    assert [check.name for check in soak_page.judge(silent) if not check.passed] == ["gestures to the end"]


class Clock:
    """Goes on when somebody sleeps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_its_camera_has_every_fault() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    clock = Clock()
    camera = FaultyCamera([cv2.imencode(".jpg", image)[1].tobytes()], 180.0, 60.0, clock, clock.sleep)
    times, corrupt, away = [], 0, []
    while True:
        try:
            found = camera.read()
        except ClipError:
            corrupt += 1
        except CameraError:
            away.append(clock.now)
            clock.now += 0.5
            continue
        else:
            if found is None:
                break
            times.append(found[1])
    gaps = np.diff(times)
    assert np.median(gaps[: 30 * 45]) == pytest.approx(1 / 30)
    assert np.median(gaps[30 * 60 : 30 * 60 + 300]) == pytest.approx(1 / 15), "in the second minute it is slower"
    assert corrupt == pytest.approx((2 * 30 + 15) * 12 / 10, abs=2), "a tenth of the last 12 seconds of each minute"
    assert (away[0], away[-1]) == (pytest.approx(90, abs=0.1), pytest.approx(94, abs=0.6))
