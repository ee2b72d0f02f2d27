"""Programs in the documentation do what is said of them."""

import re
import shlex
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import run
from clip_files import rgb_frames, save_video
from export_helpers import export_colours, make_network, save_run
from network_helpers import random_clip, trained_literal
from torch import Tensor, nn

import dynagest as dg
from dynagest.export.streams import StreamForm, convert_stream
from dynagest.export.write import write_model
from dynagest.runtimes.model_file import ModelInfo

DOCS = Path(__file__).parent.parent / "docs"
README = "../README.md"  # from there


def program(page: str, heading: str, number: int = 0, language: str = "python") -> str:
    """A program below a heading, the first one by default."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    assert len(found) > number, f"{page}: no program under {heading}"
    return found[number]


class Theirs(nn.Module):
    """The "other" of the README: a network that is not ours, with the modules that are named there."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 8, 3, 2, 1), pool=nn.MaxPool2d(2)))
        self.stages = nn.Sequential(*(nn.Conv2d(8, 8, 3, 1 + (k > 0), 1) for k in range(4)))
        self.head = nn.Linear(8, 5)

    def forward(self, clip: Tensor) -> Tensor:
        features = self.stages(self.stem(clip.flatten(0, 1))).mean((2, 3))
        return self.head(features).unflatten(0, clip.shape[:2]).mean(1)


