# SPDX-License-Identifier: Apache-2.0
"""What a rendered view is turned into for a file or an eye: z-depth, and pictures of depth, normals and opacity."""

import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.rendering.renderer import image_rays

DEPTH_KINDS = {"z": "z-depth, along the optical axis", "ray": "distance from the camera, along the ray"}
SOLID = 0.5  # opacity from which the depth of a pixel means something

# sRGB of the nearest to the farthest depth
_DEPTH_COLORS = torch.tensor(
    [[255, 246, 202], [253, 200, 92], [238, 122, 63], [187, 52, 89], [112, 28, 106], [40, 20, 76], [8, 8, 24]]
) / 255  # fmt: skip


def depth_map(result: dict[str, Tensor], camera: Cameras, kind: str) -> Tensor:
    """Depth `[h, w]` in world units, 0 where the opacity is below SOLID.

    Args:
        result: a rendered view with `depth` (along the ray) and `accumulation`.
        camera: the view, a batch of one.
        kind: key of DEPTH_KINDS.
    """
    depth = torch.where(result["accumulation"] >= SOLID, result["depth"], 0.0)
    if kind == "ray":
        return depth
    _, directions = image_rays(camera, 0, depth.shape[0])
    forward = -camera.c2w[0, :, 2]
    return depth * (directions @ forward).view(depth.shape)


def depth_range(depth: Tensor) -> tuple[float, float]:
    """Nearest and farthest depth worth a colour: the 1st and 99th percentile of what is there."""
    there = depth[depth > 0]
    if there.numel() == 0:
        return 0.0, 1.0
    ordered = there.sort().values
    last = ordered.numel() - 1
    near, far = float(ordered[last // 100]), float(ordered[last - last // 100])
    return near, max(far, near * 1.001)


def picture(name: str, value: Tensor, near: float = 0.0, far: float = 1.0) -> Tensor:
    """uint8 `[h, w, 3]` of an output, to be looked at.

    Args:
        name: key of renderer.OUTPUTS.
        value: the output: colour `[h, w, 3]`, depth `[h, w]`, normal `[h, w, 3]` or opacity `[h, w]`.
        near, far: depths of the first and the last colour.
    """
    if name == "depth":
        place = ((value - near) / (far - near)).clamp(0, 1) * (len(_DEPTH_COLORS) - 1)
        low = place.long().clamp_max(len(_DEPTH_COLORS) - 2)
        color = torch.lerp(_DEPTH_COLORS[low], _DEPTH_COLORS[low + 1], (place - low)[..., None])
        value = torch.where((value > 0)[..., None], color, 1.0)
    elif name == "normal":
        value = value / 2 + 0.5
    elif name == "accumulation":
        value = value[..., None].expand(*value.shape, 3)
    return (value.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
