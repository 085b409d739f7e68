# SPDX-License-Identifier: Apache-2.0
"""Worlds that lie far from their origin, as metres of a national grid do, are moved near to it.

Cameras and most files of results hold float32, whose seven digits are half a metre at five million: poses would be
rounded by more than a field resolves. `Normalization.origin` says where the origin of the moved world lies in the
frame of the input.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neurfield.data.views import Manifest

# Sides of the unit cube. float32 rounds by 2^-24 of it, a hundredth of a pixel where the cube has 1600.
MAX_DISTANCE = 100.0


def nearby(scale: float, offset: Sequence[float]) -> tuple[float, float, float]:
    """Round numbers near the unit cube x_unit = scale * x + offset, in the frame of x; 0 where its origin is near."""
    if np.abs(offset).max() <= MAX_DISTANCE:
        return (0.0, 0.0, 0.0)
    step = 10.0 ** np.ceil(-np.log10(scale))  # of one to ten sides of the cube
    x, y, z = (step * np.rint((0.5 - np.array(offset)) / scale / step) + 0.0).tolist()  # and not -0
    return (x, y, z)


def near_origin(manifest: Manifest) -> Manifest:
    """The data set as it is, or, if its unit cube is far from the origin, with the world moved by round numbers."""
    norm = manifest.normalization
    origin = nearby(norm.scale, norm.offset)
    if not any(origin):
        return manifest
    a, b, c = (norm.offset + norm.scale * np.array(origin)).tolist()
    moved = replace(norm, offset=(a, b, c), origin=origin)
    far = np.concatenate([np.zeros((3, 3)), np.array(origin)[:, None]], axis=1)
    return replace(
        manifest,
        views=[replace(view, c2w=view.c2w - far) for view in manifest.views],
        normalization=moved,
        notes=[*manifest.notes, f"too far from the origin for float32, so results are in a {moved.world}"],
    )
