"""What the tests of the page share: small networks to serve, generated gestures as frames, what the page shows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from web_browser import until

from dynagest.card import NetworkCard
from dynagest.clips.gesture_folder import LONGEST_LABEL
from dynagest.export import export
from dynagest.networks.build import create_model
from dynagest.networks.weights import save_network
from dynagest.runtimes.model_file import Mode
from dynagest.synth.recording import plan, record
from dynagest.synth.spec import SynthSpec
from dynagest.web.app import Site
from dynagest.web.clips import ClipFolder
from dynagest.web.model import ModelShelf, load_model
from dynagest.web.runtime import find_runtime
from dynagest.web.training import Training

LONGEST = "w" * LONGEST_LABEL  # of the names that a gesture may have, and the widest


def rate_of(spec: SynthSpec) -> float:
    """Frames a second of its clips."""
    return spec.num_frames / spec.seconds


def clip_frames(spec: SynthSpec, index: int) -> list[np.ndarray]:
    """The frames (S, S, 3) of test clip ``index``."""
    footage = record(spec, plan(spec, "test", index), np.arange(spec.num_frames))
    return list(np.ascontiguousarray(footage.rgb.permute(0, 2, 3, 1).numpy()))


def export_untrained(folder: Path, classes: tuple[str, ...], **options: Any) -> Path:
    """A run folder with an untrained small network, exported: the ONNX file."""
    torch.manual_seed(0)
    net = create_model("action_resnet18", len(classes), 8, width=16, options=options or None)
    card = NetworkCard(
        model="action_resnet18", classes=classes, num_segments=8, fps=8.0, size=64, width=16, options=options
    )
    save_network(folder, net.eval(), card)
    mode: Mode = "stream" if options.get("online") else "clip"
    path = folder / f"{mode}.onnx"
    export(folder, "onnx", mode=mode, out=path, clips=2)
    return path


def serve(
    folder: Path, network: Path, init: Path | None = None, epochs: int | None = None, fps: float | None = None
) -> Site:
    """A site that recognises by ``network``, with Teach in ``folder``."""
    shelf, clips = ModelShelf(load_model(network, fps=fps)), ClipFolder(folder / "gestures")
    training = Training(clips, init, folder / "runs", lambda path: shelf.put(load_model(path)), epochs)
    return Site(shelf, find_runtime(), clips, training)


def scores_seen(page: Any) -> None:
    """Wait until the page shows answers of its network."""
    until(page, "document.getElementById('network-rate').textContent.includes('/s')")
    until(page, "document.querySelectorAll('#rank li').length > 0")
