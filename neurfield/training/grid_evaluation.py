# SPDX-License-Identifier: Apache-2.0
"""Measures the field of an image, a video or a volume against the values it was trained on."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurfield.data.signals.grid import GridSignal
from neurfield.metrics.psnr import decibels
from neurfield.metrics.ssim import WINDOW, ssim
from neurfield.progress import Progress, silent
from neurfield.rendering.sampled import sample_grid

MAX_SSIM_PIXELS = 64_000_000  # float64 copies of the picture are made


def evaluate_grid(
    field: nn.Module,
    signal: GridSignal,
    per_first_axis: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """PSNR of all values, SSIM of an image, bits per sample.

    Args:
        per_first_axis: also one PSNR for each position on the first axis (the pictures of a video), and the mean of
            those in place of the PSNR of all.

    Returns:
        `psnr`, `ssim` where it can be measured, `bits_per_sample`, `n_params`, with `per_first_axis` `per_frame`, and
        the `protocol`.
    """
    info = signal.info
    n_planes = info.sizes[0]
    plane = info.n_samples // n_planes
    squares = torch.zeros(n_planes, dtype=torch.float64)
    can_ssim = len(info.sizes) == 2 and min(info.sizes) >= WINDOW and info.n_samples <= MAX_SSIM_PIXELS
    picture = np.empty((info.n_samples, info.n_channels), np.float32) if can_ssim else None
    rows = signal.rows()

    def add(begin: int, end: int, values: Tensor) -> None:
        values = values.clamp(0, 1)
        target = torch.from_numpy(signal.normalized(rows[begin:end]))
        error = (values - target).double().square().sum(dim=1)
        squares.index_add_(0, torch.arange(begin, end) // plane, error)
        if picture is not None:
            picture[begin:end] = values.numpy()

    sample_grid(field, info.sizes, add, progress)
    mse = squares / (plane * info.n_channels)
    frames = [decibels(float(value)) for value in mse]
    n_params = sum(param.numel() for param in field.parameters())
    result: dict[str, Any] = {"psnr": sum(frames) / n_planes if per_first_axis else decibels(float(mse.mean()))}
    if picture is not None:
        images = (picture, signal.normalized(rows))
        result["ssim"] = ssim(*(_as_rgb(image.reshape(*info.sizes, -1)) for image in images))
    result |= {"bits_per_sample": 32 * n_params / info.n_samples, "n_params": n_params}
    if per_first_axis:
        result["per_frame"] = frames
    mean = "mean of the frames' values" if per_first_axis else "of the mean error over all values"
    protocol = {
        "split": "all samples, which are those trained on",
        "psnr": f"{mean}; peak {info.high - info.low:g} in stored values ({info.dtype}); predictions clamped",
        "bits_per_sample": "float32 parameters over samples",
    }
    if picture is not None:
        protocol["ssim"] = "Gaussian window 11, sigma 1.5, colour channels"
    return result | {"protocol": protocol}


def _as_rgb(image: np.ndarray) -> Tensor:
    """`[h, w, 3]` of 1 ... 4 channels, without alpha."""
    color = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    return torch.from_numpy(np.ascontiguousarray(color))
