"""Loads the network at a path into the runtime that it needs."""

from collections.abc import Sequence
from pathlib import Path

from dynagest.errors import RecipeError, WeightsError
from dynagest.runtimes.exported import ExportedNetwork, ExportedStream, StreamedClips
from dynagest.runtimes.model_file import SUFFIXES, check_rgb
from dynagest.runtimes.onnx_network import CPU, open_onnx
from dynagest.runtimes.openvino_network import open_openvino
from dynagest.runtimes.torch_network import TorchNetwork, load_saved


def is_exported(path: Path | str) -> bool:
    """Whether the path names an exported file, rather than a run folder or weights."""
    return Path(path).suffix in SUFFIXES


def load_clip_network(
    path: Path | str, device: str | None = None, threads: int | None = None, providers: Sequence[str] | None = None
) -> TorchNetwork | ExportedNetwork | StreamedClips:
    """Load a network of clips from a run folder, a ``.safetensors`` file, or an exported ``.onnx`` or ``.xml`` file.

    A file that was exported with ``--mode stream`` runs over each clip frame by frame, and its last answer counts.
    ``device`` is a torch device such as ``cuda`` (default: the CPU), for networks that torch runs. ``threads`` is for
    exported ones, ``providers`` for ONNX Runtime alone. Raises ``WeightsError`` when there is no network of clips, or
    it is damaged or wants depth, and ``RecipeError`` for an option that this runtime does not have or a runtime that is
    not installed.
    """
    path = Path(path)
    check_options(path, device, threads, providers)
    if is_exported(path):
        return load_clip_file(path, threads, providers)
    return TorchNetwork(*load_saved(path), device or "cpu")


def load_clip_file(
    path: Path, threads: int | None = None, providers: Sequence[str] | None = None
) -> ExportedNetwork | StreamedClips:
    """Load an exported file as a network of clips. Options and errors are those of ``load_clip_network``."""
    network = load_exported(path, threads, providers)
    return StreamedClips(network) if isinstance(network, ExportedStream) else network


def load_stream_network(
    path: Path | str, threads: int | None = None, providers: Sequence[str] | None = None
) -> ExportedStream:
    """Load a file that was exported with ``--mode stream``. Options and errors are those of ``load_clip_network``."""
    path = Path(path)
    if not is_exported(path):
        raise RecipeError(f"{path}: is no exported file; give one that `dynagest export --mode stream` made")
    network = load_exported(path, threads, providers)
    if isinstance(network, ExportedNetwork):
        raise WeightsError(
            f"{path}: was exported for predictions of whole clips (--mode clip); export the network again with --mode "
            "stream"
        )
    return network


def load_exported(
    path: Path, threads: int | None = None, providers: Sequence[str] | None = None
) -> ExportedNetwork | ExportedStream:
    """Load an exported file of either mode. Options and errors are those of ``load_clip_network``."""
    check_options(path, None, threads, providers)
    info, run = open_onnx(path, threads, providers or CPU) if path.suffix == ".onnx" else open_openvino(path, threads)
    check_rgb(info.card, str(path))
    return ExportedStream(info, run) if info.mode == "stream" else ExportedNetwork(info, run)


def check_options(path: Path, device: str | None, threads: int | None, providers: Sequence[str] | None = None) -> None:
    """Raise ``RecipeError`` for an option that the runtime of this path does not have, or that is not possible."""
    runtime = SUFFIXES.get(path.suffix, "torch")
    if device is not None and runtime != "torch":
        raise RecipeError(f"device={device}: {path} is exported and runs on the CPU; leave the option out")
    if providers is not None and runtime != "ONNX Runtime":
        raise RecipeError(f"{path}: providers are ONNX Runtime's; this network runs in {runtime}")
    if threads is not None and runtime == "torch":
        raise RecipeError(f"threads={threads}: {path} is run by torch; export it, or set OMP_NUM_THREADS")
    if threads is not None and threads < 1:
        raise RecipeError(f"threads={threads}: {path}: at least 1 is needed")