def test_the_calls_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the published width: weights under the published names give the published code's logits.

    These are so large that in float32 the order of sums alone is seen in the fourth digit behind the point.
    """
    literal, clip = trained_literal("action_resnet50", 83), random_clip(clips=1)
    torch.save({"state_dict": literal.state_dict()}, tmp_path / "checkpoint.pth")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"clip": clip, "other": Theirs()}
    exec(program(README, "From Python"), names)
    assert names["logits"].shape == (1, 83)
    loaded = names["loaded"]
    assert (loaded.source, loaded.skipped, loaded.reinitialised, loaded.missing) == ("published", (), (), ())
    with torch.no_grad():
        expected = literal(clip)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(names["net"].eval()(clip), expected, rtol=1e-4, atol=1e-4)
    assert [decoder.widths for _, decoder in names["msd"].parts()] == [(8, 8, 1), (8, 8, 8, 1)]
    rgb, depth = random_clip(size=32), torch.rand(2, 4, 1, 32, 32)
    names["task"](rgb, torch.tensor([0, 4]), depth, torch.tensor([True, False])).loss.backward()
    assert all(parameter.grad is not None for parameter in names["task"].parameters())


def own_clips(folder: Path) -> None:
    """Four clips of each of two gestures, of which none says who it is."""
    for label in ("grab", "wave"):
        for number in range(1, 5):
            frames = rgb_frames(10, seed=number + 9 * (label == "wave"))
            save_video(folder / label / f"anna_{number:02d}.mp4", frames)


def test_the_first_session_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own_clips(Path("my_clips"))
    save_video(Path("some_video.mp4"), rgb_frames(20))
    card = dg.NetworkCard(model="action_resnet18", classes=("a", "b", "c"), size=64, width=16)
    dg.save_network("runs/demo", dg.create_model(card.model, 3, width=16), card)  # instead of `make demo`
    told = ""
    for line in program(README, "A first session with your own clips", language="").splitlines():
        program_name, *words = shlex.split(line, comments=True)
        assert program_name == "dynagest"
        if words[0] == "train":
            words += [f"--set={pair}" for pair in ("epochs=1", "warmup_epochs=0", "workers=0")]
        code, output = run(*words)
        assert code == 0, output
        told += output
    for said in ("6 train, 2 val clips of 2 classes: grab, wave", "errors: 0", "classifier re-initialised", "top-1 "):
        assert said in told
    assert re.search(r"some_video\.mp4\n +[\d.]+%  (grab|wave)\n", told)
    assert "Not tested yet" not in Path("runs/mine/report.html").read_text(encoding="utf-8")
    assert Path("sheet.png").is_file()


def test_end_to_end_in_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    own_clips(Path("data/my_clips"))
    run("data", "index", "folders", "data/my_clips", "--holdout", "0.25", "--out", "data/my_clips")
    save_video(Path("some_video.mp4"), rgb_frames(20))
    save_run(Path("runs/live"), "action_resnet18", {"online": True})
    camera = [(np.full((24, 32, 3), 9 * tick, np.uint8), tick / 10) for tick in range(20)]
    names: dict[str, Any] = {"camera": camera}
    code = program(README, "From Python", 1)
    small = '{"epochs": 1, "warmup_epochs": 0, "workers": 0, "lr": 0.001}'
    assert '{"epochs": 20, "lr": 0.001}' in code
    capsys.readouterr()
    exec(code.replace('{"epochs": 20, "lr": 0.001}', small), names)
    assert (names["sample"]["rgb"].shape, names["sample"]["depth"].shape) == ((8, 3, 64, 64), (8, 1, 64, 64))
    assert names["sample"].keys() == names["generated"][(0, 0)].keys()
    assert names["card"].classes == ("grab", "wave")
    tested, *top = capsys.readouterr().out.splitlines()[:3]
    assert re.fullmatch(r"[\d.]+% of 2 clips, chance 50\.0%", tested)
    assert {line.split()[1] for line in top} == {"grab", "wave"}


@pytest.mark.parametrize("online", [True, False])
def test_an_exported_stream_is_run_without_dynagest(
    online: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, card = make_network("action_resnet18", {"online": online})
    model, state = convert_stream(StreamForm(net, card.size))
    path = tmp_path / "network-fp32-stream.onnx"
    write_model(model, ModelInfo(mode="stream", precision="fp32", card=card, state=state), "onnx", (), path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(program("export.md", "Without dynagest"), names)

    recogniser, state, ours, theirs = dg.load_recogniser(path), names["state"], [], []
    rng = np.random.default_rng(0)
    for tick in range(6):
        frame = np.repeat(np.repeat(rng.integers(0, 255, (6, 8, 3), np.uint8), 32, 0), 32, 1)
        scores, state = names["answer"](frame, state)
        ours.append(scores)
        theirs += [each.scores for each in recogniser.push(frame, tick / 10).scores]  # its card has fps=10
    assert np.ptp(theirs, axis=0).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_camera_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    export_colours(tmp_path / "network-int8-stream.onnx", "left", "right")  # red, green; black is none
    shown = [0] * 10 + [2] * 10 + [0] * 10 + [1] * 10
    pictures = iter([np.eye(3, dtype=np.uint8)[colour] * (255 * (colour > 0)) for colour in shown])

    def read() -> tuple[bool, np.ndarray | None]:
        colour = next(pictures, None)
        return colour is not None, None if colour is None else np.broadcast_to(colour, (24, 32, 3))

    times = iter(np.arange(0, 10, 0.1).tolist())
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("cv2.VideoCapture", lambda number: SimpleNamespace(read=read))
        patch.setattr("time.monotonic", lambda: next(times))
        exec(program("live.md", "In a program"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["left", "right"]


class Frames(nn.Module):
    """A network as others write them, of frames; its clips are the mean."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.stages = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.GELU()) for _ in range(3)))
        self.head = nn.Linear(8, classes)

    def forward(self, clip: Tensor) -> Tensor:
        features = self.stages(self.stem(clip.flatten(0, 1))).mean((2, 3))
        return self.head(features).unflatten(0, clip.shape[:2]).mean(1)


def test_a_training_loop_of_ones_own() -> None:
    spec = dg.SynthSpec(classes=("push", "grab"), clips_per_class={"train": 10, "val": 1, "test": 1}, size=32)
    clips = dg.SynthDataset(spec, "train", dg.View(num_segments=2, size=64, augment=True))
    net = Frames(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    names: dict[str, Any] = {"clips": clips, "net": net}
    code = program("design.md", "A training loop of your own")
    exec(code.replace("range(20)", "range(2)").replace("num_workers=2", "num_workers=0"), names)
    out = names["out"]
    assert set(out.terms) == {"cross_entropy", "local", "global"}
    expected = out.terms["cross_entropy"] + out.terms["local"] + 10 * out.terms["global"]
    assert out.loss.item() == pytest.approx(expected.item())
    assert out.masks.local.shape == (8, 1, 64, 64)  # four clips are left for the last batch
    assert not any(value.equal(before[name]) for name, value in net.state_dict().items())
