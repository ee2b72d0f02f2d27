"""Times networks on clips and on streams, in fp32, bf16 and int8, in PyTorch, ONNX Runtime and OpenVINO.

    python benchmarks/latency.py                                  # ACTION-R50 8 x 224 and ACTION-R18 8 x 64, all rows
    python benchmarks/latency.py --only action_resnet18:16:64 --rounds 3                              # a quick check
    python benchmarks/latency.py --modes stream --only action_resnet50:64:224 --files "OpenVINO*int8"
    python benchmarks/latency.py --modes window --only action_resnet18:16:64

A network is NAME:WIDTH:SIZE. Its weights are random, with BatchNorm statistics that fit noise, because latency does not
depend on them; `dynagest export` reports accuracy. Every round times each row once, one after the other, so that a
change in the machine's load affects all alike. A stream's turn is eight frames, so that all but the first find in the
cache what they find when a stream runs alone. The mode ``window`` is that of two-directional networks, whose windows
slide over a stream: by streaming files, which keep the stem's features, and by files of clips. "x eager" is the
speed-up over eager fp32 PyTorch: the median over rounds of PyTorch's time divided by the row's in the same round. "of
peak" is the torch network's multiply-adds (two operations each) divided by the row's fastest time, as a share of the
best rate of this machine in the same run on a convolution or a matrix product of that precision; a window counts as a
clip. A line says which files cannot be made and are left out, and PyTorch's int8 where torchao is not installed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import openvino
import torch
from torch import nn

from dynagest.card import NetworkCard
from dynagest.errors import DynagestError
from dynagest.export.convert import to_onnx
from dynagest.export.fold import fold_batchnorm
from dynagest.export.frames import frame_form
from dynagest.export.streams import StreamForm, convert_stream, stream_inputs
from dynagest.export.write import SUFFIX, Runtime, convert_clips, stream_form, write_model
from dynagest.networks.build import create_model
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.count import count
from dynagest.runtimes.load import load_clip_network, load_stream_network
from dynagest.runtimes.model_file import CLIPS, FRAME, LOGITS, STATE_IN, Mode, ModelInfo, Precision, file_name
from dynagest.runtimes.torch_network import TorchNetwork, TorchStream
from dynagest.stream.state import StreamNetwork

CLASSES, FRAMES = 83, 8
FILES: tuple[tuple[Runtime, Precision], ...] = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
FRAMES_AT_ONCE = (1, 2, 4)
Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Something to time: its name, its precision, ``step``, which runs it once, and the stream's frames per run."""

    name: str
    precision: str
    step: Step
    frames: int = 1


