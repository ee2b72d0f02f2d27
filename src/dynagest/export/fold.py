"""Folds BatchNorm into the convolution in front of it, in any network."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dynagest.networks.clipnet import ClipNet

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batchnorm(net: ClipNet, clip_NTCHW: Tensor) -> ClipNet:
    """A copy of ``net`` on the CPU in evaluation mode, with each BatchNorm that follows a convolution folded into it.

    A pass over ``clip_NTCHW`` finds the pairs: a BatchNorm follows a convolution if its input is the very tensor that
    the convolution returned. Every other BatchNorm stays as it is.
    """
    net = copy.deepcopy(net).cpu().eval()
    returned: dict[int, tuple[nn.Module, Tensor]] = {}  # holds the tensor, so that no other can get its id
    pairs: dict[nn.Module, nn.Module] = {}

    def after_convolution(conv: nn.Module, _: Any, output: Tensor) -> None:
        returned[id(output)] = (conv, output)

    def before_norm(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in returned:
            pairs[norm] = returned[id(inputs[0])][0]

    hooks = []
    for module in net.modules():
        if type(module) in (nn.Conv2d, nn.Conv3d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, _NORMS):
            hooks.append(module.register_forward_pre_hook(before_norm))
    with torch.no_grad():
        net(clip_NTCHW)
    for hook in hooks:
        hook.remove()

    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            conv = pairs.get(child)
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(child, _NORMS):
                fused = fuse_conv_bn_eval(conv, child)
                conv.weight, conv.bias = fused.weight, fused.bias
                setattr(module, name, nn.Identity())
    return net
