"""Writes the paper's Fig. 5: RGB, depth, local mask and global mask for clips that the network never saw."""

import shutil
from dataclasses import replace
from pathlib import Path

from dynagest.errors import RunError
from dynagest.networks.weights import load_network
from dynagest.reproduce.footage import RenderedClips
from dynagest.reproduce.plan import Plan
from dynagest.run_folder import METRICS_FILE, PANELS_FILE
from dynagest.testing.evaluation import Evaluation
from dynagest.testing.panels import make_panels


def write_panels_figure(plan: Plan, folder: Path) -> list[Path]:
    """Write a figure into ``folder`` for the first seed of each cell, and return the paths.

    Raises ``RunError`` when no panels can be made.
    """
    written = []
    for cell in plan.cells:
        job = cell.jobs[min(cell.jobs)]
        run = folder / "runs" / job.name
        net, card = load_network(run)
        clips = job.data.testing(job.recipe, folder / "footage")
        if isinstance(clips, RenderedClips):
            clips = clips.through(replace(clips.view, depth=True))
        missing = make_panels(run, net, card, clips, Evaluation.read(run / METRICS_FILE), seed=job.recipe.seed)
        if missing:
            raise RunError(f"{run}: no panels can be made: {missing}")
        path = folder / f"figure-{plan.table.name}-{cell.dataset}-{cell.row.name.replace(' ', '-')}.png"
        shutil.copyfile(run / PANELS_FILE, path)
        written.append(path)
    return written
