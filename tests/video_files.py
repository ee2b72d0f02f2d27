"""Videos that carry the number of each frame in its picture."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COUNT = 45
HEIGHT, WIDTH = 64, 96
BARS = 6


def numbered(number: int) -> np.ndarray:
    """A picture (H, W, 3) that carries its number as bright and dark bars, under a texture that moves."""
    picture = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for bar in range(BARS):
        if number >> bar & 1:
            picture[:, bar * 16 : bar * 16 + 16] = 210
    picture[HEIGHT // 2 :] = np.roll(np.arange(WIDTH), 5 * number)[None, :, None] * 2
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that ``numbered`` drew, read from (H, W, 3) or (H, W)."""
    bars = [picture[4 : HEIGHT // 2 - 4, bar * 16 + 4 : bar * 16 + 12].mean() > 125 for bar in range(BARS)]
    return sum(1 << bar for bar, bright in enumerate(bars) if bright)


def write_video(
    path: Path,
    codec: str,
    pixels: str,
    options: dict[str, str] | None = None,
    count: int = COUNT,
    rate: int = 30,
    draw: Callable[[int], np.ndarray] = numbered,
    layout: str = "rgb24",
    container: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w", options=container or {}) as file:
        first = draw(0)
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], pixels
        stream.codec_context.gop_size = 12
        stream.codec_context.thread_count = 1
        for number in range(count):
            for packet in stream.encode(av.VideoFrame.from_ndarray(draw(number), format=layout)):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def write_timed_video(path: Path, times_ms: list[int]) -> Path:
    """A lossless video (mkv) whose picture i has the grey 10 * i % 250 and is shown at ``times_ms[i]``."""
    with av.open(str(path), "w") as container:
        out = container.add_stream("ffv1", rate=30)
        out.width = out.height = 16
        out.pix_fmt = "bgr0"
        out.time_base = out.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 10 * index % 250, np.uint8), format="rgb24")
            frame.pts = time
            frame.time_base = out.codec_context.time_base
            container.mux(out.encode(frame))
        container.mux(out.encode())
    return path
