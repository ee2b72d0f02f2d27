"""Builds the task of a run from its recipe: the network, the parts trained along with it, and the loss."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dynagest.card import NetworkCard
from dynagest.errors import ModelError, RecipeError, WeightsError
from dynagest.machine import fast_bf16
from dynagest.networks.build import build_network
from dynagest.networks.clipnet import ClipNet
from dynagest.networks.spec import NetworkSpec
from dynagest.networks.weights import LoadReport, load_weights
from dynagest.run_folder import PARTNER_FILE
from dynagest.task.alignment import AlignmentTask
from dynagest.task.base import Task
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.depth import DepthTask
from dynagest.task.loss import DepthLoss, LossWeights
from dynagest.task.saved import take_over_decoders
from dynagest.task.segmentation import SegmentationTask
from dynagest.training.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """What was loaded from ``recipe.init``: the network's weights, the kinds of decoders that were taken over, and the
    weights of the depth ``partner`` that trains beside the network (MTUT). ``turned`` says how the network differs from
    the one in which the weights were trained."""

    network: LoadReport
    decoders: tuple[str, ...] = ()
    partner: LoadReport | None = None
    turned: str = ""

    def __str__(self) -> str:
        kept = [f"  with its decoders: {', '.join(self.decoders)}"] if self.decoders else []
        beside = [f"its depth network from {self.partner}"] if self.partner else []
        turned = [f"  {self.turned}"] if self.turned else []
        return "\n".join([str(self.network), *turned, *kept, *beside])


def build_task(
    recipe: Recipe, num_classes: int, device: torch.device, *, load_init: bool = True
) -> tuple[Task, Start | None]:
    """Build the task of a recipe on ``device``. Returns it with what was loaded from ``recipe.init``, if anything was.

    If that is a run with decoders, those that read the same module in the same form go on from there. The network's
    initial weights depend only on seed, model and classes. So two arms of a comparison that differ in the decoders or
    the loss start from the same network. Raises ``ModelError``, ``WeightsError`` or ``RecipeError`` when the network,
    its initial weights or the frozen modules are not as the recipe says.
    """
    init = Path(recipe.init) if recipe.init and load_init else None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)  # the CPU's generator, because the network is built there
        spec = recipe.network_spec(num_classes)
        net, report = _network(spec, init)
        partner, beside = _partner(spec, init) if recipe.task == "alignment" else (None, None)
        task = _around(net, partner, recipe)
        decoders: tuple[str, ...] = ()
        if init and isinstance(task, DepthTask) and task.decoder:
            decoders = take_over_decoders(task.decoder, init, net)
    task.freeze(recipe.frozen)
    return task.to(device), Start(report, decoders, beside, _turned(recipe, report)) if report else None


def _turned(recipe: Recipe, report: LoadReport) -> str:
    """How ``recipe`` turns the network that the weights belong to into another one, and how to keep it; "" if not.

    Weights of a causal network fit a two-directional one, and of any T, so that nothing else would tell.
    """
    try:
        card = NetworkCard.read(report.path.with_suffix(".json"))
    except WeightsError:
        return ""  # published weights, a checkpoint: they come without a card
    fields = ["model", "num_segments", "size", "sampling", "options"]
    fields += ["stride"] if "dense" in (recipe.sampling, card.sampling) else []
    other = {name: getattr(card, name) for name in fields if getattr(card, name) != getattr(recipe, name)}
    if not other:
        return ""
    told = "; ".join(f"{name} {getattr(recipe, name)}, not {value}" for name, value in other.items())
    if card.options.get("online") and not recipe.chained:
        other["chained"] = True
    kept = (
        shlex.quote(f"{name}={value if isinstance(value, str) else json.dumps(value)}") for name, value in other.items()
    )
    return f"turned into another network: {told}; to keep it: {' '.join(f'--set {each}' for each in kept)}"


def _network(spec: NetworkSpec, weights: Path | None) -> tuple[ClipNet, LoadReport | None]:
    net = build_network(spec)
    # Loaded here, still under the seed, because a classifier for other classes is initialised again.
    return net, load_weights(net, weights) if weights else None


def _partner(spec: NetworkSpec, init: Path | None) -> tuple[ClipNet, LoadReport | None]:
    if init and (init / PARTNER_FILE).exists():
        init = init / PARTNER_FILE  # left by a run of this task; any other has an RGB network only
    return _network(replace(spec, options={**spec.options, "inputs": "depth"}), init)


def _around(net: ClipNet, partner: ClipNet | None, recipe: Recipe) -> Task:
    if partner is not None:
        try:
            return AlignmentTask(net, partner, recipe.align_at, recipe.alignment_weight, recipe.class_weight)
        except ModelError as error:
            raise RecipeError(f"align_at: {error}") from error
    if recipe.task == "segmentation":
        return SegmentationTask(net, recipe.class_weight, recipe.mask_weight, recipe.threshold / 255)
    decoder = None
    if recipe.msd != "none":
        decoder = MultiScaleDecoder.for_model(
            net,
            which=recipe.msd,
            local_scale=recipe.local_scale,
            global_scale=recipe.global_scale,
            activation=recipe.activation,
            image_size=recipe.size,
            seed=recipe.seed,
        )
    weights = LossWeights(recipe.class_weight, recipe.local_weight, recipe.global_weight)
    loss = DepthLoss(weights, recipe.threshold / 255 if recipe.binarise else None)
    return DepthTask(net, decoder, loss, chained=recipe.chained)


def choose_precision(recipe: Recipe, device: torch.device) -> tuple[Recipe, str]:
    """The recipe with ``precision`` resolved to "bf16" or "fp32", and a sentence that says why."""
    if recipe.precision != "auto":
        return recipe, f"{recipe.precision}, as the recipe says"
    if device.type == "cuda":
        fast, where = torch.cuda.is_bf16_supported(including_emulation=False), "the GPU"
    elif device.type == "cpu":
        fast, where = fast_bf16(), "the CPU"
    else:
        plain = recipe.model_copy(update={"precision": "fp32"})
        return plain, f"autodetected fp32 because {device.type} is not known to compute bf16 in hardware"
    chosen, what = ("bf16", "bf16") if fast else ("fp32", "no bf16")
    sentence = f"autodetected {chosen} because {where} computes {what} in hardware"
    return recipe.model_copy(update={"precision": chosen}), sentence
