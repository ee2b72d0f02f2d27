"""``dynagest tune``, ``dynagest data streams`` and the test on streams: gestures in long recordings."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from dynagest.card import BACKGROUND
from dynagest.cli.data import progress_bar, rendering
from dynagest.cli.options import Device, Fps, device_of
from dynagest.errors import RecipeError

if TYPE_CHECKING:
    from dynagest.stream.metrics import StreamSummary
    from dynagest.stream.scored import ScoredStream
    from dynagest.stream.scores import Scorer
    from dynagest.stream.tune import Tuning

_FEW = 30  # gestures


def register(app: typer.Typer, data: typer.Typer) -> None:
    """Add ``tune`` to the commands and ``streams`` to those of ``data``."""
    app.command(epilog="Example: `dynagest tune runs/demo --data data/streams --split val`")(tune)
    data.command(
        epilog="Examples: `dynagest data streams data/streams --like data/generated` &nbsp; "
        "`dynagest data streams soak --preset demo --val 0 --test 1 --minutes 30`"
    )(streams)


def streams(
    folder: Annotated[
        Path, typer.Argument(help="A new folder; one that was begun with the same options is completed.")
    ],
    preset: Annotated[
        str | None, typer.Option(help="Who, where and what: as in `dynagest data synth`. [default: default]")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Instead: a folder of `dynagest data synth`, whose classes and look to take.")
    ] = None,
    train: Annotated[int, typer.Option(min=0, help="Training recordings.")] = 0,
    val: Annotated[int, typer.Option(min=0, help="Validation recordings: what `dynagest tune` is for.")] = 4,
    test: Annotated[int, typer.Option(min=0, help="Test recordings.")] = 8,
    minutes: Annotated[float, typer.Option(help="Length of a recording.")] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides everything. [default: the preset's]")] = None,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Any other field, also of the clips; see --show. Repeatable."
        ),
    ] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one for each core]")] = None,
    show: Annotated[bool, typer.Option(help="Print every field with what it means, and stop.")] = False,
) -> None:
    """Generate streams: gestures, pauses and other movements in long videos, listed in streams.csv."""
    from dynagest.settings import describe, override, parse_settings
    from dynagest.synth import StreamSpec, SynthSpec, get_preset, read_spec, write_streams

    if like and preset:
        raise RecipeError("--preset and --like both say what the streams look like; give one of them")
    settings: dict[str, Any] = parse_settings(set_)
    of_clips = {name: settings.pop(name) for name in tuple(settings) if name in SynthSpec.model_fields}
    of_clips = of_clips if seed is None else {**of_clips, "seed": seed}
    clips = override(read_spec(like) if like else get_preset(preset or "default"), of_clips)
    counts = {"train": train, "val": val, "test": test}
    spec = override(StreamSpec(clips=clips), {"streams": counts, "minutes": minutes, **settings})
    if show:
        own = [line for line in describe(spec).splitlines() if not line.startswith("clips =")]
        print("\n".join((*own, describe(clips))))
        return
    with rendering("streams", folder) as progress:
        found = write_streams(folder, spec, workers=workers, progress=progress)
    gestures = sum(len(stream.spans) for stream in found.streams)
    told = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    print(f"{found.path}: {told} recordings of {spec.minutes:g} minutes, {gestures} gestures")
    if val:
        print(f"next: dynagest tune RUN --data {shlex.quote(str(folder))}")


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
    """Fit when a gesture is reported to a network, on validation streams.

    Writes events.json into the run folder; an exported file keeps the settings inside.
    """
    from dynagest import __version__
    from dynagest.runtimes.load import is_exported
    from dynagest.stream.events import EventsFile
    from dynagest.stream.exported import embed_settings
    from dynagest.stream.load import load_scorer
    from dynagest.stream.tune import tune as search

    scorer = load_scorer(run, device_of(run, device), fps=fps)
    rate, scored = _scored(scorer, data, split, fps)
    with progress_bar("trying settings") as bar:
        task = bar.add_task("", total=candidates + 1)
        found = search(
            scored,
            scorer.card.classes,
            objective=objective,
            candidates=candidates,
            seed=seed,
            progress=lambda tried: bar.update(task, completed=tried),
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
    """Test on streams: prints the numbers, writes stream_metrics.json, stream_timeline.svg and report.html.

    Of an exported file the two are written beside it, under its name; the report is that of the run.
    """
    from dynagest.runtimes.load import is_exported
    from dynagest.stream.load import load_stream_model
    from dynagest.stream.scored import detect
    from dynagest.testing.report import write_report
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
    folder = run if run.is_dir() else run.parent
    _, timeline = result.write(folder, f"{run.name}." if is_exported(run) else "")
    print(_told(result.summary))
    if not result.tuned:
        print(f"note: with the default event settings; `dynagest tune {shlex.quote(str(run))} --data ...` fits them")
    print(f"timeline: {timeline}")
    if not is_exported(run):
        print(f"report: {write_report(folder)}")


def _scored(scorer: "Scorer", data: Path, split: str, fps: float | None) -> tuple[float, "tuple[ScoredStream, ...]"]:
    """The frames a second that the network saw, and the split's streams with its scores."""
    from dynagest.clips.streams import StreamSet
    from dynagest.stream.scored import score_streams

    card, rate = scorer.card, fps or scorer.card.fps
    assert rate is not None, "load_scorer says so"
    if BACKGROUND not in card.classes:
        print(f'note: this network has no class "{BACKGROUND}", so pauses and other movements may pass for gestures')
    with progress_bar("running streams") as bar:
        task = bar.add_task("", total=None)
        scored = score_streams(
            scorer,
            StreamSet.read(data),
            split,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if silent := sum(not len(one.times) for one in scored):
        print(
            f"note: {silent} of {len(scored)} streams are shorter than the {card.num_segments} frames at {rate:.3g} "
            "frames/s that the network sees at once, so nothing was recognised in them"
        )
    return rate, scored


def _told(found: "StreamSummary") -> str:
    """The numbers in a few lines of text."""
    if found.levenshtein is None or found.mean_jaccard is None:
        return f"no gestures in {found.minutes:.1f} minutes; {found.false_per_minute:.2f} false activations a minute"
    lines = [
        f"Levenshtein accuracy {found.levenshtein:.1%}, mean Jaccard index {found.mean_jaccard:.3f}, "
        f"{found.false_per_minute:.2f} false activations a minute",
        f"{found.recognised} of {found.gestures} gestures recognised in {found.minutes:.1f} minutes "
        f"of {found.streams} streams",
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