def build(name: str, width: int, size: int, online: bool) -> tuple[ClipNet, NetworkCard]:
    """A random network whose activations stay in bounds."""
    torch.manual_seed(0)
    options = {"online": True} if online else {}
    net = create_model(name, CLASSES, FRAMES, width=width, options=options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    net.train()
    with torch.no_grad():
        net(torch.randn(1, FRAMES, 3, size, size))
    names = tuple(f"class {index}" for index in range(CLASSES))
    card = NetworkCard(
        model=name, classes=names, num_segments=FRAMES, stride=1, size=size, width=width, options=options, fps=10.0
    )
    return net.eval(), card


def torch_rows(net: ClipNet, card: NetworkCard, mode: str, clip: np.ndarray) -> Iterator[Row]:
    """Eager PyTorch, in fp32 and under bf16 autocast."""
    if mode == "clip":
        network = TorchNetwork(net, card)
        yield Row("PyTorch eager", "fp32", lambda: network.logits(clip[None]))
        yield Row("PyTorch eager, autocast", "bf16", autocast(lambda: network.logits(clip[None])))
        return
    stream = TorchStream(net, card)
    yield Row("PyTorch eager", "fp32", stepper(stream, clip), FRAMES)
    yield Row("PyTorch eager, autocast", "bf16", autocast(stepper(stream, clip)), FRAMES)


def autocast(step: Step) -> Step:
    """``step`` in bf16."""

    def run() -> object:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return step()

    return run


def compiled_row(net: ClipNet, card: NetworkCard, mode: str, clip: np.ndarray) -> Iterator[Row]:
    """PyTorch in int8: the form for ONNX Runtime, by torchao and compiled here and now, which takes minutes."""
    name = "PyTorch compiled"
    try:
        from torch_int8 import compiled_int8
    except ImportError as error:
        print(f"{name}, int8, {mode}: left out: {error}; pip install -c constraints.txt torchao")
        return
    step: Step
    if mode == "clip":
        whole = torch.from_numpy(clip[None])
        step, turns = partial(compiled_int8(frame_form(fold_batchnorm(net, whole)), [(whole,)]), whole), 1
    else:
        form, turns = StreamForm(net, card.size), FRAMES
        names = [FRAME, *(STATE_IN + each for each in form.first)]
        inputs = stream_inputs(form, np.repeat(clip[None], FRAMES, axis=0), 1)
        samples = [[torch.from_numpy(each[key]) for key in names] for each in inputs]
        network = compiled_int8(form, [(frame, state) for frame, *state in samples])
        state = list(form.first.values())

        def step() -> None:
            nonlocal state
            for frame in torch.from_numpy(clip).split(1):
                _, *state = network(frame, state)

    step()
    yield Row(name, "int8", step, turns)


def file_rows(
    net: ClipNet, card: NetworkCard, mode: str, clip: np.ndarray, folder: Path, threads: int, only: str
) -> Iterator[Row]:
    """A row for every file that can be made of the network and whose title and precision fit ``only``.

    For streams also files that take several frames at once; for windows also files of clips, a whole one per frame.
    """
    at_once = FRAMES_AT_ONCE if mode == "stream" else (1,)
    kinds: tuple[Mode, ...] = ("clip", "stream") if mode == "window" else ("clip" if mode == "clip" else "stream",)
    for (to, precision), frames, kind in product(FILES, at_once, kinds):
        title = "ONNX Runtime" if to == "onnx" else "OpenVINO"
        title += f", {frames} at once" if frames > 1 else ", clips" if mode == "window" and kind == "clip" else ""
        if not fnmatch(f"{title} {precision}", only):
            continue
        if kind == "clip":
            model, state = convert_clips(net, card, to)
            inputs = iter([{CLIPS: clip[None]}])
        else:
            form = stream_form(net, card.size, to, precision)
            model, state = convert_stream(form, frames)
            inputs = stream_inputs(form, np.repeat(clip[None], FRAMES, axis=0), frames)  # all steps of the clip
        path = folder / file_name(precision, kind, SUFFIX[to], frames)
        info = ModelInfo(mode=kind, precision=precision, frames=frames, card=card, state=state)
        try:
            write_model(model, info, to, inputs, path)
        except DynagestError as error:
            print(f"{title}, {precision}, {mode}: left out: {error}")
            continue
        if kind == "stream":
            yield Row(title, precision, stepper(load_stream_network(path, threads=threads), clip), FRAMES)
        else:
            network, turns = load_clip_network(path, threads=threads), FRAMES if mode == "window" else 1
            yield Row(title, precision, repeated(partial(network.logits, clip[None]), turns), turns)


def repeated(step: Step, turns: int) -> Step:
    """``step`` several times."""

    def run() -> None:
        for _ in range(turns):
            step()

    return run


def stepper(stream: StreamNetwork, clip: np.ndarray) -> Step:
    """A function that takes a stream's next T frames, from a clip, as a camera's loop does."""
    state = stream.initial_state()

    def run() -> None:
        nonlocal state
        for begin in range(0, len(clip), stream.frames):
            _, state = stream.step(clip[begin : begin + stream.frames], state)

    return run


def peak_rows(folder: Path, threads: int) -> list[tuple[Row, float]]:
    """Rows for the machine's peak, with the operations of one run: products in torch, convolutions in OpenVINO."""
    n = 1536
    a, b = torch.randn(n, n), torch.randn(n, n)
    low_a, low_b = a.bfloat16(), b.bfloat16()
    rows: list[tuple[Row, float]] = [
        (Row("matrix product", "fp32", lambda: a @ b), 2.0 * n**3),
        (Row("matrix product", "bf16", lambda: low_a @ low_b), 2.0 * n**3),
    ]
    conv = nn.Sequential(*(nn.Conv2d(128, 128, 3, padding=1, bias=False) for _ in range(4)))
    x = np.random.default_rng(0).standard_normal((8, 128, 28, 28), dtype=np.float32)
    operations = 4 * 2.0 * x.shape[0] * 128 * 128 * 9 * 28 * 28
    model = to_onnx(conv, (torch.from_numpy(x),), [CLIPS], [LOGITS], dynamic=False)
    card = NetworkCard(model="none", classes=("a", "b"), num_segments=1, stride=1, size=32, width=64)
    for precision in ("fp32", "bf16", "int8"):
        path = folder / f"peak-{precision}.xml"
        info = ModelInfo(mode="clip", precision=precision, card=card)
        write_model(model, info, "openvino", [{CLIPS: x}], path)
        hint = "bf16" if precision == "bf16" else "f32"
        config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        request = openvino.compile_model(path, "CPU", config).create_infer_request()
        rows.append((Row("3x3 convolutions", precision, partial(request.infer, {CLIPS: x})), operations))
    return rows


def measure(rows: list[Row], rounds: int) -> list[list[float]]:
    """Seconds of every row in every round, per frame where a run takes several; a first round is not counted."""
    seconds: list[list[float]] = [[] for _ in rows]
    for counted in [False] + [True] * rounds:
        for row, times in zip(rows, seconds, strict=True):
            begin = time.perf_counter()
            row.step()
            if counted:
                times.append((time.perf_counter() - begin) / row.frames)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["action_resnet50:64:224", "action_resnet18:16:64"])
    parser.add_argument("--modes", nargs="+", choices=("clip", "stream", "window"), default=["clip", "stream"])
    parser.add_argument("--files", default="*", help='only files whose row fits, such as "OpenVINO*int8"')
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peaks = peak_rows(folder, arguments.threads)
        for network in arguments.only:
            model, width, size = network.split(":")
            for mode in arguments.modes:
                net, card = build(model, int(width), int(size), online=mode == "stream")
                clip = np.random.default_rng(0).standard_normal((FRAMES, 3, int(size), int(size)), dtype=np.float32)
                operations = 2.0 * count(net, (1, FRAMES, 3, int(size), int(size))).multiply_adds
                if mode == "stream":
                    operations /= FRAMES
                own = fnmatch("PyTorch compiled int8", arguments.files) and mode != "window"
                rows = [
                    *torch_rows(net, card, mode, clip),
                    *(compiled_row(net, card, mode, clip) if own else ()),
                    *file_rows(net, card, mode, clip, folder, arguments.threads, arguments.files),
                ]
                seconds = measure([*rows, *(row for row, _ in peaks)], arguments.rounds)
                setting = f"a frame of {size}" if mode == "stream" else f"{FRAMES} x {size}"
                print_table(f"{model}, width {width}, {mode}, {setting}", rows, seconds, operations, peaks)


def print_table(
    title: str, rows: list[Row], seconds: list[list[float]], operations: float, peaks: list[tuple[Row, float]]
) -> None:
    """Print milliseconds, the ratio to the first row, and the share of the peak of the row's precision."""
    best: dict[str, float] = {}
    for (row, each), times in zip(peaks, seconds[len(rows) :], strict=True):
        best[row.precision] = max(best.get(row.precision, 0.0), each / min(times))
    told = ", ".join(f"{precision} {value / 1e9:.0f}" for precision, value in best.items())
    print(f"\n{title}; {operations / 1e9:.1f} GFLOP; peak in GFLOP/s: {told}")
    print(f"{'':26}{'':6}{'median ms':>11}{'min ms':>9}{'x eager':>9}{'of peak':>9}")
    for row, times in zip(rows, seconds, strict=False):
        ratio = statistics.median(eager / mine for eager, mine in zip(seconds[0], times, strict=True))
        share = operations / min(times) / best[row.precision]
        print(
            f"{row.name:26}{row.precision:6}{1000 * statistics.median(times):11.1f}{1000 * min(times):9.1f}"
            f"{ratio:9.2f}{share:9.0%}"
        )


if __name__ == "__main__":
    main()
