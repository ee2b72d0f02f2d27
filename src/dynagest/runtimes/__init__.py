"""What runs a network: torch, ONNX Runtime or OpenVINO behind ``ClipNetwork`` and ``StreamNetwork``. numpy in and out.

Each runtime is imported only when one of its networks is opened, so an installation needs the one that it uses.
"""
