# SPDX-License-Identifier: Apache-2.0
"""The world of photos: upright, around what they show, and as large as they tell; a model's own has arbitrary axes."""

import numpy as np

from neurfield.cameras.poses import Array, focus, up_of_views

# Axes of views that spread by less than about 3 degrees do not meet anywhere.
_MIN_CONVERGENCE = 0.003


def similarity(c2w: Array) -> Array:
    """The similarity `[3, 4]` from the world of the poses `c2w [n, 3, 4]` (OpenGL axes), n >= 1, to one that stands.

    Up is +z (`poses.up_of_views`), and the right hand of the first view +x: it looks along +y. The origin is the point
    nearest to all view axes, or, where they do not meet in front of most views, the views' mean position. The unit is
    the median distance of the views from the origin.
    """
    seen = focus(c2w, np.zeros(len(c2w), dtype=bool))
    meet = seen.convergence > _MIN_CONVERGENCE and seen.in_front > 0.5
    center = seen.point if meet else c2w[:, :, 3].mean(axis=0)
    z = up_of_views(c2w)
    hands = c2w[0, :, :2] - np.outer(z, z @ c2w[0, :, :2])  # its right hand and its up, made level
    x = hands[:, np.linalg.norm(hands, axis=0).argmax()]  # its up, where its right hand points to the sky
    x = x / np.linalg.norm(x)
    distance = float(np.median(np.linalg.norm(c2w[:, :, 3] - center, axis=1)))
    turned = np.stack([x, np.cross(z, x), z]) / (distance or 1.0)
    return np.concatenate([turned, -(turned @ center)[:, None]], axis=1)
