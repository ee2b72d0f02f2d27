"""Clips that are rendered once for all runs of a seed: what they are, and rendering that was stopped."""

from pathlib import Path

import pytest
from reproduce_helpers import SPEC, job

import dynagest.reproduce.footage as footage_module
from dynagest.clips.rate import stream_rate
from dynagest.clips.splits import Split
from dynagest.reproduce.footage import RenderedClips, footage_folder, render_split
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.spec import PerSplit, SynthSpec
from dynagest.training.data import training_view


def test_footage_is_what_the_generator_gives(tmp_path):
    view = training_view(job().recipe)
    # More clips than one process takes at once.
    spec = SPEC.model_copy(update={"clips_per_class": PerSplit(train=5, val=1, test=1)})
    footage = RenderedClips.below(tmp_path, spec, "train", view, seed=3)
    generated = SynthDataset(spec, "train", view, seed=3)
    assert len(footage) == len(generated) == 10
    for key in ((0, 0), (1, 9)):
        ours, theirs = footage[key], generated[key]
        assert ours["rgb"].equal(theirs["rgb"])
        assert ours["depth"].equal(theirs["depth"])
        assert (ours["label"], ours["has_depth"]) == (theirs["label"], True)
    # So the card of a network that learnt them says how fast a stream is to be sampled for it.
    assert footage.timing(9) == generated.timing(9) == (spec.num_frames, 12)
    assert stream_rate(footage, 4) == stream_rate(generated, 4)
    few = RenderedClips.below(tmp_path, spec, "train", view, seed=3, first=4)
    assert len(few) == 4
    assert few[0, 1]["rgb"].equal(footage[0, 1]["rgb"])
    with pytest.raises(IndexError):
        few[0, 4]


def test_both_arms_see_the_same_pictures(tmp_path):
    """Reading depth along draws nothing: frames, crops and colours are those of the arm without it."""
    plain, taught = (
        job(seed=5, msd=msd, jitter=1.0).data.training(job(seed=5, msd=msd, jitter=1.0).recipe, tmp_path).train
        for msd in ("none", "both")
    )
    assert (plain.view.depth, taught.view.depth) == (False, True)
    for key in ((0, 0), (3, 7)):
        assert plain[key]["rgb"].equal(taught[key]["rgb"])
    assert not plain[0, 0]["rgb"].equal(plain[1, 0]["rgb"])


@pytest.mark.usefixtures("windows_files")
def test_rendering_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    whole = footage_folder(tmp_path / "a", SPEC)
    render_split(whole, SPEC, "train")
    broken = footage_folder(tmp_path / "b", SPEC)
    film, filmed = footage_module._film, list[int]()

    def film_until_interrupted(files: dict[str, Path], spec: SynthSpec, split: Split, index: int) -> None:
        filmed.append(index)
        if len(filmed) == 6:
            raise KeyboardInterrupt
        film(files, spec, split, index)

    monkeypatch.setattr(footage_module, "_FLUSH", 3)
    monkeypatch.setattr(footage_module, "_film", film_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_split(broken, SPEC, "train")
    assert not (broken / "train.rgb.npy").exists()
    render_split(broken, SPEC, "train")
    assert filmed == [*range(6), *range(3, 8)]  # three were put down, the others are rendered again
    for kind in ("rgb", "depth"):
        assert (broken / f"train.{kind}.npy").read_bytes() == (whole / f"train.{kind}.npy").read_bytes()


def test_rendering_killed_while_it_put_its_files_in_place_is_begun_anew(tmp_path, monkeypatch):
    """How far the files came that are gone says nothing of those that are begun after a kill, and killed again."""
    folder = footage_folder(tmp_path, SPEC)
    render_split(folder, SPEC, "train")
    whole = (folder / "train.rgb.npy").read_bytes()
    (folder / "train.rgb.npy").rename(folder / "train.rgb.part.npy")  # depth is in place, RGB and the note not yet
    (folder / "train.rendered.json").write_text("6")

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dynagest.reproduce.footage.render_all", stop)
        with pytest.raises(KeyboardInterrupt):
            render_split(folder, SPEC, "train")
    render_split(folder, SPEC, "train")
    assert (folder / "train.rgb.npy").read_bytes() == whole
