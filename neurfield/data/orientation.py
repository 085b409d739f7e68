# SPDX-License-Identifier: Apache-2.0
"""How pictures are stored, by the orientation in EXIF and TIFF, 1 ... 8; 1 is upright."""

from types import MappingProxyType

import numpy as np

# What turns an upright picture back into the stored one.
BACK = MappingProxyType({6: 8, 8: 6})


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels `[height, width, ...]` upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
