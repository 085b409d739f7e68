# SPDX-License-Identifier: Apache-2.0
"""Pixels out of Pillow's pictures, a few rows at a time; and how much its PNG files are packed.

Pillow hands pixels out as bytes, in pieces that it joins: for a whole photo at once that takes as long as decoding its
JPEG, and twice its memory.
"""

import numpy as np
from PIL import Image

PNG_LEVEL = 4  # of zlib: files as small as of Pillow's 6, in a third of the time
_STRIP = 128  # rows


def colors_of(image: Image.Image, n_channels: int) -> np.ndarray:
    """`[height, width, n_channels]` uint8 of a picture of any mode, as RGB (3) or RGBA (4); it may be written to."""
    width, height = image.size
    mode = "RGBA" if n_channels == 4 else "RGB"
    image.load()
    pixels = np.empty((height, width, n_channels), np.uint8)
    for top in range(0, height, _STRIP):
        rows = image.crop((0, top, width, min(top + _STRIP, height)))
        pixels[top : top + _STRIP] = np.asarray(rows if rows.mode == mode else rows.convert(mode))
    return pixels
