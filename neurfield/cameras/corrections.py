# SPDX-License-Identifier: Apache-2.0
"""Small rigid corrections of camera poses: a turn about the camera's own centre, then a shift, in the world's axes.

A correction is `[6]`, rotation vector in radians and translation: a pose `[R | t]` becomes `[exp(turn) R | t + shift]`.
"""

import torch
from torch import Tensor


def rotations(turns: Tensor) -> Tensor:
    """Matrices `[n, 3, 3]` of rotation vectors `[n, 3]` (Rodrigues)."""
    square = turns.square().sum(dim=1)[:, None, None]
    is_small = square < 1e-6
    angle = torch.where(is_small, 1.0, square).sqrt()
    a = torch.where(is_small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(is_small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    x, y, z = turns.unbind(dim=1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    return torch.eye(3, dtype=turns.dtype, device=turns.device) + a * cross + b * (cross @ cross)


def corrected(c2w: Tensor, corrections: Tensor) -> Tensor:
    """Poses `[n, 3, 4]` with their corrections `[n, 6]`."""
    turned = rotations(corrections[:, :3]) @ c2w[:, :, :3]
    return torch.cat([turned, c2w[:, :, 3:] + corrections[:, 3:, None]], dim=2)


class CommonMotions:
    """What moves all cameras as one: turns, shifts and a scale of the whole, to first order.

    Photos do not tell where a scene and its cameras lie together, how they are turned and how large they are.

    Args:
        centers: `[n, 3]` of the cameras.
    """

    def __init__(self, centers: Tensor):
        arms = (centers - centers.mean(dim=0)).double()
        self._size = arms.square().sum(dim=1).mean().sqrt().clamp_min(1e-9)
        axes = torch.eye(3, dtype=arms.dtype, device=arms.device)
        arms = arms / self._size
        motions = arms.new_zeros(len(arms), 6, 7)
        motions[:, :3, :3] = axes
        motions[:, 3:, :3] = torch.linalg.cross(
            axes[None].expand(len(arms), 3, 3), arms[:, :, None].expand(-1, 3, 3), dim=1
        )
        motions[:, 3:, 3:6] = axes
        motions[:, 3:, 6] = arms
        basis, sizes, _ = torch.linalg.svd(motions.flatten(0, 1), full_matrices=False)
        self._basis = basis * (sizes > 1e-6 * sizes[0])  # cameras at one place cannot be scaled

    def without(self, corrections: Tensor) -> Tensor:
        """Corrections `[n, 6]` less the common motion nearest to them, so that the cameras, as a whole, stay."""
        units = torch.cat([self._size.new_ones(3), self._size.expand(3)])
        flat = (corrections / units).flatten()
        return (units * (flat - self._basis @ (self._basis.T @ flat)).view(-1, 6)).to(corrections.dtype)
