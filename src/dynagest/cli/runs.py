"""``dynagest train``, ``evaluate`` and ``predict``: the commands that fill and use a run folder."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dynagest.cli.options import Device, Fps, choose_device, device_of, switch
from dynagest.cli.progress import progress_bar
from dynagest.errors import ClipError, DynagestError, RecipeError, RunError, counted
from dynagest.run_folder import METRICS_FILE, PANELS_FILE, trained_on

if TYPE_CHECKING:
    from dynagest.testing.evaluation import Evaluation
    from dynagest.training.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command(
        epilog="Examples:\n- `dynagest train webcam --data my_clips --init runs/demo`"
        "\n- `dynagest train isogd --data data/isogd --set epochs=5 --set batch=8`"
        "\n- `dynagest train --resume --out runs/isogd`"
    )(train)
    app.command(
        epilog="Examples:\n- `dynagest evaluate runs/demo --split test --protocol paper`"
        "\n- `dynagest evaluate runs/demo --stream data/streams`"
    )(evaluate)
    app.command(epilog="Example: `dynagest predict runs/demo wave.mp4`")(predict)


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="egogesture, nvgesture, isogd, demo, live or webcam; or a system of the paper's tables, as in mtut or "
            "tsm-msd@nvgesture. [with --resume: the run's own]"
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A manifest.csv, the folder that holds one, or a folder for each class.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. [default: runs/RECIPE]")] = None,
    init: Annotated[Path | None, typer.Option(help="Weights to start from: a run folder or a checkpoint.")] = None,
    resume: Annotated[
        bool,
        switch("--resume", "Go on with the run in the folder, if there is one, by its own recipe and data."),
    ] = False,
    overwrite: Annotated[bool, switch("--overwrite", "Replace the run in the folder.")] = False,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe; repeatable.")
    ] = [],  # noqa: B006
    show: Annotated[bool, switch("--show", "Print the recipe with what each field means, and stop.")] = False,
) -> None:
    """Train a network on RGB clips, taught by their depth; the run folder explains itself."""
    from dynagest.settings import describe, parse_settings

    if resume and overwrite:
        raise RecipeError("--resume goes on with the run in the folder, --overwrite replaces it; give one of them")
    folder, chosen, go_on = _choose_run(recipe, out, resume)
    chosen = chosen.with_overrides(parse_settings(set_))
    if show:
        print(describe(chosen))
        return
    if data is None and go_on:
        data = trained_on(folder)
    if data is None:
        raise RecipeError(
            "--data is missing: name a manifest; `dynagest data index` writes one from your clips, "
            "`dynagest data synth FOLDER` generates clips"
        )

    from dynagest.clips.gesture_folder import open_clips
    from dynagest.machine import keep_freed_memory
    from dynagest.networks.rivals.build import RIVALS
    from dynagest.reproduce.plan import tested_by
    from dynagest.testing.report import write_report
    from dynagest.training.recipes import PAPERS
    from dynagest.training.trainer import train as run_training

    keep_freed_memory()
    with _errors_told_once():
        manifest, note = open_clips(data)
        if os.environ.get("RANK", "0") == "0":
            print(note)
        done = run_training(chosen, manifest, folder, init=init, resume=go_on, overwrite=overwrite, console=Console())
    if os.environ.get("RANK", "0") != "0":
        return
    with_depth = sum(clip.depth is not None for clip in manifest.clips)
    if with_depth and not any(each.uses_depth for each in chosen.trainings):
        way = "" if chosen.model in RIVALS else "; --set msd=both trains with it"
        print(f"note: {counted(with_depth, 'clip', 'has', 'have')} depth, which this recipe does not use{way}")
    best = "" if done.best_top1 is None else f", best on validation {done.best_top1:.1%} in epoch {done.best_epoch}"
    length = f"{counted(done.epochs, 'epoch')}, {counted(done.steps, 'step')}, {done.seconds / 60:.1f} minutes"
    print(f"{done.run_dir}: {length}{best}")
    print(f"report: {write_report(done.run_dir)}")
    split, how = manifest.held_out(chosen.train_splits), ""
    if (dataset := chosen.name.rpartition("@")[2]) in PAPERS:
        published, protocol = tested_by(chosen, dataset)
        split = published if manifest.split(published).clips and published not in chosen.train_splits else split
        how = f" --protocol {protocol}"
    if split is not None:
        print(f"next: dynagest evaluate {shlex.quote(str(done.run_dir))} --split {split}{how}")


def _choose_run(name: str | None, out: Path | None, resume: bool) -> tuple[Path, "Recipe", bool]:
    """The run folder, the recipe before the changes of ``--set``, and whether a run in the folder is resumed.

    A resumed run keeps its own recipe. If the user names a recipe as well, only the name is taken from it, so that
    another name is refused like any other change of the recipe. Raises ``RecipeError`` when no recipe or run is named.
    """
    from dynagest.training.recipes import get_recipe

    named = get_recipe(name) if name else None
    folder = out or (Path("runs") / name if name else None)
    if folder is not None and resume:
        from dynagest.training.folder import has_run, read_recipe

        if named is None or has_run(folder):
            own = read_recipe(folder)
            return folder, own.with_overrides({"name": named.name}) if named else own, True
    if folder is None or named is None:
        raise RecipeError(
            "name a recipe, as in `dynagest train webcam --data my_clips`, or a run to go on with, as in "
            "`dynagest train --resume --out runs/webcam`"
        )
    return folder, named, False


@contextmanager
def _errors_told_once() -> Iterator[None]:
    """Let only the first process of a machine report an error, because all fail alike; the others exit silently."""
    try:
        yield
    except (DynagestError, KeyboardInterrupt) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 2) from None


def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder, or an exported .onnx or .xml.")],
    data: Annotated[Path | None, typer.Option(help="A manifest. [default: the one the run was trained on]")] = None,
    stream: Annotated[
        Path | None, typer.Option(help="Test on the gestures in these streams (a streams.csv or its folder) instead.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    protocol: Annotated[str, typer.Option(help="center, clips10 or paper.")] = "center",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the temporal samples, and of which clips are shown.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Views in the network at once.")] = 8,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode. [default: 1, or 0 where /dev/shm is small]")
    ] = None,
    fps: Fps = None,
    device: Device = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; the latter two by autocast.")] = "float32",
    panels: Annotated[int, typer.Option(min=0, help="Clips to show as RGB | depth | masks.")] = 6,
    scores: Annotated[
        Path | None, typer.Option(help="Also write each clip's score for each class, as NumPy's .npz.")
    ] = None,
) -> None:
    """Test on RGB alone and write metrics.json and report.html into the run folder; with --stream, on streams.

    The metrics of an exported file are written beside it, as network-int8.onnx.metrics.json, without a report.
    """
    from dynagest.runtimes.load import is_exported, load_clip_file

    if stream is not None:
        if data is not None:
            raise RecipeError("--data names clips and --stream recordings; give one of them")
        _leave_out(
            context,
            ("protocol", "seed", "batch", "workers", "dtype", "panels", "scores"),
            "is for a test on clips",
            "with --stream",
        )
        from dynagest.cli.stream import evaluate_streams

        evaluate_streams(run, stream, split, device, fps)
        return
    if scores is not None and scores.suffix != ".npz":
        raise RecipeError(f"--scores {scores}: is written as NumPy's .npz; name it {scores.with_suffix('.npz')}")
    if fps is not None:
        raise RecipeError("--fps is for a test on streams; leave it out, or give --stream")
    exported = is_exported(run)
    if exported:
        _leave_out(context, ("device", "dtype", "panels"), "is for networks that torch runs", "for an exported file")
    elif run.is_file():
        raise RunError(f"{run}: is a file; evaluate writes its report into a run folder: name that, as in {run.parent}")

    from dynagest.clips.captions import letters_without_font
    from dynagest.clips.manifest import Manifest
    from dynagest.machine import shared_memory_suffices
    from dynagest.networks.weights import load_network
    from dynagest.testing.evaluate import evaluate as test
    from dynagest.testing.evaluation import SEEN
    from dynagest.testing.panels import make_panels
    from dynagest.testing.report import write_report

    workers = int(shared_memory_suffices()) if workers is None else workers
    how: dict[str, Any] = {"split": split, "protocol": protocol, "seed": seed, "batch": batch, "workers": workers}
    if exported:
        file = load_clip_file(run)
        manifest = Manifest.read(data or trained_on(run.parent))
        with progress_bar("testing") as progress:
            result = test(file, file.card, manifest, progress=progress, **how)
        _print_result(result)
        print(f"metrics: {result.write(run.with_name(f'{run.name}.{METRICS_FILE}'))}")
    else:
        place = choose_device(device)
        net, card = load_network(run)
        if card.inputs != "rgb":
            print(f"note: this network is fed {SEEN[card.inputs]}")
        manifest = Manifest.read(data or trained_on(run))
        with progress_bar("testing") as progress:
            result = test(net, card, manifest, device=place, dtype=dtype, progress=progress, **how)
        _print_result(result)  # first, so that it is not lost if the folder cannot be written
        result.write(run / METRICS_FILE)
        missing = make_panels(run, net, card, manifest, result, count=panels, seed=seed)
        if missing:
            print(f"note: no panels: {missing}")
        elif boxes := letters_without_font(card.classes):
            print(f"note: {PANELS_FILE}: {boxes}")
        print(f"report: {write_report(run)}")
    if scores is not None:
        print(f"scores: {result.write_scores(scores)}")
    if not result.complete:
        raise typer.Exit(1)


def _leave_out(context: typer.Context, names: Iterable[str], use: str, when: str) -> None:
    """Raise ``RecipeError`` if one of these options was given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise RecipeError(f"--{name} {use}; leave it out {when}")


