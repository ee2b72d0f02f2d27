"""Holding out clips for validation: how many, whose, and never all of a class."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynagest.clips.adapters.holdout import hold_out
from dynagest.clips.manifest import Clip
from dynagest.errors import ManifestError


def _clips(*rows: tuple[str, str]) -> list[Clip]:
    return [Clip(Path(f"/{i}.mp4"), label, subject=subject) for i, (label, subject) in enumerate(rows)]


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
def test_hold_out_by_clip(counts: list[int], share: float, seed: int) -> None:
    clips = _clips(*((f"c{k}", "") for k, count in enumerate(counts) for _ in range(count)))
    most = sum(min(int(share * count) + 1, count - 1) for count in counts)
    target = min(round(share * sum(counts)), most)
    if target == 0:
        with pytest.raises(ManifestError, match="nothing to hold out"):
            hold_out(clips, share, seed)
        return
    held, _ = hold_out(clips, share, seed)
    assert [clip.video for clip in held] == [clip.video for clip in clips]
    left = Counter(clip.label for clip in held if clip.split == "train")
    taken = Counter(clip.label for clip in held if clip.split == "val")
    assert set(left) == {clip.label for clip in clips}
    # Each class within one clip of its share, or what it can give; together the share, or all that they can.
    assert all(abs(taken[f"c{k}"] - share * count) <= 1 for k, count in enumerate(counts) if count > 1)
    assert sum(taken.values()) == target
    assert held == hold_out(clips, share, seed)[0]


@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        ((3, 5), (1, 1)),  # of 0.9 and 1.5: the larger remainder is rounded up
        ((4, 5), (1, 2)),  # of 1.2 and 1.5; together 2.7, so 3
        ((1, 10), (0, 3)),
    ],
)
def test_hold_out_by_clip_rounds_by_the_largest_remainder(counts: tuple[int, int], taken: tuple[int, int]) -> None:
    clips = _clips(*((name, "") for name, count in zip("ab", counts, strict=True) for _ in range(count)))
    for seed in range(5):
        held = Counter(clip.label for clip in hold_out(clips, 0.3, seed)[0] if clip.split == "val")
        assert (held["a"], held["b"]) == taken


def test_hold_out_of_one_subject_is_by_clip() -> None:
    held, note = hold_out(_clips(*[("a", "1")] * 8), 0.25, 0)
    assert sum(clip.split == "val" for clip in held) == 2
    assert "by clip" in note


def test_hold_out_keeps_subjects_whole() -> None:
    clips = _clips(*((label, f"{subject:02d}") for subject in range(8) for label in ("a", "b") for _ in range(3)))
    held, note = hold_out(clips, 0.25, seed=0)
    subjects = {split: {clip.subject for clip in held if clip.split == split} for split in ("train", "val")}
    assert not subjects["train"] & subjects["val"]
    assert sum(clip.split == "val" for clip in held) == 12
    assert "by subject" in note
    others = {tuple(sorted({c.subject for c in hold_out(clips, 0.25, s)[0] if c.split == "val"})) for s in range(9)}
    assert len(others) > 1


def test_hold_out_keeps_recordings_whole_where_nobody_is_named() -> None:
    clips = [Clip(Path(f"/{k}.mp4"), label, start=s, end=s + 9) for k in range(8) for s, label in enumerate("aab")]
    held, note = hold_out(clips, 0.25, seed=0)
    videos = {split: {clip.video for clip in held if clip.split == split} for split in ("train", "val")}
    assert (len(videos["train"]), len(videos["val"])) == (6, 2)
    assert not videos["train"] & videos["val"]
    assert f"by recording ({', '.join(sorted(map(str, videos['val'])))})" in note
    # Half of all is too far from a fifth, and a recording that is alone cannot be spared: by clip.
    for some, share in ((clips[:6], 0.2), (clips[:3], 0.4)):
        held, note = hold_out(some, share, seed=0)
        assert (sum(clip.split == "val" for clip in held), "by clip" in note) == (1, True)


def test_hold_out_never_takes_a_class_whole() -> None:
    clips = _clips(("a", "1"), ("b", "1"), ("a", "2"), ("c", "2"), ("a", "3"), ("b", "3"), ("c", "3"))
    for seed in range(10):
        held, _ = hold_out(clips, 0.4, seed)
        assert {clip.label for clip in held if clip.split == "train"} == {"a", "b", "c"}


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_hold_out_share_must_be_a_share(share: float) -> None:
    with pytest.raises(ManifestError, match="between 0 and 1"):
        hold_out(_clips(("a", ""), ("a", "")), share, 0)


def test_hold_out_refuses_a_second_val_split() -> None:
    with pytest.raises(ManifestError, match="has a val split already"):
        hold_out([Clip(Path("/a"), "a"), Clip(Path("/b"), "a", split="val")], 0.5, 0)
