"""Generated RGB-D gestures: an articulated hand, rendered on the fly or written to disk.

From the skeleton up: ``subject`` (who), ``hand`` (bones and solids), ``gestures`` (the classes), ``motion`` (poses in
time), ``canvas`` and ``scene`` (where), ``render`` (the z-buffer), ``sensor`` (the cameras), ``film`` (poses to
frames), ``recording`` (which clip an index is), ``dataset``, ``write`` and ``sheet`` (what others use).
"""

from dynagest.synth.dataset import SynthDataset
from dynagest.synth.gestures import GESTURES
from dynagest.synth.sheet import sheet, write_sheet
from dynagest.synth.spec import PRESETS, PerSplit, SynthSpec, get_preset
from dynagest.synth.write import read_spec, write_synth

__all__ = [
    "GESTURES",
    "PRESETS",
    "PerSplit",
    "SynthDataset",
    "SynthSpec",
    "get_preset",
    "read_spec",
    "sheet",
    "write_sheet",
    "write_synth",
]
