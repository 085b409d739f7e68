# SPDX-License-Identifier: Apache-2.0
"""Pictures of procedural scenes: one ray per pixel, and a grid of rays where a pixel is not uniform.

Pixels whose part, colour or shading differs from a neighbour's are taken again with SUBSAMPLES^2 rays and averaged in
premultiplied alpha (a box filter); the others are uniform to within THRESHOLD, so their centre stands for the box.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurfield.data.procedural.lighting import LightVolume, display, shade
from neurfield.data.procedural.model import Candidates, Model
from neurfield.data.procedural.shapes import Array, f32

SUBSAMPLES = 3
THRESHOLD = 0.08


@dataclass(frozen=True)
class View:
    """One picture, row 0 at the top.

    Attributes:
        rgba: uint8 `[height, width, 4]`, sRGB, straight alpha.
        depth: float32 `[height, width]` of pixel centres along the optical axis (z-depth), world units, 0 where empty.
        normal: float32 `[height, width, 3]` at pixel centres, world frame, 0 where empty.
    """

    rgba: np.ndarray
    depth: np.ndarray
    normal: np.ndarray


class Picture:
    """A model under its light, ready to be seen from anywhere."""

    def __init__(self, model: Model, volume: LightVolume) -> None:
        self.model, self.volume = model, volume

    def render(self, c2w: Array, focal: float, size: int) -> View:
        """View from `c2w [3, 4]` (OpenGL axes) with a centred pinhole of `size` x `size` pixels."""
        focal = float(focal)  # a numpy scalar would turn all that follows into float64
        column, row = (grid.ravel() for grid in np.meshgrid(np.arange(size), np.arange(size)))
        centres = f32([column + 0.5, row + 0.5])
        color, part, t, normals, axial = self._sample(c2w, focal, size, centres, None)
        mixed = np.flatnonzero(_uneven(color, part, size))

        offsets = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
        shifts = f32([grid.ravel() for grid in np.meshgrid(offsets, offsets)])
        fine = f32(centres[:, mixed, None] + shifts[:, None, :]).reshape(2, -1)
        candidates = _candidates(part.reshape(size, size), mixed, SUBSAMPLES * SUBSAMPLES)
        refined = self._sample(c2w, focal, size, fine, candidates)[0]
        color[:, mixed] = refined.reshape(4, mixed.size, -1).mean(axis=2)

        rgba = color.copy()
        rgba[:3] /= np.maximum(color[3], f32(1e-6))
        return View(
            rgba=np.clip(rgba * 255 + 0.5, 0, 255).astype(np.uint8).T.reshape(size, size, 4),
            depth=np.where(part >= 0, t * axial, 0).astype(np.float32).reshape(size, size),
            normal=f32(normals).T.reshape(size, size, 3),
        )

    def _sample(
        self, c2w: Array, focal: float, size: int, pixels: Array, candidates: Candidates | None
    ) -> tuple[Array, NDArray[np.int16], Array, Array, Array]:
        """Premultiplied sRGB and alpha `[4, n]`, part, distance, normal and cosine to the axis at pixels `[2, n]`."""
        x, y = (pixels[0] - size / 2) / focal, (size / 2 - pixels[1]) / focal
        axial = f32(1 / np.sqrt(x * x + y * y + 1))
        right, up, back, origin = (f32(c2w[:, i : i + 1]) for i in range(4))
        directions = f32((right * x + up * y - back) * axial)
        if candidates is None:
            t, part = self.model.cast(origin, directions)
        else:
            t, part = self.model.cast_among(origin, directions, candidates)
        color, normals = np.zeros((4, t.size), np.float32), np.zeros((3, t.size), np.float32)
        hit = np.flatnonzero(part >= 0)
        points = origin + directions[:, hit] * t[hit]
        normals[:, hit] = self.model.normals(points, part[hit])
        color[:3, hit] = display(self._radiance(points, normals[:, hit], -directions[:, hit], part[hit]))
        color[3, hit] = 1
        return color, part, t, normals, axial

    def _radiance(self, points: Array, normals: Array, view: Array, part_idx: np.ndarray) -> Array:
        radiance = np.empty_like(points)
        for part, rows in self.model.by_part(part_idx):
            p, n = points[:, rows], normals[:, rows]
            lit = self.volume(p, n)
            radiance[:, rows] = shade(part.surface(p, n), n, view[:, rows], lit, self.volume.light)
        return radiance


def _uneven(color: Array, part: np.ndarray, size: int) -> np.ndarray:
    """Pixels `[size * size]` that differ from one of their four neighbours in part or colour."""
    keys = np.concatenate([color.reshape(4, size, size), f32(part).reshape(1, size, size)])
    uneven = np.zeros((size, size), bool)
    across = (np.abs(keys[:, 1:] - keys[:, :-1]) > THRESHOLD).any(axis=0)
    along = (np.abs(keys[:, :, 1:] - keys[:, :, :-1]) > THRESHOLD).any(axis=0)
    for edge, low, high in ((across, uneven[:-1], uneven[1:]), (along, uneven[:, :-1], uneven[:, 1:])):
        low |= edge
        high |= edge
    return uneven.ravel()


def _candidates(part: np.ndarray, pixels: np.ndarray, repeats: int) -> Candidates:
    """Parts seen in the 3 x 3 pixels around each of `pixels`; `repeats` rays per pixel lie one after the other."""
    padded = np.pad(part, 1, constant_values=-1)
    height, width = part.shape
    around = np.stack([padded[i : i + height, j : j + width].ravel()[pixels] for i in range(3) for j in range(3)])
    for idx in np.unique(around):
        if idx >= 0:
            rows = np.flatnonzero((around == idx).any(axis=0))
            yield int(idx), (rows[:, None] * repeats + np.arange(repeats)).ravel()
