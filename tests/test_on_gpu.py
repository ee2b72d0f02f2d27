"""Rendering, training and testing with ``device="cuda"``: on a real GPU if there is one, else on a pretended one.

What the pretended one shows: no operation mixes devices, nothing expects GPU memory to be numpy's, and the results are
those of the CPU. What it cannot show: a GPU's own kernels, its speed, its memory.
"""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from pretend_cuda import CUDA, DeviceMix, OnCuda, PretendedCuda, pretended_cuda
from torch import Tensor, nn
from torch.backends import cudnn
from training_toys import ToyClips, toy_recipe, weights

from dynagest.card import NetworkCard
from dynagest.clips.dataset import Sample, normalise
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.view import View
from dynagest.networks.build import create_model
from dynagest.stream.load import make_scorer
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.film import Footage
from dynagest.synth.recording import plan, record
from dynagest.synth.sensor import _table
from dynagest.synth.spec import PerSplit, SynthSpec, get_preset
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.testing.evaluate import evaluate
from dynagest.testing.panels import panel_rows
from dynagest.training.assemble import build_task
from dynagest.training.data import TrainingData
from dynagest.training.interrupt import TrainingInterrupted
from dynagest.training.optimiser import build_optimiser
from dynagest.training.recipe import Recipe
from dynagest.training.trainer import train

REAL = torch.cuda.is_available()
TOLERANCE = 2e-3 if REAL else 1e-6  # of a training; not 0, as an LSTM is one operation on the CPU alone


@contextmanager
def a_gpu() -> Iterator[PretendedCuda | None]:
    """The noise of generated clips is kept for each device; what a pretended one was given must not outlive it."""
    # A real one computes as exactly as it can, and the same each time.
    with cudnn.flags(enabled=True, deterministic=True, allow_tf32=False) if REAL else pretended_cuda() as mode:
        _table.cache_clear()
        try:
            yield mode
        finally:
            _table.cache_clear()


@contextmanager
def a_gpu_for_runs() -> Iterator[PretendedCuda | None]:
    """A GPU that Accelerate finds."""
    with a_gpu() as mode, ExitStack() as pretended:
        if not REAL:
            pretended.enter_context(mock.patch.object(Accelerator, "device", CUDA))
            for name in ("get_rng_state", "set_rng_state", "get_device_name"):
                pretended.enter_context(mock.patch.object(torch.cuda, name, return_value="pretended"))
        yield mode


def back(tensor: Tensor) -> Tensor:
    """The values of a tensor that should be on the GPU."""
    assert tensor.device.type == "cuda"
    return tensor.held if isinstance(tensor, OnCuda) else tensor.cpu()


@pytest.mark.skipif(REAL, reason="a real GPU refuses by itself")
def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    here = torch.ones(3)
    with pretended_cuda():
        there = torch.arange(6.0, device="cuda").view(2, 3)
        for mix in (
            lambda: there + here,
            lambda: torch.cat((there, here[None])),
            lambda: torch.stack((there[0, 0], here[0])),  # a single number on the CPU is no excuse here
            lambda: there.index_select(1, torch.tensor([0])),
            lambda: there.add_(here),
            lambda: torch.rand(2, generator=torch.Generator(), device="cuda"),
            lambda: nn.Linear(3, 2)(there),
        ):
            with pytest.raises(DeviceMix):
                mix()
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert (there * here[0]).device.type == "cuda"
        assert there[:, torch.tensor([2, 0])].cpu().tolist() == [[2.0, 0.0], [5.0, 3.0]]
        assert there.sum().item() == 15.0
        assert torch.tensor([1.5, 2.0], device="cuda").cpu().numpy().tolist() == [1.5, 2.0]
        there[0] = 7
        assert there.to("cpu").tolist() == [[7.0, 7.0, 7.0], [3.0, 4.0, 5.0]]


def hard_clips() -> list[tuple[SynthSpec, int, np.ndarray | None]]:
    hard = get_preset("hard").model_copy(update={"size": 64, "num_frames": 6, "misalign": "isogd"})
    demo = get_preset("demo").model_copy(update={"num_frames": 4})
    plain = demo.model_copy(update={"depth_noise": 0.0, "depth_holes": 0.0, "rgb_noise": 0.0, "blur": 0.0})
    return [*((hard, k, None) for k in range(4)), (demo, 1, np.array([2, 0, 2])), (plain, 2, None)]


@pytest.mark.parametrize(("spec", "index", "frames"), hard_clips())
def test_a_clip_is_rendered_the_same(spec: SynthSpec, index: int, frames: np.ndarray | None) -> None:
    take = plan(spec, "train", index)
    here = record(spec, take, frames)
    with a_gpu():
        there = record(spec, take, frames, device="cuda")
    there = Footage(back(there.rgb), back(there.depth), back(there.hand))
    # A GPU rounds otherwise: an outline may move by a ray, and depth across a threshold by a step.
    apart = 5e-3 if REAL else 0.0
    for name in ("rgb", "depth", "hand"):
        a, b = getattr(here, name), getattr(there, name)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert ((a.int() - b.int()).abs() > (2 if REAL and name == "rgb" else 0)).float().mean() <= apart, name


