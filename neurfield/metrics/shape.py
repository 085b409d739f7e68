# SPDX-License-Identifier: Apache-2.0
"""Figures of shapes: overlap of their insides, distance of their surfaces."""

from torch import Tensor


def iou(inside: Tensor, target: Tensor) -> float:
    """Intersection over union of two sets of the same points, bool `[n]`; 1 when equal, also when both are empty.

    Raises:
        ValueError: shapes that differ.
    """
    if inside.shape != target.shape or inside.dim() != 1:
        raise ValueError(f"iou: expected two bool [n], got {list(inside.shape)} and {list(target.shape)}")
    union = int((inside | target).sum())
    return int((inside & target).sum()) / union if union else 1.0


def chamfer(to_target: Tensor, from_target: Tensor) -> float:
    """Chamfer distance: the mean of the two mean distances, of points on a surface to the other surface.

    Args:
        to_target, from_target: distances `[n]`, `[m]`; not squared.
    """
    return 0.5 * (float(to_target.double().mean()) + float(from_target.double().mean()))
