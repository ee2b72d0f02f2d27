"""Capture: the newest frame, its time, and a source that fails and comes back."""

import time

import numpy as np
import pytest
from live_fakes import FakeCamera, Step, drain, picture

from dynagest.errors import CameraError, ClipError
from dynagest.live.capture import Capture
from dynagest.live.sources import Camera


def test_only_the_newest_frame_is_kept_and_the_others_are_counted() -> None:
    source = FakeCamera([picture(value) for value in range(20)], pause=0.0)
    with Capture(source) as capture:
        assert source.done.wait(5)
        frame = capture.next(1.0)
        assert frame is not None
        assert frame.rgb[0, 0, 0] == 19
        assert drain(capture) == []
        assert capture.status.taken == 20
        assert capture.status.dropped == 19


def test_the_oldest_frame_comes_first_and_tells_how_far_behind_it_is() -> None:
    source = FakeCamera([picture(value) for value in range(20)], pause=0.001)
    with Capture(source) as capture:
        assert source.done.wait(5)
        found = [capture.oldest(1.0) for _ in range(20)]
        assert capture.oldest(1.0) is None
        assert capture.status.dropped == 0
    frames = [each[0] for each in found if each is not None]
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == list(range(20))
    assert [each[1] for each in found if each is not None] == [frames[-1].time - frame.time for frame in frames]


def test_of_too_many_frames_those_that_wait_tell_of_the_whole_time() -> None:
    class Regular(FakeCamera):
        def read(self) -> tuple[np.ndarray, float] | None:
            found = super().read()
            return None if found is None else (found[0], 5.0 + int(found[0][0, 0, 0]) / 30)

    source = Regular([picture(value) for value in range(200)], pause=0.0)
    with Capture(source) as capture:
        assert source.done.wait(5)
        status = capture.status
        times = []
        while found := capture.oldest(1.0):
            times.append(found[0].time)
    assert len(times) == 32
    assert (status.taken, status.dropped) == (200, 168)
    assert (times[0], times[-1]) == (0.0, pytest.approx(199 / 30))
    assert np.diff(times).max() < 4 * (199 / 30) / 32


def test_frames_taken_in_time_are_all_seen_with_rising_times() -> None:
    with Capture(FakeCamera([picture(value) for value in range(15)], pause=0.01)) as capture:
        frames = drain(capture)
        status = capture.status
    times = [frame.time for frame in frames]
    assert times[0] == 0
    assert times == sorted(times)
    assert len(frames) + status.dropped == status.taken == 15
    assert all(0 <= time.monotonic() - frame.captured < 60 for frame in frames)


def test_latency_counts_from_when_the_camera_took_the_picture() -> None:
    class Stamped(FakeCamera):
        def read(self) -> tuple[np.ndarray, float] | None:
            found = super().read()
            return None if found is None else (found[0], 7.0 + int(found[0][0, 0, 0]))

    with Capture(Stamped([picture(1), picture(3)])) as capture:
        found = [capture.oldest(5.0) for _ in range(2)]
    assert [(each[0].time, each[0].captured) for each in found if each is not None] == [(0.0, 8.0), (2.0, 10.0)]


def test_an_unplugged_camera_is_tried_again_until_it_is_back() -> None:
    steps: list[Step] = [picture(1), CameraError("fake camera: unplugged"), picture(2), picture(3)]
    source = FakeCamera(steps, pause=0.03, openings=3)
    states = []
    with Capture(source, retry=0.03) as capture:
        values = []
        while capture.status.state != "ended":
            frame = capture.next(0.01)
            states.append((capture.status.state, capture.status.fault))
            if frame is not None:
                values.append(int(frame.rgb[0, 0, 0]))
                gone = frame.time
    assert values == [1, 2, 3]
    assert source.opened == 1 + 3 + 1
    assert capture.status.lost == 1
    assert ("lost", "fake camera: not there") in states
    assert gone > 0.09, "the stream's time went on while the camera was away"


def test_a_camera_that_opens_and_gives_nothing_was_lost_once() -> None:
    gone = CameraError("fake camera: nothing")
    with Capture(FakeCamera([picture(1), gone, gone, gone, picture(2)]), retry=0.01) as capture:
        assert drain(capture)[-1].lost == 1
    assert capture.status.lost == 1


def test_corrupt_frames_are_counted_named_and_left_out() -> None:
    steps: list[Step] = [picture(1), ClipError("fake camera: picture 2 cannot be decoded"), picture(3)]
    with Capture(FakeCamera(steps, pause=0.02)) as capture:
        frames = drain(capture)
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [1, 3]
    assert capture.status.corrupt == 1
    assert capture.status.fault == "fake camera: picture 2 cannot be decoded"


def test_a_failure_of_the_program_is_raised_where_it_is_seen() -> None:
    with Capture(FakeCamera([picture(1), ZeroDivisionError("a bug")])) as capture, pytest.raises(ZeroDivisionError):
        drain(capture)


def test_a_camera_that_is_not_there_is_a_named_error() -> None:
    with pytest.raises(CameraError, match="camera 63: cannot be opened"), Capture(Camera(63)):
        pass
