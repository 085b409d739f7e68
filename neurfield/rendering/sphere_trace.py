# SPDX-License-Identifier: Apache-2.0
"""Pictures of a signed distance field by sphere tracing (Hart 1996): every step is as long as the distance allows."""

import math

import torch
from torch import Tensor, nn

MAX_STEPS = 128
CAUTION = 0.9  # part of the distance that is gone: a learned one may be too long
NEAR_ENOUGH = 5e-4  # units of the cube
NORMAL_REACH = 2e-3
TILE = 1 << 17  # rays at once
BACKGROUND = 1.0
AMBIENT = 0.25


def trace(field: nn.Module, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays first meet the surface inside of the unit cube.

    Args:
        field: positions `[n, 3]` in 0 ... 1 to distances `[n, 1]`.
        origins, directions: `[n, 3]`, directions of length 1.

    Returns:
        Positions `[n, 3]` and whether there is a hit, bool `[n]`.
    """
    inverse = 1 / torch.where(directions == 0, 1e-12, directions)
    a, b = -origins * inverse, (1 - origins) * inverse
    t = torch.minimum(a, b).amax(dim=1).clamp_min(0)
    t_end = torch.maximum(a, b).amin(dim=1)
    hit = torch.zeros(len(t), dtype=torch.bool)
    active = torch.nonzero(t < t_end).squeeze(1)
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        x = (origins[active] + t[active, None] * directions[active]).clamp(0, 1)
        distance = field(x)[:, 0]
        is_near = distance < NEAR_ENOUGH
        hit[active[is_near]] = True
        t[active[is_near]] += distance[is_near]  # back out where the last step went too far
        going, distance = active[~is_near], distance[~is_near]
        t[going] += CAUTION * distance
        active = going[t[going] < t_end[going]]
    return (origins + t[:, None] * directions).clamp(0, 1), hit


def picture(field: nn.Module, width: int, height: int, azimuth: float, elevation: float) -> Tensor:
    """`[height, width, 3]` uint8 sRGB of the unit cube's middle, seen from `azimuth` and `elevation` degrees.

    Elevations are -90 ... 90. +y is up, as meshes of single objects have it; the surface is grey and lit from above the
    camera.
    """
    origin, right, up, back = _camera(azimuth, elevation)
    tan_half = 0.5 * 1.25 / 2.2  # a cube of side 1.25 fills the shorter side at a distance of 2.2
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    unit = 2 * tan_half / min(width, height)
    plane = torch.stack([(x - width / 2) * unit, (height / 2 - y) * unit], dim=-1).view(-1, 2)
    directions = nn.functional.normalize(plane[:, :1] * right + plane[:, 1:] * up - back, dim=1)
    light = nn.functional.normalize(0.4 * right + 0.6 * up + 0.7 * back, dim=0)
    shades = []
    for part in directions.split(TILE):
        with torch.no_grad():
            positions, hit = trace(field, origin.expand_as(part), part)
        shade = torch.full((len(part),), BACKGROUND)
        if bool(hit.any()):
            lit = (_normals(field, positions[hit]) * light).sum(dim=1).clamp_min(0)
            shade[hit] = AMBIENT + (0.9 - AMBIENT) * lit
        shades.append(shade)
    grey = (torch.cat(shades) * 255 + 0.5).to(torch.uint8).view(height, width, 1)
    return grey.expand(height, width, 3).contiguous()


@torch.no_grad()
def _normals(field: nn.Module, x: Tensor) -> Tensor:
    """Unit gradients by differences at the corners of a tetrahedron: the derivative itself is that of the finest cells,
    which learn values and no slopes."""
    gradient = torch.zeros_like(x)
    for corner in ((1.0, -1, -1), (-1, -1, 1.0), (-1, 1.0, -1), (1.0, 1, 1)):
        offset = torch.tensor(corner)
        gradient += field((x + NORMAL_REACH * offset).clamp(0, 1)) * offset
    return nn.functional.normalize(gradient, dim=1)


def _camera(azimuth: float, elevation: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Origin and the camera's axes."""
    a, e = math.radians(azimuth), math.radians(elevation)
    back = torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    right = torch.tensor([math.cos(a), 0.0, -math.sin(a)])  # +y x back, also where they are parallel
    return 0.5 + 2.2 * back, right, torch.linalg.cross(back, right), back
