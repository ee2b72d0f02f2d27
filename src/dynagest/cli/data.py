"""``dynagest data``: index a dataset, check it, generate clips or streams, estimate depth with a teacher network."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dynagest.cli.options import switch
from dynagest.cli.progress import progress_bar, rendering
from dynagest.clips.splits import SPLITS
from dynagest.errors import RecipeError, counted, some

app = typer.Typer(no_args_is_help=True, help="Index your clips, check them, or generate some.")


@app.command(
    epilog="Examples:\n- `dynagest data index folders my_clips --holdout 0.25`"
    "\n- `dynagest data index isogd /data/IsoGD --out data/isogd/manifest.csv`"
)
def index(
    dataset: Annotated[
        str,
        typer.Argument(
            help="egogesture, nvgesture, isogd, congd, jester, ipn-hand, tsm; for your own clips folders, for long "
            "recordings of your own streams."
        ),
    ],
    root: Annotated[Path, typer.Argument(help="The folder in which the dataset lies.")],
    out: Annotated[Path | None, typer.Option(help="The manifest, or its folder. [default: data/DATASET]")] = None,
    labels: Annotated[Path | None, typer.Option(help="Annotations, where they do not lie under the root.")] = None,
    list_: Annotated[
        list[str], typer.Option("--list", metavar="FILE:SPLIT", help="A list file and its split; repeatable.")
    ] = [],  # noqa: B006
    end_trim: Annotated[int, typer.Option(min=0, help="Frames to drop at the end of every range (EgoGesture).")] = 0,
    aligned: Annotated[bool, switch("--aligned", "Declare the measured map of depth into the RGB frame.")] = False,
    depth: Annotated[
        str | None, typer.Option(help="A depth preset or a depth.yaml, instead of the dataset's own.")
    ] = None,
    holdout: Annotated[float, typer.Option(min=0, max=1, help="Share of the train clips that becomes val.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the hold-out.")] = 0,
    overwrite: Annotated[
        bool, switch("--overwrite", "Replace a manifest that is there and says something else.")
    ] = False,
) -> None:
    """Write the manifest of a dataset as it lies on disk: manifest.csv, classes.txt, depth.yaml, maybe streams.csv."""
    from dynagest.clips.adapters import IndexOptions, index_dataset, parse_lists
    from dynagest.clips.streams import STREAMS_FILE

    options = IndexOptions(labels, parse_lists(list_), end_trim, aligned, depth, holdout, seed)
    found = index_dataset(dataset, root, options)
    path = out or Path("data") / dataset
    path = path if path.suffix == ".csv" else path / "manifest.csv"
    found.manifest.write(path, overwrite=overwrite)
    if found.streams is not None:
        streams = found.streams.write(path.with_name(STREAMS_FILE))
        print(f"{streams.path}: {counted(len(streams), 'stream')}")
    for note in found.notes:
        print(f"note: {note}")
    counts = {split: len(found.manifest.split(split)) for split in SPLITS}
    told = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    clips = "clip" if len(found.manifest) == 1 else "clips"
    print(f"{path}: {told} {clips} of {counted(len(found.manifest.classes), 'class')}: {some(found.manifest.classes)}")
    print(f"next: dynagest data check {shlex.quote(str(path))}")


@app.command(epilog="Example: `dynagest data check data/isogd/manifest.csv --sheet sheet.png`")
def check(
    manifest: Annotated[Path, typer.Argument(help="A manifest.csv, or the folder that holds one.")],
    segments: Annotated[int, typer.Option(min=1, help="Frames that a network takes from a clip.")] = 8,
    thorough: Annotated[bool, switch("--thorough", "Decode every frame, not only a few of each clip.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also draw a contact sheet RGB | depth | overlay (PNG).")] = None,
    as_json: Annotated[bool, switch("--json", "Print everything as JSON.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode.")] = 2,
) -> None:
    """Look at every clip and list each fault with its file; exit code 1 if there are errors."""
    from dynagest.clips.captions import letters_without_font
    from dynagest.clips.checks.check import check as check_manifest
    from dynagest.clips.checks.contact import contact_sheet
    from dynagest.clips.manifest import Manifest
    from dynagest.clips.table import BadRow

    bad_rows: list[BadRow] = []
    clips = Manifest.read(manifest, bad_rows=bad_rows)
    if sheet is not None:  # first, so that an unwritable path fails now and not after hours of checks
        print(f"contact sheet: {contact_sheet(clips, sheet)}", file=sys.stderr)
        if boxes := letters_without_font(clips.classes):
            print(f"note: {boxes}", file=sys.stderr)
    with progress_bar("checking clips") as progress:
        report = check_manifest(clips, segments, workers, thorough, progress, bad_rows)
    print(json.dumps(report.to_dict(), indent=1) if as_json else report.to_text())
    if report.errors:
        raise typer.Exit(1)
    if not as_json:
        recipes = "RECIPE is webcam for clips of your own, or egogesture, nvgesture, isogd"
        print(f"next: dynagest train RECIPE --data {shlex.quote(str(manifest))}; {recipes}")


@app.command(epilog="Example: `dynagest data synth data/generated --set clutter=0.9 --sheet classes.png`")
def synth(
    folder: Annotated[
        Path, typer.Argument(help="A new folder; one that was begun with the same options is completed.")
    ],
    preset: Annotated[
        str,
        typer.Option(
            help="default, demo (small and easy), live (demo, to train for streams), desk (live, as from a camera "
            "that faces its user) or hard."
        ),
    ] = "default",
    train: Annotated[int | None, typer.Option(min=1, help="Training clips of each class.")] = None,
    val: Annotated[int | None, typer.Option(min=1, help="Validation clips of each class.")] = None,
    test: Annotated[int | None, typer.Option(min=1, help="Test clips of each class.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides every subject, scene and clip.")] = 0,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Any other field, see --show; repeatable.")
    ] = [],  # noqa: B006
    sheet: Annotated[Path | None, typer.Option(help="Also draw a picture with a clip of each class (PNG).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one for each core]")] = None,
    show: Annotated[bool, switch("--show", "Print every field with what it means, and stop.")] = False,
) -> None:
    """Generate RGB-D gestures: other subjects and scenes in train, val and test; the same seed gives the same files."""
    from dynagest.settings import describe, override, parse_settings
    from dynagest.synth.sheet import write_sheet
    from dynagest.synth.spec import get_preset
    from dynagest.synth.write import write_synth

    spec = get_preset(preset)
    given = {"train": train, "val": val, "test": test}
    counts = spec.clips_per_class.model_copy(update={split: count for split, count in given.items() if count})
    spec = override(spec, {"seed": seed, "clips_per_class": counts.model_dump(), **parse_settings(set_)})
    if show:
        print(describe(spec))
        return
    with rendering("clips", folder) as progress:
        path = write_synth(folder, spec, workers=workers, progress=progress)
    told = ", ".join(f"{spec.length(split)} {split}" for split in SPLITS)
    print(f"{path}: {told} clips of {len(spec.labels)} classes")
    if sheet is not None:
        print(f"sheet: {write_sheet(spec, sheet)}")
    recipe = "live" if spec.background else "demo"
    print(f"next: dynagest train {recipe} --data {shlex.quote(str(folder))}")


@app.command(
    epilog="Examples:\n- `dynagest data streams data/streams --like data/generated`"
    "\n- `dynagest data streams soak --preset demo --val 0 --test 1 --minutes 30`"
)
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
    show: Annotated[bool, switch("--show", "Print every field with what it means, and stop.")] = False,
) -> None:
    """Generate streams: gestures, pauses and other movements in long videos, listed in streams.csv."""
    from dynagest.settings import describe, override, parse_settings
    from dynagest.synth.spec import SynthSpec, get_preset
    from dynagest.synth.stream import StreamSpec, write_streams
    from dynagest.synth.write import read_spec

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
    print(f"{found.path}: {told} recordings of {spec.minutes:g} minutes, {counted(gestures, 'gesture')}")
    if val:
        print(f"next: dynagest tune RUN --data {shlex.quote(str(folder))}")


@app.command(epilog="Example: `dynagest data depth my_gestures --teacher midas_small.onnx`")
def depth(
    manifest: Annotated[Path, typer.Argument(help="A manifest.csv, or the folder that holds one.")],
    teacher: Annotated[Path, typer.Option(help="A monocular depth model, ONNX; see docs/live.md.")],
    overwrite: Annotated[bool, switch("--overwrite", "Replace what another teacher wrote.")] = False,
) -> None:
    """Write pseudo-depth for clips of a plain camera, for decoders to learn from; goes on where it was stopped."""
    from dynagest.clips.gesture_folder import open_clips
    from dynagest.clips.pseudo_depth import write_pseudo_depth
    from dynagest.clips.teacher import Teacher

    clips, note = open_clips(manifest)
    print(note)
    model = Teacher(teacher)
    with progress_bar("looking for depth") as progress:
        done = write_pseudo_depth(clips, model, overwrite=overwrite, progress=progress)
    for fault in done.failed:
        print(f"without depth: {fault}", file=sys.stderr)
    there = f", {done.kept} there already" if done.kept else ""
    print(f"{done.manifest.path}: depth of {counted(done.written, 'video')} written{there}, by {model.name}")
    print(f"next: dynagest train webcam --data {shlex.quote(str(manifest))} --init runs/demo --set msd=both")
    if done.failed:
        raise typer.Exit(1)
