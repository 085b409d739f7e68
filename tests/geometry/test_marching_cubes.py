# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from neurfield.geometry import Mesh, marching_cubes, report
from neurfield.geometry.marching_cubes import SLAB


def grid(shape: tuple[int, int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).astype(np.float32)


def mesh_of(values: np.ndarray, level: float) -> Mesh:
    return Mesh(*marching_cubes(lambda begin, end: values[begin:end], values.shape, level))


@pytest.mark.parametrize("shape", [(40, 40, 40), (41, 39, 44), (SLAB + 20, 43, 38)])
def test_sphere_is_closed_and_within_the_chord_error(shape: tuple[int, int, int]) -> None:
    radius, centre = 12.3, np.float32([19.2, 18.7, 18.9])
    distance = np.linalg.norm(grid(shape) - centre[:, None, None, None], axis=0)
    mesh = mesh_of(radius - distance, 0.0)
    found = report(mesh)
    assert found.watertight and found.n_components == 1
    # a chord of one cell's diagonal lies s^2 / 8r = 0.03 below the sphere; vertices are nearer (linear interpolation)
    assert np.abs(np.linalg.norm(mesh.vertices - centre, axis=1) - radius).max() < 3 / (8 * radius)
    assert found.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=3 * 3 / (8 * radius**2))


def test_noise_with_every_case_is_a_closed_manifold() -> None:
    values = np.random.default_rng(3).random((SLAB * 2 + 5, 30, 28), dtype=np.float32)
    for axis in range(3):
        np.moveaxis(values, axis, 0)[[0, -1]] = 0
    found = report(mesh_of(values, 0.5))
    assert found.watertight and found.volume > 0


def test_values_equal_to_the_level_count_as_outside() -> None:
    values = np.zeros((4, 4, 4), np.float32)
    values[1:3, 1:3, 1:3] = 1
    found = report(mesh_of(values, 0.0))
    assert found.watertight  # vertices keep 1e-3 of an edge from its ends
    assert found.low == pytest.approx((0, 0, 0), abs=1.001e-3) and found.high == pytest.approx((3, 3, 3), abs=1.001e-3)


def test_a_field_that_is_the_level_in_a_whole_band_gives_no_equal_vertices() -> None:
    x = np.stack(np.meshgrid(*[np.arange(12) - 5.5] * 3, indexing="ij"), axis=-1)
    values = np.maximum(4.2 - np.linalg.norm(x, axis=-1), 0).astype(np.float32)  # 0 outside of a ball
    vertices, faces = marching_cubes(lambda begin, end: values[begin:end], (12, 12, 12), 0.0)
    assert len(np.unique(vertices.astype(np.float32), axis=0)) == len(vertices)
    corners = vertices[faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert areas.min() > 0


def test_surface_at_the_border_is_open_and_empty_volume_gives_nothing() -> None:
    values = np.ones((5, 5, 5), np.float32)
    values[3:] = 0
    assert not report(mesh_of(values, 0.5)).watertight
    vertices, faces = marching_cubes(lambda begin, end: np.zeros((end - begin, 5, 5), np.float32), (5, 5, 5), 0.5)
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)
