"""The input of a network that is fed RGB, RGB-D, or depth alone."""

import torch

# Depth is normalised as a grey picture would be: by ImageNet's mean and standard deviation, averaged over the colours.
DEPTH_MEAN, DEPTH_STD = 0.449, 0.226


def network_input(rgb_NTCHW: torch.Tensor, depth_NT1HW: torch.Tensor | None, inputs: str) -> torch.Tensor:
    """The network's clip from normalised RGB (N, T, 3, H, W) and canonical depth (N, T, 1, H, W) in [0, 1].

    It is the RGB itself for ``inputs`` "rgb", normalised depth (N, T, 1, H, W) for "depth", and both (N, T, 4, H, W)
    for "rgbd".
    """
    if inputs == "rgb":
        return rgb_NTCHW
    assert depth_NT1HW is not None, "a network of depth needs depth"
    depth = (depth_NT1HW - DEPTH_MEAN) / DEPTH_STD
    return depth if inputs == "depth" else torch.cat([rgb_NTCHW, depth.to(rgb_NTCHW.dtype)], dim=2)
