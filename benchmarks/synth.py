"""Measures how many clips are generated per second: frames of RGB and depth with hand, scene and sensors.

    python benchmarks/synth.py                 # 8 frames of 112 x 112, 2 processes of 1 thread each
    python benchmarks/synth.py --size 80 --frames 16 --processes 4
    python benchmarks/synth.py --device cuda   # one process

Prints clips/s by the clock (all processes together) and by CPU time (what they would reach on idle cores).
"""

import argparse
import concurrent.futures
import time

import numpy as np
import torch

from dynagest.synth.recording import plan, record
from dynagest.synth.spec import SynthSpec


def work(spec: SynthSpec, first: int, clips: int, frames: int, device: str) -> tuple[float, float]:
    """Render ``clips`` clips; returns (wall seconds, CPU seconds)."""
    torch.set_num_threads(1)
    wanted = np.linspace(0, spec.num_frames - 1, frames).round().astype(int)
    record(spec, plan(spec, "val", 0), wanted, device)  # warm up
    wall, cpu = time.perf_counter(), time.process_time()
    for index in range(first, first + clips):
        record(spec, plan(spec, "train", index), wanted, device).rgb[0, 0, 0, 0].item()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=96, help="clips a process")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--supersample", type=int, default=SynthSpec().supersample)
    parser.add_argument("--clutter", type=float, default=SynthSpec().clutter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    spec = SynthSpec(
        size=args.size, num_frames=max(args.frames, 16), supersample=args.supersample, clutter=args.clutter
    )
    if args.device != "cpu":
        wall, _ = work(spec, 0, args.clips, args.frames, args.device)
        print(f"{args.device}: {args.clips / wall:.1f} clips/s")
        return
    with concurrent.futures.ProcessPoolExecutor(args.processes) as pool:
        jobs = [pool.submit(work, spec, i * args.clips, args.clips, args.frames, "cpu") for i in range(args.processes)]
        walls, cpus = zip(*(job.result() for job in jobs), strict=True)
    total = args.clips * args.processes
    print(
        f"{args.frames} frames of {args.size} x {args.size}, {args.processes} processes: "
        f"{total / max(walls):.1f} clips/s by the clock; {sum(cpus) / total * 1e3:.1f} ms of CPU a clip, that is "
        f"{args.processes * total / sum(cpus):.1f} clips/s on {args.processes} idle cores"
    )


if __name__ == "__main__":
    main()