def _print_result(result: "Evaluation") -> None:
    s = result.summary
    low, high = s.interval
    print(
        f"top-1 {s.top1:.1%} (95 % interval {low:.1%} to {high:.1%}), chance {s.chance:.1%}, "
        f"top-{s.top_k} {s.top5:.1%}, {counted(s.clips, 'clip')}, protocol {result.conditions.protocol}, "
        f"{result.conditions.dtype} on {result.conditions.device}"
    )
    for clip in result.unreadable:
        print(f"unreadable, left out: {clip.message}")


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, a .safetensors file, or an exported .onnx or .xml.")],
    videos: Annotated[list[Path], typer.Argument(help="Videos, or folders of numbered images.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to print.")] = 5,
    protocol: Annotated[str, typer.Option(help="center, or the more looks of clips10 or paper.")] = "center",
    as_json: Annotated[bool, switch("--json", "Print a JSON line for each video.")] = False,
    device: Device = None,
) -> None:
    """Name the gesture in each video, best classes first with their scores."""
    from dynagest.clips.frames import FrameReader
    from dynagest.clips.sampling import LONG
    from dynagest.predictor import Predictor

    place = device_of(run, device)
    predictor = Predictor.load(run, place)
    failed: list[str] = []
    for video in videos:
        try:
            if (count := FrameReader().count(video)) > LONG:  # told first, because reading so many takes its time
                live = f"dynagest live {shlex.quote(str(video))} --model {shlex.quote(str(run))} --fast"
                others = "" if video.is_dir() else f"; for those in it: {live}"
                print(f"note: {video}: {count} frames are taken for one gesture{others}", file=sys.stderr)
            best = predictor.predict(video, protocol).top(top)
        except ClipError as error:
            failed.append(str(error))
            continue
        if place is not None:  # not before it is known that there is something to predict
            print(f"on {place}", file=sys.stderr)
            place = None
        if as_json:
            print(json.dumps({"video": str(video), "top": [{"class": name, "score": score} for name, score in best]}))
        else:
            print(video)
            for name, score in best:
                print(f"  {score:6.1%}  {name}")
    if failed:
        raise ClipError("\n".join(failed))
