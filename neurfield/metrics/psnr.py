# SPDX-License-Identifier: Apache-2.0
"""PSNR of one image, or of a squared error that was measured elsewhere."""

import math

from torch import Tensor

from neurfield.metrics._common import check_images


def psnr(image: Tensor, target: Tensor, weights: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio of one image, `-10 log10 mean((image - target)^2)`, in dB; infinite when equal.

    Args:
        image, target: float `[height, width, 3]`, peak value 1.
        weights: how much pixels count, `[height, width]`, or None: all alike.

    Raises:
        ValueError: shapes that differ or are no image.
    """
    check_images("psnr", image, target)
    error = (image.double() - target.double()).square()
    mean = error.mean() if weights is None else (error.mean(dim=2) * weights).sum() / weights.double().sum()
    return decibels(float(mean), math.inf)


def decibels(squared_error: float, most: float = 200.0) -> float:
    """PSNR of a mean squared error, peak value 1; `most` where there is hardly any error, NaN of NaN."""
    if squared_error == 0:
        return most
    return min(-10 * math.log10(squared_error), most)  # in this order NaN stays NaN
