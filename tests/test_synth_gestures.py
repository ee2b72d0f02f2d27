"""What the gestures mean, measured in the pictures: positions and distances of the hand, for several people."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from dynagest.synth.film import Take, camera_of
from dynagest.synth.gestures import GESTURES, Gesture
from dynagest.synth.hand import HAND_SOLIDS, hand_solids
from dynagest.synth.motion import COLUMNS, Motion, Viewpoint, pose_at
from dynagest.synth.recording import plan
from dynagest.synth.render import Light, render
from dynagest.synth.spec import SynthSpec

PEOPLE = (0, 1, 2, 3, 4, 5)
VIEWS: tuple[Viewpoint, ...] = ("egocentric", "frontal")
LIGHT = Light((0.0, -0.6, -0.8), (0.6, 0.6, 0.6), (0.4, 0.4, 0.4))


@cache
def take_of(name: str, view: Viewpoint, person: int) -> Take:
    spec = SynthSpec(classes=(name,), views=(view,), left_handed=0.5, size=64)
    return plan(spec, "train", person)


@cache
def stroke(name: str, view: Viewpoint, person: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centroid x, y in pixels and median depth in mm of the hand alone, at 8 moments of the stroke itself."""
    take = take_of(name, view, person)
    times = np.linspace(take.motion.times[1], take.motion.times[-2], 8)
    pose = pose_at(take.motion, times, take.subject, take.events.stage)
    solids = hand_solids(pose, take.subject)
    per_frame = {"a", "b", "dorsal"}
    hand = type(solids)(
        **{k: v[:, :HAND_SOLIDS] if k in per_frame else v[:HAND_SOLIDS] for k, v in vars(solids).items()}
    )
    spec = SynthSpec(classes=(name,), size=64)
    layer = render(hand, camera_of(spec), LIGHT, supersample=1)
    mask = layer.alpha[:, 0]
    assert mask.sum((1, 2)).min() > 30, "the hand is out of the image"
    at = torch.arange(64.0)
    area = mask.sum((1, 2))
    x = (mask * at[None, None]).sum((1, 2)) / area
    y = (mask * at[None, :, None]).sum((1, 2)) / area
    z = torch.stack([frame[torch.isfinite(frame)].median() for frame in layer.depth])
    return x, y, z


def test_before_its_first_and_after_its_last_key_a_motion_holds_the_pose() -> None:
    """And it passes through each of its keys, and beyond none."""
    keys = np.random.default_rng(0).normal(size=(4, COLUMNS))
    motion = Motion(np.array([0.0, 0.2, 0.5, 1.0]), keys, np.zeros((3, COLUMNS, 3)))
    found = motion.sample(np.array([-3.0, 0.0, 0.2, 0.5, 1.0, 4.0]))
    np.testing.assert_allclose(found, keys[[0, 0, 1, 2, 3, 3]], atol=1e-12)
    between = motion.sample(np.linspace(0.2, 0.5, 20))
    assert (between <= keys[1:3].max(0) + 1e-9).all()
    assert (between >= keys[1:3].min(0) - 1e-9).all()


def both_hands() -> set[float]:
    return {take_of("wave", "frontal", person).subject.side for person in PEOPLE}


def test_the_people_of_these_tests_include_both_hands():
    assert both_hands() == {-1.0, 1.0}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize(
    ("name", "axis", "direction"),
    [("swipe_left", 0, -1), ("swipe_right", 0, 1), ("swipe_up", 1, -1), ("swipe_down", 1, 1)],
)
def test_swipes_go_where_their_names_say(name: str, axis: int, direction: int, view: Viewpoint, person: int):
    place = stroke(name, view, person)
    moved = [float(p[-1] - p[0]) for p in place[:2]]
    assert direction * moved[axis] > 10
    assert abs(moved[1 - axis]) < 0.6 * abs(moved[axis])


@pytest.mark.parametrize("person", PEOPLE)
def test_push_goes_away_from_the_performer(person: int):
    for view, away in (("egocentric", 1), ("frontal", -1)):
        assert away * float(stroke("push", view, person)[2].diff().sum()) > 80
        assert away * float(stroke("pull", view, person)[2].diff().sum()) < -80


def turning(name: str, view: Viewpoint, person: int) -> float:
    """Degrees that the line across the knuckles turns clockwise in the image during the stroke."""
    take = take_of(name, view, person)
    times = np.linspace(take.motion.times[1], take.motion.times[-2], 12)
    pose = pose_at(take.motion, times, take.subject, take.events.stage)
    across = pose.rotation[:, :2, 0].double()
    angle = torch.atan2(across[:, 1], across[:, 0]).numpy()
    return float(np.rad2deg(np.unwrap(angle)[-1] - np.unwrap(angle)[0]))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("person", PEOPLE)
