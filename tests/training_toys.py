"""What the training tests share: clips made in memory, a recipe that trains in seconds, a run as a process of its own.

``python training_toys.py RUN_DIR [--resume] [--slow SECONDS]`` trains on them; ``torchrun`` may start several.
``--disk BYTES`` is the longest file that the main process can write, ``--recipe FILE`` a recipe as JSON.
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from dynagest.clips.dataset import Sample
from dynagest.clips.labelled import UnreadableClip
from dynagest.errors import DepthError
from dynagest.training.data import TrainingData
from dynagest.training.recipe import Recipe

SIZE, FRAMES = 32, 4
CLASSES = ("left", "right", "up")


@dataclass
class ToyClips:
    """A bright square on noise that moves left, right or up; near = the square.

    Every third clip has no depth if told so.
    """

    count: int = 12
    seed: int = 0
    sparse_depth: bool = False
    unreadable: tuple[int, ...] = ()
    poisoned: tuple[int, ...] = ()
    contradicting: tuple[int, ...] = ()
    delay: float = 0.0
    frames: int = FRAMES
    size: int = SIZE

    classes = CLASSES

    def __len__(self) -> int:
        return self.count

    def label(self, index: int) -> int:
        return index % 3

    def name(self, index: int) -> str:
        return f"clip {index}"

    def __getitem__(self, key: tuple[int, int]) -> Sample | UnreadableClip:
        epoch, index = key
        time.sleep(self.delay)
        if index in self.unreadable:
            return UnreadableClip(index, f"clip{index}.mp4", "truncated")
        if index in self.contradicting:
            raise DepthError("depth.yaml: says near is bright")
        random = np.random.default_rng((self.seed, epoch, index))
        rgb = random.integers(0, 80, (self.frames, 3, self.size, self.size), dtype=np.uint8)
        depth = np.zeros((self.frames, 1, self.size, self.size), dtype=np.float32)
        place = random.integers(8, 16, 2)
        step = [(0, -2), (0, 2), (-2, 0)][self.label(index)]
        for t in range(self.frames):
            y, x = place + t * np.array(step)
            rgb[t, :, y : y + 8, x : x + 8] = 220
            depth[t, :, y : y + 8, x : x + 8] = 0.8
        if index in self.poisoned:
            depth[:] = np.nan
        has_depth = not (self.sparse_depth and index % 3 == 2)
        return {
            "rgb": torch.from_numpy(rgb),
            "depth": torch.from_numpy(depth if has_depth else np.zeros_like(depth)),
            "has_depth": has_depth,
            "label": self.label(index),
            "index": index,
        }


def toy_recipe(**changes: object) -> Recipe:
    """A small ACTION network on 32 x 32: a fraction of a second an epoch."""
    values = {
        **{"name": "toy", "model": "action_resnet18", "width": 8, "size": SIZE, "num_segments": FRAMES},
        **{"batch": 4, "lr": 0.01, "lr_batch": 4, "epochs": 2, "milestones": (1,), "workers": 0, "precision": "fp32"},
        **{"log_steps": 2},
    }
    return Recipe(**(values | changes))


def toy_data(validation: bool = True, **options: object) -> TrainingData:
    clips = ToyClips(**options)
    return TrainingData.of_sources(clips, ToyClips(6, seed=1) if validation else None, "toy clips")


def toy_source(recipe: Recipe, **options: object) -> TrainingData:
    """Clips as a recipe looks at them."""
    sources = [
        ToyClips(count, seed, frames=recipe.num_segments, size=recipe.size, **options)
        for count, seed in ((12, 0), (6, 1))
    ]
    return TrainingData.of_sources(*sources, "toy clips")


def start(run_dir: Path, *arguments: str, launcher: tuple[str, ...] = (sys.executable,)) -> subprocess.Popen[str]:
    """This file as a process, one thread each, so that sums are taken in the same order every time."""
    here = Path(__file__).resolve()
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{here.parents[1] / 'src'}{os.pathsep}{here.parent}",
    }
    return subprocess.Popen(
        [*launcher, str(here), str(run_dir), *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def main() -> None:
    from rich.console import Console

    from dynagest.training.trainer import train

    parser = ArgumentParser()
    parser.add_argument("run_dir")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--sparse-depth", action="store_true")
    parser.add_argument("--disk", type=int)
    parser.add_argument("--recipe")
    parser.add_argument("--set", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.disk is not None and os.environ.get("RANK", "0") == "0":
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (options.disk, resource.RLIM_INFINITY))
    if options.recipe:
        recipe = Recipe.model_validate_json(Path(options.recipe).read_text())
        data = partial(toy_source, delay=options.slow, sparse_depth=options.sparse_depth)
    else:
        recipe = toy_recipe().with_overrides(dict(pair.split("=") for pair in options.set))
        data = toy_data(count=options.clips, delay=options.slow, sparse_depth=options.sparse_depth)
    train(recipe, data, options.run_dir, resume=options.resume, console=Console(width=100))


if __name__ == "__main__":
    main()


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's checkpoint."""
    return load_file(run_dir / "checkpoint.safetensors")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
