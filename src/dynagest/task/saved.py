"""Saves a run's decoders beside the network that they belong to, and loads them: for report panels, or to go on."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dynagest.atomic import write_together
from dynagest.errors import WeightsError
from dynagest.fields import parse_json
from dynagest.networks.weights import to_safetensors
from dynagest.run_folder import DECODERS_CARD_FILE, DECODERS_FILE
from dynagest.task.decoder import Activation, Decoder, MultiScaleDecoder


class _Options(BaseModel):
    """What a decoder is built from: the module that it reads, its channels from there to the mask, and its form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tap: str
    widths: tuple[int, ...]
    plain: bool
    activation: Activation
    tap_size: tuple[int, int]


def _options(decoder: MultiScaleDecoder, kind: str, part: Decoder) -> _Options:
    return _Options(
        tap=decoder.taps[kind],
        widths=part.widths,
        plain=part.plain,
        activation=part.activation,
        tap_size=part.tap_size,
    )


def save_decoders(run_dir: Path, decoder: MultiScaleDecoder) -> Path:
    """Write ``decoders.safetensors`` and ``decoders.json`` together. Raises ``RunError`` on a full disk."""
    path = run_dir / DECODERS_FILE
    options = {kind: _options(decoder, kind, part).model_dump() for kind, part in decoder.parts()}
    card = json.dumps(options, indent=1).encode()
    write_together({path: to_safetensors(decoder.state_dict()), run_dir / DECODERS_CARD_FILE: card})
    return path


def load_decoders(run_dir: Path, net: nn.Module) -> MultiScaleDecoder:
    """Load the decoders of a run, onto the device of ``net``, the network of the same run.

    Raises ``WeightsError`` when they are missing, damaged or made for another network.
    """
    path = run_dir / DECODERS_FILE
    try:
        options = {
            kind: _Options.model_validate(values)
            for kind, values in parse_json((run_dir / DECODERS_CARD_FILE).read_text()).items()
        }
        weights = load_file(path)
    except (OSError, SafetensorError, ValidationError, ValueError, AttributeError) as error:
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
