"""PyTorch's own way to int8, for ``benchmarks/latency.py``: torchao calibrates, Inductor compiles.

Needs ``pip install -c constraints.txt torchao`` and a C++ compiler. dynagest itself exports to ONNX Runtime and
OpenVINO.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch._inductor.config
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86


def compiled_int8(net: nn.Module, calibration: Iterable[tuple[Any, ...]]) -> Callable[..., Any]:
    """``net`` with weights and activations in int8, calibrated on these inputs and compiled at its first call."""
    samples = list(calibration)
    with torch.no_grad():
        graph = torch.export.export(net.eval(), samples[0], strict=False).module()
        for node in graph.graph.nodes:
            if "relu" in str(node.target):  # a block's two are one module, which the quantizer takes for one node
                node.meta["source_fn_stack"] = [(node.name, nn.ReLU)]
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(graph, quantizer)
        for sample in samples:
            prepared(*sample)
        compiled = torch.compile(convert_pt2e(prepared))

    def run(*inputs: Any) -> Any:
        with torch.no_grad(), torch._inductor.config.patch(freezing=True):
            return compiled(*inputs)

    return run
