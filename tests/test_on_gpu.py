"""Rendering, training and testing with ``device="cuda"``: on a real GPU if there is one, else on a pretended one.

What the pretended one shows: no operation mixes devices, nothing expects GPU memory to be numpy's, and the results are
those of the CPU. What it cannot show: a GPU's own kernels, its speed, its memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from pretend_cuda import DeviceMix, OnCuda, pretended_cuda
from torch import Tensor, nn

from dynagest.card import NetworkCard
from dynagest.clips.dataset import normalise
from dynagest.clips.view import View
from dynagest.networks.build import create_model
from dynagest.synth.dataset import SynthDataset
from dynagest.synth.film import Footage
from dynagest.synth.recording import plan, record
from dynagest.synth.sensor import _table
from dynagest.synth.spec import PerSplit, SynthSpec, get_preset
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.depth import DepthTask
from dynagest.task.loss import DepthLoss
from dynagest.testing.evaluate import evaluate

REAL = torch.cuda.is_available()


@contextmanager
def a_gpu() -> Iterator[None]:
    """The noise of generated clips is kept for each device; what a pretended one was given must not outlive it."""
    with nullcontext() if REAL else pretended_cuda():
        _table.cache_clear()
        try:
            yield
        finally:
            _table.cache_clear()


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


def one_step(name: str, device: str) -> tuple[float, dict[str, Tensor]]:
    """The loss of the first of two optimiser steps, and what they left of network, decoders and statistics."""
    torch.manual_seed(0)
    net = create_model(name, num_classes=5, num_segments=4, width=16, dropout=0.0)
    task = DepthTask(net, MultiScaleDecoder.for_model(net, image_size=64), DepthLoss(threshold=10 / 255))
    task.to(device).train()
    draws = torch.Generator().manual_seed(1)
    rgb = torch.randint(0, 255, (3, 4, 3, 64, 64), generator=draws, dtype=torch.uint8).to(device)
    depth = torch.rand(3, 4, 1, 64, 64, generator=draws).to(device)
    label, has_depth = torch.tensor([1, 2, 4]).to(device), torch.tensor([True, False, True]).to(device)
    optimiser = torch.optim.SGD(task.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    losses = []
    for _ in range(2):
        out = task(normalise(rgb, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2)), label, depth, has_depth)
        optimiser.zero_grad()
        out.loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 20.0)
        optimiser.step()
        losses.append(out.loss.item())
    assert losses[0] != losses[1]
    return losses[0], {key: value.detach() for key, value in task.state_dict().items()}


@pytest.mark.parametrize("name", ["tsm_resnet18", "action_resnet18", "tea_res2net50"])
def test_a_training_step_is_the_same(name: str) -> None:
    loss, state = one_step(name, "cpu")
    with a_gpu():
        loss_there, state_there = one_step(name, "cuda")
        state_there = {key: back(value) for key, value in state_there.items()}
    tolerance = 2e-3 if REAL else 0.0  # convolutions of a GPU may run in TF32
    assert loss_there == pytest.approx(loss, rel=tolerance, abs=0)
    assert state.keys() == state_there.keys()
    for key, value in state.items():
        torch.testing.assert_close(state_there[key], value, rtol=tolerance, atol=tolerance, msg=key)


def test_clips_are_scored_the_same() -> None:
    spec = get_preset("demo").model_copy(update={"size": 40, "num_frames": 6, "classes": ("swipe_left", "grab")})
    spec = spec.model_copy(update={"clips_per_class": PerSplit(train=1, val=1, test=3)})
    source = SynthDataset(spec, "test", View(num_segments=4, size=32, depth=False))
    torch.manual_seed(0)
    net = create_model("action_resnet18", num_classes=2, num_segments=4, width=16)
    card = NetworkCard(model="action_resnet18", classes=spec.classes, num_segments=4, size=32, width=16)
    here = evaluate(net, card, source, device="cpu")
    with a_gpu():
        there = evaluate(net, card, source, device="cuda")
    np.testing.assert_allclose(there.scores, here.scores, rtol=1e-3 if REAL else 0)
    assert there.conditions.device == "cuda"
