"""BatchNorm over the clips of all processes, on the CPU as well.

A run on several processes must equal a run on one, so statistics come from the whole batch. ``nn.SyncBatchNorm`` does
that on accelerators but not on the CPU (torch 2.13).
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import FunctionCtx


class _SumOverProcesses(torch.autograd.Function):
    """Every process gets the sum, so the gradient of each process's input is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.forward(ctx, gradient)


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """The sum of ``x`` over all processes, differentiable."""
    total: torch.Tensor = _SumOverProcesses.apply(x)
    return total


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm for vectors, images and volumes that in training takes its statistics over all processes.

    (B, C, ...) -> the same shape; B may differ between processes.
    """

    def _check_input_dim(self, x: torch.Tensor) -> None:
        assert x.dim() >= 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = torch.full((1,), float(values.numel() // values.shape[1]), device=x.device)
        # Two exchanges, mean before variance: E[x^2] - E[x]^2 would be less exact than BatchNorm on one process. The
        # counts travel with the first.
        axes = (0, *range(2, values.dim()))
        per_channel = (-1, *(1 for _ in axes[1:]))
        totals = sum_over_processes(torch.cat([values.sum(dim=axes), count]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = values - mean.view(per_channel)
        variance = sum_over_processes(centred.square().sum(dim=axes)) / count
        self._track(mean.detach(), variance.detach(), float(count))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(per_channel) + self.bias.view(per_channel)).to(x.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)


def synchronise(module: nn.Module) -> nn.Module:
    """Give every BatchNorm below ``module`` global statistics; parameters, buffers and names stay the same."""
    assert dist.is_initialized(), "one process has nobody to share with"
    if any(parameter.is_cuda for parameter in module.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            norm = GlobalBatchNorm(child.num_features, child.eps, child.momentum)
            norm.weight, norm.bias = child.weight, child.bias
            norm.running_mean, norm.running_var = child.running_mean, child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            setattr(module, name, norm)
        else:
            synchronise(child)
    return module
