# SPDX-License-Identifier: Apache-2.0
"""Measures a field on views it was not trained on, and says how it measured."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neurfield import metrics
from neurfield.data.scene import Scene, uses_pixels
from neurfield.errors import UserError
from neurfield.rendering.color import over_background
from neurfield.rendering.renderer import Renderer


def evaluate(
    renderer: Renderer,
    scene: Scene,
    split: str,
    on_view: Callable[[int, int, Tensor], None] | None = None,
) -> dict[str, Any]:
    """PSNR and SSIM of every view of a split; pixels that a mask ignores are left out, views without others too.

    Args:
        on_view: called with number done, number of views and the picture after each view.

    Returns:
        `psnr` and `ssim` (means over views), `per_image`, `seconds_per_view`, `rays_per_second` and the `protocol`.

    Raises:
        UserError: the split has no views, or its masks leave no pixel.
    """
    masks = scene.masks or [None] * len(scene.images)
    views = [view for view in scene.views(split) if uses_pixels(masks[view])]
    if not views:
        raise UserError(f"{scene.name}: the masks leave no pixel of the {split} views; are they inverted?")
    psnrs, ssims, per_image = [], [], []
    seconds, n_rays = 0.0, 0
    for number, view in enumerate(views):
        start = time.perf_counter()
        picture = renderer.render(scene.cameras[view])["rgb"].clamp(0, 1)
        seconds += time.perf_counter() - start
        n_rays += picture.shape[0] * picture.shape[1]
        target = over_background(scene.images[view], renderer.background)
        if target.shape != picture.shape:
            raise UserError(f"view {view}: the image is {list(target.shape)}, its camera {list(picture.shape)}")
        mask = masks[view]
        used = torch.ones(target.shape[:2], dtype=torch.bool) if mask is None else mask > 0
        psnrs.append(metrics.psnr(picture[used][None], target[used][None]))
        picture = torch.where(used[..., None], picture, target)  # a window of SSIM needs all of its pixels
        ssims.append(metrics.ssim(picture, target))
        name = scene.paths[view] if scene.paths else str(view)
        per_image.append({"view": view, "file": str(name), "psnr": psnrs[-1], "ssim": ssims[-1]})
        if on_view:
            on_view(number + 1, len(views), picture)
    n = len(per_image)
    return {
        "psnr": sum(psnrs) / n,
        "ssim": sum(ssims) / n,
        "per_image": per_image,
        "seconds_per_view": seconds / n,
        "rays_per_second": n_rays / max(seconds, 1e-9),
        "protocol": {
            "split": split,
            "n_views": n,
            "background": [float(v) for v in renderer.background],
            "color_space": "sRGB, 0 ... 1, predictions clamped",
            "mean": "of the views' values",
            "ssim": "Gaussian window 11, sigma 1.5",
            "masked_views": sum(masks[view] is not None for view in views),
            "masks": "PSNR of the pixels kept; in SSIM pixels that are ignored count as right",
        },
    }
