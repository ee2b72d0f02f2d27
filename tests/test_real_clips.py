"""The main path on real clips, command by command: index, check, train with depth, test, report, predict."""

import json
import re
from pathlib import Path

import cv2
import pytest
from cli_helpers import run

from dynagest.card import NetworkCard
from dynagest.networks.build import create_model
from dynagest.networks.weights import save_network
from dynagest.training.log import read_log

NETWORK = ("model=action_resnet18", "width=8", "size=64", "num_segments=4", "batch=4", "workers=0")
SETTINGS = [f"--set={pair}" for pair in (*NETWORK, "epochs=2", "milestones=1")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests and runs lie in the working directory, far from the clips."""
    monkeypatch.chdir(tmp_path)


def test_isogd_as_shipped(shared_data: Path) -> None:
    root = shared_data / "isogd"
    rows = (root / "train_list.txt").read_text(encoding="utf-8").splitlines()
    for split, part in (("train", rows[:8]), ("val", rows[8:11])):
        Path(f"{split}.txt").write_text("\n".join(part), encoding="utf-8")
    told = run("data", "index", "isogd", str(root), "--list", "train.txt:train", "--list", "val.txt:val")[1]
    assert "data/isogd/manifest.csv: 8 train, 3 val clips of 249 classes" in told
    code, told = run("data", "check", "data/isogd", "--sheet", "sheet.png")
    assert (code, "errors: 0" in told) == (0, True)
    assert re.search(r"depth: declared near = dark; 0 clips look near = bright, (9|1[01]) near = dark", told)
    assert cv2.imread("sheet.png").shape[0] > 200

    code, told = run("train", "isogd", "--data", "data/isogd", *SETTINGS)
    assert code == 0, told
    (hint,) = (line for line in told.splitlines() if line.startswith("next: "))
    assert hint == "next: dynagest evaluate runs/isogd --split val --protocol paper"
    epochs = [line for line in read_log(Path("runs/isogd")) if line["event"] == "epoch"]
    assert [line["train"]["clips"] for line in epochs] == [8, 8]
    assert all(0.01 < line["train"][mask] < 0.6 for line in epochs for mask in ("local", "global"))

    code, told = run(*hint.split()[2:], "--workers", "0")
    assert code == 0, told
    metrics = json.loads(Path("runs/isogd/metrics.json").read_text(encoding="utf-8"))
    assert (metrics["complete"], metrics["summary"]["clips"], metrics["conditions"]["views"]) == (True, 3, 30)
    panels = json.loads(Path("runs/isogd/panels/panels.json").read_text(encoding="utf-8"))
    assert panels["columns"] == ["RGB", "depth", "local mask", "global mask"]
    assert {Path(row["file"]).name for row in panels["rows"]} == {f"M_{number:05d}.avi" for number in (9, 10, 11)}
    assert Path("runs/isogd/report.html").read_text(encoding="utf-8").count("local mask") >= 3

    code, told = run("predict", "runs/isogd", str(root / "train" / "001" / "M_00150.avi"))
    assert code == 0
    assert len(re.findall(r"^ +[\d.]+%  class_\d{3}$", told, re.MULTILINE)) == 5


def test_the_nvgesture_clip_through_its_list(shared_data: Path) -> None:
    root = shared_data / "nvgesture-clip"
    told = run("data", "index", "nvgesture", str(root))[1]
    assert "data/nvgesture/manifest.csv: 1 test clip of 25 classes" in told
    code, told = run("data", "check", "data/nvgesture")
    assert (code, "errors: 0" in told) == (0, True)
    assert "test: 1 clip of 1 class (1 each), 1 with depth; frames 17 / 17 / 17" in told
    card = NetworkCard(
        model="tsm_resnet18", classes=tuple(f"class_{k:02d}" for k in range(1, 26)), num_segments=4, size=64, width=8
    )
    save_network("run", create_model(card.model, 25, 4, width=8), card)
    code, told = run("evaluate", "run", "--data", "data/nvgesture", "--workers", "0")
    assert code == 0, told
    (clip,) = json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["clips"]
    assert (Path(clip["file"].partition("[")[0]), clip["label"]) == (root / "sk_color.avi", "class_05")
    code, told = run("predict", "run", str(root / "sk_color.avi"), "--top", "2")
    assert len(re.findall(r"^ +[\d.]+%  class_\d\d$", told, re.MULTILINE)) == 2
