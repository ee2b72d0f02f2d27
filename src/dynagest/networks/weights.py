"""Loads pretrained weights of several origins into a network; saves whole networks to a folder and loads them."""

import pickle
import re
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dynagest.atomic import write_together
from dynagest.card import NetworkCard
from dynagest.errors import ModelError, WeightsError, some
from dynagest.networks.build import build_network
from dynagest.networks.clipnet import ClipNet
from dynagest.run_folder import CARD_FILE, CHECKPOINT_FILE, NETWORK_FILE

_IN_CHECKPOINT = "task.network."  # beside decoders and optimiser in the file that a run is resumed from

# All that a temporal module has around a block's first convolution is its own.
_TEMPORAL = re.compile(r"(^|\.)(action_\w+|me|shifts|recurrent)\.|\.\d+\.conv1\.(?!(net\.)?(weight|bias)$)")
# What DataParallel, torch.compile and training modules, such as Lightning's, put in front of every name, in the order
# in which they were applied.
_WRAPPERS = re.compile(r"^((module|_orig_mod|model|network)\.)+")
_HEADS = ("classifier.", "new_fc.", "fc.")


@dataclass(frozen=True)
class LoadReport:
    """What was loaded from a weights file and what was not, as names of tensors.

    The names are those of the network's state dict, except in ``skipped``, which has the file's. ``matched``: loaded.
    ``skipped``: in the file but not used. ``reinitialised``: the classifier, when the file has none or one for another
    number of classes. ``missing``: temporal modules that the file lacks; they keep the values that they had.
    ``inflated``: the stem, loaded from an RGB stem whose mean kernel became the kernel of the depth channel.
    ``source``: "dynagest", "published" (TSM, ACTION-Net, TEA) or "ImageNet".
    """

    path: Path
    source: str
    matched: tuple[str, ...]
    skipped: tuple[str, ...]
    reinitialised: tuple[str, ...]
    missing: tuple[str, ...]
    inflated: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.source} weights, {len(self.matched)} tensors loaded"]
        if self.inflated:
            lines.append(f"  stem inflated from RGB, depth by the mean of its colours: {some(self.inflated)}")
        if self.reinitialised:
            lines.append(
                f"  classifier re-initialised (other classes, or none in the file): {some(self.reinitialised)}"
            )
        if self.missing:
            lines.append(f"  not in the file, left as initialised: {some(self.missing)}")
        if self.skipped:
            lines.append(f"  in the file, not used: {some(self.skipped)}")
        return "\n".join(lines)


def load_weights(net: ClipNet, path: str | Path) -> LoadReport:
    """Load pretrained weights into ``net`` and report what matched.

    Accepts what dynagest saves (a ``.safetensors`` file, also a run's checkpoint, or the folder that holds
    ``network.safetensors``), ImageNet state dicts with torchvision's or Res2Net's names, and published TSM, ACTION-Net
    and TEA checkpoints. The backbone must match completely; temporal modules may all be missing (ImageNet has none) and
    the classifier may differ. Weights of an RGB network also fit a network that is fed depth: its depth channel gets
    the mean of the colour channels' kernels. Nothing in the file is executed.

    Raises ``WeightsError``, and leaves ``net`` as it was, for a file that is missing, damaged, incomplete, holds
    pickled code, or belongs to another network, and when ``net`` is no ``ClipNet``.

    Example: ``print(load_weights(create_model("tsm_resnet50", num_classes=25), "resnet50.pth"))``
    """
    _check_ours(net, str(path))
    path = _weights_file(Path(path))
    stored = _read_tensors(path)
    ours = net.state_dict()
    by_name = {_common_name(name): name for name in ours}
    parts = [_place(net, ours, by_name.get(_common_name(name), ""), name, tensor) for name, tensor in stored.items()]
    present = {part.own for part in parts}
    absent = [name for name in ours if name not in present and not name.endswith("num_batches_tracked")]
    head = tuple(name for name in ours if _in_head(net, name))
    reinitialised = head if any(name in absent for name in head) else ()
    loaded = {part.own: part.value for part in parts if part.value is not None and part.own not in reinitialised}
    skipped = [part.name for part in parts if not part.own]
    skipped += [part.name for part in parts if part.own in reinitialised]
    _check_same_backbone(net, path, skipped, absent, [part.misfit for part in parts if part.misfit])
    _check_whole_modules(path, list(loaded), absent)
    net.load_state_dict({**ours, **loaded})
    if reinitialised:
        net.reset_classifier()
    return LoadReport(
        path=path,
        source=_source(stored),
        matched=tuple(loaded),
        skipped=tuple(skipped),
        reinitialised=reinitialised,
        missing=tuple(name for name in absent if name not in head),
        inflated=tuple(part.own for part in parts if part.inflated),
    )