def test_rotations_turn_as_their_names_say(view: Viewpoint, person: int):
    assert turning("rotate_clockwise", view, person) > 70
    assert turning("rotate_counterclockwise", view, person) < -70


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("person", PEOPLE)
def test_circles_go_round_as_their_names_say(view: Viewpoint, person: int):
    for name, sign in (("circle_clockwise", 1), ("circle_counterclockwise", -1)):
        take = take_of(name, view, person)
        times = np.linspace(take.motion.times[1], take.motion.times[-2], 33)
        pose = pose_at(take.motion, times, take.subject, take.events.stage)
        x, y = (pose.wrist[:, :2].double() - pose.wrist[:, :2].double().mean(0)).unbind(1)
        turned = np.unwrap(torch.atan2(y, x).numpy())
        assert sign * np.rad2deg(turned[-1] - turned[0]) == pytest.approx(360, abs=60)


def spread(name: str, person: int) -> torch.Tensor:
    """Mean bend of the fingers in radians at 8 moments of the stroke."""
    take = take_of(name, "egocentric", person)
    times = np.linspace(take.motion.times[1], take.motion.times[-2], 8)
    return pose_at(take.motion, times, take.subject, take.events.stage).angles[:, 1:, 1:].mean((1, 2))


@pytest.mark.parametrize("person", PEOPLE)
def test_grab_closes_and_release_opens(person: int):
    assert float(spread("grab", person).diff().sum()) > 0.8
    assert float(spread("release", person).diff().sum()) < -0.8


def index_tip(name: str, person: int, count: int = 65) -> torch.Tensor:
    take = take_of(name, "egocentric", person)
    times = np.linspace(take.motion.times[1], take.motion.times[-2], count)
    pose = pose_at(take.motion, times, take.subject, take.events.stage)
    return hand_solids(pose, take.subject).b[:, 5]


@pytest.mark.parametrize("person", PEOPLE)
def test_one_tap_and_two(person: int):
    for name, count in (("tap", 1), ("double_tap", 2)):
        y = index_tip(name, person)[:, 1]
        low = y > (y.min() + y.max()) / 2  # y points down
        assert int((low[1:] & ~low[:-1]).sum()) == count


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("view", VIEWS)
def test_thumbs_point_up_and_down(view: Viewpoint, person: int):
    for name, sign in (("thumb_up", -1), ("thumb_down", 1)):
        take = take_of(name, view, person)
        pose = pose_at(take.motion, take.motion.times[-2:-1], take.subject, take.events.stage)
        solids = hand_solids(pose, take.subject)
        thumb = solids.b[0, 2] - solids.a[0, 1]
        assert sign * float(thumb[1] / thumb[:2].norm()) > 0.8  # in the image
        assert sign * float(thumb[1] / thumb.norm()) > 0.5


@pytest.mark.parametrize(("name", "fingers"), [("show_two", 2), ("show_three", 3), ("show_fist", 0)])
def test_as_many_straight_fingers_as_shown(name: str, fingers: int):
    for person in PEOPLE:
        take = take_of(name, "egocentric", person)
        pose = pose_at(take.motion, take.motion.times[-2:-1], take.subject, take.events.stage)
        assert int((pose.angles[0, 1:, 2] < 0.5).sum()) == fingers


def test_twins_differ_by_nothing_but_what_the_table_says():
    by_motion = [g.name for g in GESTURES.values() if g.by == "motion"]
    by_shape = [g.name for g in GESTURES.values() if g.by == "shape"]
    assert len(GESTURES) >= 16
    assert len(by_motion) >= 8
    assert len(by_shape) >= 2
    for gesture in GESTURES.values():
        assert bool(gesture.by) == bool(gesture.twin)
        if not gesture.twin:
            continue
        twin = GESTURES[gesture.twin]
        assert attitude(gesture) == attitude(twin)
        same_shapes = {key.shape for key in gesture.keys} == {key.shape for key in twin.keys}
        same_places = places(gesture) == places(twin)
        if gesture.by == "motion":
            assert same_shapes
            assert gesture.keys != twin.keys
            assert (twin.twin, twin.by) == (gesture.name, "motion")
        else:
            assert same_places
            assert not same_shapes


def attitude(gesture: Gesture) -> tuple[float, ...]:
    return gesture.roll, gesture.tilt, gesture.twist, gesture.show


def places(gesture: Gesture) -> list[tuple[float, ...]]:
    return [(key.x, key.y, key.away, key.turn, key.tilt) for key in gesture.keys]


def test_the_documentation_says_what_each_gesture_is() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    told = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for name in GESTURES if not any(f"`{name}`" in names for names in told)] == []
