"""Testing a network on clips: against naive loops, on RGB alone, and with everything that can be wrong with clips."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dynagest.card import NetworkCard
from dynagest.clips.dataset import ClipDataset, Sample, normalise
from dynagest.clips.depth import DepthSpec
from dynagest.clips.frames import FrameReader
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.sampling import segment_indices
from dynagest.clips.transforms import WHOLE_FRAME, apply, center_crop, three_crops
from dynagest.clips.view import View
from dynagest.errors import ClipError, ManifestError, ModelError, RecipeError, RunError, WeightsError
from dynagest.networks.build import create_model
from dynagest.testing.evaluate import evaluate
from dynagest.testing.evaluation import Evaluation

CLASSES = ("wave", "grab", "push")
LENGTHS = (9, 3, 14, 30)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four clips as folders of images, of 3 to 30 frames; their depth is declared but lies nowhere."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    clips = []
    for number, length in enumerate(LENGTHS):
        video = folder / f"clip{number}"
        video.mkdir()
        for frame in range(length):
            picture = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            cv2.imwrite(str(video / f"{frame:04}.png"), cv2.resize(picture, (80, 60), interpolation=cv2.INTER_NEAREST))
        clips.append(Clip(video, CLASSES[number % 3], depth=folder / "nowhere" / f"{number}", split="test"))
    return Manifest(tuple(clips), CLASSES, DepthSpec(near="bright"), folder / "manifest.csv")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = create_model("tsm_resnet18", 3, 4, width=8)
    # A fresh network gives the same scores to everything: train its statistics, and spread its logits around zero.
    noise = torch.nn.functional.interpolate(torch.randn(64, 3, 6, 6), size=56).view(16, 4, 3, 56, 56)
    with torch.no_grad():
        for _ in range(30):
            net(noise)
        nn.init.normal_(net.classifier.weight, std=1.0)
        net.eval()
        logits = net(noise)
        net.classifier.weight /= logits.std(dim=0)[:, None]
        net.classifier.bias.copy_(-logits.mean(dim=0) / logits.std(dim=0))
    return net


@pytest.fixture
def card() -> NetworkCard:
    return NetworkCard(model="tsm_resnet18", classes=CLASSES, num_segments=4, size=56, width=8)


def naive(net: nn.Module, card: NetworkCard, clip: Clip, index: int, protocol: str, seed: int) -> np.ndarray:
    """The protocols spelled out, one view at a time, every frame decoded as often as it is shown."""
    num_frames = len(list(clip.video.iterdir()))
    rng = np.random.default_rng((seed, index))
    scores = []
    for _ in range(1 if protocol == "center" else 10):
        indices = segment_indices(num_frames, card.num_segments, None if protocol == "center" else rng)
        frames = FrameReader().frames(clip.video, indices)
        crops = {"center": [center_crop(60, 80)], "clips10": [WHOLE_FRAME], "paper": three_crops(60, 80)}[protocol]
        for crop in crops:
            view = apply(crop, frames, 64 if protocol == "paper" else 56)
            rgb = normalise(torch.from_numpy(view).permute(0, 3, 1, 2), card.mean, card.std)
            with torch.no_grad():
                scores.append(net.eval()(rgb[None]).double().softmax(dim=1)[0].numpy())
    return np.mean(scores, axis=0)


@pytest.mark.parametrize(("protocol", "views", "size"), [("center", 1, 56), ("clips10", 10, 56), ("paper", 30, 64)])
def test_scores_equal_the_naive_loop(
    net: nn.Module, card: NetworkCard, manifest: Manifest, protocol: str, views: int, size: int
) -> None:
    result = evaluate(net, card, manifest, protocol=protocol, seed=7, batch=4)
    expected = [naive(net, card, clip, index, protocol, seed=7) for index, clip in enumerate(manifest.clips)]
    assert result.scores is not None
    np.testing.assert_allclose(result.scores, expected, atol=1e-6)
    assert (result.conditions.views, result.conditions.size) == (views, size)
    labels = [CLASSES.index(clip.label) for clip in manifest.clips]
    assert result.summary.top1 == np.mean(
        [np.argmax(row) == label for row, label in zip(expected, labels, strict=True)]
    )
    assert result.confusion.sum() == 4


def test_scores_depend_on_the_seed_but_not_on_the_batch(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    first, again, other = (
        evaluate(net, card, manifest, protocol="clips10", seed=seed, batch=batch).scores
        for seed, batch in ((0, 3), (0, 32), (1, 3))
    )
    assert first is not None
    assert again is not None
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert np.abs(first - other).max() > 1e-4


def test_workers_change_nothing(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    alone = evaluate(net, card, manifest, protocol="clips10")
    helped = evaluate(net, card, manifest, protocol="clips10", workers=1)
    np.testing.assert_array_equal(alone.scores, helped.scores)


def test_each_frame_is_decoded_once(
    net: nn.Module, card: NetworkCard, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, list[int]]] = []
    original = FrameReader.frames

    def counting(self: FrameReader, path: Path, indices: Sequence[int]) -> np.ndarray:
        asked.append((path, [int(index) for index in indices]))
        return original(self, path, indices)

    monkeypatch.setattr(FrameReader, "frames", counting)
    evaluate(net, card, manifest, protocol="paper", seed=2)
    assert [path for path, _ in asked] == [clip.video for clip in manifest.clips]
    for index, (_, indices) in enumerate(asked):
        rng = np.random.default_rng((2, index))
        shown = {int(frame) for _ in range(10) for frame in segment_indices(LENGTHS[index], 4, rng)}
        assert indices == sorted(shown)


def test_depth_is_never_opened(
    net: nn.Module, card: NetworkCard, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("depth was opened")

    monkeypatch.setattr(FrameReader, "depth", forbidden)
    assert evaluate(net, card, manifest, protocol="paper").complete


def test_the_network_is_left_in_the_mode_it_was_in(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    evaluate(net, card, manifest)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_classes_are_matched_by_name(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    same = evaluate(net, card, manifest)
    turned = Manifest(manifest.clips, ("push", "wave", "unused", "grab"), manifest.depth, manifest.path)
    other = evaluate(net, card, turned)
    assert other.classes == CLASSES
    assert other.summary == same.summary
    np.testing.assert_array_equal(other.confusion, same.confusion)
    assert [clip.label for clip in other.clips] == [clip.label for clip in manifest.clips]


def test_a_label_that_the_network_does_not_know_is_named(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    stranger = card.model_copy(update={"classes": ("wave", "punch", "push")})
    with pytest.raises(
        ManifestError, match=r"1 of the classes of these clips: 'grab'; it knows 'wave', 'punch', 'push'"
    ):
        evaluate(net, stranger, manifest)


def test_unreadable_clips_are_listed_and_left_out(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    missing = Clip(manifest.clips[0].video.parent / "gone.mp4", "wave", split="test")
    torn = manifest.clips[0].video.parent / "torn.avi"
    torn.write_bytes(b"")
    clips = (missing, *manifest.clips, Clip(torn, "push", split="test"))
    seen: list[tuple[int, int]] = []
    result = evaluate(
        net, card, Manifest(clips, CLASSES), protocol="center", progress=lambda done, total: seen.append((done, total))
    )
    assert not result.complete
    assert [clip.index for clip in result.unreadable] == [0, 5]
    assert "gone.mp4" in result.unreadable[0].reason
    assert "empty file" in result.unreadable[1].reason
    assert [clip.index for clip in result.clips] == [1, 2, 3, 4]
    assert result.summary.clips == 4
    assert seen == [(done, 6) for done in range(1, 7)]
    # The readable clips' middle frames, and so their scores, are those of a test without the others.
    np.testing.assert_allclose(result.scores, evaluate(net, card, manifest).scores, atol=1e-6)


def test_nothing_readable_is_an_error(net: nn.Module, card: NetworkCard, tmp_path: Path) -> None:
    clips = tuple(Clip(tmp_path / f"{number}.mp4", "wave", split="test") for number in range(2))
    with pytest.raises(ClipError, match=r"none of the 2 clips can be read; the first: [^:]*0\.mp4: cannot be read"):
        evaluate(net, card, Manifest(clips, CLASSES))


def test_an_empty_split_is_an_error(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="split 'val' has no clips"):
        evaluate(net, card, manifest, split="val")


def test_logits_of_other_classes_than_the_cards_are_told(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    other = card.model_copy(update={"classes": (*card.classes, "push")})
    with pytest.raises(ModelError, match=r"gives \(\d, \d\) for \d clips, and its card has \d classes"):
        evaluate(net, other, manifest)


def test_broken_weights_are_an_error(card: NetworkCard, manifest: Manifest) -> None:
    broken = create_model("tsm_resnet18", 3, 4, width=8)
    nn.init.constant_(broken.classifier.weight, float("nan"))
    with pytest.raises(WeightsError, match=r"clip0 are not finite"):
        evaluate(broken, card, manifest)


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_no_views_is_an_error(net: nn.Module, card: NetworkCard, manifest: Manifest, batch: int) -> None:
    with pytest.raises(RecipeError, match=f"batch: {batch} views .* at least 1"):
        evaluate(net, card, manifest, batch=batch)


def test_a_batch_that_a_gpu_has_no_memory_for_is_an_error(card: NetworkCard, manifest: Manifest) -> None:
    class Greedy(nn.Linear):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.\nOf the allocated memory ...")

    with pytest.raises(RecipeError, match=r"3 views at once do not fit .* of cpu \(CUDA out of memory\.\)"):
        evaluate(Greedy(1, 1), card, manifest, batch=3)


def test_a_device_that_is_not_there_is_an_error(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    for device in ("gpu", "cuda:99"):
        with pytest.raises(RecipeError, match=f"device '{device}': not to be used here"):
            evaluate(net, card, manifest, device=device)


def test_frame_ranges_are_respected(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    video = manifest.clips[3].video
    ranged = Manifest((Clip(video, "wave", start=10, end=14, split="test"),), CLASSES)
    result = evaluate(net, card, ranged)
    view = apply(center_crop(60, 80), FrameReader().frames(video, [10, 11, 12, 13]), 56)
    with torch.no_grad():
        logits = net.eval()(normalise(torch.from_numpy(view).permute(0, 3, 1, 2), card.mean, card.std)[None])
    np.testing.assert_allclose(result.scores, logits.double().softmax(dim=1).numpy(), atol=1e-6)
    assert result.clips[0].file == f"{video}[10:14]"


def test_a_dataset_is_tested_through_its_own_view(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    dataset = ClipDataset(manifest, View(num_segments=4, size=56, depth=False), seed=0)
    result = evaluate(net, card, dataset)
    # The validation view is the protocol `center`.
    np.testing.assert_allclose(result.scores, evaluate(net, card, manifest).scores, atol=1e-6)
    assert [clip.file for clip in result.clips] == [str(clip.video) for clip in manifest.clips]


class Untold:
    """A source of clips that does not tell by which view it sees them."""

    def __init__(self, clips: ClipDataset) -> None:
        self.classes, self.label, self.name, self._clips = clips.classes, clips.label, clips.name, clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip:
        return self._clips[key]


def test_a_dataset_that_does_not_fit_is_refused(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    large = ClipDataset(manifest, View(num_segments=4, size=64, depth=False), seed=0)
    with pytest.raises(ModelError, match=r"has size=64, but the network takes size=56; .* View\(size=56"):
        evaluate(net, card, large)
    with pytest.raises(ModelError, match=r"clip0: .* as torch.uint8 \(4, 3, 64, 64\), the .*: 4 frames of 56"):
        evaluate(net, card, Untold(large))
    with pytest.raises(RecipeError, match="augment"):
        evaluate(net, card, ClipDataset(manifest, View(num_segments=4, size=56, augment=True, depth=False), seed=0))
    dense = View(num_segments=4, size=56, sampling="dense", stride=2, depth=False)
    with pytest.raises(ModelError, match=r"View\(sampling='segment'"):
        evaluate(net, card, ClipDataset(manifest, dense, seed=0))


def test_dense_sampling_is_tested_as_it_was_validated(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    trained = card.model_copy(update={"sampling": "dense", "stride": 2})
    view = View(num_segments=4, size=56, sampling="dense", stride=2, depth=False)
    validated = evaluate(net, trained, ClipDataset(manifest, view, seed=0))
    np.testing.assert_allclose(evaluate(net, trained, manifest).scores, validated.scores, atol=1e-6)
    other = evaluate(net, card, manifest).scores
    assert np.abs(other - validated.scores).max() > 1e-4
    with pytest.raises(RecipeError, match="whole videos"):
        evaluate(net, card, ClipDataset(manifest, View(num_segments=4, size=56, depth=False), seed=0), protocol="paper")


def test_metrics_json_survives_the_round_trip(
    net: nn.Module, card: NetworkCard, manifest: Manifest, tmp_path: Path
) -> None:
    result = evaluate(net, card, manifest)
    path = result.write(tmp_path / "run" / "metrics.json")
    assert result.write(str(path)) == path
    back = Evaluation.read(str(path))
    assert (back.conditions, back.classes, back.summary) == (result.conditions, result.classes, result.summary)
    assert (back.per_class, back.clips, back.unreadable) == (result.per_class, result.clips, result.unreadable)
    np.testing.assert_array_equal(back.confusion, result.confusion)
    record = json.loads(path.read_text())
    assert record["complete"] is True
    assert record["summary"]["chance"] == pytest.approx(1 / 3)
    del record["conditions"]["inputs"]
    path.write_text(json.dumps(record))
    assert Evaluation.read(path).conditions.inputs == "rgb"


def test_scores_are_written_for_other_programs(
    net: nn.Module, card: NetworkCard, manifest: Manifest, tmp_path: Path
) -> None:
    missing = Clip(tmp_path / "gone.mp4", "wave", split="test")
    result = evaluate(net, card, Manifest((missing, *manifest.clips), CLASSES))
    with np.load(result.write_scores(tmp_path / "new" / "scores.npz"), allow_pickle=False) as kept:
        assert np.array_equal(kept["scores"], result.scores)
        assert kept["scores"].sum(axis=1) == pytest.approx(1)
        assert list(kept["classes"]) == list(card.classes)
        assert [card.classes[label] for label in kept["labels"]] == [clip.label for clip in result.clips]
        assert list(kept["files"]) == [clip.file for clip in result.clips]
        assert list(kept["indices"]) == [1, 2, 3, 4]
    with pytest.raises(RunError, match=r"metrics\.json does not keep the clips' scores; evaluate again"):
        Evaluation.read(result.write(tmp_path / "metrics.json")).write_scores(tmp_path / "scores.npz")


def test_half_precision_agrees_roughly(net: nn.Module, card: NetworkCard, manifest: Manifest) -> None:
    full, half = (evaluate(net, card, manifest, dtype=dtype).scores for dtype in ("float32", "bfloat16"))
    assert full is not None
    assert 0 < np.abs(full - half).max() < 0.1
    with pytest.raises(RecipeError, match="float32, bfloat16"):
        evaluate(net, card, manifest, dtype="int3")


def test_real_clips(net: nn.Module, shared_data: Path) -> None:
    folder = shared_data / "isogd" / "train" / "001"
    clips = tuple(Clip(path, "wave", split="test") for path in sorted(folder.glob("M_*.avi"))[:3])
    card = NetworkCard(model="tsm_resnet18", classes=CLASSES, num_segments=4, size=56, width=8)
    result = evaluate(net, card, Manifest(clips, CLASSES), protocol="paper")
    assert result.complete
    assert result.confusion[0].sum() == 3
    assert result.scores is not None
    np.testing.assert_allclose(result.scores.sum(axis=1), 1, atol=1e-9)
