# SPDX-License-Identifier: Apache-2.0
"""Fewer triangles for the same surface."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurfield.errors import UserError
from neurfield.geometry.mesh import Mesh, split_where_sheets_touch

_AGGRESSIVENESS = 5.0  # of 7, the default, flaps are twice as many; at 3 a count may not be reached
_SHORT = 0.01  # of the mean edge


def simplified(mesh: Mesh, max_triangles: int) -> Mesh:
    """The mesh with about `max_triangles` triangles, if it has more, without normals and colours.

    Edges are collapsed where the surface changes least (Garland and Heckbert 1997), by fast-simplification. Borders of
    open meshes stay where they are.

    Raises:
        UserError: nothing is left, of many small pieces.
    """
    from fast_simplification import simplify  # optional

    if len(mesh.faces) <= max_triangles:
        return mesh
    low = mesh.vertices.min(axis=0)
    size = float((mesh.vertices.max(axis=0) - low).max())  # its thresholds are lengths
    places, faces = _welded((mesh.vertices - low) / size, mesh.faces)
    corners, faces = simplify(places, faces.astype(np.int32), target_count=max_triangles, agg=_AGGRESSIVENESS)
    few = replace(mesh, vertices=low + corners * size, faces=faces.astype(np.int64), normals=None, colors=None)
    few = split_where_sheets_touch(few)  # a thin tube collapses to a flap
    if not len(few.faces):
        raise UserError(f"--max-triangles {max_triangles} leaves nothing of so many pieces; give more")
    return few


def _welded(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and faces without edges far shorter than others, such as there are where a surface meets a corner of a
    cell: nothing collapses beside a triangle without area."""
    edges = np.linalg.norm(vertices[faces] - vertices[np.roll(faces, 1, axis=1)], axis=2)
    places = np.round(vertices / (_SHORT * edges.mean()))
    _, first, which = np.unique(places, axis=0, return_index=True, return_inverse=True)
    faces = which.ravel()[faces]
    return vertices[first], faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
