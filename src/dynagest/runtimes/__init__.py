"""Runs networks in torch, ONNX Runtime or OpenVINO, behind ``ClipNetwork`` and ``StreamNetwork``, on numpy arrays.

Each runtime is imported only when one of its networks is opened, so an installation needs only the one that it uses.
"""
