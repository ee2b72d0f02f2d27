"""What is wrong with the fields of a file (depth.yaml, network.json, ...), in plain words. Needs no torch."""

from typing import Any

from pydantic import BaseModel, ValidationError

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
_SHOWN = 40


def field_faults(kind: type[BaseModel], error: ValidationError | OSError) -> str:
    """One clause for each wrong field: its name, what it holds and what it should be; joined by semicolons.

    Example: ``"near: is 'up', but must be 'bright' or 'dark'; min_mm: is 'far', but must be a number"``. Of a file that
    could not be read, why not.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "; ".join(field_fault(kind, fault) for fault in error.errors())


def field_fault(kind: type[BaseModel], fault: Any) -> str:
    """The clause for one of ``ValidationError.errors()``."""
    name, what = ".".join(str(part) for part in fault["loc"]), fault["type"]
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
