# SPDX-License-Identifier: Apache-2.0
"""What a rendered view is turned into for a file or an eye: z-depth, and pictures of depth, normals and opacity."""

import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.registry import lookup
from neurfield.rendering.color import to_bytes
from neurfield.rendering.renderer import image_rays

DEPTH_KINDS = {"z": "z-depth, along the optical axis", "ray": "distance from the camera, along the ray"}
SOLID = 0.5  # opacity from which the depth of a pixel means something

# sRGB from the nearest to the farthest depth, evenly spaced
COLOR_MAPS = {
    "warm": [[255, 246, 202], [253, 200, 92], [238, 122, 63], [187, 52, 89], [112, 28, 106], [40, 20, 76], [8, 8, 24]],
    "cool": [[240, 249, 232], [186, 228, 188], [123, 204, 196], [67, 162, 202], [8, 104, 172], [6, 48, 96]],
    "grey": [[255, 255, 255], [0, 0, 0]],
}


def depth_kind_of(cameras: Cameras, kind: str) -> str:
    """The key of DEPTH_KINDS that views get where `kind` is asked for: panoramas have no depth along an axis."""
    return "ray" if bool(cameras.is_panorama.any()) else kind


def depth_per_length(camera: Cameras, directions: Tensor, kind: str = "z") -> Tensor:
    """`[n]` what the length of a ray of `camera`, a batch of one, is multiplied by to be a depth of this kind.

    Args:
        directions: `[n, 3]` of unit length, on the device of the camera.
        kind: key of DEPTH_KINDS; panoramas always have "ray".
    """
    if kind == "ray":
        return torch.ones_like(directions[:, 0])
    return camera.depth_per_length(directions.new_zeros(1, dtype=torch.int64), directions[None])[0]


def depth_map(result: dict[str, Tensor], camera: Cameras, kind: str) -> Tensor:
    """Depth `[h, w]` in world units, 0 where the opacity is below SOLID.

    Args:
        result: a rendered view with `depth` (along the ray) and `accumulation`.
        camera: the view, a batch of one.
        kind: key of DEPTH_KINDS; panoramas always have "ray".
    """
    depth = torch.where(result["accumulation"] >= SOLID, result["depth"], 0.0)
    camera = camera.to(depth.device)
    _, directions = image_rays(camera, 0, depth.shape[0])
    return depth * depth_per_length(camera, directions, kind).view(depth.shape)


def depth_range(depth: Tensor) -> tuple[float, float]:
    """Nearest and farthest depth worth a colour: the 1st and 99th percentile of what is there."""
    there = depth[depth > 0]
    if there.numel() == 0:
        return 0.0, 1.0
    ordered = there.sort().values
    last = ordered.numel() - 1
    near, far = float(ordered[last // 100]), float(ordered[last - last // 100])
    return near, max(far, near * 1.001)


def colored(value: Tensor, near: float, far: float, colors: str = "warm") -> Tensor:
    """sRGB `[..., 3]` in 0 ... 1 of numbers: the first colour at `near`, the last at `far`.

    Args:
        colors: key of COLOR_MAPS.
    """
    table = torch.tensor(lookup(COLOR_MAPS, colors, "colour map"), device=value.device) / 255
    place = ((value - near) / (far - near)).clamp(0, 1) * (len(table) - 1)
    low = place.long().clamp_max(len(table) - 2)
    return torch.lerp(table[low], table[low + 1], (place - low)[..., None])


def picture(name: str, value: Tensor, near: float = 0.0, far: float = 1.0, colors: str = "warm") -> Tensor:
    """uint8 `[h, w, 3]` of an output, to be looked at.

    Args:
        name: key of renderer.OUTPUTS.
        value: the output, of the shape that renderer.OUTPUTS says.
        near, far: depths of the first and the last colour.
        colors: of depth, a key of COLOR_MAPS.
    """
    if name == "depth":
        value = torch.where((value > 0)[..., None], colored(value, near, far, colors), 1.0)
    elif name == "samples":
        value = colored(value, max(float(value.max()), 1.0), 0.0)  # many samples are light
    elif name == "normal":
        value = value / 2 + 0.5
    elif name == "accumulation":
        value = value[..., None].expand(*value.shape, 3)
    return to_bytes(value)
