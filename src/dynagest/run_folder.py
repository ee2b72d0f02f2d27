"""The names of the files in a run folder (``docs/design.md`` says what each holds), and the run's data. No torch."""

from pathlib import Path
from typing import Any

from dynagest.errors import RunError
from dynagest.fields import parse_json

RECIPE_FILE = "recipe.json"
ENVIRONMENT_FILE = "environment.json"
CHECKPOINT_FILE = "checkpoint.safetensors"
STAGES_FOLDER = "stages"
LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
UNREADABLE_FILE = "unreadable.jsonl"
NETWORK_FILE = "network.safetensors"
CARD_FILE = "network.json"
DECODERS_FILE = "decoders.safetensors"
DECODERS_CARD_FILE = "decoders.json"
PARTNER_FILE = "partner.safetensors"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
PANELS_FOLDER = "panels"
PANELS_FILE = "panels.png"
MASKS_FILE = "masks.json"
EVENTS_FILE = "events.json"
STREAM_METRICS_FILE = "stream_metrics.json"
STREAM_TIMELINE_FILE = "stream_timeline.svg"

# Patterns of all that training, testing and export write. Starting a run anew removes these and nothing else.
CONTENTS = (
    *(RECIPE_FILE, ENVIRONMENT_FILE, CHECKPOINT_FILE, STAGES_FOLDER, LOG_FILE, TENSORBOARD_FOLDER, UNREADABLE_FILE),
    *(NETWORK_FILE, CARD_FILE, DECODERS_FILE, DECODERS_CARD_FILE, PARTNER_FILE),
    *(METRICS_FILE, REPORT_FILE, PANELS_FOLDER, PANELS_FILE, MASKS_FILE),
    *(EVENTS_FILE, STREAM_METRICS_FILE, STREAM_TIMELINE_FILE),
    *("network-*.onnx", "network-*.xml", "network-*.bin"),
    *(f"network-*.{name}" for name in (METRICS_FILE, STREAM_METRICS_FILE, STREAM_TIMELINE_FILE)),
)

_UNREADABLE = ("split", "index", "epoch", "file", "reason")


def trained_on(run_dir: Path) -> Path:
    """The manifest that a run was trained on. Raises ``RunError`` when the folder does not say or the file is gone."""
    manifest = recorded_data(run_dir)
    if not manifest.exists():
        raise RunError(f"{manifest}: is not there, though {run_dir} was trained on it; name the data with --data")
    return manifest


def unreadable_clips(run_dir: Path) -> list[dict[str, Any]]:
    """The clips that a run could not read, as ``unreadable.jsonl`` lists them: split, index, epoch, file and reason.

    Raises ``RunError`` for a file that cannot be read or is damaged.
    """
    path = run_dir / UNREADABLE_FILE
    if not path.exists():
        return []
    try:
        entries = [parse_json(line) for line in path.read_bytes().decode().splitlines() if line.strip()]
        return [{name: entry[name] for name in _UNREADABLE} for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: no list of unreadable clips ({error}); remove it, and clips that cannot be read are listed anew"
        ) from error


def recorded_data(run_dir: Path) -> Path:
    """The data that a run was trained on, which may be gone. Raises ``RunError`` when the folder does not say."""
    path = run_dir / ENVIRONMENT_FILE
    try:
        return Path(parse_json(path.read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: does not tell what the run was trained on ({error}); name the data with --data"
        ) from error
