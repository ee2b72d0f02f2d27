"""``dynagest tune`` and ``dynagest evaluate --stream``: gestures in long recordings."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from dynagest.card import BACKGROUND
from dynagest.cli.options import Device, Fps, device_of
from dynagest.cli.progress import progress_bar

if TYPE_CHECKING:
    from dynagest.stream.metrics import StreamSummary
    from dynagest.stream.scored import ScoredStream
    from dynagest.stream.scores import Scorer
    from dynagest.stream.tune import Tuning

_FEW = 30  # gestures; tuning on fewer prints a note


def register(app: typer.Typer) -> None:
    """Add ``tune`` to ``app``; the test on streams is called by ``evaluate``."""
    app.command(epilog="Example: `dynagest tune runs/demo --data data/streams --split val`")(tune)


def tune(
    run: Annotated[Path, typer.Argument(help="A run folder, a .safetensors file, or an exported .onnx or .xml.")],
    data: Annotated[Path, typer.Option(help="A streams.csv, or the folder that holds one.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    objective: Annotated[
        Literal["balanced", "levenshtein", "jaccard"], typer.Option(help="What to maximise; see docs/events.md.")
    ] = "balanced",
    candidates: Annotated[int, typer.Option(min=0, help="Random settings to try.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random settings.")] = 0,
    fps: Fps = None,
    device: Device = None,
) -> None:
    """Tune the settings that decide when a gesture is reported, on validation streams.

    Writes events.json into the run folder; an exported file keeps the settings inside.
    """
    from dynagest import __version__
    from dynagest.runtimes.load import is_exported
    from dynagest.stream.events import EventsFile
    from dynagest.stream.exported import check_embeddable, embed_settings
    from dynagest.stream.load import load_scorer
    from dynagest.stream.tune import tune as search

    scorer = load_scorer(run, device_of(run, device), fps=fps)
    if is_exported(run):
        check_embeddable(run)  # before minutes of streams
    rate, scored = _scored(scorer, data, split, fps)
    with progress_bar("trying settings") as progress:
        found = search(
            scored,
            scorer.card.classes,
            objective=objective,
            candidates=candidates,
            seed=seed,
            progress=progress,
        )
    tuned = {
        "data": str(data),
        "split": split,
        "fps": rate,
        "streams": found.after.streams,
        "gestures": found.after.gestures,
        "minutes": round(found.after.minutes, 2),
        "objective": found.objective,
        "value_before": round(found.value_before, 4),
        "value_after": round(found.value_after, 4),
        "tried": found.tried,
        "seed": seed,
        "dynagest": __version__,
    }
    _print_tuning(found)
    path = run
    if is_exported(run):
        embed_settings(run, found.settings)
    else:
        path = EventsFile(settings=found.settings, tuned=tuned).write(run if run.is_dir() else run.parent)
    print(f"{path}: tuned on {found.after.gestures} gestures in {found.after.minutes:.1f} minutes, split {split}")
    if found.after.gestures < _FEW:
        print(f"note: {found.after.gestures} gestures are few to tune on; some minutes more would be safer")


def evaluate_streams(run: Path, data: Path, split: str, device: str | None, fps: float | None) -> None:
    """Test on streams: print the metrics, write stream_metrics.json and stream_timeline.svg, then report.html.

    For an exported file, metrics and timeline are written beside it, their names beginning with its name, and no report
    is written.
    """
    from dynagest.runtimes.load import is_exported
    from dynagest.stream.load import load_stream_model
    from dynagest.stream.scored import detect
    from dynagest.testing.stream_evaluation import StreamEvaluation

    model = load_stream_model(run, device_of(run, device), fps=fps)
    card = model.scorer.card
    rate, scored = _scored(model.scorer, data, split, fps)
    result = StreamEvaluation.of(
        tuple(detect(one, card.classes, model.settings) for one in scored),
        card.classes,
        model=card.model,
        fps=rate,
        data=str(data),
        split=split,
        settings=model.settings,
        tuned=model.tuned,
    )
    print(_told(result.summary))  # first, so that it is not lost if the folder cannot be written
    folder = run if run.is_dir() else run.parent
    _, timeline = result.write(folder, f"{run.name}." if is_exported(run) else "")
    if not result.tuned:
        print(f"note: with the default event settings; `dynagest tune {shlex.quote(str(run))} --data ...` fits them")
    print(f"timeline: {timeline}")
    if not is_exported(run):
        from dynagest.testing.report import write_report  # here, because an exported file is tested without jinja2

        print(f"report: {write_report(folder)}")


def _scored(scorer: "Scorer", data: Path, split: str, fps: float | None) -> tuple[float, "tuple[ScoredStream, ...]"]:
    """Run the streams of a split. Returns the frames per second that the network saw, and the streams with scores."""
    from dynagest.clips.streams import StreamSet
    from dynagest.stream.scored import score_streams

    card, rate = scorer.card, fps or scorer.card.fps
    assert rate is not None, "load_scorer says so"
    if BACKGROUND not in card.classes:
        print(f'note: this network has no class "{BACKGROUND}", so pauses and other movements may pass for gestures')
    with progress_bar("running streams") as progress:
        scored = score_streams(scorer, StreamSet.read(data), split, progress)
    if silent := sum(not len(one.times) for one in scored):
        print(
            f"note: {silent} of {len(scored)} streams are shorter than the {card.num_segments} frames at {rate:.3g} "
            "frames/s that the network sees at once, so nothing was recognised in them"
        )
    return rate, scored


def _told(found: "StreamSummary") -> str:
    """The metrics in a few lines of text."""
    if found.levenshtein is None or found.mean_jaccard is None:
        return f"no gestures in {found.minutes:.1f} minutes; {found.false_per_minute:.2f} false activations a minute"
    again = f", {found.repeats_recognised} of {found.repeats} that repeat the one before" if found.repeats else ""
    lines = [
        f"Levenshtein accuracy {found.levenshtein:.1%}, mean Jaccard index {found.mean_jaccard:.3f}, "
        f"{found.false_per_minute:.2f} false activations a minute",
        f"{found.recognised} of {found.gestures} gestures recognised in {found.minutes:.1f} minutes "
        f"of {found.streams} streams{again}",
    ]
    if found.delay_from_begin is not None and found.delay_from_end is not None and found.early_share is not None:
        lines.append(
            f"reported {found.delay_from_begin:.2f} s after their begin ({found.delay_from_end:+.2f} s from their "
            f"end), {found.early_share:.0%} of them before their end"
        )
    return "\n".join(lines)


def _print_tuning(found: "Tuning") -> None:
    table = Table("", "before", "after", title=f"objective {found.objective}, {found.tried} settings tried")
    rows: list[tuple[str, float | None, float | None]] = [
        ("objective", found.value_before, found.value_after),
        ("Levenshtein accuracy", found.before.levenshtein, found.after.levenshtein),
        ("mean Jaccard index", found.before.mean_jaccard, found.after.mean_jaccard),
        ("recall", found.before.recall, found.after.recall),
        ("false activations a minute", found.before.false_per_minute, found.after.false_per_minute),
        ("delay from begin (s)", found.before.delay_from_begin, found.after.delay_from_begin),
    ]
    old, new = found.start.model_dump(), found.settings.model_dump()
    rows += [(name, old[name], new[name]) for name in old]
    for name, before, after in rows:
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in (before, after)))
    Console().print(table)
