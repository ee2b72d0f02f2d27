"""Networks that are fed depth: the upper bound. What they are fed, what they start from, how they are tested."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from training_toys import CLASSES, ToyClips, toy_data, toy_recipe

from dynagest.card import IMAGENET_MEAN, IMAGENET_STD, NetworkCard
from dynagest.clips.dataset import ClipDataset, normalise
from dynagest.clips.depth import DepthSpec
from dynagest.clips.labelled import ManifestVideos
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.protocols import PROTOCOLS
from dynagest.clips.view import View
from dynagest.errors import DepthError, ManifestError, ModelError, RecipeError, WeightsError
from dynagest.networks.build import create_model
from dynagest.networks.weights import load_network, load_weights, save_network
from dynagest.predictor import Predictor
from dynagest.task.depth import DepthTask
from dynagest.task.inputs import DEPTH_MEAN, DEPTH_STD, network_input
from dynagest.testing.evaluate import evaluate
from dynagest.testing.views import read_views
from dynagest.training.data import TrainingData
from dynagest.training.recipe import Recipe
from dynagest.training.trainer import train

SHAPES = {"rgbd": 4, "depth": 1}


def upper_bound(inputs: str, **changes: object) -> Recipe:
    return toy_recipe(
        **(
            {"model": "tsm_resnet18", "msd": "none", "options": {"inputs": inputs}, "epochs": 1, "milestones": ()}
            | changes
        )
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Four clips of random frames with depth, the last one without."""
    random = np.random.default_rng(0)
    clips = []
    for number in range(4):
        for kind, colours in (("rgb", 3), ("depth", 1)):
            folder = tmp_path / f"{number}" / kind
            folder.mkdir(parents=True)
            for frame in range(5):
                picture = random.integers(0, 255, (48, 64, colours), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{frame:03}.png"), picture)
        depth = tmp_path / f"{number}" / "depth" if number < 3 else None
        clips.append(
            Clip(tmp_path / f"{number}" / "rgb", ("left", "right", "up")[number % 3], depth=depth, split="test")
        )
    return Manifest(tuple(clips), ("left", "right", "up"), DepthSpec(near="bright"), tmp_path / "manifest.csv")


def net_and_card(inputs: str) -> tuple[torch.nn.Module, NetworkCard]:
    torch.manual_seed(0)
    options = {"inputs": inputs}
    net = create_model("tsm_resnet18", 3, 4, width=8, options=options)
    torch.nn.init.normal_(net.classifier.weight)
    card = NetworkCard(model="tsm_resnet18", classes=CLASSES, num_segments=4, size=32, width=8, options=options)
    return net.eval(), card


def test_depth_is_normalised_as_a_grey_picture_is() -> None:
    assert pytest.approx(np.mean(IMAGENET_MEAN), abs=5e-4) == DEPTH_MEAN
    assert pytest.approx(np.mean(IMAGENET_STD), abs=5e-4) == DEPTH_STD


def test_what_each_is_fed() -> None:
    rgb, depth = torch.randn(2, 4, 3, 8, 8), torch.rand(2, 4, 1, 8, 8)
    assert network_input(rgb, None, "rgb") is rgb
    normal = (depth - DEPTH_MEAN) / DEPTH_STD
    assert torch.equal(network_input(rgb, depth, "depth"), normal)
    assert torch.equal(network_input(rgb, depth, "rgbd"), torch.cat([rgb, normal], dim=2))


@pytest.mark.parametrize("inputs", SHAPES)
def test_it_trains_and_is_saved_and_tested(tmp_path: Path, inputs: str) -> None:
    train(upper_bound(inputs), toy_data(), tmp_path)
    net, card = load_network(tmp_path)
    assert (card.inputs, net.base_model.conv1.weight.shape[1]) == (inputs, SHAPES[inputs])
    result = evaluate(net, card, ToyClips(6, seed=1))
    clips = ToyClips(6, seed=1)
    samples = [clips[(0, index)] for index in range(6)]
    rgb, depth = (torch.stack([sample[kind] for sample in samples]) for kind in ("rgb", "depth"))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    with torch.no_grad():
        scores = net(network_input((rgb / 255 - mean) / std, depth, inputs)).softmax(dim=1)
    np.testing.assert_allclose(result.scores, scores.numpy(), rtol=1e-4, atol=1e-6)


def test_decoders_fit_a_network_that_sees_depth(tmp_path: Path) -> None:
    train(upper_bound("rgbd", msd="both"), toy_data(validation=False), tmp_path)
    assert (tmp_path / "decoders.safetensors").exists()


def test_training_leaves_out_clips_without_depth(tmp_path: Path) -> None:
    data = TrainingData.of_sources(ToyClips(12, sparse_depth=True), None, "toy clips")
    summary = train(upper_bound("depth", unreadable_share=0.5), data, tmp_path)
    assert summary.unreadable == 4
    assert "has no depth, which this network is fed" in (tmp_path / "unreadable.jsonl").read_text()


@pytest.mark.parametrize("inputs", SHAPES)
def test_manifest_is_tested_with_its_depth(manifest: Manifest, inputs: str) -> None:
    net, card = net_and_card(inputs)
    result = evaluate(net, card, manifest)
    assert result.conditions.inputs == inputs
    assert [clip.index for clip in result.clips] == [0, 1, 2]
    lost = str(manifest.clips[3].video)
    assert [(clip.index, clip.file, clip.reason) for clip in result.unreadable] == [
        (3, lost, f"{lost}: has no depth, which this network is fed")
    ]
    view = View(num_segments=4, size=32)
    by_hand = evaluate(net, card, ClipDataset(manifest, view, seed=0))
    assert np.array_equal(result.scores, by_hand.scores)
    with pytest.raises(ModelError, match="View\\(depth=True, "):
        evaluate(net, card, ClipDataset(manifest, View(num_segments=4, size=32, depth=False), seed=0))


@pytest.fixture
def grey(tmp_path: Path) -> Manifest:
    """A wide and a tall clip of grey noise, whose depth is the same picture; depth begins with frame 2 of RGB."""
    random, clips = np.random.default_rng(1), []
    for number, (height, width, count) in enumerate(((48, 64, 12), (64, 48, 30))):
        rgb, depth = tmp_path / f"{number}" / "rgb", tmp_path / f"{number}" / "depth"
        rgb.mkdir(parents=True)
        depth.mkdir()
        for frame in range(count):
            picture = random.integers(0, 256, (height, width), dtype=np.uint8)
            cv2.imwrite(str(rgb / f"{frame:03}.png"), cv2.merge([picture] * 3))
            if frame >= 2:
                cv2.imwrite(str(depth / f"{frame:03}.png"), picture)
        clips.append(Clip(rgb, "left", depth=depth, start=2, split="test"))
    return Manifest(tuple(clips), ("left",), DepthSpec(near="bright"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_depth_lies_under_the_squares_of_every_protocol(grey: Manifest, protocol: str) -> None:
    """Depth that equals RGB is cut into equal views, from which the scores come."""
    net, card = net_and_card("rgbd")
    how, expected = PROTOCOLS[protocol], torch.zeros(2, 3, dtype=torch.float64)
    views = list(read_views(ManifestVideos(grey), how, card, seed=3, workers=0, unread=[], progress=None))
    assert [index for index, *_ in views] == [0] * how.views + [1] * how.views
    for index, rgb, depth in views:
        assert depth is not None
        assert depth.shape == (4, 1, how.size(32), how.size(32))
        torch.testing.assert_close(depth, rgb[:, :1] / 255, rtol=0, atol=1.5 / 255)  # RGB is rounded, depth is not
        with torch.no_grad():
            logits = net(network_input(normalise(rgb[None], card.mean, card.std), depth[None], "rgbd"))
        expected[index] += logits[0].double().softmax(dim=0) / how.views
    result = evaluate(net, card, grey, protocol=protocol, seed=3)
    np.testing.assert_allclose(result.scores, expected, atol=1e-6)
    helped = evaluate(net, card, ManifestVideos(grey), protocol=protocol, seed=3, workers=1)
    np.testing.assert_array_equal(helped.scores, result.scores)


def test_depth_that_does_not_fit_is_unreadable(grey: Manifest) -> None:
    net, card = net_and_card("depth")
    turned, short = replace(grey.clips[0], depth=grey.clips[1].depth), replace(grey.clips[1], depth_end=20)
    clips = (*grey.clips, replace(turned, depth_end=10), short)
    result = evaluate(net, card, replace(grey, clips=clips), protocol="paper")
    assert [(clip.index, clip.file) for clip in result.unreadable] == [(2, turned.name), (3, short.name)]
    first, second = (clip.reason for clip in result.unreadable)
    assert first.startswith(f"{turned.depth}: depth is 48x64, RGB 64x48: another shape")
    assert second.startswith(f"{short.depth}: 20 frames of depth for 28 of RGB")


def test_depth_that_is_not_declared_stops_before_the_test(grey: Manifest) -> None:
    net, card = net_and_card("depth")
    with pytest.raises(DepthError, match="what its values mean is not declared"):
        evaluate(net, card, replace(grey, depth=None), protocol="paper")


class OwnVideos:
    """A source of RGB videos that is none of ours."""

    classes = CLASSES

    def __len__(self) -> int:
        return 1

    def label(self, index: int) -> int:
        return 0

    def name(self, index: int) -> str:
        return "mine"

    def num_frames(self, index: int) -> int:
        return 8

    def frames(self, index: int, wanted: np.ndarray) -> np.ndarray:
        return np.zeros((len(wanted), 32, 32, 3), np.uint8)


def test_what_knows_no_depth_refuses_it(tmp_path: Path) -> None:
    net, card = net_and_card("rgbd")
    with pytest.raises(ModelError, match="cannot be tested on videos of RGB"):
        evaluate(net, card, OwnVideos())
    save_network(tmp_path, net, card)
    with pytest.raises(WeightsError, match="only networks of RGB"):
        Predictor.load(tmp_path)


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    save_network(tmp_path, *net_and_card("rgb"))
    with pytest.raises(RecipeError, match=r"device .nonsense.: not to be used here.*dynagest doctor"):
        Predictor.load(tmp_path, device="nonsense")


def test_a_split_without_clips_names_those_that_have_some(manifest: Manifest) -> None:
    net, card = net_and_card("rgb")
    with pytest.raises(ManifestError, match=r"split 'val' has no clips to test on; there are clips in 'test' \(4\)"):
        evaluate(net, card, manifest, split="val")


@pytest.mark.parametrize("inputs", SHAPES)
def test_stem_of_rgb_weights_is_inflated(tmp_path: Path, inputs: str) -> None:
    """The kernels of depth are the mean of those of the colours."""
    rgb, card = net_and_card("rgb")
    save_network(tmp_path, rgb, card.model_copy(update={"options": {"inputs": "rgb"}}))
    net = create_model("tsm_resnet18", 3, 4, width=8, options={"inputs": inputs})
    report = load_weights(net, tmp_path)
    assert report.inflated == ("base_model.conv1.weight",)
    assert "stem inflated from RGB" in str(report)
    stem, given = net.base_model.conv1.weight, rgb.base_model.conv1.weight
    torch.testing.assert_close(stem[:, -1], given.mean(dim=1))
    if inputs == "rgbd":
        assert torch.equal(stem[:, :3], given)
    assert torch.equal(net.base_model.layer1[0].conv2.weight, rgb.base_model.layer1[0].conv2.weight)
    assert not load_weights(create_model("tsm_resnet18", 3, 4, width=8), tmp_path).inflated


def test_depth_of_the_task_is_not_the_networks() -> None:
    assert DepthTask(create_model("tsm_resnet18", 3, width=8, options={"inputs": "depth"})).uses_depth
    assert not DepthTask(create_model("tsm_resnet18", 3, width=8)).uses_depth
