"""Errors that a user can mend, and helpers for their messages.

Every message says which file or option is wrong, what is wrong with it and what to do. The command line prints the
message without a traceback; a program catches ``DynagestError`` or one of its subclasses. Each takes one string, so
that it can be pickled and so passed from a data-loading worker to the main process.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def hint(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint for a message about an unknown name: up to 3 known names that are like it.

    If none is, the hint is ``otherwise``, or a list of all known names if that is empty.
    """
    known = list(known)
    alike = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(alike)}?" if alike else otherwise or f"there are {', '.join(known)}"


def some(names: Sequence[str], limit: int = 4) -> str:
    """The first ``limit`` names, separated by commas, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def counted(number: int, noun: str, one: str = "", more: str = "") -> str:
    """A number with its noun, in the singular for one, and with the verb ``one`` or ``more`` if there is any.

    ``counted(1, "clip", "is", "are")`` is "1 clip is"; of 2 it is "2 clips are".
    """
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun} {one}".rstrip() if number == 1 else f"{number} {plural} {more}".rstrip()


def first_line(error: BaseException) -> str:
    """What an error of another library says, cut to one line of a message; its kind if it says nothing.

    Colours of a terminal, as torch's exporter has them, are taken out.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)[:300]


class DynagestError(Exception):
    """Something that the user can mend; the message says how. All other errors here derive from it.

    Example::

        try:
            net, card = load_network(path)
        except DynagestError as error:
            sys.exit(str(error))
    """


class ManifestError(DynagestError):
    """A manifest, an annotation list or a folder of clips that does not follow its format."""


class ClipError(DynagestError):
    """A clip whose frames cannot be read: missing, empty, truncated or corrupt."""


class DepthError(DynagestError):
    """Depth without a declaration, or depth that contradicts it (polarity, unit, bit depth)."""


class WeightsError(DynagestError):
    """A weights file that is unsafe, unreadable or of another network."""


class ModelError(DynagestError):
    """A model name, module name or combination of options that does not exist."""


class RecipeError(DynagestError):
    """A recipe that does not exist, or an option that it does not have or cannot take."""


class RunError(DynagestError):
    """A run folder, or another folder or file that dynagest writes, that lacks what is needed or cannot be written."""


class TrainingError(DynagestError):
    """Training that cannot go on: the loss is not finite, clips are unreadable, memory is full, a process has died."""


class DivergedError(TrainingError):
    """A loss or gradient that is not finite.

    Unlike other failures this is a result of the recipe: training diverges again however often it is run.
    """


class CameraError(DynagestError):
    """A camera or stream that is not there, or that gives no pictures."""


class ActionError(DynagestError):
    """An action on a gesture that cannot be understood, is not allowed, or failed."""


class ExportError(DynagestError):
    """A network that cannot be exported as asked, or an exported file that does not agree with it."""


class DisplayError(DynagestError):
    """A window that cannot be opened here."""
