"""Plans the jobs that fill a table, from the table, a scale and the data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from dynagest.clips.depth import PRESETS, DepthSpec
from dynagest.errors import RecipeError, hint
from dynagest.networks.rivals.build import RIVALS
from dynagest.reproduce.jobs import Generated, Job, OnDisk, digest, read_once
from dynagest.reproduce.scales import Scale
from dynagest.reproduce.speed import KnownSpeeds, epochs_for_seconds
from dynagest.reproduce.tables import CLASSES, DATASETS, PLAIN, Row, Table
from dynagest.synth.spec import SENSOR
from dynagest.training.recipe import OF_THE_WHOLE, Recipe
from dynagest.training.recipes import get_recipe
from dynagest.training.recipes_systems import SYSTEMS

GENERATED, OWN = "generated", "data"  # the columns of a table that is not run on the paper's datasets
# The paper reports IsoGD on the validation split, because the test split has no public labels.
_TESTED_ON: dict[str, Literal["val", "test"]] = {"isogd": "val"}


@dataclass(frozen=True)
class Cell:
    """One number of a table: a row on a dataset, with its job for each seed."""

    row: Row
    dataset: str
    jobs: Mapping[int, Job]

    @property
    def protocol(self) -> str:
        """The test protocol of the cell's networks, the same for all seeds."""
        return next(iter(self.jobs.values())).protocol


@dataclass(frozen=True)
class Plan:
    """A table at a scale: its columns, its cells, and all ``jobs`` that they need, one seed after the other.

    So an interrupted study has every row of the seeds that it finished, which the paired differences need.
    ``settings`` are the fields that were set in every run.
    """

    table: Table
    scale: str
    datasets: tuple[str, ...]
    cells: tuple[Cell, ...]
    jobs: tuple[Job, ...]
    settings: Mapping[str, str]

    def cell(self, row: str, dataset: str) -> Cell:
        """The cell of this row and dataset."""
        return next(cell for cell in self.cells if (cell.row.name, cell.dataset) == (row, dataset))

    @property
    def pictured(self) -> tuple[Job, ...]:
        """The jobs whose networks the table needs after their test: for Fig. 5 the first seed's, for masks all."""
        if self.table.name == "fig5":
            return tuple(cell.jobs[min(cell.jobs)] for cell in self.cells)
        return self.jobs if self.table.name == "masks" else ()

    def title(self, job: Job) -> str:
        """A job in words: its row and dataset, or the row that starts from it."""
        for cell in self.cells:
            if job in cell.jobs.values():
                return f"{cell.row.name} on {DATASETS.get(cell.dataset, cell.dataset)}"
        row = next(cell.row for cell in self.cells if job.key in {each.after for each in cell.jobs.values()})
        return f"{row.name} on {DATASETS.get(job.data.name, job.data.name)}, to start from"

    def changed(self, change: Callable[[Job], Job]) -> "Plan":
        """The plan with ``change`` applied to every job; ``after`` follows the new keys."""
        jobs: dict[str, Job] = {}  # by their old keys
        for job in self.jobs:  # a job comes before those that start from it
            after = None if job.after is None else jobs[job.after].key
            jobs[job.key] = change(job).model_copy(update={"after": after})
        cells = tuple(
            replace(cell, jobs={seed: jobs[job.key] for seed, job in cell.jobs.items()}) for cell in self.cells
        )
        return replace(self, cells=cells, jobs=tuple(jobs.values()))


