# SPDX-License-Identifier: Apache-2.0
"""Worlds that lie far from their origin, as metres of a national grid do, are moved near to it.

Cameras and most files of results hold float32, whose seven digits are half a metre at five million: poses would be
rounded by more than a field resolves. `Normalization.origin` says where the origin of the moved world lies in the
frame of the input.
"""

from dataclasses import replace

import numpy as np

from neurfield.data.scene import Normalization
from neurfield.data.views import Manifest

# Sides of the unit cube. float32 rounds by 2^-24 of it, a hundredth of a pixel where the cube has 1600.
MAX_DISTANCE = 100.0


def nearby(norm: Normalization) -> Normalization:
    """The map as it is, or, if its unit cube is far from the origin, of a world that is moved by round numbers."""
    offset = np.array(norm.offset)
    if np.abs(offset).max() <= MAX_DISTANCE:
        return norm
    step = 10.0 ** np.ceil(-np.log10(norm.scale))  # of one to ten sides of the cube
    origin = step * np.rint((0.5 - offset) / norm.scale / step) + 0.0  # and not -0
    a, b, c = (offset + norm.scale * origin).tolist()
    x, y, z = origin.tolist()
    return replace(norm, offset=(a, b, c), origin=(x, y, z))


def near_origin(manifest: Manifest) -> Manifest:
    """The data set in the world that its map is of, see `nearby`."""
    moved = nearby(manifest.normalization)
    if moved is manifest.normalization:
        return manifest
    far = np.concatenate([np.zeros((3, 3)), np.array(moved.origin)[:, None]], axis=1)
    return replace(
        manifest,
        views=[replace(view, c2w=view.c2w - far) for view in manifest.views],
        normalization=moved,
        notes=[*manifest.notes, f"too far from the origin for float32, so results are in a {moved.world}"],
    )
