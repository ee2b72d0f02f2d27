"""From a recipe to the parts of a run: network, decoders and loss, all on one device."""

from pathlib import Path

import torch

from dynagest.networks.build import create_model
from dynagest.networks.weights import LoadReport, load_weights
from dynagest.task.decoder import MultiScaleDecoder
from dynagest.task.loss import DepthLoss, LossWeights
from dynagest.task.task import DepthTask
from dynagest.training.recipe import Recipe


def build_task(
    recipe: Recipe, num_classes: int, device: torch.device, *, load_init: bool = True
) -> tuple[DepthTask, LoadReport | None]:
    """The task of a recipe, with ``recipe.init`` loaded if there is one, and the report on that.

    The network's initial weights depend on seed, model and classes only: two arms of a comparison that differ in the
    decoders or the loss start from the same network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = create_model(
            recipe.model,
            num_classes,
            recipe.num_segments,
            width=recipe.width,
            dropout=recipe.dropout,
            size=recipe.size,
            options=recipe.options,
        )
        # Inside as well: a classifier for other classes is drawn anew.
        report = load_weights(net, Path(recipe.init)) if recipe.init and load_init else None
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
    loss = DepthLoss(
        LossWeights(1.0, recipe.local_weight, recipe.global_weight), recipe.threshold / 255 if recipe.binarise else None
    )
    task = DepthTask(net, decoder, loss).to(device)
    return task, report


def choose_precision(recipe: Recipe, device: torch.device) -> tuple[Recipe, str]:
    """The recipe with ``precision`` decided, and a sentence that says why."""
    if recipe.precision != "auto":
        return recipe, f"{recipe.precision}, as the recipe says"
    if device.type == "cuda":
        fast, why = torch.cuda.is_bf16_supported(including_emulation=False), "the GPU"
    elif device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        fast, why = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16")), "the CPU"
    else:
        fast, why = False, f"{device.type} is not known to have bf16, so nobody"
    chosen = "bf16" if fast else "fp32"
    sentence = f"autodetected {chosen} because {why} computes {'bf16 in hardware' if fast else 'no bf16 in hardware'}"
    return recipe.model_copy(update={"precision": chosen}), sentence
