"""``report.html``: everything that a run folder contains, in one file that needs no internet.

Each part of the folder is shown if it exists: ``recipe.json``, ``environment.json``, ``log.jsonl``, ``network.json``,
``decoders.safetensors``, ``metrics.json``, ``stream_metrics.json``, ``panels/`` and ``unreadable.jsonl``. The report
names missing parts, except for streams, which many runs never have.
"""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from safetensors import SafetensorError, safe_open

from dynagest import __version__
from dynagest.atomic import write_atomically
from dynagest.card import NetworkCard
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.protocols import PROTOCOLS
from dynagest.errors import RunError, WeightsError, counted
from dynagest.fields import parse_json
from dynagest.networks.count import cost_of
from dynagest.run_folder import (
    CARD_FILE,
    DECODERS_CARD_FILE,
    DECODERS_FILE,
    ENVIRONMENT_FILE,
    METRICS_FILE,
    PANELS_FOLDER,
    RECIPE_FILE,
    REPORT_FILE,
    STREAM_METRICS_FILE,
    unreadable_clips,
)
from dynagest.testing.evaluation import Evaluation
from dynagest.testing.figures import accuracy_bar, confusion_png, confusion_svg, png_uri
from dynagest.testing.history import History
from dynagest.testing.panels import CAPTIONS, NO_DECODERS
from dynagest.testing.stream_evaluation import StreamEvaluation
from dynagest.testing.timeline import CSS as TIMELINE_CSS
from dynagest.testing.timeline import timeline

MATRIX_CLASSES = 40  # up to this many classes the matrix has names and numbers; beyond it is an image
TOP_CONFUSIONS = 20

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Cost:
    """The cost of the deployed network. ``view_giga`` is the multiply-adds of one tested view, in 10^9, as text."""

    parameters: int
    view_giga: str
    facts: Facts


def write_report(run: Path | str) -> Path:
    """Write ``report.html`` into a run folder, from the files there, and return its path.

    Raises ``RunError`` when the folder is missing, has nothing to report, or cannot be written.

    Example: ``write_report("runs/demo")``
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError(f"{run}: there is no such run folder")
    card = NetworkCard.read(run / CARD_FILE) if (run / CARD_FILE).exists() else None
    test = Evaluation.read(run / METRICS_FILE) if (run / METRICS_FILE).exists() else None
    history = History.read(run)
    if card is None and test is None and history is None:
        raise RunError(f"{run}: not a run folder: it has neither a network, nor metrics, nor a training log")
    html = render(run, card, test, history)
    write_atomically(run / REPORT_FILE, html.encode(errors="backslashreplace"))  # a folder's name need not be UTF-8
    return run / REPORT_FILE


def render(run: Path, card: NetworkCard | None, test: Evaluation | None, history: History | None) -> str:
    """The report as HTML text. The parts that are not arguments are read from the folder ``run``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dynagest.testing"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    recipe, about = _read_json(run / RECIPE_FILE), _read_json(run / ENVIRONMENT_FILE)
    small = test is not None and len(test.classes) <= MATRIX_CLASSES
    return environment.get_template("report.html").render(
        css=Markup(environment.get_template("report.css").render() + TIMELINE_CSS),
        version=__version__,
        written=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        run_name=run.resolve().name,
        run_path=shlex.quote(str(run)),
        title=_title(card, test, recipe),
        subtitle=_subtitle(test),
        test=test,
        accuracy_bar=accuracy_bar(test.summary) if test else None,
        class_note=_class_note(test) if test else "",
        matrix_svg=confusion_svg(test.confusion, test.classes) if test and small else None,
        matrix_png=confusion_png(test.confusion) if test and not small else None,
        confusions=test.top_confusions(TOP_CONFUSIONS) if test else (),
        streams=_streams(run),
        panels=_panels(run),
        charts=history.charts(1 / len(card.classes) if card else None) if history else (),
        training_note=_training_note(history) if history else "",
        untrained=_unreadable(run),
        cost=_cost(run, card, test) if card else None,
        conditions=_conditions(test) if test else [],
        recipe=_facts(recipe),
        environment=_facts(about, hidden=("command", "seed")),
        commands=_commands(run, about, test),
    )


def _title(card: NetworkCard | None, test: Evaluation | None, recipe: Mapping[str, Any]) -> str:
    model = card.model if card else test.conditions.model if test else str(recipe.get("model", "A run"))
    data = f" on {_data_name(test.conditions.data)}" if test else ""
    return f"{model}{data}"


def _data_name(data: str) -> str:
    """The folder of a manifest says more than ``manifest.csv``."""
    path = Path(data)
    return path.parent.name or data if path.suffix == ".csv" else data


def _subtitle(test: Evaluation | None) -> str:
    if test is None:
        return ""
    conditions = test.conditions
    return (
        f"Tested on {conditions.seen} by the protocol {conditions.protocol}: {PROTOCOLS[conditions.protocol].title}, "
        f"{conditions.segments} frames of {conditions.size} × {conditions.size} a view. Data: {conditions.data}"
    )


def _class_note(test: Evaluation) -> str:
    known = sorted((row for row in test.per_class if row.accuracy is not None), key=lambda row: row.accuracy or 0.0)
    missing = len(test.classes) - len(known)
    worst, best = (f"{row.name} ({100 * (row.accuracy or 0):.0f} %)" for row in (known[0], known[-1]))
    note = f"Best: {best}; worst: {worst}."
    have = "has" if missing == 1 else "have"
    return note + (f" {missing} of {len(test.classes)} classes {have} no clip in this split." if missing else "")


