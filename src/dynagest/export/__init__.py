"""Exports a trained network to a file that runs without PyTorch: ONNX or OpenVINO, fp32, bf16 or int8, clip or stream.

``export`` (in ``write``) writes the file, runs it, compares it with PyTorch and refuses it if they disagree. The steps:
fold BatchNorm (``fold``), rewrite the network into a form that is fast in the runtime (``frames``, ``volumes``,
``streams``, with their common ``gates``), convert (``convert``), quantise to int8 (``quantise_onnx``,
``quantise_openvino``), read the clips to calibrate and compare on (``clips``), and compare (``verify``).
``dynagest.runtimes`` runs the files.
"""

from dynagest.export.verify import TOLERANCES as TOLERANCES
from dynagest.export.write import Export as Export
from dynagest.export.write import export as export
