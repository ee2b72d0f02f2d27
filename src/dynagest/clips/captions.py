"""Lines of text for pictures, in any script for which this machine has a font. OpenCV's own text is ASCII only."""

import warnings
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dynagest.errors import RunError, some

# matplotlib ships the first, with Latin, Greek and Cyrillic letters; the others are used if they are installed.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Nirmala UI",
    "Arial Unicode MS",
)
_DPI = 100


def caption(
    text: str,
    width: int,
    height: int,
    colour: tuple[int, int, int] = (0, 0, 0),
    background: tuple[int, int, int] = (255, 255, 255),
    centred: bool = False,
) -> npt.NDArray[np.uint8]:
    """Draw a line of text as uint8 RGB (height, width, 3), cut off at the right. A letter that no font has is a box.

    Colours are (red, green, blue), 0 to 255. Raises ``RunError`` if matplotlib, which comes with
    ``pip install "dynagest[train]"``, is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise RunError('captions of pictures need matplotlib: pip install "dynagest[train]"') from error
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=[c / 255 for c in background])
    canvas = FigureCanvasAgg(figure)
    figure.text(
        0.5 if centred else 4 / width,
        0.5,
        text,
        ha="center" if centred else "left",
        va="center_baseline",
        color=[c / 255 for c in colour],
        fontsize=0.55 * min(height, 26) * 72 / _DPI,
        family=_families(),
        parse_math=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the box in the picture says so
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def letters_without_font(names: Iterable[str]) -> str:
    """A message for the user on letters in ``names`` that no font here has, and what to do; "" if there are none."""
    from matplotlib import get_cachedir
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    fonts = [FT2Font(fontManager.findfont(name)) for name in _families()]
    letters = dict.fromkeys("".join(names))
    missing = [letter for letter in letters if not any(font.get_char_index(ord(letter)) for font in fonts)]
    if not missing:
        return ""
    return (
        f"no font of this machine has {some(missing)}: they are boxes in the picture. Install one, such as Noto Sans "
        f"CJK, and remove {get_cachedir()}/fontlist-*.json, where matplotlib keeps which fonts there were"
    )


@lru_cache(maxsize=1)
def _families() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return [name for name in _FAMILIES if name in installed]
