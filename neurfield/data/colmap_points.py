# SPDX-License-Identifier: Apache-2.0
"""The cloud of points of a sparse model of COLMAP, `points3D.bin` or `.txt`: where they are, and who sees them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from neurfield.data.colmap import file_of, image_names, lines, numbers, opened
from neurfield.data.seen_points import SeenPoints
from neurfield.errors import UserError

MAX_POINTS = 1 << 22  # of a file from anywhere
MAX_SEEN = 1 << 25
MAX_ERROR = 2.0  # pixels: points that COLMAP knows less exactly are not learned from
_OBSERVATION = 8  # bytes, of a photo and its feature


@dataclass(frozen=True)
class PointCloud:
    """`positions [n, 3]` float32, `colors [n, 3]` uint8."""

    positions: np.ndarray
    colors: np.ndarray


class _Point(NamedTuple):
    position: tuple[float, ...]
    color: tuple[float, ...]
    error: float  # of its projections, pixels; below 0: not known
    images: tuple[int, ...]  # that see it, by their numbers; where they are asked for


def read_points(model: Path, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> PointCloud | None:
    """The cloud in the folder of a model, of a larger one its first MAX_POINTS; None where it has none.

    Args:
        model: the folder.
        origin: of the positions, in the world of the model.

    Raises:
        UserError: a broken file.
    """
    file = file_of(model, "points3D")
    if file is None:
        return None
    values = np.fromiter(
        chain.from_iterable((*point.position, *point.color) for point in _points(file, with_images=False)), np.float64
    ).reshape(-1, 6)
    values = values[np.isfinite(values).all(axis=1)]
    return PointCloud((values[:, :3] - origin).astype(np.float32), np.clip(values[:, 3:], 0, 255).astype(np.uint8))


def read_seen(model: Path, views: Mapping[str, int], origin: tuple[float, float, float]) -> SeenPoints | None:
    """Which views see the points of a model; None where it has none, or no view sees any.

    Args:
        model: the folder.
        views: by the names of the photos below their folder; others are left out.
        origin: of the positions, in the world of the model.

    Raises:
        UserError: a broken file, or more than MAX_SEEN observations.
    """
    file = file_of(model, "points3D")
    if file is None:
        return None
    view_of = {number: views[name] for number, name in image_names(model).items() if name in views}
    positions: list[tuple[float, ...]] = []
    points: list[int] = []
    seen: list[int] = []
    for point in _points(file, with_images=True):
        who = {view_of[image] for image in point.images if image in view_of}  # a photo may see it twice
        if not who or point.error > MAX_ERROR or not np.isfinite(point.position).all():
            continue
        points += [len(positions)] * len(who)
        seen += sorted(who)
        positions.append(point.position)
        if len(seen) > MAX_SEEN:
            raise UserError(f"{file}: more than {MAX_SEEN} observations are too many for a data set")
    if not positions:
        return None
    near = (np.array(positions) - origin).astype(np.float32)
    return SeenPoints(torch.from_numpy(near), torch.tensor(points), torch.tensor(seen))


def _points(file: Path, with_images: bool) -> Iterator[_Point]:
    found = _binary(file, with_images) if file.suffix == ".bin" else _text(file)
    return islice(found, MAX_POINTS)


def _binary(file: Path, with_images: bool) -> Iterator[_Point]:
    with opened(file) as data:
        for _ in range(data.take("<Q")[0]):
            _, x, y, z, r, g, b, error, n_observations = data.take("<Q3d3BdQ")
            images: tuple[int, ...] = ()
            if with_images and n_observations <= MAX_SEEN:
                images = data.take(f"<{2 * n_observations}i")[::2]
            else:
                data.skip(_OBSERVATION * n_observations)
            yield _Point((x, y, z), (r, g, b), error, images)


def _text(file: Path) -> Iterator[_Point]:
    for where, line in lines(file):
        words = line.split()
        if len(words) >= 7:
            values = numbers(where, words[1:8])
            images = tuple(int(number) for number in numbers(where, words[8::2]))
            yield _Point(tuple(values[:3]), tuple(values[3:6]), values[6] if len(values) > 6 else -1.0, images)
        elif words:
            raise UserError(f"{where}: expected POINT3D_ID X Y Z R G B, got {' '.join(words)[:80]!r}")
