"""Lists how runs on the paper's schedules differ from the paper's runs. Shown before they start and below the table."""

from collections import Counter
from collections.abc import Mapping, Sequence

from dynagest.clips.adapters import ADAPTERS
from dynagest.reproduce.jobs import OnDisk
from dynagest.reproduce.plan import Plan
from dynagest.reproduce.pretrained import starts_at_random
from dynagest.reproduce.tables import DATASETS
from dynagest.training.recipe import WITHOUT_EFFECT


def departures(plans: Sequence[Plan]) -> list[str]:
    """A line for each model that starts from random weights instead of pretrained ones, for the systems whose training
    the tables do not tell, for each field that was set, for each dataset without data, and for each dataset with more
    or fewer clips than published.
    """
    jobs = list({job.key: job for plan in plans for job in plan.jobs}.values())
    random = Counter(
        (job.first_recipe.model, job.first_recipe.starts_from)
        for job in jobs
        if starts_at_random(job) and job.first_recipe.starts_from
    )
    lines = [
        f"{model} starts from random weights ({count} of the runs), not from {origin}, and will end up worse: give "
        f"--init {model}=FILE"
        for (model, origin), count in random.items()
    ]
    of_the_paper = [plan for plan in plans if plan.datasets[0] in DATASETS]
    untold = {
        job.first_recipe.model
        for plan in of_the_paper
        for job in plan.jobs
        if starts_at_random(job) and not job.first_recipe.starts_from
    }
    if untold:
        lines.append(
            f"{', '.join(sorted(untold))}: from random weights and on the paper's own schedule, because the tables do "
            "not tell how these were trained (docs/rivals.md); --init MODEL=FILE has them start from other weights"
        )
    changed = {field: value for plan in of_the_paper for field, value in plan.settings.items()}
    lines += [f"{field}={value} in every run" for field, value in changed.items() if field not in WITHOUT_EFFECT]
    lines += [
        f"table {plan.table.name} without {DATASETS[name]}: there is no --data {name}=MANIFEST"
        for plan in of_the_paper
        for name in plan.table.datasets
        if name not in plan.datasets
    ]
    others: dict[str, str] = {}
    for job in jobs:
        if isinstance(job.data, OnDisk) and job.data.name in DATASETS:
            there = Counter(clip.split for clip in job.data.read().clips)
            published = Counter(ADAPTERS[job.data.name].published)  # 0 for a split that the dataset does not have
            splits = (*job.recipe.train_splits, job.data.split)
            if any(there[split] != published[split] for split in splits):
                others[job.data.name] = f"{_told(there, splits)} clips here, {_told(published, splits)} as published"
    return lines + [f"{DATASETS[name]} has {clips}" for name, clips in others.items()]


def _told(counts: Mapping[str, int], splits: Sequence[str]) -> str:
    return ", ".join(f"{counts[split]:,} {split}" for split in splits)
