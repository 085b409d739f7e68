# SPDX-License-Identifier: Apache-2.0
"""Where photos show something that helps to find their cameras: inside their masks, and not behind transparency.

These masks are for the search alone: training learns that what is transparent is empty.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from neurfield.data.capture.photos import Photo
from neurfield.data.image_files import in_threads, read_header, read_mask, read_pixels

OPAQUE = 128  # of 255: what is more transparent shows colours of no meaning


def write_masks(photos: Sequence[Photo], images: Path, masks: Path, folder: Path) -> list[Photo]:
    """Writes `NAME.png`, black where nothing is to be looked for, into the new `folder`, where there is such a place.

    Args:
        photos: `has_mask` says which have one in `masks`.

    Returns:
        The photos; `has_mask` says which have one in `folder`.
    """
    folder.mkdir()

    def one(photo: Photo) -> Photo:
        name = f"{photo.name}.png"
        kept = _opaque(images / photo.name)
        if photo.has_mask:
            kept &= read_mask(masks / name, np.inf)
        if kept.all():
            return replace(photo, has_mask=False)
        Image.fromarray((kept * 255).astype(np.uint8)).save(folder / name)
        return replace(photo, has_mask=True)

    return in_threads(one, photos)


def _opaque(path: Path) -> np.ndarray:
    header = read_header(path, np.inf)
    if header.channels == 3:
        return np.ones((header.height, header.width), bool)
    return np.asarray(read_pixels(path, header)[:, :, 3] >= OPAQUE)
