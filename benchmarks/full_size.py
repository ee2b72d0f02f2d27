"""Measures what needs a GPU: the speed of ResNet-50 networks on 8 x 224, and the tables at scale ``full``.

    python benchmarks/full_size.py OUT --hours 0.4 IV VI

measures training and inference in clips/s and as a share of the chip's own matrix product, then runs
``dynagest reproduce ... --scale full`` for the given time; the same command continues where it stopped. Everything is
kept in OUT: ``throughput.json`` (with the command and the chip), the tables, the ledger.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from dynagest.networks.build import create_model
from dynagest.networks.count import count
from dynagest.task.loss import Counts
from dynagest.training.assemble import build_task
from dynagest.training.optimiser import build_optimiser
from dynagest.training.recipes import get_recipe

MODELS = ("tsn_resnet50", "tsm_resnet50", "action_resnet50", "tea_res2net50")
CLASSES = 83


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", nargs="*", help="tables to fill; none: only measure")
    parser.add_argument("--hours", type=float, default=0.4, help="for the tables")
    parser.add_argument("--parallel", type=int, default=2, help="runs at once")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--cpu", action="store_true", help="only to try the script")
    options = parser.parse_intermixed_args()  # allows options between OUT and the tables
    if not options.cpu and not torch.cuda.is_available():
        sys.exit("there is no GPU here; --cpu tries the script without one")
    device = torch.device("cpu" if options.cpu else "cuda")
    options.out.mkdir(parents=True, exist_ok=True)

    peak = peak_multiply_adds(device, options.rounds)
    record = {
        "command": " ".join(sys.argv),
        "chip": "CPU" if options.cpu else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "clip": [8, options.size],
        "batch": options.batch,
        "bf16 multiply-adds a second of a matrix product": peak,
        "networks": [measure(model, options, device, peak) for model in options.models],
    }
    (options.out / "throughput.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"bf16 matrix product: {peak / 1e12:.1f} T multiply-adds a second")
    print(f"{'network':<18}{'train':>9}{'share':>8}{'+ MSD':>9}{'cost':>7}{'infer':>9}{'share':>8}   clips/s, bf16")
    for row in record["networks"]:
        print(
            f"{row['model']:<18}{row['train']:>9.1f}{row['train share']:>8.0%}{row['train with MSD']:>9.1f}"
            f"{row['train'] / row['train with MSD']:>6.2f}x{row['infer']:>9.1f}{row['infer share']:>8.0%}"
        )
    if options.tables:
        torch.cuda.empty_cache()  # the runs are separate processes, which need the GPU's memory
        command = [sys.executable, "-m", "dynagest", "reproduce", *options.tables, "--scale", "full"]
        command += ["--out", str(options.out), "--hours", str(options.hours), "--parallel", str(options.parallel)]
        sys.exit(subprocess.run(command, check=False).returncode)


def measure(model: str, options: argparse.Namespace, device: torch.device, peak: float) -> dict[str, object]:
    """Clips/s of training without and with the decoders and of inference, and their shares of the chip's peak."""
    cost = count(create_model(model, CLASSES), (1, 8, 3, options.size, options.size)).multiply_adds
    plain, taught = (training_rate(model, msd, options, device) for msd in ("none", "both"))
    infer = inference_rate(model, options, device)
    return {
        "model": model,
        "multiply-adds a clip": cost,
        "train": plain,
        "train share": 3 * cost * plain / peak,
        "train with MSD": taught,
        "infer": infer,
        "infer share": cost * infer / peak,
    }


def training_rate(model: str, msd: str, options: argparse.Namespace, device: torch.device) -> float:
    """Clips/s of forward pass, backward pass and optimiser step, on tensors that are on the device already."""
    recipe = get_recipe("egogesture").with_overrides({"model": model, "msd": msd, "size": options.size})
    task, _ = build_task(recipe, CLASSES, device)
    optimiser = build_optimiser(task, recipe)
    rgb, label, depth = clips(options, device)
    has_depth = torch.ones(options.batch, dtype=torch.bool, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            output = task(rgb, label, depth if task.uses_depth else None, has_depth, Counts(len(label), len(label)))
        output.loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return options.batch / seconds(step, options.rounds, device)


@torch.inference_mode()
def inference_rate(model: str, options: argparse.Namespace, device: torch.device) -> float:
    """Clips/s of a forward pass."""
    net = create_model(model, CLASSES).to(device).eval()
    rgb, _, _ = clips(options, device)

    def forward() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            net(rgb)

    return options.batch / seconds(forward, options.rounds, device)


def clips(options: argparse.Namespace, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch of noise: RGB, labels, depth."""
    shape = (options.batch, 8)
    rgb = torch.randn(*shape, 3, options.size, options.size, device=device)
    depth = torch.rand(*shape, 1, options.size, options.size, device=device)
    return rgb, torch.zeros(options.batch, dtype=torch.long, device=device), depth


def peak_multiply_adds(device: torch.device, rounds: int) -> float:
    """Multiply-adds per second of a large bf16 matrix product, the chip's practical peak."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return float(side**3 / seconds(lambda: a @ b, rounds, device))


def seconds(work: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Seconds of the fastest of ``rounds`` runs, after two that warm up."""
    taken = []
    for place in range(rounds + 2):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if place >= 2:
            taken.append(time.perf_counter() - started)
    return min(taken)


if __name__ == "__main__":
    main()
