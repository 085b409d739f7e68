# SPDX-License-Identifier: Apache-2.0
"""Measures a field on views it was not trained on, and says how it measured."""

import time
from typing import Any

import torch
from torch import Tensor

from neurfield.data.scene import Scene, is_known, uses_pixels
from neurfield.errors import UserError
from neurfield.metrics import METRICS, Metric, psnr
from neurfield.progress import Progress, silent
from neurfield.rendering.color import over_background
from neurfield.rendering.outputs import depth_map
from neurfield.rendering.renderer import Renderer

# of metrics that some views have
PROTOCOLS_OF_SOME = {
    "ws_psnr": "psnr of panoramas, pixels weighed by their solid angle",
    "depth_abs_rel": "mean of |depth - known| / known over unmasked pixels that maps know; nothing seen is depth 0",
}


def evaluate(
    renderer: Renderer,
    scene: Scene,
    split: str,
    progress: Progress = silent,
) -> dict[str, Any]:
    """All metrics that this machine can measure, of every view of a split.

    Views of the training are drawn in their own look, others in the mean look. Pixels that a mask ignores are left out
    of pointwise metrics and count as right in the others; views of which a mask leaves nothing are left out.

    Args:
        progress: called with the finished part, 0 ... 1, also within a view; its time does not count as that of views.

    Returns:
        The metrics' means over views by name, `per_image`, `seconds_per_view`, `rays_per_second` and the `protocol`,
        which says how each metric was measured, or why not. Where there are panoramas, these have a `ws_psnr`, too,
        whose mean is over them: pixels count by their solid angle (Sun, Lu and Yu 2017). Where there are depth maps,
        these views have a `depth_abs_rel`: the mean of |depth - known| / known (Eigen et al. 2014) over the pixels that
        they know and no mask ignores, where depth is 0 if nothing is seen.

    Raises:
        UserError: the split has no views, or its masks leave no pixel; a view is too small.
    """
    masks = scene.masks or [None] * len(scene.images)
    views = [view for view in scene.views(split) if uses_pixels(masks[view])]
    if not views:
        raise UserError(f"{scene.name}: the masks leave no pixel of the {split} views; are they inverted?")
    reasons = {name: metric.why_not() for name, metric in METRICS.items()}
    measured = {name: metric for name, metric in METRICS.items() if reasons[name] is None}
    per_image: list[dict[str, Any]] = []
    seconds, n_rays, n_masked = 0.0, 0, 0

    def tell(part_of_view: float) -> None:
        nonlocal seconds
        pause = time.perf_counter()
        progress((len(per_image) + part_of_view) / len(views))
        seconds -= time.perf_counter() - pause

    for view in views:
        start = time.perf_counter()
        appearance = scene.views(split).index(view) if split == "train" else None
        depth = scene.depths[view] if scene.depths else None
        outputs = ("rgb",) if depth is None else ("rgb", "depth", "accumulation")
        rendered = renderer.render(scene.cameras[view], outputs, progress=tell, appearance=appearance)
        picture = rendered["rgb"].clamp(0, 1)
        seconds += time.perf_counter() - start
        n_rays += picture.shape[0] * picture.shape[1]
        target = over_background(scene.images[view], renderer.background)
        if target.shape != picture.shape:
            raise UserError(f"view {view}: the image is {list(target.shape)}, its camera {list(picture.shape)}")
        mask = masks[view]
        name = str(scene.paths[view] if scene.paths else view)
        n_masked += mask is not None
        values = _values(measured, picture, target, mask)
        if bool(scene.cameras.is_panorama[view]):
            share = scene.cameras.latitudes(view).cos()[:, None].expand(picture.shape[:2])
            values["ws_psnr"] = psnr(picture, target, share if mask is None else share * (mask > 0))
        if depth is not None:
            values |= _depth_values(depth_map(rendered, scene.cameras[view], "z").to(depth.device), depth, mask)
        per_image.append({"view": view, "file": name, **values})
    n = len(per_image)
    some = {name: [image[name] for image in per_image if name in image] for name in PROTOCOLS_OF_SOME}
    some = {name: values for name, values in some.items() if values}
    return {
        **{name: sum(image[name] for image in per_image) / n for name in measured},
        **{name: sum(values) / len(values) for name, values in some.items()},
        "per_image": per_image,
        "seconds_per_view": seconds / n,
        "rays_per_second": n_rays / max(seconds, 1e-9),
        "protocol": {
            "split": split,
            "n_views": n,
            "n_masked_views": n_masked,
            "rays_per_pixel": renderer.rays_per_pixel,
            "background": [float(v) for v in renderer.background],
            "color_space": "sRGB, 0 ... 1, predictions clamped",
            "mean": "of the views' values",
            **{
                name: METRICS[name].protocol if reason is None else f"none: {reason}"
                for name, reason in reasons.items()
            },
            **{name: PROTOCOLS_OF_SOME[name] for name in some},
        },
    }


def _values(metrics: dict[str, Metric], picture: Tensor, target: Tensor, mask: Tensor | None) -> dict[str, float]:
    """Each metric of a picture `[h, w, 3]`; mask uint8 `[h, w]`, 0 = ignore."""
    if mask is None:
        return {name: metric.measure(picture, target) for name, metric in metrics.items()}
    valid = mask > 0
    filled = torch.where(valid[..., None], picture, target)
    return {
        name: metric.measure(picture[valid][None], target[valid][None])
        if metric.is_pointwise
        else metric.measure(filled, target)
        for name, metric in metrics.items()
    }


def _depth_values(found: Tensor, depth: Tensor, mask: Tensor | None) -> dict[str, float]:
    """`depth_abs_rel` of depths `[h, w]`, if any pixel's is known and not masked; mask uint8 `[h, w]`, 0 = ignore."""
    known = is_known(depth) if mask is None else is_known(depth) & (mask > 0)
    error = ((found - depth).abs() / depth)[known]
    return {"depth_abs_rel": float(error.mean())} if len(error) else {}
