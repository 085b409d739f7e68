# SPDX-License-Identifier: Apache-2.0
"""Signals on a regular grid: images, videos, volumes."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurfield.errors import UserError


@dataclass(frozen=True)
class GridInfo:
    """What is known of a grid without its values; kept in checkpoints.

    A field sees position k of an axis of n samples at (k + 1/2) / n, and the last axis as its first coordinate: x, y of
    an image, x, y, t of a video. It sees the stored value v as (v - low) / (high - low).

    Attributes:
        name: of the file, without suffix.
        suffix: of the file, with the point; says in which format a result is written by default.
        sizes: samples per axis: (height, width), (frames, height, width), or those of a volume's array.
        n_channels: values per sample; for images 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA (straight alpha).
        dtype: of the stored values: uint8, uint16, int16, float32, ...
        low, high: stored values that are 0 and 1 for the field.
        fps: pictures per second of a video.
        affine: 4 x 4 row-major, voxel indices to the space of a NIfTI volume.
        units, space: NIfTI's numbers for the units of that space (xyzt_units) and for which one it is (sform_code);
            equal data may lack them.
    """

    name: str
    suffix: str
    sizes: tuple[int, ...]
    n_channels: int
    dtype: str
    low: float
    high: float
    fps: float | None = None
    affine: tuple[float, ...] | None = None
    units: int = field(default=0, compare=False)
    space: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError (TypeError for a `dtype` that is none) for what no grid has, as a file may hold it."""
        check_suffix(self.suffix)
        if not self.sizes or min(*self.sizes, self.n_channels) < 1:
            raise ValueError(f"expected sizes and n_channels of at least 1, got {self.sizes} and {self.n_channels}")
        if np.dtype(self.dtype).kind not in "iuf":
            raise ValueError(f"expected a dtype of numbers, got {self.dtype!r}")
        if not (math.isfinite(self.high - self.low) and self.low < self.high):
            raise ValueError(f"expected low below high, got {self.low} and {self.high}")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"expected fps above 0, got {self.fps}")
        if self.affine is not None and len(self.affine) != 16:
            raise ValueError(f"expected an affine of 16 numbers, got {len(self.affine)}")
        if not (0 <= self.units < 1 << 8 and 0 <= self.space < 1 << 15):
            raise ValueError(f"expected units and space of a NIfTI file, got {self.units} and {self.space}")

    @property
    def n_samples(self) -> int:
        return math.prod(self.sizes)

    @property
    def extent(self) -> str:
        """As one speaks of it: a picture's width before its height, the axes of a volume in order."""
        if len(self.sizes) != 2 and self.fps is None:
            return " x ".join(map(str, self.sizes))
        *frames, height, width = self.sizes
        return f"{frames[0]} pictures of {width} x {height}" if frames else f"{width} x {height}"

    def describe(self) -> str:
        """One line for the user."""
        n = self.n_channels
        channels = {1: "1 channel", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}.get(n, f"{n} channels")
        rate = f", {self.fps:g} pictures a second" if self.fps else ""
        return f"{self.name}{self.suffix}: {self.extent}, {channels}, {self.dtype} {self.low:g} ... {self.high:g}{rate}"

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Values as the field gives them, as values of the file: its range, rounded and clamped where it has whole
        numbers."""
        scaled = values * np.float32(self.high - self.low) + np.float32(self.low)
        dtype = np.dtype(self.dtype)
        if dtype.kind == "f":
            return scaled.astype(dtype)
        limits = np.iinfo(dtype)
        return np.clip(np.rint(scaled), limits.min, limits.max).astype(dtype)


@dataclass(frozen=True)
class GridSignal:
    """A grid and its values `[*sizes, n_channels]`, in memory or mapped from the disk."""

    info: GridInfo
    values: np.ndarray = field(repr=False)
    source: str = ""

    def rows(self) -> np.ndarray:
        """`[n_samples, n_channels]`, a view."""
        return self.values.reshape(-1, self.info.n_channels)

    def normalized(self, values: np.ndarray) -> np.ndarray:
        """Stored values as the field sees them, float32."""
        info = self.info
        return (values.astype(np.float32) - np.float32(info.low)) / np.float32(info.high - info.low)

    def averaged(self, max_values: int = 1 << 26) -> np.ndarray:
        """Values as the field sees them, float32 `[n_channels, *sizes]`; of larger arrays the means of equal boxes of
        samples, read slab by slab."""
        sizes, factor = self.info.sizes, 1
        while math.prod(max(size // factor, 1) for size in sizes) * self.info.n_channels > max_values:
            factor += 1
        boxes = [min(factor, size) for size in sizes]
        whole = [size // box * box for size, box in zip(sizes, boxes, strict=True)]
        shape = [n for size, box in zip(whole[1:], boxes[1:], strict=True) for n in (size // box, box)]
        inner = tuple(slice(size) for size in whole[1:])
        step = boxes[0] * max((1 << 24) // (math.prod(sizes[1:]) * boxes[0]), 1)
        parts = []
        for begin in range(0, whole[0], step):
            slab = self.normalized(self.values[(slice(begin, min(begin + step, whole[0])), *inner)])
            slab = slab.reshape(-1, boxes[0], *shape, self.info.n_channels)
            parts.append(slab.mean(axis=tuple(range(1, 2 * len(sizes), 2))))
        return np.ascontiguousarray(np.moveaxis(np.concatenate(parts), -1, 0))


def grid_signal(values: np.ndarray, source: str, **known: Any) -> GridSignal:
    """A signal of values `[*sizes, n_channels]`; their own range unless one is given.

    Raises:
        UserError: no values, or values that are not finite.
    """
    if not values.size:
        raise UserError(f"{source}: there are no values in it ({' x '.join(map(str, values.shape[:-1]))})")
    if "low" not in known:
        known["low"], known["high"] = value_range(values, source)
    info = GridInfo(sizes=values.shape[:-1], n_channels=values.shape[-1], dtype=values.dtype.name, **known)
    return GridSignal(info, values, source)


def check_suffix(suffix: str) -> None:
    """Raises ValueError for a suffix that leads elsewhere when a file's name is made of it."""
    if not re.fullmatch(r"(\.\w+)*", suffix):
        raise ValueError(f"expected the suffix of a file, got {suffix!r}")


def value_range(values: np.ndarray, source: str) -> tuple[float, float]:
    """Lowest and highest value, slab by slab; equal ones are spread by 1.

    Raises:
        UserError: a value is NaN or infinite, or the difference of two is.
    """
    low, high = math.inf, -math.inf
    for slab in slabs(values):
        if slab.dtype.kind == "f" and not np.isfinite(slab).all():
            raise UserError(f"{source}: {int((~np.isfinite(slab)).sum())} or more values are NaN or infinite")
        low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if math.isinf(high - low):
        raise UserError(f"{source}: values from {low:g} to {high:g}, whose difference is more than float64 holds")
    return low, high if high > low else low + max(1.0, 1e-6 * abs(low))


def slabs(values: np.ndarray, n_bytes: int = 1 << 26) -> Iterator[np.ndarray]:
    """Parts along the first axis of at most so many bytes, so that mapped files are read piece by piece."""
    step = max(n_bytes // max(values[:1].nbytes, 1), 1)
    for begin in range(0, values.shape[0], step):
        yield values[begin : begin + step]