def save_network(folder: str | Path, net: ClipNet, card: NetworkCard) -> Path:
    """Write ``network.safetensors`` and, beside it, ``network.json`` (the card) into ``folder``; return the former.

    Both are complete on disk before either replaces an older file. Raises ``RunError`` when they cannot be written (the
    old files stay whole) and ``WeightsError`` when the card describes another network, or ``net`` is no ``ClipNet``.

    Example: ``save_network("runs/mine", net, card); net, card = load_network("runs/mine")``
    """
    folder = Path(folder)
    _check_card(card, net, str(folder))
    weights = folder / NETWORK_FILE
    write_together(
        {
            weights: to_safetensors(net.state_dict()),
            folder / CARD_FILE: (card.model_dump_json(indent=2) + "\n").encode(),
        }
    )
    return weights


def to_safetensors(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """The content of a ``.safetensors`` file of ``tensors``, wherever they are and however they lie in memory."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain, metadata)


def load_network(path: str | Path) -> tuple[ClipNet, NetworkCard]:
    """Read a network that ``save_network`` wrote, with its card.

    ``path`` is the folder, or the ``.safetensors`` file with its ``.json`` beside it. The network is in evaluation mode
    on the CPU. Raises ``WeightsError`` when a file is missing or damaged, or when weights and card do not belong
    together.

    Example: ``net, card = load_network("runs/demo")``
    """
    weights = _weights_file(Path(path))
    if weights.suffix != Path(NETWORK_FILE).suffix or weights.name == CHECKPOINT_FILE:
        raise WeightsError(f"{path}: is no network for use; name a run folder, or the {NETWORK_FILE} in one")
    card = NetworkCard.read(weights.with_suffix(".json"))
    try:
        with torch.device("meta"):  # skips the random initialisation, which the weights would overwrite at once
            net = build_network(card.network_spec)
    except ModelError as error:
        raise WeightsError(
            f"{weights.with_suffix('.json')}: no network that this version can build: {error}; train it anew, or use "
            "the version that wrote it"
        ) from error
    stored = _read_tensors(weights)
    ours = net.state_dict()
    wrong = [
        name
        for name in sorted(ours.keys() | stored.keys())
        if name not in ours or name not in stored or ours[name].shape != stored[name].shape
    ]
    if wrong:
        raise WeightsError(
            f"{weights}: does not belong to its card, which says {card.model}, width {card.width}, "
            f"{len(card.classes)} classes; these differ: {some(wrong)}. Use the pair as it was saved"
        )
    net.to_empty(device="cpu").load_state_dict(stored)
    return net.eval(), card


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        if (path / CHECKPOINT_FILE).exists() and not (path / NETWORK_FILE).exists():
            raise WeightsError(
                f"{path}: holds a run that has no network yet; finish it by "
                f"`dynagest train --resume --out {shlex.quote(str(path))}`"
            )
        path = path / NETWORK_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; give a weights file or a folder with {NETWORK_FILE}")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty; copy or download it again")
    if path.suffix in (".onnx", ".xml") or (path.suffix == ".bin" and path.with_suffix(".xml").exists()):
        where = f", as in {path.parent}" if (path.parent / NETWORK_FILE).exists() else ""
        raise WeightsError(
            f"{path}: an exported network, which cannot be trained on or exported again; name the run folder that it "
            f"came from{where}"
        )
    return path


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                names = list(file.keys())
                network = [name for name in names if name.startswith(_IN_CHECKPOINT)]
                return {name.removeprefix(_IN_CHECKPOINT): file.get_tensor(name) for name in network or names}
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: damaged ({error}); copy or download it again") from error
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if not head.startswith((b"PK", b"\x80")):  # neither zip, as torch writes since 1.6, nor pickle, as before
        raise WeightsError(f"{path}: damaged, or no weights file; name a run folder or a checkpoint")
    try:
        with warnings.catch_warnings(action="ignore"):  # of other pickle protocols: it is read, or refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors and plain values, or is damaged; its code was not run. If you trust "
            "where it comes from, convert it once where nothing can be harmed (a container without network): "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW_FILE), then load NEW_FILE. "
            f"Reason: {_reason(error)}"
        ) from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise WeightsError(f"{path}: damaged, or no weights file ({_reason(error)}); download it again") from error
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: holds no weights; a state dict, or a dict with 'state_dict', is needed")
    for name, tensor in tensors.items():
        if tensor.is_quantized or tensor.is_meta or tensor.layout is not torch.strided:
            raise WeightsError(f"{path}: {name} is quantised, sparse or without values; save it as plain numbers")
    return tensors


def _common_name(name: str) -> str:
    """The tensor's name in a form common to all origins: no prefixes or wrappers, the head called ``classifier``."""
    name = _WRAPPERS.sub("", name).removeprefix("base_model.")
    for head in _HEADS:
        if name.startswith(head):
            return "classifier." + name.removeprefix(head)
    return name.replace(".net.", ".")


@dataclass(frozen=True)
class _Part:
    """A tensor of a file by its name there, and what becomes of it.

    ``own`` is the network's name for it, empty if it is not used, as in a head for other classes. ``value`` has the
    network's shape; without one, ``misfit`` says how the shapes differ.
    """

    name: str
    own: str = ""
    value: Tensor | None = None
    inflated: bool = False
    misfit: str = ""


def _place(net: ClipNet, ours: Mapping[str, Tensor], own: str, name: str, tensor: Tensor) -> _Part:
    if not own:
        return _Part(name)
    if _squeezed(tensor) == _squeezed(ours[own]):
        return _Part(name, own, tensor.reshape(ours[own].shape))
    if net.inputs != "rgb" and (stem := _inflated(tensor, ours[own])) is not None:
        return _Part(name, own, stem, inflated=True)
    if _in_head(net, own):
        return _Part(name)
    return _Part(name, own, misfit=f"{name} {tuple(tensor.shape)} instead of {tuple(ours[own].shape)}")


def _squeezed(tensor: Tensor) -> tuple[int, ...]:
    # ACTION's 3x3x3 convolution has one more axis of length 1 in published files.
    return tuple(size for size in tensor.shape if size != 1)


def _inflated(stored: Tensor, ours: Tensor) -> Tensor | None:
    """RGB kernels (O, 3, ...) turned into those of RGB-D (O, 4, ...) or depth (O, 1, ...); None for other shapes."""
    if stored.dim() < 4 or stored.shape[1] != 3 or ours.shape != (stored.shape[0], ours.shape[1], *stored.shape[2:]):
        return None
    depth = stored.mean(dim=1, keepdim=True)
    return {1: depth, 4: torch.cat([stored, depth], dim=1)}.get(ours.shape[1])


def _in_head(net: ClipNet, name: str) -> bool:
    return _common_name(name).startswith(tuple(f"{part}." for part in net.head))


def _is_backbone(net: ClipNet, name: str) -> bool:
    return not (_in_head(net, name) or _TEMPORAL.search(_common_name(name)))


def _check_same_backbone(net: ClipNet, path: Path, skipped: list[str], absent: list[str], misshapen: list[str]) -> None:
    lacking = [name for name in absent if _is_backbone(net, name)]
    surplus = [name for name in skipped if _is_backbone(net, name) and not name.endswith("num_batches_tracked")]
    reasons = []
    if lacking:
        reasons.append(f"it lacks {some(lacking)}")
    if surplus:
        reasons.append(f"it has {some(surplus)}")
    if misshapen:
        reasons.append(f"other shapes: {some(misshapen)}")
    if reasons:
        raise WeightsError(
            f"{path}: weights of another network than {net.name} (width {net.width}): {'; '.join(reasons)}. "
            "Choose the model that the file was made for; the network is unchanged"
        )


def _check_whole_modules(path: Path, loaded: list[str], absent: list[str]) -> None:
    """Raise ``WeightsError`` for a file with only some of the temporal modules: it was saved with all of them."""
    lacking = [name for name in absent if _TEMPORAL.search(name)]
    if lacking and any(_TEMPORAL.search(name) for name in loaded):
        raise WeightsError(
            f"{path}: has lost part of its temporal modules: it lacks {some(lacking)}. Copy or download it again; "
            "the network is unchanged"
        )


def _source(stored: Mapping[str, Tensor]) -> str:
    if any(_WRAPPERS.sub("", name).startswith("classifier.") for name in stored):
        return "dynagest"
    return "published" if any("base_model." in name for name in stored) else "ImageNet"


def _check_ours(net: nn.Module, where: str) -> None:
    if not isinstance(net, ClipNet):
        raise WeightsError(
            f"{where}: {type(net).__name__} is no network of dynagest; give what create_model or load_network "
            "returned, without a wrapper around it, or load and save its state_dict with torch"
        )


def _check_card(card: NetworkCard, net: ClipNet, where: str) -> None:
    _check_ours(net, where)
    described = (card.model, len(card.classes), card.num_segments, card.width, card.options)
    actual = (net.name, net.num_classes, net.num_segments, net.width, net.options)
    if described != actual:
        raise WeightsError(
            f"{where}: the card is of another network: model, classes, segments, width and options are {described} "
            f"on the card and {actual} in the network; make the card from the network that is saved"
        )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (telling or lines or [type(error).__name__])[0][:300]
