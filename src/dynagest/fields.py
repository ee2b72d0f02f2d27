"""Says in plain words what is wrong with a file of typed fields (depth.yaml, events.json, ...). Needs no torch."""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml import MarkedYAMLError, YAMLError

from dynagest.errors import RunError, first_line

Model = TypeVar("Model", bound=BaseModel)

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a map of names to values",
    "mapping": "a map of names to values",
    "model": "a map of names to values",
}
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "literal_error": "{expected}",
}
_TOO_DEEP = "its lists or maps lie too deep in each other"
_SHOWN = 40  # characters of a wrong value that a message quotes


def read_record(kind: type[Model], path: Path, what: str, advice: str) -> Model:
    """Read a JSON file that dynagest itself wrote. Raises ``RunError`` when it cannot be read or is no ``kind``.

    ``what`` and ``advice`` are for the message: what the file should be, and what to do, such as the command that
    writes it.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except ValidationError as error:
        raise RunError(f"{path}: not {what} ({field_faults(kind, error)}); {advice}") from error


def field_faults(kind: type[BaseModel], error: ValidationError) -> str:
    """One clause for each wrong field: its name, what it holds and what it should be; joined by semicolons.

    Example: ``"near: is 'up', but must be 'bright' or 'dark'; min_mm: is 'far', but must be a number"``
    """
    faults = error.errors()
    # Pydantic may also call a list with a faulty entry too short, because it counts only the valid entries.
    inside = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    return "; ".join(field_fault(kind, fault) for fault in faults if fault["loc"] not in inside)


def field_fault(kind: type[BaseModel], fault: Any) -> str:
    """The clause of ``field_faults`` for one entry of ``ValidationError.errors()``."""
    name, what = _place(fault["loc"]), fault["type"]
    if what == "json_invalid":
        return f"it is not JSON ({fault['ctx']['error']})"
    if what == "value_error":
        return f"{name}: {fault['ctx']['error']}" if name else str(fault["ctx"]["error"])
    if what == "missing":
        return f"{name}: is missing"
    if what == "extra_forbidden":
        known = f"; there are {', '.join(kind.model_fields)}" if len(fault["loc"]) == 1 else ""
        return f"{name}: there is no such field{known}"
    stem = what.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float").removesuffix("_attributes")
    wanted = _BOUNDS[what].format(**fault["ctx"]) if what in _BOUNDS else _KINDS.get(stem, "")
    if not wanted:
        return f"{name}: {fault['msg']}"
    given = repr(fault["input"])
    given = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
    return f"{name}: is {given}, but must be {wanted}" if name else f"it holds {given}, but must be {wanted}"


def _place(parts: tuple[str | int, ...]) -> str:
    """A field's name: ``"affine.scale"``; of a list's entries, counted from 1: ``"actions, entry 1: timeout"``."""
    name = ""
    for before, part in zip(("", *parts), parts, strict=False):
        if isinstance(part, int):
            name += f", entry {part + 1}"
        else:
            name += f": {part}" if isinstance(before, int) else f".{part}"
    return name.lstrip("., ")


def parse_yaml(text: str, loader: type[yaml.BaseLoader | yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Parse YAML of plain values. Raises ``YAMLError``, also where PyYAML lets another error through.

    That is ``ValueError`` for what looks like a date or a number but is none, as ``2026-02-30`` or ``0x_``, and
    ``RecursionError`` for lists or maps too deep in each other.
    """
    try:
        return yaml.load(text, Loader=loader)
    except ValueError as error:
        raise YAMLError(f"{error}; put quotes around text that looks like a date or a number") from error
    except RecursionError as error:
        raise YAMLError(_TOO_DEEP) from error


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ``ValueError`` if it is none, or not UTF-8, or nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def yaml_fault(error: YAMLError) -> str:
    """What is wrong with a YAML text, and where: ``"line 2, column 11: expected the node content, ..."``."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return first_line(error)
