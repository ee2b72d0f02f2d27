"""Times the networks against plain ResNet-50, and against ACTION written as three full branches.

    python benchmarks/networks.py                       # inference and training step, float32
    python benchmarks/networks.py --bf16 --threads 2
    python benchmarks/networks.py --clock cpu --threads 1    # on a busy machine

Every round times each network once, one after the other, so that a change in the machine's load affects all alike.
"ratio" is the median over rounds of a network's time divided by that of tsn_resnet50 in the same round. The literal
networks run in contiguous memory, as the published code does; those of dynagest in channels_last.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from literal import literal_model
from torch import Tensor, nn

from dynagest.networks.build import create_model

PLAIN = "tsn_resnet50"
CLASSES = 83
OURS = (PLAIN, "tsm_resnet50", "action_resnet50", "tea_res2net50")
LITERAL = {
    "plain, contiguous": "tsn_resnet50",
    "three-branch ACTION": "action_resnet50",
    "literal TEA": "tea_res2net50",
}


def build(row: str, frames: int) -> nn.Module:
    """The network of a row."""
    if row in LITERAL:
        return literal_model(LITERAL[row], CLASSES, frames)
    return create_model(row, CLASSES, frames)


def inference(net: nn.Module, clips: Tensor, bf16: bool) -> Callable[[], None]:
    """One forward pass in evaluation mode."""

    def step() -> None:
        net.eval()
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            net(clips)

    return step


def training_step(net: nn.Module, clips: Tensor, bf16: bool) -> Callable[[], None]:
    """Forward, cross-entropy, backward and an SGD step with the learning rate zero."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    labels = torch.zeros(len(clips), dtype=torch.long)

    def step() -> None:
        net.train()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = net(clips)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def measure(steps: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of every step in every round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for counted in [False] + [True] * rounds:
        for name, step in steps.items():
            start = clock()
            step()
            if counted:
                seconds[name].append(clock() - start)
    return seconds


def print_table(title: str, seconds: dict[str, list[float]]) -> None:
    """Print milliseconds and ratios to the plain network."""
    print(f"\n{title}\n{'network':22}{'median ms':>11}{'min ms':>9}{'ratio':>8}{'of mins':>9}")
    for name, times in seconds.items():
        ratio = statistics.median(mine / plain for mine, plain in zip(times, seconds[PLAIN], strict=True))
        of_minima = min(times) / min(seconds[PLAIN])
        median = statistics.median(times)
        print(f"{name:22}{1000 * median:11.0f}{1000 * min(times):9.0f}{ratio:8.2f}{of_minima:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("inference", "training", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: time of all threads together")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*OURS, *LITERAL),
        metavar="ROW",
        help=f"to time beside {PLAIN}: {', '.join((*OURS[1:], *LITERAL))}",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    clips = torch.randn(arguments.clips, arguments.frames, 3, arguments.size, arguments.size)
    rows = dict.fromkeys((PLAIN, *(arguments.only or (*OURS, *LITERAL))))
    nets = {row: build(row, arguments.frames) for row in rows}
    dtype = "bfloat16 autocast" if arguments.bf16 else "float32"
    setting = f"{tuple(clips.shape)}, {dtype}, {arguments.threads} threads, torch {torch.__version__}"
    for mode, make in (("inference", inference), ("training", training_step)):
        if arguments.mode in (mode, "both"):
            steps = {name: make(net, clips, arguments.bf16) for name, net in nets.items()}
            print_table(f"{mode}: {setting}", measure(steps, arguments.rounds, clock))


if __name__ == "__main__":
    main()
