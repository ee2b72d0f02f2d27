"""Writes the table of what the decoders find, as Markdown and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

from dynagest.atomic import write_atomically, write_together
from dynagest.clips.dataset import ClipDataset, ClipSource
from dynagest.clips.manifest import Manifest
from dynagest.reproduce.footage import RenderedClips
from dynagest.reproduce.jobs import Job
from dynagest.reproduce.masks import GUESSES, MaskScore, score_masks
from dynagest.reproduce.plan import Plan
from dynagest.run_folder import MASKS_FILE
from dynagest.training.data import validation_view
from dynagest.training.recipe import Recipe


def write_masks(plan: Plan, folder: Path, command: str) -> tuple[str, list[Path]]:
    """Write ``table-masks.md`` and ``.json`` for a plan whose runs are done. Returns the Markdown and both paths."""
    scores: dict[str, list[MaskScore]] = {}
    for cell in plan.cells:
        each = [_kept(job, folder) for job in cell.jobs.values()]
        scores[cell.row.name] = [_mean(alike) for alike in zip(*each, strict=True)]
    head = ["target", "mask", *(f"{guess}: error, correlation" for guess in GUESSES)]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for row, found in scores.items():
        for mask in dict.fromkeys(score.mask for score in found):
            cells = [f"{score.mse:.4f}, {score.correlation:+.2f}" for score in found if score.mask == mask]
            lines.append([row, mask, *cells])
    clips = max(score.clips for found in scores.values() for score in found)
    seeds = len(plan.cells[0].jobs)
    over = f"{clips} held-out clips" + (f" and {seeds} seeds" if seeds > 1 else "")
    text = (
        f"**Masks.** {plan.table.title}; {plan.datasets[0]}, scale {plan.scale}.\n\n"
        + "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        + f"\n\nMean over {over} of the squared error in canonical depth (0 to 1) and of Pearson's correlation, over "
        "all pixels of a clip. Brightness and the untrained decoder are fitted to the training clips (factor and "
        f"offset).\n\n`{command}`\n"
    )
    record = {"command": command, "rows": {row: [asdict(each) for each in found] for row, found in scores.items()}}
    stem = folder / "table-masks"
    files = {stem.with_suffix(".md"): text.encode(), stem.with_suffix(".json"): json.dumps(record, indent=1).encode()}
    write_together(files)
    return text, list(files)


def _kept(job: Job, folder: Path) -> list[MaskScore]:
    """The scores of a job's run, from its ``masks.json``, where they are put when they are first computed."""
    run = folder / "runs" / job.name
    path = run / MASKS_FILE
    if path.exists():
        return [MaskScore(**score) for score in json.loads(path.read_text())]
    scores = score_masks(run, job.recipe, *_seen_plainly(job, folder / "footage"))
    write_atomically(path, json.dumps([asdict(score) for score in scores], indent=1).encode())
    return scores


def _mean(scores: Sequence[MaskScore]) -> MaskScore:
    """The mean over the seeds of one guess at one scale."""
    mse, correlation = (mean(getattr(score, name) for score in scores) for name in ("mse", "correlation"))
    return replace(scores[0], mse=mse, correlation=correlation)


def _seen_plainly(job: Job, footage: Path) -> tuple[ClipSource, ClipSource]:
    """The job's training and test clips, without augmentation and with depth."""
    training, testing = job.data.training(job.recipe, footage).train, job.data.testing(job.recipe, footage)
    return _through(training, job.recipe), _through(testing, job.recipe)


def _through(clips: ClipSource | Manifest, recipe: Recipe) -> ClipSource:
    view = validation_view(recipe)
    if isinstance(clips, RenderedClips):
        return clips.through(view)
    manifest = clips.manifest if isinstance(clips, ClipDataset) else clips
    assert isinstance(manifest, Manifest)
    return ClipDataset(manifest, view, recipe.seed)
