# SPDX-License-Identifier: Apache-2.0
"""Photos out of a video: of each of its equal parts the sharpest picture, upright, as a JPEG."""

from pathlib import Path

import numpy as np

from neurfield.data.capture.photos import Photo, write_jpeg
from neurfield.data.signals.video import count, frames, stream_of, upright
from neurfield.errors import UserError
from neurfield.progress import Progress


def take(path: Path, images: Path, n_wanted: int, max_megapixels: float, progress: Progress) -> list[Photo]:
    """Writes `n_wanted` pictures of a video, or all if it has fewer, into `images`, named by their place in it.

    Raises:
        UserError: broken, without pictures, or with pictures beyond `max_megapixels`.
    """
    photos: list[Photo] = []
    n_pictures = count(path, max_megapixels)
    n_parts = min(n_wanted, n_pictures)
    best: tuple[float, int, np.ndarray] | None = None
    part = 0
    with stream_of(path, max_megapixels) as (container, stream):
        for number, frame in enumerate(frames(path, container, stream, max_megapixels)):
            if number * n_parts // n_pictures > part and best is not None:
                photos.append(_keep(best, images))
                best, part = None, number * n_parts // n_pictures
            sharpness = _sharpness(frame.to_ndarray(format="gray"))
            if best is None or sharpness > best[0]:
                best = sharpness, number, upright(frame)
            progress((number + 1) / max(n_pictures, number + 1))
    if best is not None:
        photos.append(_keep(best, images))
    if not photos:
        raise UserError(f"{path}: there are no pictures in it")
    return photos


def _sharpness(grey: np.ndarray) -> float:
    """Mean square of the differences of neighbours: larger, the less blurred one of two pictures of the same is."""
    across, down = np.diff(grey.astype(np.float32), axis=1), np.diff(grey.astype(np.float32), axis=0)
    return float(np.mean(across * across) + np.mean(down * down))


def _keep(best: tuple[float, int, np.ndarray], images: Path) -> Photo:
    _, number, picture = best
    name = f"frame_{number + 1:05d}.jpg"
    write_jpeg(picture, images / name)
    return Photo(name, (picture.shape[1], picture.shape[0]))
