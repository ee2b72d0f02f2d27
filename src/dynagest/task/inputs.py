"""What networks of RGB, of RGB-D and of depth alone are fed."""

import torch

# Depth is fed as a grey picture would be: ImageNet's mean and standard deviation, averaged over the colours.
DEPTH_MEAN, DEPTH_STD = 0.449, 0.226


def network_input(rgb_NTCHW: torch.Tensor, depth_NT1HW: torch.Tensor | None, inputs: str) -> torch.Tensor:
    """Normalised RGB (N, T, 3, H, W) and canonical depth (N, T, 1, H, W) in [0, 1] as the network's clip.

    For ``inputs`` "rgb" the RGB itself, for "depth" normalised depth (N, T, 1, H, W), for "rgbd" both (N, T, 4, H, W).
    """
    if inputs == "rgb":
        return rgb_NTCHW
    assert depth_NT1HW is not None, "a network of depth needs depth"
    depth = (depth_NT1HW - DEPTH_MEAN) / DEPTH_STD
    return depth if inputs == "depth" else torch.cat([rgb_NTCHW, depth.to(rgb_NTCHW.dtype)], dim=2)
