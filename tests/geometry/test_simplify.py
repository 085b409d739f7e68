# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from neurfield.errors import UserError
from neurfield.geometry import Mesh, marching_cubes, report
from neurfield.geometry.mesh import is_closed
from neurfield.geometry.simplify import simplified
from tests.geometry.ball import RADIUS, ball

pytest.importorskip("fast_simplification")


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e4])
def test_a_ball_of_fewer_triangles_is_closed_and_as_round_as_they_allow(size: float) -> None:
    mesh = ball()
    few = simplified(replace(mesh, vertices=mesh.vertices * size + 3 * size, metadata={"frame": "unit"}), 600)
    assert 500 < len(few.faces) <= 600 < len(mesh.faces)
    assert is_closed(few) and few.metadata == {"frame": "unit"}
    found = report(few)
    assert found.volume == pytest.approx(4 / 3 * np.pi * (RADIUS * size) ** 3, rel=0.02)
    off = np.linalg.norm(few.vertices / size - 3, axis=1) - RADIUS
    assert np.abs(off).max() < 0.2  # a regular triangle of 600 of them is 0.1 deep


def test_a_border_stays_where_it_is() -> None:
    few = simplified(ball(half=True), 300)
    edges = np.sort(np.concatenate([few.faces[:, [0, 1]], few.faces[:, [1, 2]], few.faces[:, [2, 0]]]), axis=1)
    single, count = np.unique(edges, axis=0, return_counts=True)
    border = few.vertices[single[count == 1]]
    assert len(border) > 8
    assert (border[..., 0] < 1.2).all()  # the row of cells that was cut


def test_a_mesh_of_fewer_triangles_stays_itself() -> None:
    mesh = ball()
    assert simplified(mesh, len(mesh.faces)) is mesh


def test_vertices_at_one_place_do_not_stop_it() -> None:
    """An octahedron that passes through corners of cells, in which vertices are put: their triangles have no area."""
    axis = np.abs(np.arange(32) - 15.5)

    def sample(begin: int, end: int) -> NDArray[np.float32]:
        return (12.5 - (axis[begin:end, None, None] + axis[:, None] + axis)).astype(np.float32)

    vertices, faces = marching_cubes(sample, (32, 32, 32), 0.0)
    mesh = Mesh(vertices.round(2), faces)
    assert len(np.unique(mesh.vertices, axis=0)) < len(mesh.vertices) / 2
    few = simplified(mesh, 100)
    assert is_closed(few) and len(few.faces) <= 100
    assert report(few).volume == pytest.approx(report(mesh).volume, rel=0.02)


def test_more_pieces_than_triangles_are_one_line() -> None:
    mesh, n = ball(), 60
    vertices = np.concatenate([np.add(mesh.vertices, (30 * i, 0, 0)) for i in range(n)])
    faces = np.concatenate([mesh.faces + len(mesh.vertices) * i for i in range(n)])
    with pytest.raises(UserError, match="--max-triangles 1 leaves nothing of so many pieces; give more"):
        simplified(Mesh(vertices, faces), 1)
