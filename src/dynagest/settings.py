"""Sets fields of a typed model (a recipe, a generated set) from the command line's ``--set FIELD=VALUE``."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from dynagest.errors import RecipeError, hint
from dynagest.fields import field_fault, parse_yaml

Model = TypeVar("Model", bound=BaseModel)


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """Turn ``["lr=0.01", "msd=none"]`` into a dictionary. Raises ``RecipeError`` for a faulty or repeated setting."""
    settings: dict[str, str] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals or not field.strip():
            raise RecipeError(f"--set {text}: write FIELD=VALUE, as in --set lr=0.01")
        if field.strip() in settings:
            raise RecipeError(f"--set {field.strip()} is given twice")
        settings[field.strip()] = value
    return settings


def override(model: Model, overrides: Mapping[str, Any]) -> Model:
    """Return a copy of ``model`` with fields replaced. Strings are converted to the field's type.

    ``none``, ``null`` and an empty string mean ``None`` where the field allows it. Lists are written ``10,15,20`` or
    ``[a, b]``, maps ``{left: right}`` or ``left=right``. Raises ``RecipeError`` for an unknown field, with the known
    fields like it, and for impossible values, with what the fields take.
    """
    fields = type(model).model_fields
    unknown = [name for name in overrides if name not in fields]
    if unknown:
        raise RecipeError(f"there is no field {unknown[0]!r}; {hint(unknown[0], fields)}")
    given = {
        name: _parse(name, fields[name].annotation, value) if isinstance(value, str) else value
        for name, value in overrides.items()
    }
    try:
        return type(model).model_validate(model.model_dump() | given)
    except ValidationError as error:
        faults = "".join(f"\n  {_fault(type(model), fault)}" for fault in error.errors())
        raise RecipeError(f"these values are not possible:{faults}") from error


def describe(model: BaseModel) -> str:
    """A text with a line for each field: its name, its value and its description."""
    lines = []
    for name, field in type(model).model_fields.items():
        lines.append(f"{name} = {getattr(model, name)}" + (f"   # {field.description}" if field.description else ""))
    return "\n".join(lines)


def _fault(kind: type[BaseModel], fault: Any) -> str:
    field = kind.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
    return field_fault(kind, fault) + (f" ({field.description})" if field and field.description else "")


def _parse(name: str, annotation: Any, text: str) -> Any:
    """Convert a string to ``None``, a list or a map if the field takes one; pydantic converts the rest."""
    union = get_origin(annotation) in (Union, UnionType)
    options = get_args(annotation) if union else (annotation,)
    if text.strip().lower() in ("none", "null", "") and (NoneType in options or None in get_args(annotation)):
        return None
    kinds = {get_origin(option) or option for option in options}
    nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if tuple in kinds and not text.strip().startswith("["):
        return [part.strip() for part in text.strip("() ").split(",") if part.strip()]
    if tuple in kinds or dict in kinds or nested:
        closed = text.strip().startswith(("{", "["))
        written = text if closed or dict not in kinds else text.replace("=", ": ")  # also options=online=true
        try:
            value = parse_yaml(written if closed else f"{{{written}}}")
        except yaml.YAMLError as error:
            raise RecipeError(f"{name}={text}: not a list or a map; write [a, b] or {{left: right}}") from error
        fields = nested[0].model_fields if nested else {}
        if nested and isinstance(value, dict) and any(value[key] is None for key in value.keys() - fields.keys()):
            parts = ", ".join(f"{part}: ..." for part in fields)
            raise RecipeError(f"{name}={text}: it has parts, which are given by name: {name}={{{parts}}}")
        return value
    return text
