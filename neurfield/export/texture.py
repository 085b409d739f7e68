# SPDX-License-Identifier: Apache-2.0
"""The colours of a field in a texture of its mesh."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurfield.geometry import Mesh
from neurfield.geometry.mesh import face_normals
from neurfield.geometry.texture import dilated, texels, unwrapped
from neurfield.progress import Progress, silent

_UNWRAPPING = 0.45  # share of the time

# places and normals, [n, 3] each, and whom to tell the progress, to sRGB [n, 3], 0 ... 1, nan where nobody looks
ColorFn = Callable[[NDArray, NDArray, Progress], NDArray[np.float32]]


def textured(
    mesh: Mesh,
    size: int,
    colors: ColorFn,
    of_vertices: NDArray[np.float32],
    progress: Progress = silent,
) -> Mesh:
    """The mesh with a square texture and with normals; vertices on its cuts are there twice.

    Args:
        size: side of the texture in texels.
        colors: of the surface.
        of_vertices: colours `[n_vertices, 3]`, between which texels have theirs where nobody looks.
        progress: called with the fraction done.
    """
    normals = face_normals(mesh)
    vertex, faces, uv = unwrapped(mesh, normals, size, lambda: progress(0.0))
    texture, covered = np.zeros((size * size, 3), np.uint8), np.zeros(size * size, bool)
    done = 0.0
    for part in texels(uv[faces].astype(np.float64) * size, size, size):
        share = (part.face.max(initial=0) + 1) / len(faces) - done

        def step(fraction: float, done: float = done, share: float = share) -> None:
            progress(_UNWRAPPING + (1 - _UNWRAPPING) * (done + fraction * share))

        places, across, between = (part.interpolate(mesh.faces, v) for v in (mesh.vertices, normals, of_vertices))
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-20)
        seen = colors(places, across, step)
        texture[part.index] = as_bytes(np.where(np.isnan(seen), between, seen))
        covered[part.index] = True
        done += share
    texture = dilated(texture.reshape(size, size, 3), covered.reshape(size, size))
    return replace(mesh, vertices=mesh.vertices[vertex], faces=faces, normals=normals[vertex], uv=uv, texture=texture)


def as_bytes(colors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """sRGB 0 ... 1 as 0 ... 255."""
    return (colors * 255 + 0.5).astype(np.uint8)
