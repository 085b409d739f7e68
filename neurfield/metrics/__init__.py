# SPDX-License-Identifier: Apache-2.0
"""Image metrics: functions of one image and its target, float `[height, width, 3]`, sRGB values in [0, 1].

A data set's figure is the mean over its images, never the metric of the mean error.
"""

from collections.abc import Callable

from torch import Tensor

from neurfield.metrics.lpips import lpips
from neurfield.metrics.psnr import psnr
from neurfield.metrics.ssim import ssim

__all__ = ["METRICS", "lpips", "psnr", "ssim"]

METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {"psnr": psnr, "ssim": ssim, "lpips": lpips}
