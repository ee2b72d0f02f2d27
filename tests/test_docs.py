"""Programs in the documentation do what is said of them."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from export_helpers import export_colours, make_network
from torch import Tensor, nn

import dynagest as dg
from dynagest.export.streams import StreamForm, convert_stream
from dynagest.export.write import write_model
from dynagest.runtimes.model_file import ModelInfo

DOCS = Path(__file__).parent.parent / "docs"


def program(page: str, heading: str) -> str:
    """The first Python program below a heading."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    found = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert found, f"{page}: no program under {heading}"
    return found[1]


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
