"""The predictor: frames in, names of gestures out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dynagest.card import NetworkCard
from dynagest.clips.dataset import normalise
from dynagest.clips.manifest import Clip, Manifest
from dynagest.errors import ClipError, ModelError, RecipeError, WeightsError
from dynagest.networks.build import create_model
from dynagest.networks.weights import load_network, save_network
from dynagest.predictor import Prediction, Predictor
from dynagest.runtimes.arrays import normalise_frames, softmax
from dynagest.runtimes.torch_network import TorchNetwork
from dynagest.testing.evaluate import evaluate

CARD = NetworkCard(model="tsm_resnet18", classes=("wave", "grab", "push"), num_segments=4, size=56, width=8)


class Recorder:
    """A network that is none: it keeps what it was shown and likes the second class."""

    card = CARD

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def logits(self, clips: np.ndarray) -> np.ndarray:
        self.shown.append(clips)
        return np.tile(np.float32([0.0, 2.0, 1.0]), (len(clips), 1))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = create_model("tsm_resnet18", 3, 4, width=8)
    nn.init.normal_(net.classifier.weight, std=0.05)
    folder = tmp_path_factory.mktemp("run")
    save_network(folder, net, CARD)
    return folder


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 60, 80, 3), dtype=np.uint8)


def write_images(folder: Path, frames: np.ndarray) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:03}.png"), frame[..., ::-1])
    return folder


def test_top_is_sorted_and_limited() -> None:
    prediction = Prediction(("a", "b", "c"), np.array([0.2, 0.5, 0.3]))
    assert prediction.top(2) == [("b", 0.5), ("c", 0.3)]
    assert prediction.top(9) == [("b", 0.5), ("c", 0.3), ("a", 0.2)]
    assert prediction.label == "b"


def test_frames_come_evenly_from_the_whole_video_and_are_normalised(frames: np.ndarray) -> None:
    network = Recorder()
    Predictor(network).predict(np.full((8, 56, 56, 3), np.arange(8, dtype=np.uint8)[:, None, None, None] * 30))
    (shown,) = network.shown
    assert shown.shape == (1, 4, 3, 56, 56)
    assert shown.dtype == np.float32
    # Segments of two frames: the middle rounds down.
    for place, grey in enumerate((0, 60, 120, 180)):
        for channel in range(3):
            expected = (grey / 255 - CARD.mean[channel]) / CARD.std[channel]
            np.testing.assert_allclose(shown[0, place, channel], expected, atol=1e-5)


def test_a_network_trained_on_windows_is_shown_the_middle_one() -> None:
    network = Recorder()
    network.card = CARD.model_copy(update={"sampling": "dense", "stride": 2})
    Predictor(network).predict(np.full((15, 56, 56, 3), np.arange(15, dtype=np.uint8)[:, None, None, None]))
    shown = network.shown[0][0, :, 0, 0, 0] * CARD.std[0] + CARD.mean[0]
    np.testing.assert_allclose(shown * 255, [4, 6, 8, 10], atol=1e-3)


def test_scores_are_the_softmax() -> None:
    prediction = Predictor(Recorder()).predict([np.zeros((60, 80, 3), np.uint8)])
    powers = np.exp([0.0, 2.0, 1.0])
    np.testing.assert_allclose(prediction.scores, powers / powers.sum(), atol=1e-7)
    assert prediction.label == "grab"


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.float32([[1000.0, 1000.0, -1000.0]])), [[0.5, 0.5, 0.0]])


def test_normalisation_is_the_one_of_training(frames: np.ndarray) -> None:
    ours = normalise_frames(frames, CARD)
    theirs = normalise(torch.from_numpy(frames).permute(0, 3, 1, 2), CARD.mean, CARD.std)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-6)


def test_protocols_show_their_views(frames: np.ndarray) -> None:
    network = Recorder()
    Predictor(network).predict(frames, protocol="paper")
    assert sum(len(shown) for shown in network.shown) == 30
    assert {shown.shape[1:] for shown in network.shown} == {(4, 3, 64, 64)}
    assert max(len(shown) for shown in network.shown) <= 4


def test_files_and_frames_agree_with_each_other_and_with_the_test(
    run: Path, frames: np.ndarray, tmp_path: Path
) -> None:
    video = write_images(tmp_path / "video", frames)
    predictor = Predictor.load(run)
    from_file, from_frames = predictor.predict(video), predictor.predict(list(frames))
    np.testing.assert_array_equal(from_file.scores, from_frames.scores)
    network = predictor.network
    assert isinstance(network, TorchNetwork)
    manifest = Manifest((Clip(video, "wave", split="test"),), CARD.classes)
    tested = evaluate(load_network(run)[0], network.card, manifest)
    assert tested.scores is not None
    np.testing.assert_allclose(from_file.scores, tested.scores[0], atol=1e-6)


def test_a_missing_image_is_named_though_the_network_would_not_see_it(frames: np.ndarray, tmp_path: Path) -> None:
    video = write_images(tmp_path / "video", frames)
    (video / "002.png").unlink()  # the network of 4 frames is shown 1, 4, 6 and 9
    with pytest.raises(ClipError, match=r"002\.png: missing"):
        Predictor(Recorder()).predict(video)


def test_a_weights_file_is_as_good_as_its_run_folder(run: Path, frames: np.ndarray) -> None:
    by_folder, by_file = Predictor.load(run), Predictor.load(str(run / "network.safetensors"))
    np.testing.assert_array_equal(by_folder.predict(frames).scores, by_file.predict(frames).scores)
    assert by_file.classes == CARD.classes


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "empty"),
        ([np.zeros((60, 80, 3), np.float32)], r"frame 0 is float32 \(60, 80, 3\)"),
        ([np.zeros((60, 80), np.uint8)], r"frame 0 is uint8 \(60, 80\)"),
        ([np.zeros((60, 80, 4), np.uint8)], r"\(60, 80, 4\)"),
        ([np.zeros((60, 80, 3), np.uint8), np.zeros((80, 60, 3), np.uint8)], "frame 1 is 60 x 80, the first 80 x 60"),
        (["frame.png"], "frame 0 is str"),
    ],
)
def test_wrong_frames_are_named(frames: list, message: str) -> None:
    with pytest.raises(ClipError, match=message):
        Predictor(Recorder()).predict(frames)


def test_unreadable_videos_are_clip_errors(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for video in (empty, tmp_path / "missing.mp4"):
        with pytest.raises(ClipError, match=video.name):
            Predictor(Recorder()).predict(video)


def test_scores_that_are_not_finite_name_no_gesture(frames: np.ndarray) -> None:
    class Broken(Recorder):
        def logits(self, clips: np.ndarray) -> np.ndarray:
            return super().logits(clips) + np.float32([0.0, np.nan, 0.0])

    with pytest.raises(WeightsError, match=r"scores of tsm_resnet18 are not finite: its weights are broken; take"):
        Predictor(Broken()).predict(frames)


@pytest.mark.parametrize("classes", [1, 2])
def test_logits_of_other_classes_than_the_cards_are_told(frames: np.ndarray, classes: int) -> None:
    """A single logit would be taken for all three."""

    class Other(Recorder):
        def logits(self, clips: np.ndarray) -> np.ndarray:
            return super().logits(clips)[:, :classes]

    with pytest.raises(ModelError, match=rf"gives \(1, {classes}\) for 1 clips, and its card has 3 classes"):
        Predictor(Other()).predict(frames)


def test_a_folder_without_a_network_is_a_weights_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        Predictor.load(tmp_path)


def test_a_device_that_fails_without_a_word_is_named_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(RecipeError, match=r"device 'cuda:7': not to be used here \(AssertionError\)"):
        TorchNetwork(nn.Identity(), CARD, "cuda:7")
