"""A job: one training run and its test, named by everything that decides its result."""

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
    """Generated clips: a spec, how many clips of its training split are used, and what they are called in a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["generated"] = "generated"
    name: str
    spec: SynthSpec
    first: int | None = Field(default=None, description="clips of the training split; none: all")

    def training(self, recipe: Recipe, footage: Path) -> TrainingData:
        """The clips that a recipe trains on, rendered below ``footage`` where they are not yet."""
        train = RenderedClips.below(
            footage, self.spec, "train", training_view(recipe), seed=recipe.seed, first=self.first
        )
        validation = None
        if recipe.validate_on is not None:
            validation = RenderedClips.below(footage, self.spec, "val", validation_view(recipe), seed=recipe.seed)
        return TrainingData.of_sources(train, validation, self.name)

    @property
    def num_classes(self) -> int:
        """Classes that a network tells apart."""
        return len(self.spec.labels)

    @property
    def split(self) -> Literal["test"]:
        """The split that is tested on."""
        return "test"

    def testing(self, recipe: Recipe, footage: Path) -> RenderedClips:
        """The test split: other people in other places."""
        return RenderedClips.below(footage, self.spec, "test", _test_view(recipe), seed=0)


class OnDisk(BaseModel):
    """The clips of a manifest, tested on ``split``.

    ``content`` is a digest of the manifest and of the meaning of its depth: where they change, the runs are others.
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
        """Classes that a network tells apart."""
        return len(self.read().classes)

    def testing(self, recipe: Recipe, footage: Path) -> Manifest:
        """The split to test on."""
        return self.read().split(self.split)

    def read(self) -> Manifest:
        """The manifest, with the depth of this job."""
        manifest = read_once(self.manifest, self.content)
        return manifest if self.depth is None else replace(manifest, depth=self.depth)


class Job(BaseModel):
    """A recipe with its seed, its clips and the protocol of its test.

    ``after`` is the key of the job whose network this one starts from, ``weights`` a digest of the file that the recipe
    starts from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    data: Generated | OnDisk = Field(discriminator="kind")
    protocol: str = "center"
    after: str | None = None
    weights: str | None = None

    @property
    def first_recipe(self) -> Recipe:
        """What is trained first: the recipe's first stage, where it has any."""
        return self.recipe.trainings[0]

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits: the same for the same job, whichever table asks for it.

        Of fields that stand as the recipe leaves them: one that is added later does not rename the runs of before.
        Where a manifest or the weights lie does not matter, their content does.
        """
        recipe = self.recipe.model_dump(
            mode="json", exclude_defaults=True, exclude=set(WITHOUT_EFFECT | {"name", "init"})
        )
        data = self.data.model_dump(mode="json", exclude_defaults=True, exclude={"name", "manifest"})
        parts = [recipe, data, self.protocol, self.after, *([self.weights] if self.weights else [])]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The folder of its run: readable, and unique by its key."""
        return f"{self.recipe.model}-{self.recipe.msd}-{self.recipe.seed}-{self.key}"


def digest(manifest: Path) -> str:
    """What tells a manifest from another: its clips, its classes and the meaning of its depth, not where it lies."""
    return content(manifest, manifest.with_name(CLASSES_FILE), manifest.with_name(DEPTH_FILE))


def content(*paths: Path) -> str:
    """Sixteen hexadecimal digits of what these files hold, as far as they are there."""
    files = [path.read_bytes() for path in paths if path.exists()]
    return hashlib.sha256(b"\0".join(files)).hexdigest()[:16]


@cache
def read_once(manifest: Path, content: str) -> Manifest:
    """A manifest of this ``content``; hundreds of jobs ask for the same one."""
    return Manifest.read(manifest)


def _test_view(recipe: Recipe) -> View:
    return replace(validation_view(recipe), depth=recipe.inputs != "rgb")