def two_steps(recipe: Recipe, device: str) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of two optimiser steps, and what they left of networks, decoders and statistics."""
    task, _ = build_task(recipe, 3, torch.device(device))
    task.train()
    draws = torch.Generator().manual_seed(1)
    shape = (3, recipe.num_segments)
    rgb = torch.randint(0, 255, (*shape, 3, 32, 32), generator=draws, dtype=torch.uint8).to(device)
    depth = torch.rand(*shape, 1, 32, 32, generator=draws).to(device)
    label, has_depth = torch.tensor([1, 2, 0]).to(device), torch.tensor([True, False, True]).to(device)
    optimiser = build_optimiser(task, recipe)
    losses = []
    for _ in range(2):
        out = task(normalise(rgb, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2)), label, depth, has_depth)
        optimiser.zero_grad()
        out.loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 20.0)
        optimiser.step()
        losses.append(out.loss.item())
    assert losses[0] != losses[1]
    return losses, {key: value.detach() for key, value in task.state_dict().items()}


TASKS = {
    "TSM": {"model": "tsm_resnet18", "binarise": True},
    "ACTION": {"model": "action_resnet18"},
    "TEA": {"model": "tea_res2net50"},
    "online": {"options": {"online": True}},
    "RGB-D": {"model": "tsm_resnet18", "options": {"inputs": "rgbd"}},
    "MTUT": {"task": "alignment", "model": "tsm_resnet18", "msd": "none", "align_at": "base_model.layer4"},
    "Segmentation": {"task": "segmentation", "model": "segmentation_lstm", "msd": "none"},
    "attentionLSTM": {"model": "attention_lstm", "msd": "none", "options": {"gated": True}},
}


@pytest.mark.parametrize("changes", TASKS.values(), ids=TASKS)
def test_a_training_step_is_the_same(changes: dict[str, Any]) -> None:
    recipe = toy_recipe(**changes)
    losses, state = two_steps(recipe, "cpu")
    with a_gpu():
        losses_there, state_there = two_steps(recipe, "cuda")
        state_there = {key: back(value) for key, value in state_there.items()}
    assert losses_there == pytest.approx(losses, rel=TOLERANCE, abs=0)
    assert_alike(state_there, state)


def assert_alike(there: dict[str, Tensor], here: dict[str, Tensor]) -> None:
    """The same tensors, but for rounding."""
    assert there.keys() == here.keys()
    for key, value in here.items():
        torch.testing.assert_close(there[key], value, rtol=TOLERANCE, atol=TOLERANCE, msg=key)


@dataclass
class StoppedClips(ToyClips):
    """Ctrl-C is pressed while a clip of the first epoch is read."""

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip:
        if key == (0, 5):
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(key)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
def test_a_run_is_the_same_and_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    recipe = toy_recipe(dropout=0.3, accumulate=2, epochs=1, milestones=())
    validation = ToyClips(6, seed=1)
    with a_gpu_for_runs() as mode:
        train(recipe, TrainingData.of_sources(ToyClips(), validation), tmp_path / "whole")
        if mode is not None:  # a step waits for its sums, which come together, and for one number, the gradient's norm
            assert mode.waited["aten._local_scalar_dense.default"] == 3
        with pytest.raises(TrainingInterrupted, match="of epoch 1"):
            train(recipe, TrainingData.of_sources(StoppedClips(), validation), tmp_path / "resumed")
        train(recipe, TrainingData.of_sources(ToyClips(), validation), tmp_path / "resumed", resume=True)
    assert_alike(weights(tmp_path / "resumed"), weights(tmp_path / "whole"))
    if not REAL:  # there, Accelerate would take the GPU again, whose dropout draws other numbers
        train(recipe, TrainingData.of_sources(ToyClips(), validation), tmp_path / "cpu")
        assert_alike(weights(tmp_path / "whole"), weights(tmp_path / "cpu"))


def test_clips_are_scored_and_shown_the_same() -> None:
    spec = get_preset("demo").model_copy(update={"size": 40, "num_frames": 6, "classes": ("swipe_left", "grab")})
    spec = spec.model_copy(update={"clips_per_class": PerSplit(train=1, val=1, test=3)})
    source = SynthDataset(spec, "test", View(num_segments=4, size=32))
    torch.manual_seed(0)
    net = create_model("action_resnet18", num_classes=2, num_segments=4, width=16)
    decoder = MultiScaleDecoder.for_model(net, image_size=32)
    card = NetworkCard(model="action_resnet18", classes=spec.classes, num_segments=4, size=32, width=16)
    here = evaluate(net, card, source, device="cpu")
    (row,) = panel_rows(net, card, decoder, source, here, count=1, seed=0)
    with a_gpu():
        there = evaluate(net, card, source, device="cuda")
        (row_there,) = panel_rows(net, card, decoder, source, there, count=1, seed=0)
    np.testing.assert_allclose(there.scores, here.scores, rtol=1e-3 if REAL else 0)
    assert there.conditions.device == "cuda"
    for name in ("local", "global_"):
        np.testing.assert_allclose(getattr(row_there, name), getattr(row, name), atol=1e-3 if REAL else 0)


@pytest.mark.parametrize("options", [{}, {"online": True}], ids=["windows", "a state"])
def test_a_stream_is_scored_the_same(options: dict[str, Any]) -> None:
    model, classes = "action_resnet18", ("a", "b")
    card = NetworkCard(model=model, classes=classes, num_segments=4, size=32, width=8, fps=10.0, options=options)
    torch.manual_seed(0)
    net = create_model(model, num_classes=2, num_segments=4, width=8, options=options)
    frames = np.random.default_rng(0).integers(0, 255, (6, 40, 50, 3), dtype=np.uint8)

    def scores(device: str) -> list[np.ndarray]:
        scorer = make_scorer(net, card, device)
        return [each.scores for place, frame in enumerate(frames) for each in scorer.push(frame, place / 10)]

    here = scores("cpu")
    with a_gpu():
        there = scores("cuda")
    assert len(here) == len(there) > 1
    np.testing.assert_allclose(there, here, rtol=1e-3 if REAL else 0)
