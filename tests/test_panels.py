"""Panels: which clips they show, how depth and masks are drawn, and those of a real network."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from report_helpers import made_up, report

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipDataset, normalise
from dynagest.clips.depth import DepthSpec
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.view import View
from dynagest.errors import RunError
from dynagest.networks.build import create_model
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.saved import save_decoders
from dynagest.testing.evaluate import evaluate
from dynagest.testing.panels import SIDE, PanelRow, colour, make_panels, panel_rows, preferred_clips, strip


def test_panels_prefer_different_classes_and_both_outcomes() -> None:
    test = made_up(tuple("abcdef"), 120, 0.7)
    chosen = preferred_clips(test, seed=1)
    assert [clip.correct for clip in chosen[:6]] == [True, True, False, True, True, False]
    assert len({clip.label for clip in chosen[:3]}) == 3
    assert {clip.index for clip in chosen} == set(range(120))
    assert chosen == preferred_clips(test, seed=1)
    assert chosen != preferred_clips(test, seed=2)


def test_masks_are_clamped_and_coloured_like_depth() -> None:
    np.testing.assert_array_equal(colour(np.array([[-3.0, 0.0]])), colour(np.array([[0.0, 0.0]])))
    np.testing.assert_array_equal(colour(np.array([[1.0, 7.0]])), colour(np.array([[1.0, 1.0]])))
    dark, bright = colour(np.array([[0.0, 1.0]]))[0].astype(int)
    assert bright.sum() > 3 * dark.sum() + 300


def test_a_strip_has_one_picture_a_column() -> None:
    clip = made_up(("a", "b"), 2, 1.0).clips[0]
    red = np.zeros((56, 56, 3), np.uint8)
    red[..., 0] = 255
    both = strip(PanelRow(clip, red, np.zeros((56, 56)), np.zeros((56, 56)), np.zeros((14, 14))))
    local = strip(PanelRow(clip, red, np.zeros((56, 56)), np.zeros((56, 56)), None))
    assert both.shape[1] - local.shape[1] == SIDE + 8
    assert (both[:, :SIDE] == (255, 0, 0, 255)).all()
    assert (both[:, SIDE : SIDE + 8, 3] == 0).all()


@pytest.fixture(scope="module")
def with_depth(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Six clips: a bright square moves; its depth is the square. The last clip has no depth."""
    folder = tmp_path_factory.mktemp("depth")
    clips = []
    for number in range(6):
        rgb, depth = folder / f"rgb{number}", folder / f"depth{number}"
        rgb.mkdir()
        depth.mkdir()
        for frame in range(6):
            grey = np.zeros((60, 60), np.uint8)
            grey[20:40, 5 * frame : 5 * frame + 20] = 200
            cv2.imwrite(str(rgb / f"{frame}.png"), cv2.merge([grey // 2, grey, grey]))
            cv2.imwrite(str(depth / f"{frame}.png"), grey)
        clips.append(Clip(rgb, "ab"[number % 2], depth=depth if number < 5 else None, split="test"))
    return Manifest(tuple(clips), ("a", "b"), DepthSpec(near="bright"))


@pytest.fixture(scope="module")
def card() -> NetworkCard:
    return NetworkCard(model="tsm_resnet18", classes=("a", "b"), num_segments=4, size=64, width=8)


def test_panels_of_a_run(with_depth: Manifest, card: NetworkCard, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create_model("tsm_resnet18", 2, 4, width=8)
    decoder = MultiScaleDecoder.for_model(net, image_size=64)
    save_decoders(tmp_path, decoder)
    test = evaluate(net, card, with_depth)
    assert make_panels(tmp_path, net, card, with_depth, test, count=4) is None
    captions = json.loads((tmp_path / "panels" / "panels.json").read_text())
    assert captions["columns"] == ["RGB", "depth", "local mask", "global mask"]
    assert len(captions["rows"]) == 4
    assert cv2.imread(str(tmp_path / "panels.png")).shape == (26 + 4 * (SIDE + 30), 4 * (SIDE + 8) - 8, 3)
    test.write(tmp_path / "metrics.json")
    (tmp_path / "network.json").write_text(card.model_dump_json())
    page = report(tmp_path)
    assert len([image for image in page.all("img") if "local mask" in (image["alt"] or "")]) == 4
    assert "with decoders, in training only" in page.text

    # What is shown is what the network saw, and what the decoders made of it.
    source = ClipDataset(with_depth, View(num_segments=4, size=64), seed=0)
    row = next(panel_rows(net, card, decoder, source, test, count=1, seed=0))
    sample = source[(0, row.clip.index)]
    np.testing.assert_array_equal(row.rgb, sample["rgb"][2].permute(1, 2, 0))
    np.testing.assert_array_equal(row.target, sample["depth"][2, 0])
    with torch.no_grad(), decoder.attached(net.eval()) as taps:
        net(normalise(sample["rgb"][None], card.mean, card.std))
        masks = decoder(taps)
    for shown, predicted, side in ((row.local, masks.local, 64), (row.global_, masks.global_, 16)):
        assert shown is not None
        assert shown.shape == (side, side)
        np.testing.assert_allclose(shown, predicted[2, 0], rtol=1e-5, atol=1e-7)
        assert np.ptp(shown) > 0

    # A later test without panels leaves none of the old ones.
    assert "none were asked for" in (make_panels(tmp_path, net, card, with_depth, test, count=0) or "")
    assert not (tmp_path / "panels.png").exists()
    assert list((tmp_path / "panels").glob("*.png")) == []


def test_panels_show_the_window_that_a_network_was_trained_on(
    with_depth: Manifest, card: NetworkCard, tmp_path: Path
) -> None:
    card = card.model_copy(update={"num_segments": 2, "sampling": "dense", "stride": 1})
    net = create_model("tsm_resnet18", 2, 2, width=8)
    decoder = MultiScaleDecoder.for_model(net, image_size=64)
    save_decoders(tmp_path, decoder)
    test = evaluate(net, card, with_depth)
    make_panels(tmp_path, net, card, with_depth, test, count=1)
    source = ClipDataset(with_depth, View(num_segments=2, size=64, sampling="dense", stride=1), seed=0)
    expected = strip(next(panel_rows(net, card, decoder, source, test, count=1, seed=0)))
    written = cv2.imread(str(tmp_path / "panels" / "0.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written[:, :SIDE, 2::-1], expected[:, :SIDE, :3])


def test_panels_show_the_targets_that_decoders_learnt_binarised(
    with_depth: Manifest, card: NetworkCard, tmp_path: Path
) -> None:
    """Their card tells it; of a card of an older version, the recipe beside it."""
    net = create_model("tsm_resnet18", 2, 4, width=8)
    decoder, cards = MultiScaleDecoder.for_model(net, image_size=64), tmp_path / "decoders.json"
    test = evaluate(net, card, with_depth)
    near = colour(np.ones((1, 1)))[0, 0, ::-1]
    titles, nearest = [], []
    for binarise, old in ((False, False), (True, False), (False, True), (True, True)):
        save_decoders(tmp_path, decoder, 10 / 255 if binarise else None)
        told = json.loads(cards.read_text())
        assert told.pop("threshold") == (10 / 255 if binarise else None)
        recipe = {"binarise": binarise if old else not binarise, "threshold": 10.0}
        (tmp_path / "recipe.json").write_text(json.dumps(recipe))
        if old:
            cards.write_text(json.dumps(told))
        assert make_panels(tmp_path, net, card, with_depth, test, count=1) is None
        titles.append(json.loads((tmp_path / "panels" / "panels.json").read_text())["columns"][1])
        shown = cv2.imread(str(tmp_path / "panels" / "0.png"))[:, SIDE + 8 : 2 * SIDE + 8]
        nearest.append(bool((shown == near).all(axis=-1).any()))
    assert titles == ["depth", "depth, binarised"] * 2
    assert nearest == [False, True] * 2, "depth of 200 / 255 is a target of 1"
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(RunError, match=r"recipe\.json: does not tell what the decoders learnt .*; restore it"):
        make_panels(tmp_path, net, card, with_depth, test, count=1)


def test_panels_say_why_they_are_missing(with_depth: Manifest, card: NetworkCard, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create_model("tsm_resnet18", 2, 4, width=8)
    test = evaluate(net, card, with_depth)
    assert "no depth decoders" in (make_panels(tmp_path, net, card, with_depth, test) or "")
    save_decoders(tmp_path, MultiScaleDecoder.for_model(net, image_size=64))
    bare = Manifest(tuple(Clip(clip.video, clip.label, split="test") for clip in with_depth.clips), ("a", "b"))
    assert "have no depth" in (make_panels(tmp_path, net, card, bare, test) or "")
    lost = Manifest(
        tuple(Clip(clip.video, clip.label, depth=tmp_path / "lost", split="test") for clip in with_depth.clips),
        ("a", "b"),
        DepthSpec(near="bright"),
    )
    assert "readable depth" in (make_panels(tmp_path, net, card, lost, test) or "")
    (tmp_path / "network.json").write_text(card.model_dump_json())
    test.write(tmp_path / "metrics.json")
    assert "No panels: none of the tested clips looked at has readable depth" in report(tmp_path).text
