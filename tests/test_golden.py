"""What the ledger in docs/results stands on: clips and training that a change of the code must not change unnoticed.

Where one of these numbers changes on purpose, outcomes of before and after must not stand in one table any more.
"""

from pathlib import Path

import numpy as np
import pytest

from dynagest.reproduce.plan import plan
from dynagest.reproduce.runner import Ledger, run_job
from dynagest.reproduce.scales import SCALES
from dynagest.reproduce.speed import Speeds
from dynagest.reproduce.study import STUDY
from dynagest.synth.recording import plan as plan_clip
from dynagest.synth.recording import record
from dynagest.training.log import read_log


@pytest.mark.parametrize(
    ("index", "rgb", "spread", "depth", "holes"),
    [
        (0, (120.51, 113.50, 111.44), (52.35, 58.35, 58.23), 581.0, 0.7958),
        (1007, (162.63, 159.35, 152.59), (40.52, 56.52, 41.41), 878.9, 0.5069),
    ],
)
def test_a_clip_of_the_study(
    index: int, rgb: tuple[float, ...], spread: tuple[float, ...], depth: float, holes: float
) -> None:
    """Mean and spread of R, G and B, mean depth in mm where there is any, and the share of pixels without."""
    spec = SCALES["small"].spec
    assert spec is not None
    spec = spec.model_copy(update={"seed": 1000})
    footage = record(spec, plan_clip(spec, "train", index))
    pixels, raw = footage.rgb.numpy().astype(float), footage.depth.numpy().astype(float)
    assert pixels.mean((0, 2, 3)) == pytest.approx(rgb, abs=0.05)
    assert pixels.std((0, 2, 3)) == pytest.approx(spread, abs=0.05)
    assert raw[raw > 0].mean() == pytest.approx(depth, abs=0.5)
    assert np.mean(raw == 0) == pytest.approx(holes, abs=0.001)


@pytest.mark.parametrize(
    ("row", "losses"),
    [
        ("TSM, none", (1.38888, 1.40523, 1.38381, 1.39378, 1.39989, 1.36952)),
        ("ACTION-Net, both", (1.48026, 1.49003, 1.46392, 1.47775, 1.48091, 1.43686)),
    ],
)
def test_the_loss_of_the_first_steps(row: str, losses: tuple[float, ...], tmp_path: Path) -> None:
    cell = plan(STUDY["decoders"].only([row]), SCALES["smoke"], {}, [0], Speeds(tmp_path)).cells[-1]
    changes = {"log_steps": 1, "epochs": 3}
    job = cell.jobs[0].model_copy(update={"recipe": cell.jobs[0].recipe.with_overrides(changes)})
    run_job(job, tmp_path, Ledger(tmp_path / "ledger.jsonl"))
    lines = [line for line in read_log(tmp_path / "runs" / job.name) if line["event"] == "train"]
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-3)
