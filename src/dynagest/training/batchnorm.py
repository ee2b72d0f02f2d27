"""BatchNorm over the clips of all processes, on the CPU as well.

A run on several processes shall equal the run on one, so statistics come from the whole batch. ``nn.SyncBatchNorm``
does that on accelerators and refuses the CPU (torch 2.13).
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import FunctionCtx


class _SumOverProcesses(torch.autograd.Function):
    """Each process gets the sum, so the gradient of each one's part is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverProcesses.forward(ctx, gradient)


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """The sum of ``x`` over all processes, for autograd as well."""
    total: torch.Tensor = _SumOverProcesses.apply(x)
    return total


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose statistics in training are those of all processes.

    (B, C, H, W) in and out, any B a process.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = torch.full((1,), float(values.numel() // values.shape[1]), device=x.device)
        # Two rounds, mean before variance: E[x^2] - E[x]^2 would lose the digits that one process keeps. The counts
        # ride along with the first.
        totals = sum_over_processes(torch.cat([values.sum(dim=(0, 2, 3)), count]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = values - mean[:, None, None]
        variance = sum_over_processes(centred.square().sum(dim=(0, 2, 3))) / count
        self._track(mean.detach(), variance.detach(), float(count))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)


def synchronise(module: nn.Module) -> nn.Module:
    """``module`` with global statistics in every BatchNorm2d below it; parameters, buffers and names stay the same."""
    assert dist.is_initialized(), "one process has nobody to share with"
    if any(parameter.is_cuda for parameter in module.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = GlobalBatchNorm2d(child.num_features, child.eps, child.momentum)
            norm.weight, norm.bias = child.weight, child.bias
            norm.running_mean, norm.running_var = child.running_mean, child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            setattr(module, name, norm)
        else:
            synchronise(child)
    return module
