"""Measures how many clips per second one core reads and augments: ``python benchmarks/pipeline.py``.

A clip is 8 frames out of 40 of 320 x 240, read repeatedly as in training (``ClipDataset`` with augmentation; jitter on
40 % of the clips). The recording is a file of two minutes whose clips lie in the second minute. ``--isogd FOLDER`` adds
real MPEG-4 clips. ``--training R`` is the rate of training, in clips/s over all devices, that the pipeline must feed;
the last column says how many cores that takes. Times are the process's CPU time, so that a busy machine does not change
them much; files come from the system's cache.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dynagest.clips.dataset import ClipDataset
from dynagest.clips.depth import PRESETS, DepthSpec
from dynagest.clips.labelled import UnreadableClip
from dynagest.clips.manifest import Clip, Manifest
from dynagest.clips.view import View

FRAMES, HEIGHT, WIDTH = 40, 240, 320
RECORDING = 3600  # frames
BRIGHT = PRESETS["egogesture"]

Scene = Iterator[tuple[np.ndarray, np.ndarray]]


def scene(seed: int, frames: int = FRAMES) -> Scene:
    """RGB (H, W, 3) and depth (H, W) of a blob moving over a noisy, textured background."""
    rng = np.random.default_rng(seed)
    background = cv2.resize(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    for number in range(frames):
        noise = rng.normal(0, 4, (HEIGHT, WIDTH, 3))
        rgb = np.clip(background + noise, 0, 255).astype(np.uint8)
        depth = np.zeros((HEIGHT, WIDTH), np.uint8)
        place = (60 + 5 * (number % FRAMES), 120 + round(40 * np.sin(number / 5)))
        cv2.circle(rgb, place, 30, (200, 150, 120), -1)
        cv2.circle(depth, place, 30, 200, -1)
        yield rgb, depth


def write_images(folder: Path, seed: int) -> tuple[Path, Path]:
    for kind in ("color", "depth"):
        (folder / kind).mkdir(parents=True)
    for number, (rgb, depth) in enumerate(scene(seed), start=1):
        cv2.imwrite(str(folder / "color" / f"{number:06d}.jpg"), rgb[..., ::-1])
        cv2.imwrite(str(folder / "depth" / f"{number:06d}.jpg"), depth)
    return folder / "color", folder / "depth"


def video_writer(
    codec: str, suffix: str, frames: int = FRAMES, **options: str
) -> Callable[[Path, int], tuple[Path, Path]]:
    def write(folder: Path, seed: int) -> tuple[Path, Path]:
        folder.mkdir(parents=True)
        paths = folder / f"color{suffix}", folder / f"depth{suffix}"
        for path, which in zip(paths, (0, 1), strict=True):
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=30, options=options)
                stream.width, stream.height = WIDTH, HEIGHT
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                for pictures in scene(seed, frames):
                    layout = ("rgb24", "gray")[which]
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[which], format=layout)))
                container.mux(stream.encode())
        return paths

    return write


def write_metric_depth(folder: Path, seed: int) -> tuple[Path, Path]:
    """Write JPEG colour beside 16-bit PNG depth."""
    color, depth = write_images(folder, seed)
    for path in depth.iterdir():
        image = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint16)
        cv2.imwrite(str(path.with_suffix(".png")), np.where(image > 9, 1200 - 4 * image, 0).astype(np.uint16))
        path.unlink()
    return color, depth


def generated(folder: Path, write: Callable[[Path, int], tuple[Path, Path]], spec: DepthSpec, clips: int) -> Manifest:
    made = [write(folder / str(seed), seed) for seed in range(clips)]
    return Manifest.of([Clip(video, "gesture", depth) for video, depth in made], spec)


def recording(folder: Path, write: Callable[[Path, int], tuple[Path, Path]], clips: int) -> Manifest:
    video, depth = write(folder, 0)
    starts = np.linspace(RECORDING // 2, RECORDING - FRAMES, clips).astype(int).tolist()
    return Manifest.of([Clip(video, "gesture", depth, at, at + FRAMES, at, at + FRAMES) for at in starts], BRIGHT)


def real(folder: Path, spec: DepthSpec, clips: int) -> Manifest:
    rows = [line.split() for line in (folder / "train_list.txt").read_text(encoding="utf-8").splitlines()[:clips]]
    return Manifest.of([Clip(folder / rgb, label, folder / depth) for rgb, depth, label in rows], spec)


def rate(manifest: Manifest, view: View, rounds: int) -> float:
    """Clips/s of the median of ``rounds`` epochs, after one that warms up caches and counts frames."""
    dataset = ClipDataset(manifest, view, seed=0)
    times = []
    for epoch in range(rounds + 1):
        start = time.process_time()
        for index in range(len(dataset)):
            sample = dataset[epoch, index]
            if isinstance(sample, UnreadableClip):
                raise SystemExit(sample.reason)
        times.append(time.process_time() - start)
    return len(dataset) / statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isogd", type=Path, help="folder with train_list.txt and the clips that it names")
    parser.add_argument(
        "--training", type=float, default=0.6, help="clips/s that training takes (default: %(default)s)"
    )
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)

    table = Table(title=f"clips/s on one core, 8 frames of {FRAMES} (real clips: of their own length)")
    for column in ("clips", "size", "RGB", "+ jitter", "+ depth", "+ both", f"cores for {arguments.training:g}/s"):
        table.add_column(column, justify="left" if column == "clips" else "right")
    with tempfile.TemporaryDirectory() as name:
        made = {
            "JPEG folders": (write_images, BRIGHT),
            "JPEG + PNG16 depth": (write_metric_depth, PRESETS["realsense"]),
            "Motion JPEG, avi": (video_writer("mjpeg", ".avi", qmin="3", qmax="5"), BRIGHT),
            "MPEG-4, avi": (video_writer("mpeg4", ".avi", b="800k"), BRIGHT),
            "H.264, mp4": (video_writer("libx264", ".mp4", crf="23"), BRIGHT),
        }
        sets = {
            title: generated(Path(name) / str(number), write, spec, arguments.clips)
            for number, (title, (write, spec)) in enumerate(made.items())
        }
        long = video_writer("libx264", ".mp4", RECORDING, crf="23")
        sets["H.264, mp4, a recording"] = recording(Path(name) / "recording", long, arguments.clips)
        if arguments.isogd:
            sets["IsoGD, as shipped"] = real(arguments.isogd, PRESETS["isogd"], arguments.clips)
            sets["IsoGD, aligned"] = real(arguments.isogd, PRESETS["isogd-aligned"], arguments.clips)
        for (title, manifest), size in itertools.product(sets.items(), (112, 224)):
            plain = View(size=size, augment=True, jitter=0.0, depth=False)
            views = [replace(plain, jitter=jitter, depth=depth) for depth in (False, True) for jitter in (0.0, 0.4)]
            rates = [rate(manifest, view, arguments.rounds) for view in views]
            cores = arguments.training / rates[-1]
            table.add_row(title, str(size), *(f"{value:.0f}" for value in rates), f"{cores:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
