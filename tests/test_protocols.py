"""Which frames and squares a protocol shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynagest.card import NetworkCard
from dynagest.clips.protocols import PROTOCOLS, cut_squares, get_protocol, iterate_views, plan_frames
from dynagest.clips.sampling import dense_indices, segment_indices
from dynagest.errors import RecipeError


def card(segments: int, **how: object) -> NetworkCard:
    return NetworkCard(model="tsm_resnet18", classes=("a", "b"), num_segments=segments, **how)


def frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "views", "side_at_224", "side_at_112", "side_at_64"),
    [("center", 1, 224, 112, 64), ("clips10", 10, 224, 112, 64), ("paper", 30, 256, 128, 73)],
)
def test_views_and_sizes(name: str, views: int, side_at_224: int, side_at_112: int, side_at_64: int) -> None:
    protocol = get_protocol(name)
    assert protocol.views == views
    assert [protocol.size(size) for size in (224, 112, 64)] == [side_at_224, side_at_112, side_at_64]
    plan = plan_frames(protocol, 40, card(8), seed=0, index=3)
    clip = frames(len(plan.frames), 240, 320)
    shown = list(iterate_views(cut_squares(clip, protocol, 112), plan.samples))
    assert [view.shape for view in shown] == [(8, side_at_112, side_at_112, 3)] * views


def test_unknown_protocol_names_those_that_exist() -> None:
    with pytest.raises(RecipeError, match="center, clips10, paper"):
        get_protocol("centre")


def test_center_takes_the_middle_frames() -> None:
    plan = plan_frames(PROTOCOLS["center"], 40, card(8), seed=0, index=0)
    assert plan.frames[plan.samples[0]].tolist() == segment_indices(40, 8, None).tolist()


def test_a_network_trained_on_windows_is_tested_on_windows() -> None:
    dense = card(8, sampling="dense", stride=3)
    plan = plan_frames(PROTOCOLS["center"], 60, dense, seed=0, index=0)
    assert plan.frames[plan.samples[0]].tolist() == dense_indices(60, 8, 3).tolist() == list(range(19, 41, 3))
    for name in ("clips10", "paper"):
        plan = plan_frames(PROTOCOLS[name], 60, dense, seed=0, index=0)
        drawn = plan.frames[plan.samples]
        assert (np.diff(drawn, axis=1) == 3).all()
        assert len(set(drawn[:, 0].tolist())) > 3


@given(
    name=st.sampled_from(sorted(PROTOCOLS)),
    num_frames=st.integers(1, 200),
    segments=st.integers(1, 16),
    seed=st.integers(0, 2**31),
    index=st.integers(0, 10_000),
)
def test_each_frame_is_planned_once(name: str, num_frames: int, segments: int, seed: int, index: int) -> None:
    protocol = PROTOCOLS[name]
    plan = plan_frames(protocol, num_frames, card(segments), seed, index)
    assert plan.samples.shape == (protocol.samples, segments)
    assert (np.diff(plan.frames) > 0).all()
    assert plan.frames[0] >= 0
    assert plan.frames[-1] < num_frames
    assert set(plan.samples.ravel()) == set(range(len(plan.frames)))
    drawn = plan.frames[plan.samples]
    assert (np.diff(drawn, axis=1) >= 0).all()


def test_draw_depends_on_seed_and_clip_alone() -> None:
    paper = PROTOCOLS["paper"]

    def drawn(seed: int, index: int) -> list[list[int]]:
        plan = plan_frames(paper, 160, card(8), seed, index)
        return plan.frames[plan.samples].tolist()

    assert drawn(0, 5) == drawn(0, 5)
    assert drawn(0, 5) != drawn(0, 6)
    assert drawn(0, 5) != drawn(1, 5)
    assert len({tuple(sample) for sample in drawn(0, 5)}) == 10


def test_squares_lie_along_the_longer_side() -> None:
    # A short side of 64 is 56 * 8/7: nothing is resized, so the pixels must be the same.
    wide, tall = frames(2, 64, 91), frames(2, 91, 64)
    start, middle, end = cut_squares(wide, PROTOCOLS["paper"], 56)
    np.testing.assert_array_equal(start, wide[:, :, :64])
    np.testing.assert_array_equal(middle, wide[:, :, 13:77])
    np.testing.assert_array_equal(end, wide[:, :, 27:])
    start, middle, end = cut_squares(tall, PROTOCOLS["paper"], 56)
    np.testing.assert_array_equal(start, tall[:, :64])
    np.testing.assert_array_equal(middle, tall[:, 13:77])
    np.testing.assert_array_equal(end, tall[:, 27:])
    (centre,) = cut_squares(wide, PROTOCOLS["center"], 64)
    np.testing.assert_array_equal(centre, wide[:, :, 13:77])


def test_clips10_shows_the_whole_frame_squashed() -> None:
    picture = np.zeros((1, 50, 100, 3), dtype=np.uint8)
    picture[:, :, :10] = 255
    ((squashed,),) = cut_squares(picture, PROTOCOLS["clips10"], 50)
    assert (squashed[:, :4] == 255).all()
    assert (squashed[:, 6:] == 0).all()


def test_views_are_the_planned_frames_sample_by_sample() -> None:
    protocol = PROTOCOLS["paper"]
    plan = plan_frames(protocol, 30, card(4), seed=1, index=2)
    clip = frames(30, 64, 96)
    views = list(iterate_views(cut_squares(clip[plan.frames], protocol, 56), plan.samples))
    whole = cut_squares(clip, protocol, 56)
    for place, view in enumerate(views):
        sample, square = divmod(place, 3)
        np.testing.assert_array_equal(view, whole[square][plan.frames[plan.samples[sample]]])
