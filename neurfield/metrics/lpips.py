# SPDX-License-Identifier: Apache-2.0
"""Learned perceptual similarity (Zhang et al. 2018), by the package `lpips` and weights that the user installed."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurfield.errors import UserError
from neurfield.metrics._common import check_images

# features of the network on which the metric stands, under the name that torchvision stores them by
BACKBONE_WEIGHTS = "vgg16-397923af.pth"


def lpips(image: Tensor, target: Tensor) -> float:
    """Distance of one image in VGG features, 0 when equal.

    Args:
        image, target: float `[height, width, 3]` in [0, 1].

    Raises:
        UserError: the package or its weights are not installed; nothing is ever downloaded.
        ValueError: shapes that differ or are no image.
    """
    check_images("lpips", image, target)
    model = _model()
    # the network takes [1, 3, height, width] in [-1, 1]
    x, y = (2 * v.float().cpu().movedim(-1, 0)[None] - 1 for v in (image, target))
    with torch.no_grad():
        return float(model(x, y))


def why_no_lpips() -> str | None:
    """What has to be installed before LPIPS can be measured, or None."""
    try:
        import lpips as package  # noqa: F401
    except ImportError:
        return "the package is not installed; run: pip install lpips torchvision"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_WEIGHTS
    if not weights.is_file():
        return f"no weights at {weights}; put torchvision's VGG16 file there, it is not downloaded"
    return None


@cache
def _model() -> Any:
    reason = why_no_lpips()
    if reason:
        raise UserError(f"lpips: {reason}")
    import lpips as package

    return package.LPIPS(net="vgg", verbose=False).eval()
