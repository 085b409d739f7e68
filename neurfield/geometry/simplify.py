# SPDX-License-Identifier: Apache-2.0
"""Fewer triangles for the same surface."""

from dataclasses import replace

import numpy as np

from neurfield.geometry.mesh import Mesh, split_where_sheets_touch

_AGGRESSIVENESS = 5.0  # of 7, the default, flaps are twice as many; at 3 a count may not be reached


def simplified(mesh: Mesh, max_triangles: int) -> Mesh:
    """The mesh with about `max_triangles` triangles, if it has more, without normals and colours.

    Edges are collapsed where the surface changes least (Garland and Heckbert 1997), by fast-simplification. Borders of
    open meshes stay where they are.
    """
    from fast_simplification import simplify  # optional

    if len(mesh.faces) <= max_triangles:
        return mesh
    low = mesh.vertices.min(axis=0)
    size = float((mesh.vertices.max(axis=0) - low).max())  # its thresholds are lengths
    corners, faces = simplify(
        (mesh.vertices - low) / size, mesh.faces.astype(np.int32), target_count=max_triangles, agg=_AGGRESSIVENESS
    )
    few = replace(mesh, vertices=low + corners * size, faces=faces.astype(np.int64), normals=None, colors=None)
    return split_where_sheets_touch(few)  # a thin tube collapses to a flap
