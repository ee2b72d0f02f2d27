"""Segmentation + LSTM's task: the mask's loss by hand, and its three stages."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from training_toys import toy_source

from dynagest.errors import ModelError
from dynagest.networks.build import create_model
from dynagest.networks.weights import load_network
from dynagest.task.segmentation import SegmentationTask
from dynagest.training.log import read_log
from dynagest.training.recipe import Recipe
from dynagest.training.recipes import get_recipe
from dynagest.training.trainer import train


def task(class_weight: float = 1.0, mask_weight: float = 0.5) -> SegmentationTask:
    torch.manual_seed(0)
    net = create_model("segmentation_lstm", 3, 4, width=8, size=32)
    return SegmentationTask(net, class_weight, mask_weight, threshold=10 / 255)


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    depth = torch.zeros(2, 4, 1, 32, 32)
    depth[:, :, :, 8:24, 8:24] = 0.6
    depth[:, :, :, :4, :4] = 9.9 / 255  # noise below the threshold
    return torch.randn(2, 4, 3, 32, 32, generator=generator), torch.tensor([0, 2]), depth, torch.tensor([True, False])


def small(recipe: Recipe) -> Recipe:
    """The published stages at toy size."""
    sizes = {"width": 8, "size": 32, "num_segments": 4, "batch": 4, "lr_batch": 4, "validate_on": None}
    where = {"train_splits": ("train",), "workers": 0, "precision": "fp32", "log_steps": 2}
    return recipe.with_overrides(sizes | where).throughout({"epochs": 1, "milestones": ()})


def test_mask_by_hand(batch: tuple[torch.Tensor, ...]) -> None:
    training = task().eval()
    rgb, label, *_ = batch
    output = training(*batch)
    found = training.decoder(training.network.encoder(rgb.flatten(0, 1)), (32, 32))
    assert found.shape == (8, 2, 32, 32)
    hand = torch.zeros(4, 32, 32, dtype=torch.long)
    hand[:, 8:24, 8:24] = 1
    torch.testing.assert_close(output.terms["mask"], F.cross_entropy(found[:4], hand))  # the first clip only
    torch.testing.assert_close(output.terms["cross_entropy"], F.cross_entropy(training.network(rgb), label))
    torch.testing.assert_close(output.loss, output.terms["cross_entropy"] + 0.5 * output.terms["mask"])


def test_without_masks_depth_is_not_looked_at(batch: tuple[torch.Tensor, ...]) -> None:
    training = task(mask_weight=0)
    assert not training.uses_depth
    training(batch[0], batch[1]).loss.backward()
    assert not any(p.requires_grad for p in training.decoder.parameters())


def test_the_mask_alone_trains_encoder_and_decoder(batch: tuple[torch.Tensor, ...]) -> None:
    training = task(class_weight=0.0).eval()
    training(*batch).loss.backward()
    assert training.network.encoder.conv1.weight.grad.abs().max() > 0
    assert training.network.lstm.weight_ih_l0.grad.abs().max() == 0


def test_a_network_without_encoder_is_refused() -> None:
    with pytest.raises(ModelError, match="segmentation is for segmentation_lstm"):
        SegmentationTask(create_model("tsm_resnet18", 3, width=8), 1, 1, 0.1)


def test_the_published_stages(tmp_path: Path) -> None:
    """Encoder and decoder on single frames; the LSTM on a frozen encoder; all together."""
    recipe = small(get_recipe("segmentation_lstm"))
    looked_at = []

    def sources(each: Recipe):
        looked_at.append((each.num_segments, each.uses_depth))
        return toy_source(each)

    train(recipe, sources, tmp_path)
    assert looked_at == [(1, True), (4, False), (4, True)]
    folders = [tmp_path / "stages" / "1-mask", tmp_path / "stages" / "2-lstm", tmp_path]
    mask, lstm, last = (load_file(folder / "checkpoint.safetensors") for folder in folders)
    encoder = [name for name in mask if name.startswith(("task.network.encoder", "task.decoder"))]
    assert all(torch.equal(mask[name], lstm[name]) for name in encoder)
    assert not torch.equal(mask["task.network.lstm.weight_ih_l0"], lstm["task.network.lstm.weight_ih_l0"])
    assert not [name for name in mask if name.startswith("optimiser.") and "network.lstm" in name]
    for name in ("task.network.encoder.conv1.weight", "task.network.lstm.weight_ih_l0", "task.decoder.0.weight"):
        assert not torch.equal(last[name], lstm[name])
    epochs = [next(line for line in read_log(folder) if line["event"] == "epoch") for folder in folders]
    assert [line["train"]["mask"] is None for line in epochs] == [False, True, False]
    assert not [name for name in load_file(tmp_path / "network.safetensors") if "decoder" in name]
    assert load_network(tmp_path)[1].model == "segmentation_lstm"


@pytest.mark.slow
def test_the_mask_is_learnt(tmp_path: Path) -> None:
    recipe = small(get_recipe("segmentation_lstm")).with_overrides({"validate_on": "val", "width": 16, "lr": 0.01})
    train(recipe.with_overrides({"mask.epochs": 30}).stage(0), toy_source, tmp_path)
    epochs = [line for line in read_log(tmp_path) if line["event"] == "epoch"]
    # The square is 1/16 of the picture: knowing that and not where gives 0.23.
    assert epochs[-1]["validation"]["mask"] < 0.17
