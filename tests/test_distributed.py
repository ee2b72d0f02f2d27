"""Two processes over gloo on the CPU give what one gives: uneven shares, clips without depth, BatchNorm, the log."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cli_helpers import run
from clip_files import make_clip, make_manifest
from safetensors.torch import load_file
from torch import nn
from training_toys import ToyClips, start, toy_data, toy_recipe

from dynagest.errors import DynagestError, RunError
from dynagest.training.batchnorm import synchronise
from dynagest.training.data import TrainingData
from dynagest.training.engine import build_accelerator
from dynagest.training.log import read_log
from dynagest.training.trainer import train

# `accelerate launch --cpu` starts one process unless it is given MPI; torchrun sets what Accelerate reads.
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
SHARES = (slice(0, 3), slice(3, 5))  # of five images


def images() -> torch.Tensor:
    return torch.randn(5, 4, 6, 6, generator=torch.Generator().manual_seed(0)) * 3 + 100


def norm_and_gradients(net: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, input gradient and state after one training step's forward and backward, with a loss that is no sum."""
    x = x.clone().requires_grad_()
    y = net(x)
    (y.sin() * torch.arange(4.0)[:, None, None]).sum().backward()
    state = {f"state {name}": value for name, value in net.state_dict().items()}
    gradients = {f"gradient {name}": parameter.grad for name, parameter in net.named_parameters()}
    return {"y": y.detach(), "x": x.grad} | state | gradients


def net() -> nn.Module:
    norm = nn.BatchNorm2d(4, eps=0.5, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1, 2, -1]))
        norm.bias.copy_(torch.tensor([0.0, 1, -1, 0.3]))
    volumes = nn.Sequential(nn.Unflatten(2, (2, 3)), nn.BatchNorm3d(4), nn.Flatten(2, 3))
    return nn.Sequential(nn.Sequential(norm), volumes)


def one_of_two(rank: int, folder: str) -> None:
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    results = norm_and_gradients(synchronise(net()), images()[SHARES[rank]])
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_batchnorm_over_all_processes(tmp_path: Path) -> None:
    mp.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    whole = norm_and_gradients(net(), images())
    assert whole.keys() == parts[0].keys()
    for name, value in whole.items():
        if name in ("y", "x"):
            found = torch.cat([part[name] for part in parts])
        elif name.startswith("state"):
            assert torch.equal(parts[0][name], parts[1][name])
            found = parts[0][name]
        else:
            found = parts[0][name] + parts[1][name]
        torch.testing.assert_close(found, value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def assert_alike(one: Path, two: Path) -> None:
    """The checkpoints of both runs hold the same, but for the order of sums."""
    ours, theirs = (load_file(run_dir / "checkpoint.safetensors") for run_dir in (one, two))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert (theirs[name] - value).abs().max() <= 1e-3 * value.abs().max() + 1e-8, name


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    """13 clips in batches of 4, 3, 3 and 3: shares of 2 + 2 and 2 + 1, a third of the clips without depth.

    Small steps: with large ones, batches this small amplify the order of summation from step to step.
    """
    changes = ("epochs=1", "milestones=", "lr=0.0003")
    process = start(tmp_path / "two", "--clips=13", "--sparse-depth", "--set", *changes, launcher=LAUNCH)
    train(toy_recipe(epochs=1, milestones=(), lr=0.0003), toy_data(count=13, sparse_depth=True), tmp_path / "one")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert_alike(tmp_path / "one", tmp_path / "two")
    one_log, two_log = (
        [line for line in read_log(tmp_path / each) if line["event"] == "epoch"] for each in ("one", "two")
    )
    for ours, theirs in zip(one_log, two_log, strict=True):
        for part in ("train", "validation"):
            assert theirs[part] == pytest.approx(ours[part], rel=1e-4)


def machine(rank: int, port: int, home: Path, *command: str) -> subprocess.Popen[str]:
    """``accelerate launch -m dynagest`` on one of two machines, with a process each.

    It is told of GPUs, because with --cpu it wants MPI; the processes take the CPU all the same.
    """
    machines = ("--num_machines=2", f"--machine_rank={rank}", "--main_process_ip=127.0.0.1", "--same_network")
    processes = ("--multi_gpu", "--num_processes=2", f"--main_process_port={port}", "--mixed_precision=no")
    # HF_HOME, where `accelerate config` of whoever runs the tests may have left its answers.
    environment = {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", *machines, *processes, "-m", "dynagest", *command],
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_machines_of_accelerate_launch_give_the_result_of_one(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path, f"{number}", "ab"[number % 2], frames=6) for number in range(5)]
    manifest = make_manifest(*clips).write(tmp_path / "manifest.csv")
    small = ("model=action_resnet18", "width=8", "size=32", "num_segments=4", "epochs=1", "milestones=", "batch=3")
    settings = (*small, "lr=0.0003", "lr_batch=3", "jitter=0", "workers=0", "precision=fp32")
    command = ["train", "isogd", "--data", str(manifest.path), *(f"--set={pair}" for pair in settings), "--out"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = [machine(rank, port, tmp_path, *command, str(tmp_path / "two")) for rank in (0, 1)]
    assert run(*command, str(tmp_path / "one"))[0] == 0
    told = [process.communicate(timeout=120) for process in machines]
    assert [process.returncode for process in machines] == [0, 0], told
    assert f"report: {tmp_path / 'two' / 'report.html'}" in told[0][0]
    assert told[1][0] == "", "the main process alone tells"
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert_alike(tmp_path / "one", tmp_path / "two")


def fail_as_one_of_two(rank: int, port: int, folder: str) -> None:
    """Three runs in which one process has an error, and what each process made of it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    recipe, run = toy_recipe(epochs=1, milestones=()), Path(folder) / "run"
    bad = ToyClips(contradicting=(5,))
    raised = []
    for data, run_dir in (
        (TrainingData.of_sources(bad, None), run / "training"),
        (TrainingData.of_sources(ToyClips(), bad), run / "validation"),
        (TrainingData.of_sources(ToyClips(), None), run / "training"),  # which holds the first run
    ):
        with pytest.raises(DynagestError) as caught:
            train(recipe, data, run_dir)
        raised.append(f"{type(caught.value).__name__}: {caught.value}")
    (Path(folder) / f"{rank}.json").write_text(json.dumps(raised))
    dist.destroy_process_group()


def test_what_one_process_finds_wrong_is_raised_in_all(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(fail_as_one_of_two, args=(port, str(tmp_path)), nprocs=2)
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    assert one[:2] == ["DepthError: depth.yaml: says near is bright"] * 2
    assert one[2].startswith("RunError: ")
    assert "a run that stopped after" in one[2]


def test_failing_main_process_ends_the_others(tmp_path: Path) -> None:
    """The other one waits in a collective for a main process that could not write its checkpoint."""
    process = start(tmp_path / "run", "--disk=20000", launcher=LAUNCH)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "checkpoint.safetensors: cannot be written (File too large)" in errors


def test_fewer_clips_than_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(type(build_accelerator()), "num_processes", 20)
    with pytest.raises(RunError, match="cannot be shared by 20 processes"):
        train(toy_recipe(), toy_data(), tmp_path)
