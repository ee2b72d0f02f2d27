"""Saves a run's decoders beside the network that they belong to, and loads them: for report panels, or to go on."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from dynagest.atomic import write_together
from dynagest.errors import WeightsError
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


def save_decoders(run_dir: Path, decoder: MultiScaleDecoder) -> Path:
    """Write ``decoders.safetensors`` and ``decoders.json`` together. Raises ``RunError`` on a full disk."""
    options: dict[str, Any] = {}
    for kind, part in decoder.parts():
        options[kind] = _Options(
            tap=decoder.taps[kind],
            widths=part.widths,
            plain=part.plain,
            activation=part.activation,
            tap_size=part.tap_size,
        ).model_dump()
    weights = {name: value.detach().cpu().contiguous() for name, value in decoder.state_dict().items()}
    path = run_dir / DECODERS_FILE
    write_together({path: save(weights), run_dir / DECODERS_CARD_FILE: json.dumps(options, indent=1).encode()})
    return path


def load_decoders(run_dir: Path, net: nn.Module) -> MultiScaleDecoder:
    """Load the decoders of a run, onto the device of ``net``, the network of the same run.

    Raises ``WeightsError`` when they are missing, damaged or made for another network.
    """
    path = run_dir / DECODERS_FILE
    try:
        options = {
            kind: _Options.model_validate(values)
            for kind, values in json.loads((run_dir / DECODERS_CARD_FILE).read_text()).items()
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

    ``net``: the network of ``decoder``, a like of the run's. Returns their kinds, "local" or "global"; none where the
    run has no decoders. Raises ``WeightsError`` as ``load_decoders`` does.
    """
    if not (run_dir / DECODERS_FILE).exists():
        return ()
    left = load_decoders(run_dir, net)
    olds = dict(left.parts())
    taken = []
    for kind, new in decoder.parts():
        old = olds.get(kind)
        same_form = old and (old.widths, old.plain, old.activation) == (new.widths, new.plain, new.activation)
        if old and same_form and left.taps[kind] == decoder.taps[kind]:
            new.load_state_dict(old.state_dict())
            taken.append(kind)
    return tuple(taken)
