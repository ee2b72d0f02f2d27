"""Reads and replaces the event settings inside an exported file. Needs no torch."""

from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from pydantic import ValidationError

from dynagest.atomic import write_atomically
from dynagest.errors import RecipeError, WeightsError
from dynagest.fields import field_faults
from dynagest.runtimes.model_file import KEY, ModelInfo
from dynagest.stream.events import EventSettings, tuned_settings


def exported_settings(path: Path, info: ModelInfo) -> EventSettings | None:
    """The tuned settings of an exported file: those inside it, else those of an ``events.json`` beside it, else None.

    Raises ``WeightsError`` when the settings inside are not of this version, ``RunError`` when those beside are not.
    """
    if info.events is None:
        return tuned_settings(path)
    try:
        return EventSettings.model_validate(info.events)
    except ValidationError as error:
        raise WeightsError(
            f"{path}: its event settings are not of this version ({field_faults(EventSettings, error)}); run "
            "`dynagest tune` and export the network again"
        ) from error


def check_embeddable(path: Path) -> None:
    """Raise ``RecipeError`` for an ``.onnx`` file when onnx is not installed, without which it cannot be written."""
    if path.suffix == ".onnx" and find_spec("onnx") is None:
        raise RecipeError(f"{path}: to keep settings inside it, onnx is needed: pip install onnx")


def embed_settings(path: Path, settings: EventSettings) -> None:
    """Replace the event settings inside a valid exported file; everything else in it stays as it is.

    Raises what ``check_embeddable`` raises, and ``RunError`` when the file cannot be written.
    """
    check_embeddable(path)
    replaced = _onnx_with if path.suffix == ".onnx" else _openvino_with
    write_atomically(path, replaced(path, settings))


def _onnx_with(path: Path, settings: EventSettings) -> bytes:
    import onnx

    model = onnx.load(path)
    (kept,) = (each for each in model.metadata_props if each.key == KEY)
    kept.value = _with(kept.value, path, settings)
    return bytes(model.SerializeToString())


def _openvino_with(path: Path, settings: EventSettings) -> bytes:
    # Only the .xml is written: the weights beside it may be in use, for example by the tuning that has just run.
    root = ElementTree.fromstring(path.read_bytes())
    kept = root.find(f"rt_info/{KEY}")
    assert kept is not None
    kept.set("value", _with(kept.get("value"), path, settings))
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _with(text: str | None, path: Path, settings: EventSettings) -> str:
    info = ModelInfo.parse(text, path)
    return info.model_copy(update={"events": settings.model_dump()}).model_dump_json()
