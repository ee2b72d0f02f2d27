"""From a trained network to a file that runs without PyTorch: ONNX or OpenVINO, fp32, bf16 or int8, clips or streams.

``export`` writes the file, runs it, compares it with PyTorch and refuses it where they disagree. Its parts: BatchNorm
folded (``fold``), the forms of a network that runtimes are fast at (``frames``, ``volumes``), the conversion
(``convert``), int8 (``quantise``), the clips for both (``clips``) and the comparison (``verify``). The files are run by
``dynagest.runtimes``.
"""

from dynagest.export.verify import TOLERANCES as TOLERANCES
from dynagest.export.write import Export as Export
from dynagest.export.write import export as export
