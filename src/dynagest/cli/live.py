"""``dynagest live`` recognises a camera's gestures as they happen; ``dynagest record`` records clips of your own."""

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dynagest.cli.options import Device, Fps, device_of, switch
from dynagest.errors import ManifestError, RecipeError

if TYPE_CHECKING:
    from dynagest.card import NetworkCard
    from dynagest.live.display import Display
    from dynagest.live.record import Prompt
    from dynagest.live.window import Window


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command(
        epilog="Examples:\n- `dynagest live --model runs/demo`"
        "\n- `dynagest live talk.mp4 --model runs/mine --fast --json`"
        "\n- `dynagest live 0 --model runs/mine --window --actions keys.yaml`"
    )(live)
    app.command(epilog="Example: `dynagest record my_gestures --gestures wave,swipe,none --clips 8`")(record)


def live(
    source: Annotated[str, typer.Argument(help="A camera's number, a video file, or a URL of this host.")] = "0",
    model: Annotated[
        Path | None, typer.Option(help="A run folder, a .safetensors file or an exported network.")
    ] = None,
    window: Annotated[bool, switch("--window", "Show the picture in a window.")] = False,
    actions: Annotated[
        Path | None, typer.Option(help="A YAML of what is to happen on which gesture; see docs/live.md.")
    ] = None,
    as_json: Annotated[bool, switch("--json", "Print a JSON object a line.")] = False,
    fast: Annotated[
        bool, switch("--fast/--realtime", "A file: as fast as it goes, or as a camera would give it.")
    ] = False,
    fps: Fps = None,
    hop: Annotated[
        int | None, typer.Option(min=1, help="Frames from one answer to the next, of a network of clips. [default: 1]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of an exported network. [default: all cores]")
    ] = None,
    device: Device = None,
) -> None:
    """Recognise gestures in a camera's pictures, or a video's, as they happen. Ctrl-C ends."""
    from dynagest.live.actions import Actions, read_actions
    from dynagest.live.capture import Capture
    from dynagest.live.display import numbers
    from dynagest.live.loop import Meter, recognise
    from dynagest.live.pace import Pace
    from dynagest.live.sources import open_source
    from dynagest.stream.load import load_recogniser

    if model is None:
        raise RecipeError("--model is missing: name a run folder such as runs/demo, or an exported network")
    if window and as_json:
        raise RecipeError("--window shows and --json prints; give one of them")
    found = open_source(source)
    if fast and found.live:
        raise RecipeError(f"--fast: {found.name} cannot be read faster than it gives pictures; leave --fast out")
    recogniser = load_recogniser(model, device_of(model, device), fps, hop, threads)
    classes = recogniser.scorer.card.classes
    wanted = read_actions(actions, classes) if actions is not None else ()
    meter, pace = Meter(), Pace(recogniser.scorer)
    with ExitStack() as stack:
        capture = stack.enter_context(Capture(found, fast=fast))
        display = _display(f"{found.name} · {model}", classes, window, as_json, mirror=found.live)
        stack.callback(display.close)
        doing = stack.enter_context(Actions(wanted, display.say))
        gestures = 0
        try:
            for look in recognise(capture, recogniser):
                meter.add(look)
                gestures += sum(event.end is None for event in look.events)
                doing.on(look.events)
                if slow := pace.add(look):
                    display.say(slow, False)
                if look.frame is None and look.scores is None and look.status.state == "ended":
                    display.say(_too_short(recogniser.scorer.card, fps), False)
                display.show(look, meter)
                if display.closed:
                    break
        except KeyboardInterrupt:
            pass  # how a user ends it
    status = capture.status
    counted = f"{gestures} gesture{'' if gestures == 1 else 's'}"
    print(f"{found.name}: {counted} in {status.taken} frames, {numbers(meter, status)}", file=sys.stderr)


