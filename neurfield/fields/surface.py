# SPDX-License-Identifier: Apache-2.0
"""A radiance field around a surface: its density follows from a signed distance (VolSDF, Yariv et al. 2021).

    h     = density_network(encoding(x))                      [n, n_geo_features]
    f     = scale h_0 + |x - middle of the box| - radius       distance to the surface, negative inside
    sigma = alpha Laplace(-f; beta)                            csrc/math/surface_density.h
    rgb   = color_network(h || direction_encoding(d))

beta, the thickness of the surface, is not learned: it shrinks exponentially while training. alpha, the density deep
inside, is 1/beta, but not so little that an object begins as a fog. Where something is behind the object, all that is
out of `reach` of the middle has the density e^h_0 of other fields. What makes f a distance is a loss on its values at
the corners v_k and the middle of small tetrahedra, whose circumradius is beta:

    eikonal   (|sum_k f(v_k) v_k| * 3 / (4 beta^2) - 1)^2      its slope is 1 (Gropp et al. 2020)
    curvature ((mean_k f(v_k) - f) / beta)^2                    which is (beta / 6 laplacian f)^2: bends count less and
                                                                less as beta shrinks
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from neurfield import ops
from neurfield.config import Range
from neurfield.errors import UserError
from neurfield.fields.conditions import Conditions
from neurfield.fields.outward import CORNERS, outward, slopes_of
from neurfield.fields.radiance_field import FieldConfig, RadianceField, parts_of
from neurfield.fields.radiance_module import density_of

_SHARP_FROM = 0.8  # share of the budget after which beta stays as it is

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SurfaceConfig(FieldConfig):
    """A FieldConfig whose density is that of a surface; lengths are in unit space.

    `radius` is that of the sphere that training begins with, `scale` what the network's output counts. `beta` falls
    from `beta_start` to `beta_end`; the density inside is 1/beta, at least `alpha`. In boxes of more than one unit cube
    the surface is within `reach` of the middle. `eikonal` and `curvature` weigh the two losses, at `n_shape_points`
    places a step.
    """

    otype: Literal["surface"] = "surface"  # type: ignore[assignment]
    radius: Annotated[float, Range(1e-3, 100)] = 0.25
    scale: Annotated[float, Range(1e-4, 100)] = 0.1
    reach: Annotated[float, Range(1e-2, 100)] = 0.5
    beta_start: Annotated[float, Range(1e-5, 1)] = 0.1
    beta_end: Annotated[float, Range(1e-5, 1)] = 0.001
    alpha: Annotated[float, Range(1e-3, 1e5)] = 50
    eikonal: Annotated[float, Range(0)] = 0.001
    curvature: Annotated[float, Range(0)] = 0.03
    n_shape_points: Annotated[int, Range(64, 1 << 14)] = 3072
    table_precision: Literal["fp16", "fp32"] = "fp32"
    network_precision: Literal["bf16", "fp32"] = "fp32"

    def __post_init__(self) -> None:
        if self.appearance_channels:
            raise UserError(
                "field.appearance_channels: a surface field has none; use the grid field for photos of many looks"
            )
        if self.beta_end > self.beta_start:
            raise UserError(f"field.beta_end: expected at most beta_start, {self.beta_start:g}, got {self.beta_end:g}")

    def build(self, aabb: Sequence[float], n_views: int = 1) -> "SurfaceField":
        """The field for the box `aabb`, with random initial parameters (torch's generator)."""
        return SurfaceField(self, aabb)


class SurfaceField(RadianceField):
    """Density and colour around a surface; see SurfaceConfig.

    Attributes:
        surface: beta, radius, scale, alpha and reach; float32 `[5]`, kept with the parameters. All of a box that is the
            unit cube, where nothing is behind the object, is within reach.
    """

    surface: Tensor

    def __init__(self, config: SurfaceConfig, aabb: Sequence[float]):
        super().__init__(**parts_of(config, aabb))
        self.config, self.extra_rows = config, 5 * config.n_shape_points
        reach = config.reach if aabb[3] - aabb[0] > 1 else 1.0
        self.register_buffer("surface", torch.tensor([0.0, config.radius, config.scale, 0.0, reach]))
        self.begin_step(0.0)

    @property
    def beta(self) -> Tensor:
        """Thickness of the surface in unit space, `[]`."""
        return self.surface[0]

    def begin_step(self, progress: float) -> None:
        """Sets beta, which falls exponentially, and alpha."""
        config, share = self.config, min(progress / _SHARP_FROM, 1.0)
        beta = config.beta_start * (config.beta_end / config.beta_start) ** share
        self.surface[0], self.surface[3] = beta, max(1 / beta, config.alpha)

    @property
    def middle(self) -> Tensor:
        """Of the box, in unit space, `[3]`."""
        return self.low + 0.5 / self.inverse_size

    @property
    def reach(self) -> float | None:
        """How far from the middle there is a surface, in unit space; None: everywhere in the box."""
        reach = self.surface[4].item()
        return reach if reach < math.sqrt(3) / 2 / float(self.inverse_size[0]) else None

    def distance(self, x: Tensor) -> Tensor:
        """Signed distance `[n]` of positions `[n, 3]` within reach, all in unit space; differentiable."""
        return self._distance(self.features(x), x)

    def density(self, x: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """See RadianceField; its gradient is that of the distance, scaled."""
        features = self.features(x)
        f = self._distance(features, x)
        alpha = self.surface[3]
        tail = torch.exp(-f.abs() / self.beta) * (0.5 * alpha)
        near = torch.where(f > 0, tail, alpha - tail)
        is_far = self._from_middle(x) > self.surface[4]
        return torch.where(is_far, ops.trunc_exp(features[:, 0]), near), features

    def outward(self, x: Tensor, reach: Tensor) -> Tensor:
        """Unit directions `[n, 3]` out of what is dense around positions `[n, 3]`.

        By the gradient of the distance, which is smooth; beyond its reach by differences over `reach` `[n]`, as of
        other fields.
        """
        near = x.detach().requires_grad_(True)
        with torch.enable_grad():
            (out,) = torch.autograd.grad(self.distance(near).sum(), near)
        far = (self._from_middle(x) > self.surface[4]).nonzero()[:, 0]
        out[far] = outward(density_of(self), x[far], reach[far])
        return torch.nn.functional.normalize(out, dim=1)

    def shape_points(self, x: Tensor) -> Tensor:
        """Where shape_loss wants distances for places `[n, 3]`: `[5 n, 3]`, four corners of each and the place."""
        corners = torch.tensor(CORNERS, device=x.device) * (self.beta / math.sqrt(3))
        return torch.cat([(x + corners[:, None]).flatten(0, 1), x])

    def shape_loss(self, points: Tensor, encode: Encode | None = None) -> Tensor:
        """What is wrong with the distances as distances, weighted, `[]`.

        Args:
            points: of shape_points.
            encode: positions in the unit cube to features; None: the encoding.
        """
        f = self._distance(self.features(points, encode), points).view(5, -1)
        eikonal = (slopes_of(f[:4], self.beta / math.sqrt(3)).norm(dim=1) - 1).square().mean()
        bend = ((f[:4].mean(dim=0) - f[4]) / self.beta).square().mean()
        return self.config.eikonal * eikonal + self.config.curvature * bend

    def _distance(self, features: Tensor, x: Tensor) -> Tensor:
        return self.surface[2] * features[:, 0] + self._from_middle(x) - self.surface[1]

    def _from_middle(self, x: Tensor) -> Tensor:
        return (x - self.middle).norm(dim=1)
