"""The soak's own judgement: it must see what it is there to see."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
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
        (lambda index, each: replace(each, files=12 + index // 10), "no files are left open"),
        (lambda index, each: replace(each, threads=8 + index // 10), "no threads are left"),
        (lambda index, each: replace(each, lost=0), "unplugged and back"),
        (lambda index, each: replace(each, corrupt=0), "corrupt pictures left out"),
    ],
)
def test_what_grows_or_is_missing_fails(change: object, name: str) -> None:
    assert callable(change)
    assert failed([change(index, each) for index, each in enumerate(FLAT)]) == [name]


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
