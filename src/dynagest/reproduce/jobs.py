"""A job: one training run and its test, identified by everything that decides its result."""

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dynagest.clips.depth import DEPTH_FILE, DepthSpec
from dynagest.clips.manifest import CLASSES_FILE, Manifest
from dynagest.clips.view import View
from dynagest.reproduce.footage import RenderedClips
from dynagest.synth.spec import SynthSpec
from dynagest.training.data import TrainingData, training_view, validation_view
from dynagest.training.recipe import WITHOUT_EFFECT, Recipe


class Generated(BaseModel):
    """Generated clips: their spec, the number of training clips that are used, and their name in a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["generated"] = "generated"
    name: str
    spec: SynthSpec
    first: int | None = Field(default=None, description="clips of the training split; none: all")

    def training(self, recipe: Recipe, footage: Path) -> TrainingData:
        """The clips that a recipe trains on; they are rendered below ``footage`` unless they are there already."""
        train = RenderedClips.below(
            footage, self.spec, "train", training_view(recipe), seed=recipe.seed, first=self.first
        )
        validation = None
        if recipe.validate_on is not None:
            validation = RenderedClips.below(footage, self.spec, "val", validation_view(recipe), seed=recipe.seed)
        return TrainingData.of_sources(train, validation, self.name)

    @property
    def num_classes(self) -> int:
        """The number of classes of the network."""
        return len(self.spec.labels)

    @property
    def split(self) -> Literal["test"]:
        """The split that the network is tested on."""
        return "test"

    def testing(self, recipe: Recipe, footage: Path) -> RenderedClips:
        """The test split, whose people and scenes differ from those of training."""
        return RenderedClips.below(footage, self.spec, "test", _test_view(recipe), seed=0)


class OnDisk(BaseModel):
    """The clips of a manifest, tested on ``split``.

    ``content`` is a digest of the manifest and of the meaning of its depth: if either changes, these are other jobs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["manifest"] = "manifest"
    name: str
    manifest: Path
    content: str
    split: Literal["val", "test"] = "test"
    depth: DepthSpec | None = Field(default=None, description="instead of the manifest's own depth.yaml")

    def training(self, recipe: Recipe, footage: Path) -> TrainingData:
        """The splits that the recipe names."""
        return TrainingData.of_manifest(self.read(), recipe)

    @property
    def num_classes(self) -> int:
        """The number of classes of the network."""
        return len(self.read().classes)

    def testing(self, recipe: Recipe, footage: Path) -> Manifest:
        """The split to test on."""
        return self.read().split(self.split)

    def read(self) -> Manifest:
        """The manifest, with this job's meaning of depth."""
        manifest = read_once(self.manifest, self.content)
        return manifest if self.depth is None else replace(manifest, depth=self.depth)


class Job(BaseModel):
    """A recipe with its seed, its clips and the protocol of its test.

    ``after`` is the key of the job whose network this one starts from; ``weights`` is a digest of the weights file that
    the recipe starts from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    data: Generated | OnDisk = Field(discriminator="kind")
    protocol: str = "center"
    after: str | None = None
    weights: str | None = None

    @property
    def first_recipe(self) -> Recipe:
        """The recipe of the training that comes first: the first stage, if there are stages."""
        return self.recipe.trainings[0]

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that identify the job, the same whichever table asks for it.

        Fields with their default values are left out, so that a field that is added later does not rename older runs.
        The content of a manifest or of the weights matters, their location does not.
        """
        recipe = self.recipe.model_dump(
            mode="json", exclude_defaults=True, exclude=set(WITHOUT_EFFECT | {"name", "init"})
        )
        data = self.data.model_dump(mode="json", exclude_defaults=True, exclude={"name", "manifest"})
        parts = [recipe, data, self.protocol, self.after, *([self.weights] if self.weights else [])]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The name of the run's folder: readable, and unique by its key."""
        return f"{self.recipe.model}-{self.recipe.msd}-{self.recipe.seed}-{self.key}"


def digest(manifest: Path) -> str:
    """A digest of a manifest's clips, its classes and the meaning of its depth, wherever it lies."""
    return digest_of(manifest, manifest.with_name(CLASSES_FILE), manifest.with_name(DEPTH_FILE))


def digest_of(*paths: Path) -> str:
    """Sixteen hexadecimal digits of the hash of these files' content; missing files are skipped."""
    files = [path.read_bytes() for path in paths if path.exists()]
    return hashlib.sha256(b"\0".join(files)).hexdigest()[:16]


@cache
def read_once(manifest: Path, content: str) -> Manifest:
    """Read a manifest with this ``content``. It is cached, because hundreds of jobs ask for the same one."""
    return Manifest.read(manifest)


def _test_view(recipe: Recipe) -> View:
    return replace(validation_view(recipe), depth=recipe.inputs != "rgb")