def _training_note(history: History) -> str:
    epochs = len(history.epochs)
    if not epochs:
        return "No epoch was finished."
    kept = f"; the network of epoch {history.best_epoch} was kept" if history.best_epoch is not None else ""
    took = f" in {duration(history.seconds)}, breaks included" if history.seconds else ""
    number = counted(epochs, "epoch")
    return f"{number}{took}{kept}. Training accuracy is measured on augmented clips."


def _conditions(test: Evaluation) -> Facts:
    conditions = test.conditions
    clips = test.summary.clips + len(test.unreadable)
    return [
        ("data", conditions.data),
        ("split", conditions.split),
        ("clips", f"{clips:,}" + (f", {len(test.unreadable)} unreadable" if test.unreadable else "")),
        ("protocol", f"{conditions.protocol}: {PROTOCOLS[conditions.protocol].title}"),
        ("views a clip", f"{conditions.views} of {conditions.segments} × {conditions.size} × {conditions.size}"),
        ("seed", str(conditions.seed)),
        ("computed", f"{conditions.dtype} on {conditions.device}"),
        ("duration", f"{duration(conditions.seconds)} ({clips / conditions.seconds:.1f} clips/s, reading included)"),
    ]


def _cost(run: Path, card: NetworkCard, test: Evaluation | None) -> Cost:
    trained = cost_of(card.network_spec)
    facts = [
        ("network", f"{card.model}, width {card.width}, {len(card.classes)} classes"),
        ("parameters", f"{trained.parameters:,} (depth decoders removed)"),
    ]
    decoders = _decoder_weights(run / DECODERS_FILE)
    if decoders:
        facts.append(("with decoders, in training only", f"{trained.parameters + decoders:,}"))
    facts += [
        (
            f"one view of {card.num_segments} × {card.size} × {card.size}",
            f"{_giga(trained.multiply_adds)} GMAC, counted truly",
        ),
        ("the same by the paper's counter", f"{_giga(trained.legacy_flops)} GFLOPs (legacy, see docs)"),
    ]
    view = trained.multiply_adds
    if test is not None:
        size, views = test.conditions.size, test.conditions.views
        if size != card.size:
            view = cost_of(replace(card.network_spec, size=size)).multiply_adds
            facts.append((f"one view of this test, at {size} × {size}", f"{_giga(view)} GMAC"))
        if views > 1:
            facts.append((f"all {views} views of a clip", f"{_giga(views * view)} GMAC"))
    return Cost(trained.parameters, _giga(view), facts)


def _giga(number: float) -> str:
    return f"{number / 1e9:,.2f}" if number >= 1e10 else f"{number / 1e9:.3f}"


def _decoder_weights(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: damaged ({error}); copy it again, or remove it and {DECODERS_CARD_FILE} if no panels are wanted"
        ) from error


def _commands(run: Path, about: Mapping[str, Any], test: Evaluation | None) -> list[str]:
    """The commands that repeat this run, as far as the folder records them."""
    command = [str(part) for part in about.get("command", [])]
    commands = [shlex.join([Path(command[0]).name, *command[1:]])] if command else []
    # A dataset other than a manifest was tested from a program, so no command repeats that.
    if test is not None and test.conditions.data.endswith(".csv"):
        how = test.conditions
        commands.append(
            f"dynagest evaluate {shlex.quote(str(run))} --data {shlex.quote(how.data)} --split {how.split} "
            f"--protocol {how.protocol} --seed {how.seed}"
        )
    return commands


def _streams(run: Path) -> dict[str, Any] | None:
    """The test on streams, if there was one, with a timeline of each recording."""
    path = run / STREAM_METRICS_FILE
    if not path.exists():
        return None
    test = StreamEvaluation.read(path)
    return {"test": test, "timelines": [Markup(timeline(one)) for one in test.recordings]}


def _panels(run: Path) -> dict[str, Any]:
    captions = _read_json(run / PANELS_FOLDER / CAPTIONS)
    if not captions:
        made = "they have not been made; dynagest evaluate makes them from clips with depth"
        return {"rows": [], "missing": made if (run / DECODERS_FILE).exists() else NO_DECODERS}
    rows = [{**row, "source": _image_uri(run / PANELS_FOLDER / row["image"])} for row in captions["rows"]]
    return {**captions, "rows": rows}


def _image_uri(path: Path) -> str:
    try:
        return png_uri(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); run `dynagest evaluate` again") from error


def _unreadable(run: Path) -> list[str]:
    """The clips that training left out, one line per clip."""
    found = (UnreadableClip(entry["index"], entry["file"], entry["reason"]) for entry in unreadable_clips(run))
    return list(dict.fromkeys(each.message for each in found))


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty when the file does not exist. Raises ``RunError`` for anything else in the file."""
    if not path.exists():
        return {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not readable as JSON ({error}); remove it or restore it") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: not a JSON object; remove it or restore it")
    return content


def _facts(content: Mapping[str, Any], hidden: tuple[str, ...] = ()) -> Facts:
    """A JSON object as rows of text, without the names in ``hidden``."""
    return [(name.replace("_", " "), _text(value)) for name, value in content.items() if name not in hidden]


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value) or "none"


def duration(seconds: float) -> str:
    """Seconds in readable units: ``41 s``, ``5 min 12 s``, ``2 h 3 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
