"""``dynagest export``: writes the file, runs it, compares it with PyTorch, and keeps it only if they agree."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch

from dynagest.card import NetworkCard
from dynagest.errors import ExportError, RunError
from dynagest.export.clips import gather
from dynagest.export.convert import check, set_metadata, to_onnx
from dynagest.export.fold import fold_batchnorm
from dynagest.export.frames import frame_form
from dynagest.export.quantise_onnx import Inputs, pooled_nodes, quantise_onnx
from dynagest.export.streams import StreamForm, convert_stream, stream_inputs
from dynagest.export.verify import TOLERANCES, ClipRunner, Comparison, Runner, StreamRunner, Tolerance
from dynagest.export.volumes import VolumeNet, fits_volumes
from dynagest.machine import torch_threads
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.video import VideoNet
from dynagest.networks.weights import load_network
from dynagest.runtimes.load import load_clip_network, load_stream_network
from dynagest.runtimes.model_file import (
    CLIPS,
    KEY,
    LOGITS,
    Mode,
    ModelInfo,
    Precision,
    StateTensor,
    check_rgb,
    file_name,
)
from dynagest.runtimes.torch_network import TorchNetwork, TorchStream
from dynagest.stream.events import tuned_settings

Runtime = Literal["onnx", "openvino"]
SUFFIX: dict[Runtime, str] = {"onnx": ".onnx", "openvino": ".xml"}
ROUNDS = 5  # of the printed latency, a rough one; benchmarks/latency.py measures with care


@dataclass(frozen=True)
class Export:
    """An exported file, and how it compares. Sizes are in bytes, latencies in seconds for one clip (or frame).

    ``unreadable`` says which clips of calibration and comparison could not be read, and why.
    """

    path: Path
    info: ModelInfo
    source: str
    comparison: Comparison
    size: int
    size_torch: int
    latency: float
    latency_torch: float
    unreadable: tuple[str, ...] = ()


def export(
    run: Path | str,
    to: Runtime,
    *,
    precision: Precision = "fp32",
    mode: Mode = "clip",
    frames: int = 1,
    out: Path | None = None,
    data: Path | None = None,
    clips: int = 64,
    tolerance: Tolerance | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Export:
    """Export the network of a run folder (or a ``.safetensors`` file), and compare the file with it.

    ``frames``: the number of frames that a stream's file takes at once, 1 to T (see docs/streaming.md).
    ``out``: by default ``network-PRECISION.onnx`` or ``.xml`` in the run folder, streams with ``-stream`` (and, of
    several frames, ``-xF``) in the name.
    ``data``: a manifest; its training clips calibrate int8, its test clips are compared. See ``gather`` for the
    default. ``clips``: the number of each. ``threads``: the number of threads of PyTorch and of the file (default:
    PyTorch's). ``progress`` is called with a line for each step.

    Raises ``ExportError`` when the combination does not exist, the network cannot be exported, or the file disagrees
    with PyTorch by more than ``tolerance``; then the new file is removed and an older one stays as it was. Raises
    ``RunError`` when the file cannot be written, and what ``load_network`` and ``gather`` raise.

    Example: ``export("runs/demo", "onnx", precision="int8").comparison.agreement``
    """
    tell = progress or (lambda _: None)
    run = Path(run)
    check_combination(to, precision, mode, frames)
    net, card = load_network(run)
    check_rgb(card, str(run))
    if not 1 <= frames <= card.num_segments:
        raise ExportError(f"--frames {frames}: this network's clips have {card.num_segments}; 1 to as many at once")
    if mode == "stream" and card.num_segments == 1:
        raise ExportError(f"--mode stream: {run} sees one frame alone; export it with --mode clip, for streams, too")
    folder = run if run.is_dir() else run.parent
    target = out or folder / file_name(precision, mode, SUFFIX[to], frames)
    check_target(target, to)

    tell("reading clips")
    calibration, held_out = gather(folder, card, data, clips, calibrates=precision == "int8")
    tell("tracing the network")
    if mode == "clip":
        model, state = convert_clips(net, card, to)
        inputs: Iterable[Inputs] = ({CLIPS: clip[None]} for clip in calibration.clips)
    else:
        form = stream_form(net, card.size, to, precision)
        model, state = convert_stream(form, frames)
        inputs = stream_inputs(form, calibration.clips, frames)
    events = tuned_settings(folder)
    info = ModelInfo(
        mode=mode,
        precision=precision,
        batch=None if isinstance(net, VideoNet) and mode == "clip" else 1,
        frames=frames,
        card=card,
        state=state,
        events=events.model_dump() if events else None,
    )
    with _staged(target) as staged, torch_threads(threads) as count:
        tell(f"writing {precision}")
        info = write_model(model, info, to, inputs, staged)
        tell("comparing with PyTorch")
        pair = _runners(net, card, mode, staged, count)
        expected, actual = (runner.logits(held_out.clips) for runner in pair)
        comparison = Comparison.of(expected, actual, pair[0].labels(held_out))
        comparison.check(tolerance or TOLERANCES[precision], precision)
        latency_torch, latency = _latencies(pair, held_out.clips[0])
        size = sum(part.stat().st_size for part in _parts(staged))
        del pair  # OpenVINO maps the weights, and Windows cannot move a file that is mapped
    return Export(
        path=target,
        info=info,
        source=held_out.source,
        comparison=comparison,
        size=size,
        size_torch=sum(each.numel() * each.element_size() for each in net.state_dict().values()),
        latency=latency,
        latency_torch=latency_torch,
        unreadable=(*calibration.unreadable, *held_out.unreadable),
    )


def check_combination(to: Runtime, precision: Precision, mode: Mode, frames: int) -> None:
    """Raise ``ExportError`` for a combination that no runtime supports."""
    if mode == "clip" and frames != 1:
        raise ExportError(f"--frames {frames}: of --mode stream; a clip is always taken whole")
    if to == "onnx" and precision == "bf16":
        raise ExportError(
            "--to onnx --precision bf16: ONNX Runtime has no bf16 kernels for the CPU; use --to openvino --precision "
            "bf16, or --precision int8, which is faster still"
        )


def stream_form(net: ClipNet, size: int, to: Runtime, precision: Precision) -> StreamForm:
    """The streaming form of the network that is fast in the runtime. Raises ``ModelError`` for one that is not 2D."""
    openvino = to == "openvino"
    return StreamForm(net, size, channels_last=openvino and precision == "int8", volumes=openvino)


def check_target(target: Path, to: Runtime) -> None:
    """Raise ``ExportError`` unless ``target`` can be the name of a file for this runtime."""
    if target.suffix != SUFFIX[to]:
        raise ExportError(f"--out {target}: a file for --to {to} ends in {SUFFIX[to]}")
    if target.is_dir():
        raise ExportError(f"--out {target}: is a folder; name a file")


def convert_clips(net: ClipNet, card: NetworkCard, to: Runtime) -> tuple[onnx.ModelProto, dict[str, StateTensor]]:
    """Convert the network to an ONNX model in the form that is fast in the runtime. Returns it with an empty state."""
    clip = torch.zeros(1, card.num_segments, 3, card.size, card.size)
    folded = fold_batchnorm(net, clip)
    if not isinstance(folded, VideoNet):
        return to_onnx(folded, (clip,), [CLIPS], [LOGITS], dynamic=False), {}
    form: torch.nn.Module = VolumeNet(folded) if to == "openvino" and fits_volumes(folded) else frame_form(folded)
    # Two clips, because torch takes a dimension of length one for a constant.
    return to_onnx(form, (clip.expand(2, -1, -1, -1, -1),), [CLIPS], [LOGITS], dynamic=True), {}


def write_model(
    model: onnx.ModelProto, info: ModelInfo, to: Runtime, calibration: Iterable[Inputs], path: Path
) -> ModelInfo:
    """Write ``model`` in the precision of ``info``, with ``info`` inside. Returns ``info`` with the final state.

    Raises ``RunError`` when it cannot be written.
    """
    if to == "onnx":
        if info.precision == "int8":
            with _writing(Path(tempfile.gettempdir()), "name another folder for such files by TMPDIR"):
                model = quantise_onnx(model, calibration)
        set_metadata(model, {KEY: info.model_dump_json()})
        check(model)
        with _writing(path.parent):
            onnx.save(model, path)
        return info
    import openvino

    set_metadata(model, {})
    converted = openvino.Core().read_model(model.SerializeToString())
    if info.precision == "int8":
        # Here, because NNCF takes seconds to import.
        from dynagest.export.quantise_openvino import keep_state_in_bytes, quantise_openvino

        converted = quantise_openvino(converted, calibration, pooled_nodes(model))
        info = info.model_copy(update={"state": keep_state_in_bytes(converted, info.state)})
    converted.set_rt_info(info.model_dump_json(), [KEY])
    # Stored as fp16, which is more exact than the bf16 in which it is computed.
    with _writing(path.parent):
        openvino.save_model(converted, path, compress_to_fp16=info.precision == "bf16")
    return info


def _runners(net: ClipNet, card: NetworkCard, mode: Mode, file: Path, threads: int) -> tuple[Runner, Runner]:
    """The runners of PyTorch and of the exported file."""
    if mode == "clip":
        return ClipRunner(TorchNetwork(net, card)), ClipRunner(load_clip_network(file, threads=threads))
    return StreamRunner(TorchStream(net, card)), StreamRunner(load_stream_network(file, threads=threads))


def _latencies(runners: Sequence[Runner], clip: np.ndarray) -> list[float]:
    """Each runner's seconds for one clip, or one frame: the median over rounds in which they take turns."""
    times: list[list[float]] = [[] for _ in runners]
    for _ in range(ROUNDS):
        for runner, each in zip(runners, times, strict=True):
            begin = time.perf_counter()
            steps = len(runner.logits(clip[None]))
            each.append((time.perf_counter() - begin) / steps)
    return [statistics.median(each) for each in times]


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """The path of a temporary file beside ``target``, which replaces it on success and is removed otherwise."""
    staged = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.touch()
        yield staged
        with _writing(target):
            for part, final in zip(_parts(staged), _parts(target), strict=True):
                part.replace(final)
    finally:
        for part in _parts(staged):
            with suppress(OSError):  # after success, or where nothing could be written, there is nothing to remove
                part.unlink()


@contextmanager
def _writing(where: Path, otherwise: str = "name another --out") -> Iterator[None]:
    """Tell an ``OSError`` in the block as a ``RunError``: ``where``, a file or folder, cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{where}: cannot be written ({error.strerror}); make room, or {otherwise}") from error


def _parts(path: Path) -> tuple[Path, ...]:
    # The weights first, so that an .xml never exists without its .bin.
    return (path.with_suffix(".bin"), path) if path.suffix == ".xml" else (path,)