def plan(
    table: Table,
    scale: Scale,
    data: Mapping[str, Path],
    seeds: Sequence[int],
    speeds: KnownSpeeds,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Plan the jobs of a table. ``speeds`` are looked up or measured only for rows with a budget in time.

    ``data`` maps a dataset's name to its manifest, or "" to a manifest of your own; empty: generated clips. At scale
    ``paper`` the columns are the table's datasets that ``data`` names. ``settings`` replace fields of every run's
    recipe, as `--set` gives them. At all scales but ``paper`` the trainings of a run share its epochs, also such.

    Raises ``RecipeError`` when ``data`` names none of the table's datasets, when it lacks EgoGesture there, when the
    clips lack splits, classes or depth that a job needs, for a setting that the table's rows differ in, and as
    ``Recipe.with_overrides`` does.
    """
    _check_data(table, scale, data)
    _check_settings(table, settings)
    if scale.spec is None:
        return _published(table, scale, data, tuple(seeds), settings)
    column = OWN if data else GENERATED
    cells, before = [], {}
    for row in table.rows:
        jobs = {}
        for seed in seeds:
            recipe = _at_scale(row, scale, seed, settings)
            clips = _clips(row, scale, data, recipe)
            if row.budget == "time":
                assert row.against is not None
                reference = _at_scale(table.row(row.against), scale, seed, settings)
                epochs = epochs_for_seconds(recipe, reference, speeds, clips.num_classes)
                recipe = _at_scale(row, scale, seed, settings, each=epochs)
            start = None
            if row.before is not None:
                plain = Row(row.name, row.system, PLAIN, data=row.before)
                learnt = _at_scale(plain, scale, seed, settings)
                first = Job(recipe=learnt, data=_clips(plain, scale, data, learnt), protocol="center")
                before[first.key], start = first, first.key
            jobs[seed] = Job(recipe=recipe, data=clips, protocol="center", after=start)
        cells.append(Cell(row, column, jobs))
    return _ordered(table, scale, (column,), cells, before, settings)


def _check_data(table: Table, scale: Scale, data: Mapping[str, Path]) -> None:
    unknown = sorted(set(data) - set(DATASETS) - {""})
    if unknown:
        raise RecipeError(f"--data {unknown[0]}: names no dataset of the paper; {hint(unknown[0], DATASETS)}")
    if scale.spec is None:
        if not table.datasets:
            raise RecipeError(
                f"table {table.name} is not of the paper, so scale paper has no schedule for it; use small"
            )
        return
    if len(data) > 1:
        raise RecipeError(f"--data is given {len(data)} times; at scale {scale.name} all rows are run on one manifest")
    generated = sorted({field for row in table.rows for field in row.data if field != "depth"})
    if data and generated:
        raise RecipeError(
            f"table {table.name} compares kinds of generated clips ({', '.join(generated)}), so it takes no --data"
        )


def _check_settings(table: Table, settings: Mapping[str, str]) -> None:
    own = (OF_THE_WHOLE - {"threads"}) | {"model", "task"} | {name for row in table.rows for name in row.changes}
    if len({row.system for row in table.rows}) > 1:
        own |= {"options"}  # of a network, such as NAS1's genotype
    if any(row.budget == "time" or row.rounds != 1 for row in table.rows):
        own |= {"epochs"}  # "twice the epochs" would be as many as all others have
    refused = sorted(own & settings.keys())
    if refused:
        raise RecipeError(
            f"--set {refused[0]}: table {table.name} sets it itself, run by run; --rows, --seeds and --init say "
            "which runs"
        )


def _at_scale(row: Row, scale: Scale, seed: int, settings: Mapping[str, str], each: int | None = None) -> Recipe:
    """The row's published recipe at this scale: the method stays, the budget is the scale's, then the ``settings``.

    ``each``: the epochs of every training, instead of the scale's, which all trainings of a run share.
    """
    epochs = settings.get("epochs", max(round(row.rounds * scale.fields["epochs"]), 1))
    scale = replace(scale, fields={**scale.fields, "epochs": epochs})
    recipe = scale.shrink(SYSTEMS[row.system](get_recipe("egogesture")), row.system, each)
    recipe = recipe.with_overrides({"seed": seed, **row.changes, **(row.small if scale.name == "small" else {})})
    return recipe.throughout({name: value for name, value in settings.items() if name != "epochs"})


def _clips(row: Row, scale: Scale, data: Mapping[str, Path], recipe: Recipe) -> Generated | OnDisk:
    if data:
        manifest = next(iter(data.values()))
        clips = _on_disk(str(manifest), manifest, _held_out(manifest))
        return clips.model_copy(update={"depth": _depth(manifest, row.data["depth"])}) if "depth" in row.data else clips
    assert scale.spec is not None
    changes = dict(row.data)
    share = changes.pop("share", 1.0)
    if "depth" in changes:  # generated depth has another viewpoint than RGB, which "aligned" undoes
        changes |= {"misalign": "isogd", "declare_misalignment": changes.pop("depth") == "aligned"}
    if not any(each.uses_depth for each in recipe.trainings):  # the depth sensor changes neither RGB nor this run
        changes = {name: value for name, value in changes.items() if name not in SENSOR}
    # Every seed has new people, scenes and performances; all rows of a seed share them.
    spec = type(scale.spec).model_validate(scale.spec.model_dump() | {"seed": 1000 + recipe.seed} | changes)
    each = round(spec.clips_per_class.train * share)
    if share > 1:
        more = spec.clips_per_class.model_copy(update={"train": each})
        return Generated(name=GENERATED, spec=spec.model_copy(update={"clips_per_class": more}))
    return Generated(name=GENERATED, spec=spec, first=None if share == 1.0 else each * len(spec.classes))


def _depth(manifest: Path, wanted: str) -> DepthSpec:
    """The depth spec of a manifest whose depth is ``wanted`` "raw" (as shipped) or "aligned" (laid over RGB).

    Raises ``RecipeError`` when the manifest has no depth, or when it is not known how to align it.
    """
    own = read_once(manifest, digest(manifest)).depth
    if own is None:
        raise RecipeError(f"{manifest}: has no clips with depth, so there is nothing for decoders to find")
    shipped = own.model_copy(update={"affine": None})
    if wanted == "raw":
        return shipped
    if own.affine is not None:
        return own
    # IsoGD's depth is known by its spec. That of NVGesture is the spec of any bright depth, aligned or not.
    alike = [name for name, preset in PRESETS.items() if preset == own]
    if len(alike) == 1 and f"{alike[0]}-aligned" in PRESETS:
        return PRESETS[f"{alike[0]}-aligned"]
    raise RecipeError(
        f"{manifest}: its depth.yaml has no affine that lays depth over RGB; add one (NVGesture's is written by "
        "`dynagest data index nvgesture ROOT --aligned`), or choose other rows with --rows"
    )


def _held_out(manifest: Path) -> Literal["val", "test"]:
    """The split to report on: test, or val if there is no test split. Raises ``RecipeError`` if there is neither."""
    split = read_once(manifest, digest(manifest)).held_out()
    if split is None:
        raise RecipeError(f"{manifest}: has no clips in split test or val to report on; hold some out when indexing")
    return split


def _published(
    table: Table, scale: Scale, data: Mapping[str, Path], seeds: tuple[int, ...], settings: Mapping[str, str]
) -> Plan:
    """The plan on the exact published schedules. The models of NVGesture and IsoGD start from those of EgoGesture."""
    if set(data) == {""} and len(table.datasets) == 1:
        data = {table.datasets[0]: data[""]}
    if "" in data:
        raise RecipeError(
            f"--data {data['']}: names no dataset of the paper; give DATASET=MANIFEST with one of {', '.join(DATASETS)}"
        )
    columns = tuple(name for name in table.datasets if name in data)
    if not columns or "egogesture" not in data:
        wanted = ["egogesture", *(() if columns else table.datasets)]
        options = " ".join(f"--data {name}=MANIFEST" for name in dict.fromkeys(wanted) if name not in data)
        raise RecipeError(
            f"table {table.name} at scale paper also needs {options}: the models of NVGesture and IsoGD start from "
            "that of EgoGesture. `dynagest data index` writes a manifest; --scale small needs none. With such a model "
            "instead of the clips: `dynagest train action-msd@nvgesture --init MODEL`, then `evaluate --protocol paper`"
        )
    cells, before = [], {}
    for row in table.rows:
        for dataset in columns:
            jobs = {}
            for seed in seeds:
                start = None
                if dataset != "egogesture":
                    first = _paper_job(row, "egogesture", data, seed, settings)
                    before[first.key], start = first, first.key
                jobs[seed] = _paper_job(row, dataset, data, seed, settings, start)
            cells.append(Cell(row, dataset, jobs))
    return _ordered(table, scale, columns, cells, before, settings)


def _paper_job(
    row: Row,
    dataset: str,
    data: Mapping[str, Path],
    seed: int,
    settings: Mapping[str, str],
    after: str | None = None,
) -> Job:
    recipe = SYSTEMS[row.system](get_recipe(dataset)).with_overrides({**row.changes, "seed": seed}).throughout(settings)
    split, protocol = tested_by(recipe, dataset)
    return Job(recipe=recipe, data=_on_disk(dataset, data[dataset], split), protocol=protocol, after=after)


def tested_by(recipe: Recipe, dataset: str) -> tuple[Literal["val", "test"], Literal["paper", "center"]]:
    """The split of the paper's numbers for a dataset, and the paper's protocol, or "center" if the network takes no
    other.
    """
    # The paper's views are larger than those of training.
    flattens = recipe.model in RIVALS and RIVALS[recipe.model].flattens
    return _TESTED_ON.get(dataset, "test"), "center" if flattens else "paper"


def _on_disk(name: str, manifest: Path, split: Literal["val", "test"]) -> OnDisk:
    manifest = manifest.resolve()
    return OnDisk(name=name, manifest=manifest, content=digest(manifest), split=split)


def _ordered(
    table: Table,
    scale: Scale,
    datasets: tuple[str, ...],
    cells: list[Cell],
    before: Mapping[str, Job],
    settings: Mapping[str, str],
) -> Plan:
    jobs: dict[str, Job] = {}
    for seed in sorted({seed for cell in cells for seed in cell.jobs}):
        for job in (cell.jobs[seed] for cell in cells):
            if job.after is not None:
                jobs.setdefault(job.after, before[job.after])
            jobs[job.key] = job
    return _checked(Plan(table, scale.name, datasets, tuple(cells), tuple(jobs.values()), settings))


def _checked(plan: Plan) -> Plan:
    """The plan, if its clips suffice. Otherwise raises ``RecipeError`` now, and not after hours of earlier runs."""
    for job in plan.jobs:
        if isinstance(job.data, OnDisk):
            _check_clips(job.data, job.recipe, plan.title(job))
    for data in [job.data for job in plan.pictured if isinstance(job.data, OnDisk)]:
        if not any(clip.depth for clip in data.read().split(data.split).clips):
            raise RecipeError(
                f"{data.manifest}: no clip in split {data.split} has depth, with which table {plan.table.name} "
                "compares the masks; give held-out clips with depth"
            )
    return plan


def _check_clips(data: OnDisk, recipe: Recipe, title: str) -> None:
    manifest, where = data.read(), str(data.manifest)
    classes = CLASSES.get(data.name, len(manifest.classes))
    if len(manifest.classes) != classes:
        raise RecipeError(
            f"{where}: has {len(manifest.classes)} classes and {DATASETS[data.name]} {classes}; give the manifest that "
            f"`dynagest data index {data.name}` wrote"
        )
    if data.split in (*recipe.train_splits, recipe.validate_on):
        raise RecipeError(
            f"{title} is tested on {data.split}, so it can neither train nor choose its epoch on that split; leave it "
            "out of train_splits and validate_on"
        )
    trained = [clip for clip in manifest.clips if clip.split in recipe.train_splits]
    tested = manifest.split(data.split).clips
    for splits, there in ((recipe.train_splits, trained), ((data.split,), tested)):
        if not there:
            raise RecipeError(
                f"{where}: has no clip in split {' or '.join(splits)}, which {title} needs; index the set with a list "
                "that has its labels"
            )
    if any(each.uses_depth for each in recipe.trainings) and not any(clip.depth for clip in trained):
        raise RecipeError(
            f"{where}: no clip to train on has depth, which {title} needs; give clips with depth, or choose other rows "
            "with --rows"
        )
    if recipe.inputs != "rgb" and not any(clip.depth for clip in tested):
        raise RecipeError(
            f"{where}: no clip in split {data.split} has depth, which {title} is fed at test as well; give held-out "
            "clips with depth, or choose other rows with --rows"
        )
