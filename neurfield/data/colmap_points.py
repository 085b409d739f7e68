# SPDX-License-Identifier: Apache-2.0
"""The cloud of points of a sparse model of COLMAP: `points3D.bin` or `.txt`."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from neurfield.data.colmap import file_of, lines, numbers, opened
from neurfield.errors import UserError

MAX_POINTS = 1 << 22  # of a file from anywhere
_OBSERVATION = 8  # bytes, of a photo and its feature


@dataclass(frozen=True)
class PointCloud:
    """`positions [n, 3]` float32, `colors [n, 3]` uint8."""

    positions: np.ndarray
    colors: np.ndarray


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
    points = islice(_binary(file) if file.suffix == ".bin" else _text(file), MAX_POINTS)
    values = np.fromiter(chain.from_iterable(points), np.float64).reshape(-1, 6)
    values = values[np.isfinite(values).all(axis=1)]
    return PointCloud((values[:, :3] - origin).astype(np.float32), np.clip(values[:, 3:], 0, 255).astype(np.uint8))


def _binary(file: Path) -> Iterator[tuple[float, ...]]:
    with opened(file) as data:
        for _ in range(data.take("<Q")[0]):
            _, *point, _error, n_observations = data.take("<Q3d3BdQ")
            data.skip(_OBSERVATION * n_observations)
            yield tuple(point)


def _text(file: Path) -> Iterator[tuple[float, ...]]:
    for where, line in lines(file):
        words = line.split()
        if len(words) >= 7:
            yield tuple(numbers(where, words[1:7]))
        elif words:
            raise UserError(f"{where}: expected POINT3D_ID X Y Z R G B, got {' '.join(words)[:80]!r}")