def record(
    folder: Annotated[Path, typer.Argument(help="The data folder; one that is there is added to.")],
    gestures: Annotated[str, typer.Option(help="Names with commas between them; none is for what is no gesture.")] = "",
    clips: Annotated[int, typer.Option(min=1, help="Clips of each, with those that are there.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.3, max=30, help="Length of a clip.")] = 2.0,
    countdown: Annotated[float, typer.Option(min=0, max=60, help="Seconds before each clip.")] = 3.0,
    camera: Annotated[str, typer.Option(help="A camera's number, a URL of this host, or a video file.")] = "0",
    window: Annotated[bool, switch("--window", "Show the picture in a window.")] = False,
    fast: Annotated[bool, switch("--fast/--realtime", "Read a video file as fast as it goes.")] = False,
) -> None:
    """Record clips of your own gestures, each after a countdown; the same command goes on where it was stopped."""
    from dynagest.clips.gesture_folder import check_label, check_writable
    from dynagest.live.capture import Capture
    from dynagest.live.record import record as record_clips
    from dynagest.live.sources import open_source
    from dynagest.live.window import Window

    names = list(dict.fromkeys(name.strip() for name in gestures.split(",") if name.strip()))
    if not names:
        raise ManifestError("--gestures is missing: name them with commas between, as in --gestures wave,swipe,none")
    for name in names:
        check_label(name, folder)
    check_writable(folder, names)
    found = open_source(camera)
    if fast and found.live:
        raise RecipeError(f"--fast: {found.name} cannot be read faster than it gives pictures; leave --fast out")
    saved = 0
    with ExitStack() as stack:
        capture = stack.enter_context(Capture(found, fast=fast))
        shown = Window(f"dynagest record · {folder}", mirror=found.live) if window else None
        if shown is not None:
            stack.callback(shown.close)
        status = stack.enter_context(Console(stderr=True).status("", spinner="dots"))
        for prompt in record_clips(capture, folder, names, clips, seconds, countdown):
            text = _told(prompt, seconds)
            status.update(text)
            if prompt.path is not None:
                saved += 1
                print(f"{prompt.path}")
            if shown is not None:
                _show(shown, prompt, text, seconds)
                if shown.closed:
                    break
    nothing = "nothing recorded" if shown is not None and shown.closed else "nothing left to record"
    told = f"{saved} clip{'s' if saved > 1 else ''} recorded" if saved else nothing
    print(f"{folder}: {told}", file=sys.stderr)
    quoted = shlex.quote(str(folder))
    print(f"next: dynagest data check {quoted}", file=sys.stderr)
    print(f"then: dynagest train webcam --data {quoted} --init runs/demo", file=sys.stderr)


def _display(title: str, classes: tuple[str, ...], window: bool, as_json: bool, mirror: bool) -> "Display":
    from dynagest.live.display import Json, Lines, Terminal
    from dynagest.live.window import Window

    if window:
        return Window(f"dynagest live · {title}", classes, mirror)
    if as_json:
        return Json()
    return Terminal(title, classes) if sys.stdout.isatty() else Lines()


def _too_short(card: "NetworkCard", fps: float | None) -> str:
    rate = fps or card.fps
    assert rate is not None, "load_recogniser says so"
    return (
        f"shorter than the {card.num_segments} frames at {rate:.3g} frames/s that the network sees at once, so nothing "
        "was recognised"
    )


def _told(prompt: "Prompt", seconds: float) -> str:
    what = f"[bold]{escape(prompt.gesture)}[/], clip {prompt.number} of {prompt.of}"
    if prompt.phase == "ready":
        return f"{what}: in {prompt.left:.0f} s" if prompt.left > 0.5 else f"{what}: [bold green]now[/]"
    if prompt.phase == "recording":
        return f"{what}: [bold red]recording[/], {prompt.left:.1f} of {seconds:g} s"
    return f"{what}: saved" if prompt.phase == "saved" else f"{what}: the camera is gone; waiting for it"


def _show(window: "Window", prompt: "Prompt", text: str, seconds: float) -> None:
    from rich.text import Text

    share = prompt.left / seconds if prompt.phase == "recording" else 0.0
    picture = prompt.frame.rgb if prompt.frame else None
    window.draw(picture, Text.from_markup(text).plain, share, "", f"clip {prompt.number} of {prompt.of}")
