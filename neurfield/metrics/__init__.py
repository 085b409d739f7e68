# SPDX-License-Identifier: Apache-2.0
"""Image metrics: functions of one image and its target, float `[height, width, 3]`, sRGB values in [0, 1].

A data set's figure is the mean over its images, never the metric of the mean error.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from neurfield.metrics.lpips import lpips, why_no_lpips
from neurfield.metrics.psnr import psnr
from neurfield.metrics.ssim import ssim

__all__ = ["METRICS", "Metric", "lpips", "psnr", "ssim"]


@dataclass(frozen=True)
class Metric:
    """Attributes:
    measure: the function of image and target.
    protocol: how it is computed, for whoever compares figures.
    is_pointwise: whether it is a mean over pixels, so that any set of pixels `[1, n, 3]` will do.
    why_not: why it cannot be measured on this machine, or None.
    """

    measure: Callable[[Tensor, Tensor], float]
    protocol: str
    is_pointwise: bool = False
    why_not: Callable[[], str | None] = lambda: None


METRICS: dict[str, Metric] = {
    "psnr": Metric(psnr, "peak 1", is_pointwise=True),
    "ssim": Metric(ssim, "Gaussian window 11, sigma 1.5"),
    "lpips": Metric(lpips, "VGG16, version 0.1", why_not=why_no_lpips),
}
