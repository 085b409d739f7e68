# SPDX-License-Identifier: Apache-2.0
"""Structural similarity (Wang et al. 2004): Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03,
population covariances, mean over channels and over the positions at which the window lies inside the image.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from neurfield.metrics._common import check_images

WINDOW = 11
SIGMA = 1.5


def ssim(image: Tensor, target: Tensor) -> float:
    """Mean structural similarity of one image, 1 when equal.

    Args:
        image, target: float `[height, width, 3]` in [0, 1], both sides at least 11 pixels.

    Raises:
        ValueError: shapes that differ or are no image; an image smaller than the window.
    """
    check_images("ssim", image, target)
    if min(image.shape[:2]) < WINDOW:
        raise ValueError(f"ssim: the image must be at least {WINDOW} x {WINDOW} pixels, got {list(image.shape)}")
    x, y = (v.double().movedim(-1, 0)[:, None] for v in (image, target))  # [n_channels, 1, height, width]
    mean_x, mean_y = _blur(x), _blur(y)
    # population moments are differences of large numbers: float64
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return float((luminance * structure).mean())


def _blur(x: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights = weights / weights.sum()
    return conv2d(conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
