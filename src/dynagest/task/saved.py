"""Saves a run's decoders beside the network that they belong to, and loads them: for report panels, or to go on."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dynagest.atomic import write_together
from dynagest.errors import RunError, WeightsError
from dynagest.fields import parse_json
from dynagest.networks.weights import to_safetensors
from dynagest.run_folder import DECODERS_CARD_FILE, DECODERS_FILE, RECIPE_FILE
from dynagest.task.decoder import GLOBAL, LOCAL, Activation, Decoder, MultiScaleDecoder


class _Options(BaseModel):
    """What a decoder is built from: the module that it reads, its channels from there to the mask, and its form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tap: str
    widths: tuple[int, ...]
    plain: bool
    activation: Activation
    tap_size: tuple[int, int]


class _Card(BaseModel):
    """``decoders.json``: how each decoder is built, and what both were trained on.

    ``threshold`` in [0, 1] is where depth was cut into 0 and 1; None if decoders learnt depth itself. Cards of older
    versions do not have it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    local: _Options | None = None
    global_: _Options | None = Field(default=None, alias="global")
    threshold: float | None = Field(default=None, ge=0, le=1)

    @property
    def options(self) -> dict[str, _Options]:
        """The options of the decoders that there are, by kind."""
        return {kind: each for kind, each in ((LOCAL, self.local), (GLOBAL, self.global_)) if each is not None}


def _options(decoder: MultiScaleDecoder, kind: str, part: Decoder) -> _Options:
    return _Options(
        tap=decoder.taps[kind],
        widths=part.widths,
        plain=part.plain,
        activation=part.activation,
        tap_size=part.tap_size,
    )


def save_decoders(run_dir: Path, decoder: MultiScaleDecoder, threshold: float | None = None) -> Path:
    """Write ``decoders.safetensors`` and ``decoders.json`` together. Raises ``RunError`` on a full disk.

    ``threshold`` in [0, 1] binarised the depth that they learnt; None: they learnt depth itself.
    """
    path = run_dir / DECODERS_FILE
    options = {kind: _options(decoder, kind, part).model_dump() for kind, part in decoder.parts()}
    card = json.dumps(options | {"threshold": threshold}, indent=1).encode()
    write_together({path: to_safetensors(decoder.state_dict()), run_dir / DECODERS_CARD_FILE: card})
    return path


def load_decoders(run_dir: Path, net: nn.Module) -> MultiScaleDecoder:
    """Load the decoders of a run, onto the device of ``net``, the network of the same run.

    Raises ``WeightsError`` when they are missing, damaged or made for another network.
    """
    path = run_dir / DECODERS_FILE
    try:
        options = _read_card(run_dir).options
        weights = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path}: decoders cannot be read ({error}); were they trained (msd), and is the run whole?"
        ) from error
    modules = dict(net.named_modules())
    unknown = [option.tap for option in options.values() if option.tap not in modules]
    if unknown:
        raise WeightsError(f"{path}: reads module {unknown[0]!r}, which this {type(net).__name__} does not have")
    decoders = {}
    for kind, option in options.items():
        decoders[kind] = Decoder(option.widths, plain=option.plain, activation=option.activation)
        decoders[kind].tap_size = option.tap_size
    decoder = MultiScaleDecoder({kind: option.tap for kind, option in options.items()}, decoders)
    try:
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(f"{path}: does not fit {DECODERS_CARD_FILE} beside it ({error})") from error
    first = next(net.parameters(), None)
    return decoder if first is None else decoder.to(first.device)


def learnt_threshold(run_dir: Path) -> float | None:
    """The threshold in [0, 1] by which a run's decoders learnt depth binarised; None if they learnt depth itself.

    Of a card of an older version, ``recipe.json`` beside it tells; without that they count as not binarised. Raises
    ``WeightsError`` when the card cannot be read, ``RunError`` when the recipe cannot.
    """
    try:
        card = _read_card(run_dir)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{run_dir / DECODERS_CARD_FILE}: cannot be read ({error}); is the run whole?") from error
    path = run_dir / RECIPE_FILE
    if "threshold" in card.model_fields_set or not path.exists():
        return card.threshold
    try:
        recipe = parse_json(path.read_text(encoding="utf-8"))
        return float(recipe["threshold"]) / 255 if recipe["binarise"] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: does not tell what the decoders learnt ({error}); restore it or remove it") from error


def _read_card(run_dir: Path) -> _Card:
    """Raises ``OSError`` or ``ValueError``, as pydantic's ``ValidationError`` is."""
    return _Card.model_validate(parse_json((run_dir / DECODERS_CARD_FILE).read_text()))


def take_over_decoders(decoder: MultiScaleDecoder, run_dir: Path, net: nn.Module) -> tuple[str, ...]:
    """Copy a run's weights into those decoders of ``decoder`` that read the same module in the same form.

    The size of the frames may differ. ``net``: the network that ``decoder`` reads, with the run's modules. Returns the
    kinds that were copied, "local" or "global"; none if the run has no decoders. Raises ``WeightsError`` as
    ``load_decoders`` does.
    """
    if not (run_dir / DECODERS_FILE).exists():
        return ()
    left = load_decoders(run_dir, net)
    old = {kind: (part, _form(left, kind, part)) for kind, part in left.parts()}
    fitting = [kind for kind, part in decoder.parts() if kind in old and old[kind][1] == _form(decoder, kind, part)]
    for kind in fitting:
        decoder.decoders[kind].load_state_dict(old[kind][0].state_dict())
    return tuple(fitting)


def _form(decoder: MultiScaleDecoder, kind: str, part: Decoder) -> dict[str, Any]:
    return _options(decoder, kind, part).model_dump(exclude={"tap_size"})
