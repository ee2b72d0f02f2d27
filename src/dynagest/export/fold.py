"""BatchNorm into the convolution in front of it, in any network."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dynagest.networks.clipnet import ClipNet

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batchnorm(net: ClipNet, clip_NTCHW: Tensor) -> ClipNet:
    """A copy of ``net`` in evaluation mode, where each BatchNorm that follows a convolution has become part of it.

    Which one follows which shows when ``clip_NTCHW`` runs through: one that is given the very tensor that a convolution
    returned. Others stay as they are.
    """
    net = copy.deepcopy(net).cpu().eval()
    returned: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensor is kept so that its id stays its own
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
