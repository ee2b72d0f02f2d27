"""The clips that an export is calibrated on and compared on: which they are, and which will not do."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from export_helpers import CLASSES, make_network

from dynagest.card import NetworkCard
from dynagest.clips.manifest import Clip, Manifest
from dynagest.errors import ClipError, ManifestError, RunError
from dynagest.export import export
from dynagest.export.clips import ClipSet, gather
from dynagest.networks.weights import save_network


def clips_on_disk(folder: Path, **splits: int) -> Manifest:
    """A manifest with so many clips of each split; every frame of clip n is n, of all clips another."""
    clips = []
    for split, count in splits.items():
        for _ in range(count):
            video = folder / f"{len(clips)}"
            video.mkdir(parents=True)
            for frame in range(3):
                cv2.imwrite(str(video / f"{frame}.png"), np.full((32, 32, 3), 10 * len(clips), np.uint8))
            clips.append(Clip(video, CLASSES[len(clips) % 3], split=split))
    return Manifest.of(clips, classes=CLASSES).write(folder / "manifest.csv")


def numbers(found: ClipSet, card: NetworkCard) -> list[int]:
    """Which clips of ``clips_on_disk`` these are."""
    red = found.clips[:, 0, 0, 0, 0] * card.std[0] + card.mean[0]
    return np.round(red * 255 / 10).astype(int).tolist()


@pytest.mark.parametrize(("count", "taken"), [(2, (2, 2)), (4, (3, 4)), (64, (3, 4))])
def test_without_a_second_split_no_clip_is_calibrated_on_and_compared(
    tmp_path: Path, count: int, taken: tuple[int, int]
) -> None:
    clips_on_disk(tmp_path, train=7)
    card = make_network("tsn_resnet18")[1]
    calibration, compared = gather(tmp_path, card, tmp_path, count, calibrates=True)
    first, second = numbers(calibration, card), numbers(compared, card)
    assert (len(first), len(second)) == taken
    assert len({*first, *second}) == len(first) + len(second)
    assert compared.labels.tolist() == [number % 3 for number in second]
    assert calibration.source == compared.source == f"{tmp_path / 'manifest.csv'} (train)"


def test_a_class_that_the_network_does_not_have_has_no_label(tmp_path: Path) -> None:
    clips_on_disk(tmp_path, train=1, test=5)
    card = make_network("tsn_resnet18")[1].model_copy(update={"classes": ("push", "other", "wave")})
    compared = gather(tmp_path, card, tmp_path, 64, calibrates=True)[1]
    assert [CLASSES[number % 3] for number in numbers(compared, card)] == ["grab", "push", "wave", "grab", "push"]
    assert compared.labels.tolist() == [-1, 0, 2, -1, 0]


@pytest.mark.parametrize("count", [1, 5])
def test_as_many_clips_are_generated_as_are_asked_for(tmp_path: Path, count: int) -> None:
    """Of three gestures, of which the network knows two."""
    card = make_network("tsn_resnet18")[1].model_copy(update={"classes": ("wave", "my gesture", "push")})
    compared = gather(tmp_path, card, None, count, calibrates=False)[1]
    assert compared.clips.shape == (count, 4, 3, 64, 64)
    assert set(compared.labels) <= {0, 2}


@pytest.mark.parametrize(
    ("splits", "compared_on"), [({"test": 2}, [0, 1]), ({"train": 1}, [0]), ({"train": 3}, [0, 1, 2])]
)
def test_what_is_not_calibrated_needs_no_clips_for_it(
    tmp_path: Path, splits: dict[str, int], compared_on: list[int]
) -> None:
    clips_on_disk(tmp_path, **splits)
    card = make_network("tsn_resnet18")[1]
    calibration, compared = gather(tmp_path, card, tmp_path, 64, calibrates=False)
    assert (len(calibration.clips), calibration.unreadable) == (0, ())
    assert numbers(compared, card) == compared_on


def test_other_splits_are_compared_whole(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    for splits, name in (({"train": 3, "val": 2, "test": 4}, "test"), ({"train": 3, "val": 2}, "val")):
        folder = tmp_path / name
        manifest = clips_on_disk(folder, **splits)
        calibration, compared = gather(folder, card, folder, 64, calibrates=True)
        assert numbers(calibration, card) == [0, 1, 2]
        assert numbers(compared, card) == [i for i, clip in enumerate(manifest.clips) if clip.split == name]


def test_clips_that_do_not_suffice_are_named(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    for splits, message in (({"train": 1}, "too few clips"), ({"test": 2}, "has no clips")):
        folder = tmp_path / message
        clips_on_disk(folder, **splits)
        with pytest.raises(ManifestError, match=message):
            gather(folder, card, folder, 4, calibrates=True)


def test_clips_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    clips_on_disk(tmp_path, train=2, test=2)
    for name in ("1", "2"):
        (tmp_path / name / "1.png").write_bytes(b"no picture")
    calibration, compared = gather(tmp_path, card, tmp_path, 64, calibrates=True)
    assert (numbers(calibration, card), numbers(compared, card)) == ([0], [3])
    for found, name in ((calibration, "1"), (compared, "2")):
        assert len(found.unreadable) == 1
        assert str(tmp_path / name / "1.png") in found.unreadable[0]
    (tmp_path / "3" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ClipError, match=r"\(test\): none of 2 clips can be read; the first: .*1\.png"):
        gather(tmp_path, card, tmp_path, 64, calibrates=True)


def test_generated_clips_take_the_place_of_what_is_not_there_and_of_nothing_else(tmp_path: Path) -> None:
    card = make_network("tsn_resnet18")[1]
    run, data = tmp_path / "run", tmp_path / "data"
    clips_on_disk(data, train=2, test=1)
    manifest, environment = data / "manifest.csv", run / "environment.json"
    run.mkdir()

    def source() -> str:
        return gather(run, card, None, 1, calibrates=False)[1].source

    assert source() == f"generated test clips ({run} does not tell what the network was trained on)"
    environment.write_text(json.dumps({"data": str(manifest)}))
    assert source() == f"{manifest} (test)"
    manifest.write_text("video,label,split\n0,wave,dev\n")
    with pytest.raises(ManifestError, match="split 'dev' is none of"):
        source()
    manifest.unlink()
    assert source() == f"generated test clips ({manifest}, which it was trained on, is not there)"
    environment.write_text("{")
    with pytest.raises(RunError, match="does not tell what the run was trained on"):
        source()


def test_int8_is_calibrated_on_generated_clips_only_for_a_network_that_learnt_them(tmp_path: Path) -> None:
    """The classes of the card are names of generated gestures, as a user's own may be."""
    net, card = make_network("tsn_resnet18")
    run = tmp_path / "run"
    gone = {"data": str(tmp_path / "my_clips" / "manifest.csv")}
    save_network(run, net, card.model_copy(update={"provenance": {"recipe": "webcam", **gone}}))
    with pytest.raises(ManifestError, match=r"run does not tell .* with --data"):
        export(run, "onnx", precision="int8")
    (run / "environment.json").write_text(json.dumps(gone))
    with pytest.raises(ManifestError, match=r"my_clips.manifest\.csv, which it was trained on, .* with --data"):
        export(run, "onnx", precision="int8")
    assert not [*run.glob("*.onnx")]
    for provenance in ({"recipe": "demo", **gone}, {"recipe": "isogd", "data": "SynthDataset"}):
        learnt = card.model_copy(update={"provenance": provenance})
        assert gather(run, learnt, None, 1, calibrates=True)[0].source.startswith("generated train clips")
        strange = learnt.model_copy(update={"classes": ("wave", "my gesture")})
        with pytest.raises(ManifestError, match="int8 wants clips of the kind"):
            gather(run, strange, None, 1, calibrates=True)
