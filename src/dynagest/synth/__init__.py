"""Generated RGB-D gestures: an articulated hand, rendered on the fly or written to disk.

From the skeleton up: ``subject`` (who), ``hand`` (bones and solids), ``gestures`` (the classes), ``motion`` (poses in
time), ``idle`` (what else a hand does), ``canvas`` and ``scene`` (where), ``render`` (the z-buffer), ``sensor`` (the
cameras), ``film`` (takes to frames), ``recording`` (which clip an index is), ``pool`` (many of them, on all cores).
``dataset``, ``write``, ``stream`` (long recordings) and ``sheet`` are what others use.
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
