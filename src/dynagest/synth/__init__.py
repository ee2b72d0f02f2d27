"""Generates RGB-D clips of gestures: an articulated hand, rendered on the fly or written to disk.

The modules, from the skeleton up: ``spec`` (settings and presets), ``subject`` (who performs), ``solids`` (what is
drawn), ``hand`` (bones and their solids), ``gestures`` (the classes), ``motion`` (poses in time), ``idle`` (movements
that are no gesture), ``canvas`` and ``scene`` (the place), ``render`` (a z-buffer), ``sensor`` (the cameras), ``film``
(renders the frames of a take), ``recording`` (plans and records the clip of an index), ``pool`` (renders many clips on
all cores). Other packages use ``dataset``, ``write``, ``stream`` (long recordings) and ``sheet``.
"""

from dynagest.synth.dataset import SynthDataset
from dynagest.synth.gestures import GESTURES
from dynagest.synth.sheet import sheet, write_sheet
from dynagest.synth.spec import PRESETS, PerSplit, SynthSpec, get_preset
from dynagest.synth.stream import StreamSpec, read_stream_spec, write_streams
from dynagest.synth.write import read_spec, write_synth

__all__ = [
    "GESTURES",
    "PRESETS",
    "PerSplit",
    "StreamSpec",
    "SynthDataset",
    "SynthSpec",
    "get_preset",
    "read_spec",
    "read_stream_spec",
    "sheet",
    "write_sheet",
    "write_streams",
    "write_synth",
]
