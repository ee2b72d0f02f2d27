"""Recipes of the systems in the paper's Tables I to V, each on the schedule of a data set. Needs no torch.

The tables give accuracies, but seldom how the systems were trained. What a docstring calls published comes from the
system's publication or public code. The rest is our choice and the same for all: the paper's schedule for the data set
(epochs, steps, learning rate, batch, crops, colours) without mirroring. Networks that are not 2D start from random
weights on EgoGesture and from their own EgoGesture model on the other data sets, and their classifier has the same
learning rate as the other layers.
"""

from collections.abc import Callable
from typing import Any

from dynagest.training.recipe import Recipe

PLAIN: dict[str, Any] = {"msd": "none"}
# Consecutive frames at 112 pixels, as the public 3D networks for gestures were trained.
WINDOW: dict[str, Any] = {**PLAIN, "num_segments": 32, "size": 112, "sampling": "dense", "stride": 1}
# 32 frames spread over the whole clip.
SPREAD: dict[str, Any] = {**WINDOW, "sampling": "segment"}
CLASSES_ALONE = ("network.embedding", "network.frame_classifier", "network.lstm", "network.classifier")


def c3d(schedule: Recipe) -> Recipe:
    """C3D. Published: 32 frames of 112 x 112 in a row, dropout 0.5 twice, no mirroring."""
    return _video(schedule, WINDOW | {"model": "c3d", "dropout": 0.5})


def resnext101_3d(schedule: Recipe) -> Recipe:
    """3D ResNeXt-101. Published: 32 frames of 112 x 112 in a row, no mirroring."""
    return _video(schedule, WINDOW | {"model": "resnext101_3d"})


def mtut(schedule: Recipe) -> Recipe:
    """MTUT. Published: an I3D each for RGB and depth, on 64 frames of 224 x 224. They are trained by cross-entropy
    alone first, then also by the alignment of their last feature maps, weight 5e-3 (public code). Tests use RGB alone.
    """
    fields = {"model": "i3d", "task": "alignment", "num_segments": 64, "size": 224}
    return _video(schedule, WINDOW | fields | _stages(apart={"alignment_weight": 0.0}))


def nas1(schedule: Recipe) -> Recipe:
    """NAS1. Published: 32 frames of 112 x 112, dropout 0.5. The genotype is the option ``genotype``."""
    return _video(schedule, SPREAD | {"model": "nas1", "dropout": 0.5})


def resc3d(schedule: Recipe) -> Recipe:
    """ResC3D's RGB stream. Published: 32 frames of 112 x 112 chosen by their motion, and a linear SVM.

    Ours: one frame of each of 32 equal parts, and a linear layer. Measuring motion would mean decoding every frame of
    every clip, in training, in every test and before the first answer on a stream.
    """
    return _video(schedule, SPREAD | {"model": "resc3d"})


def prernn(schedule: Recipe) -> Recipe:
    """PreRNN on C3D. Published: a trained C3D whose fully connected layers become recurrent, their weights kept as
    input-to-hidden. Ours: 32 frames in short clips of 16; the C3D is trained on clips of 16 frames first.
    """
    first = {"model": "c3d", "num_segments": 16, "options": {}}
    fields = {"model": "prernn_c3d", "dropout": 0.5, "options": {"clip": 16}}
    return _video(schedule, WINDOW | fields | _stages(c3d=first))


def attention_lstm(schedule: Recipe) -> Recipe:
    """attentionLSTM with two plain ConvLSTMs, which give the table's 20.7 M parameters. Published: 32 frames of
    112 x 112.
    """
    return _video(schedule, SPREAD | {"model": "attention_lstm"})


def redundancy(schedule: Recipe) -> Recipe:
    """Redundancy + AttentionLSTM: the released variant, attention on the input and gates from pooled features."""
    return _video(schedule, SPREAD | {"model": "attention_lstm", "options": {"gated": True}})


def segmentation_lstm(schedule: Recipe) -> Recipe:
    """Segmentation + LSTM. Published: Adam at 1e-3 in three stages: encoder and mask decoder on single frames (the mask
    is depth above 10 of 255), then the LSTM with the encoder frozen, then both together.

    Ours: 224 x 224 instead of 126 x 224, one frame of each of 8 equal parts (Table V: 8, 16, 24, all), no weight decay.
    """
    fields = {"model": "segmentation_lstm", "task": "segmentation", "num_segments": 8, "size": 224}
    adam = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0}
    stages = _stages(
        mask={"class_weight": 0.0, "num_segments": 1, "frozen": CLASSES_ALONE},
        lstm={"mask_weight": 0.0, "frozen": ("network.encoder",)},
    )
    return _video(schedule, SPREAD | fields | adam | stages)


def _video(schedule: Recipe, fields: dict[str, Any]) -> Recipe:
    scratch = {"starts_from": ""} if schedule.name == "egogesture" else {}
    return schedule.with_overrides({"classifier_lr": 1.0} | fields | scratch)


def _two_dimensional(model: str, **changes: Any) -> Callable[[Recipe], Recipe]:
    def recipe(schedule: Recipe) -> Recipe:
        return schedule.with_overrides({"model": model, **changes})

    return recipe


def _stages(**stages: dict[str, Any]) -> dict[str, Any]:
    return {"stages": [{"name": name, "changes": changes} for name, changes in stages.items()]}


# The tables' rows. "-msd" has the paper's two decoders; "-rgbd" and "-depth" are fed depth at test time as well.
SYSTEMS: dict[str, Callable[[Recipe], Recipe]] = {
    "c3d": c3d,
    "prernn": prernn,
    "resc3d": resc3d,
    "mtut": mtut,
    "nas1": nas1,
    "resnext101_3d": resnext101_3d,
    "attention_lstm": attention_lstm,
    "redundancy": redundancy,
    "segmentation_lstm": segmentation_lstm,
    "tsn": _two_dimensional("tsn_resnet50", **PLAIN),
    "tsm": _two_dimensional("tsm_resnet50", **PLAIN),
    "tsm-msd": _two_dimensional("tsm_resnet50"),
    "tea": _two_dimensional("tea_res2net50", **PLAIN),
    "tea-msd": _two_dimensional("tea_res2net50"),
    "action": _two_dimensional("action_resnet50", **PLAIN),
    "action-msd": _two_dimensional("action_resnet50"),
    "action-rgbd": _two_dimensional("action_resnet50", **PLAIN, options={"inputs": "rgbd"}),
    "action-depth": _two_dimensional("action_resnet50", **PLAIN, options={"inputs": "depth"}),
}
