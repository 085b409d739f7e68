# SPDX-License-Identifier: Apache-2.0
"""Pictures of a signed distance field by sphere tracing (Hart 1996): every step is as long as the distance allows.

A field is a callable on positions `[n, 3]` in 0 ... 1 that gives distances `[n, 1]`, negative inside.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurfield.fields.outward import slopes
from neurfield.rendering.color import to_bytes

Distance = Callable[[Tensor], Tensor]

MAX_STEPS = 128
CAUTION = 0.9  # part of the distance that is gone: a learned one may be too long
NEAR_ENOUGH = 5e-4  # units of the cube
NORMAL_REACH = 2e-3
TILE = 1 << 17  # rays at once
BACKGROUND = 1.0
EDGE = 0.1  # contrast of a pixel with its neighbours from which it is drawn with four rays
AMBIENT = 0.25


class Hits(NamedTuple):
    """Where rays first meet the surface.

    Attributes:
        positions: `[n, 3]`, where the ray ended if it met nothing.
        is_hit: bool `[n]`.
        lengths: `[n]`, of the rays as far as these positions.
        n_steps: float32 `[n]`, evaluations of the field.
    """

    positions: Tensor
    is_hit: Tensor
    lengths: Tensor
    n_steps: Tensor


@torch.no_grad()
def trace(field: Distance, origins: Tensor, directions: Tensor, max_steps: int = MAX_STEPS) -> Hits:
    """Follows rays through the unit cube to the surface.

    Args:
        field: see above.
        origins, directions: `[n, 3]`, directions of length 1.
        max_steps: rays that are longer on their way meet nothing.
    """
    inverse = 1 / torch.where(directions == 0, 1e-12, directions)
    a, b = -origins * inverse, (1 - origins) * inverse
    t = torch.minimum(a, b).amax(dim=1).clamp_min(0)
    t_end = torch.maximum(a, b).amin(dim=1)
    hit = torch.zeros(len(t), dtype=torch.bool)
    n_steps = torch.zeros(len(t))
    active = torch.nonzero(t < t_end).squeeze(1)
    for _ in range(max_steps):
        if not len(active):
            break
        x = (origins[active] + t[active, None] * directions[active]).clamp(0, 1)
        distance = field(x)[:, 0]
        n_steps[active] += 1
        is_near = distance < NEAR_ENOUGH
        hit[active[is_near]] = True
        t[active[is_near]] += distance[is_near]  # back out where the last step went too far
        going, distance = active[~is_near], distance[~is_near]
        t[going] += CAUTION * distance
        active = going[t[going] < t_end[going]]
    return Hits((origins + t[:, None] * directions).clamp(0, 1), hit, t, n_steps)


def picture(field: Distance, width: int, height: int, azimuth: float, elevation: float) -> Tensor:
    """`[height, width, 3]` uint8 sRGB of the unit cube's middle, seen from `azimuth` and `elevation` degrees.

    Elevations are -90 ... 90. +y is up, as meshes of single objects have it; the surface is grey and lit from above the
    camera. A pixel is one ray through its middle, and at edges the mean of four.
    """
    origin, right, up, back = _camera(azimuth, elevation)
    tan_half = 0.5 * 1.25 / 2.2  # a cube of side 1.25 fills the shorter side at a distance of 2.2
    unit = 2 * tan_half / min(width, height)

    def shades(y: Tensor, x: Tensor) -> Tensor:
        """Of rays through places of the picture, in pixels."""
        plane = torch.stack([(x - width / 2) * unit, (height / 2 - y) * unit], dim=1)
        directions = nn.functional.normalize(plane[:, :1] * right + plane[:, 1:] * up - back, dim=1)
        found = []
        for part in directions.split(TILE):
            hits = trace(field, origin.expand_as(part), part)
            shade = torch.full((len(part),), BACKGROUND)
            if bool(hits.is_hit.any()):
                shade[hits.is_hit] = shades_of(normals(field, hits.positions[hits.is_hit]), right, up, back)
            found.append(shade)
        return torch.cat(found)

    y, x = (part.flatten() for part in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    grey = shades(y + 0.5, x + 0.5).view(height, width)
    at_edge = _contrast(grey) > EDGE
    if bool(at_edge.any()):
        y, x = at_edge.nonzero(as_tuple=True)
        corners = [shades(y + 0.25 + 0.5 * (k // 2), x + 0.25 + 0.5 * (k % 2)) for k in range(4)]
        grey[at_edge] = torch.stack(corners).mean(0)
    return to_bytes(grey)[:, :, None].expand(height, width, 3).contiguous()


def _contrast(grey: Tensor) -> Tensor:
    """Largest less smallest value of each pixel `[h, w]` and its neighbours."""

    def largest(values: Tensor) -> Tensor:
        return nn.functional.max_pool2d(values[None, None], 3, stride=1, padding=1)[0, 0]

    return largest(grey) + largest(-grey)


@torch.no_grad()
def normals(field: Distance, x: Tensor) -> Tensor:
    """Unit gradients `[n, 3]` at positions `[n, 3]`, by differences at the corners of a tetrahedron.

    The derivative itself is that of the finest cells, which learn values and no slopes.
    """
    return nn.functional.normalize(slopes(lambda places: field(places.clamp(0, 1)), x, NORMAL_REACH), dim=1)


def shades_of(normal: Tensor, right: Tensor, up: Tensor, back: Tensor) -> Tensor:
    """Grey `[n]` of normals `[n, 3]`, lit from above a camera with the axes `right`, `up` and `back`."""
    light = nn.functional.normalize(0.4 * right + 0.6 * up + 0.7 * back, dim=0)
    return AMBIENT + (0.9 - AMBIENT) * (normal @ light).clamp_min(0)


def _camera(azimuth: float, elevation: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Origin and the camera's axes."""
    a, e = math.radians(azimuth), math.radians(elevation)
    back = torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    right = torch.tensor([math.cos(a), 0.0, -math.sin(a)])  # +y x back, also where they are parallel
    return 0.5 + 2.2 * back, right, torch.linalg.cross(back, right), back
