# SPDX-License-Identifier: Apache-2.0
"""Ray-box intersection (csrc/math/aabb.h)."""

from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native
from neurfield.ops._operator import operator


def ray_aabb(origins: Tensor, directions: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    """Where each ray's line enters and leaves an axis-aligned box.

    Args:
        origins: float32 or float64 `[n, 3]`.
        directions: `[n, 3]`, same dtype, any length; distances are in units of it. Zero components are exact: the axis
            does not bound the ray when the origin lies in the slab (border included), else the ray misses.
        aabb: `[6]` min x, y, z, max x, y, z, same dtype.

    Returns:
        `t_near [n]`, `t_far [n]`: of the infinite line, so `t_near < 0` for an origin inside. A ray that misses has
        `t_near = inf > t_far = -inf`. Not differentiable.

    Raises:
        TypeError, ValueError: wrong dtype or shape.
    """
    check_tensor("ray_aabb", "origins", origins, ("n", 3))
    check_tensor("ray_aabb", "directions", directions, (origins.shape[0], 3), (origins.dtype,), origins.device)
    check_tensor("ray_aabb", "aabb", aabb, (6,), (origins.dtype,), origins.device)
    return _forward(origins, directions, aabb)


@operator("ray_aabb", devices=DEVICES)
def _forward(origins: Tensor, directions: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    lib = native(origins)
    t_near, t_far = origins.new_empty(origins.shape[0]), origins.new_empty(origins.shape[0])
    lib.ray_aabb(origins.contiguous(), directions.contiguous(), aabb.contiguous(), t_near, t_far)
    return t_near, t_far


@_forward.register_fake
def _(origins: Tensor, directions: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    return origins.new_empty(origins.shape[0]), origins.new_empty(origins.shape[0])
