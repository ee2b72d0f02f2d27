"""dynagest: dynamic hand gestures from any RGB camera, taught by depth.

The names below are the public API. They are looked up on first use, so that ``import dynagest`` and the command line
start without loading torch, and an installation that only predicts does not need it.

>>> import dynagest as dg
>>> net = dg.create_model("action_resnet50", num_classes=83, num_segments=8)
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynagest.card import NetworkCard as NetworkCard
    from dynagest.clips.dataset import ClipDataset as ClipDataset
    from dynagest.clips.depth import DepthSpec as DepthSpec
    from dynagest.clips.manifest import Clip as Clip
    from dynagest.clips.manifest import Manifest as Manifest
    from dynagest.clips.view import View as View
    from dynagest.errors import DynagestError as DynagestError
    from dynagest.networks.build import create_model as create_model
    from dynagest.networks.build import list_models as list_models
    from dynagest.networks.count import count as count
    from dynagest.networks.weights import load_network as load_network
    from dynagest.networks.weights import load_weights as load_weights
    from dynagest.networks.weights import save_network as save_network
    from dynagest.predictor import Predictor as Predictor
    from dynagest.stream.events import EventDetector as EventDetector
    from dynagest.stream.events import EventSettings as EventSettings
    from dynagest.stream.load import load_recogniser as load_recogniser
    from dynagest.stream.recogniser import Recogniser as Recogniser
    from dynagest.synth.dataset import SynthDataset as SynthDataset
    from dynagest.synth.spec import SynthSpec as SynthSpec
    from dynagest.task.decoder import MultiScaleDecoder as MultiScaleDecoder
    from dynagest.task.depth import DepthTask as DepthTask
    from dynagest.testing.evaluate import evaluate as evaluate
    from dynagest.training.recipe import Recipe as Recipe
    from dynagest.training.recipes import get_recipe as get_recipe
    from dynagest.training.trainer import train as train

__version__ = "0.1.0"

# ONNX Runtime reports to Microsoft, and NNCF to Google, where and for what they are used, unless these are set before
# they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NNCF_CI", "1")  # nothing else in NNCF heeds it

_HOME = {
    "Clip": "clips.manifest",
    "ClipDataset": "clips.dataset",
    "DepthSpec": "clips.depth",
    "DepthTask": "task.depth",
    "DynagestError": "errors",
    "EventDetector": "stream.events",
    "EventSettings": "stream.events",
    "Manifest": "clips.manifest",
    "MultiScaleDecoder": "task.decoder",
    "NetworkCard": "card",
    "Predictor": "predictor",
    "Recipe": "training.recipe",
    "Recogniser": "stream.recogniser",
    "SynthDataset": "synth.dataset",
    "SynthSpec": "synth.spec",
    "View": "clips.view",
    "count": "networks.count",
    "create_model": "networks.build",
    "evaluate": "testing.evaluate",
    "get_recipe": "training.recipes",
    "list_models": "networks.build",
    "load_network": "networks.weights",
    "load_recogniser": "stream.load",
    "load_weights": "networks.weights",
    "save_network": "networks.weights",
    "train": "training.trainer",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dynagest' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"dynagest.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f'dynagest.{name} needs torch: pip install "dynagest[train]"', name="torch") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
