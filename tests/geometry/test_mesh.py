# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurfield.errors import UserError
from neurfield.geometry import WRITERS, Mesh, keep_large_components, report, write_mesh
from neurfield.geometry.mesh import face_normals

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def tetrahedra(sizes: list[float]) -> Mesh:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float64)
    vertices = np.concatenate([corners * size + [0, 0, 10 * i] for i, size in enumerate(sizes)])
    return Mesh(vertices, np.concatenate([TETRAHEDRON + 4 * i for i in range(len(sizes))]))


def painted() -> Mesh:
    mesh = tetrahedra([1.0, 2.0])
    colors = np.arange(24, dtype=np.uint8).reshape(8, 3) * 10
    return replace(mesh, normals=face_normals(mesh), colors=colors, metadata={"frame": "world"})


def test_report_of_two_tetrahedra() -> None:
    found = report(tetrahedra([1.0, 3.0]))
    assert (found.n_vertices, found.n_faces, found.n_components) == (8, 8, 2)
    assert found.watertight and found.volume == pytest.approx(1 / 6 + 27 / 6)
    assert found.low == (0, 0, 0) and found.high == (3, 3, 13)


def test_report_sees_a_hole_and_a_flipped_triangle() -> None:
    mesh = tetrahedra([1.0])
    assert not report(replace(mesh, faces=mesh.faces[1:])).watertight
    flipped = mesh.faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert not report(replace(mesh, faces=flipped)).watertight


def test_small_components_are_dropped_with_their_vertices() -> None:
    mesh = painted()
    extra = Mesh(
        np.concatenate([mesh.vertices, [[9, 9, 9], [9, 9, 8], [9, 8, 8]]]), np.concatenate([mesh.faces, [[8, 9, 10]]])
    )
    kept = keep_large_components(extra, 0.5)
    np.testing.assert_array_equal(kept.vertices, mesh.vertices)
    np.testing.assert_array_equal(kept.faces, mesh.faces)
    assert len(keep_large_components(extra, 0.1).faces) == 9


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_independent_reader_sees_what_was_written(suffix: str, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh = painted()
    path = tmp_path / f"mesh{suffix}"
    write_mesh(mesh, path)
    loaded = trimesh.load(path, process=False)
    if suffix == ".glb":
        assert loaded.extents[1] > loaded.extents[2], "the tall axis must be +y, which is up in glTF"
        (loaded,) = loaded.geometry.values()
    np.testing.assert_allclose(loaded.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(loaded.faces, mesh.faces)
    np.testing.assert_allclose(loaded.vertex_normals, mesh.normals, atol=1e-4)
    if suffix == ".glb":  # linear, 16 bits; trimesh scales to 0 ... 1 or keeps the integers
        colors = np.asarray(loaded.visual.vertex_attributes["color"], np.float64)[:, :3]
        colors = colors / (65535 if colors.max() > 1 else 1)
        srgb = mesh.colors / 255
        expected = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        np.testing.assert_allclose(colors, expected, atol=1e-4)
    else:
        np.testing.assert_allclose(np.asarray(loaded.visual.vertex_colors)[:, :3], mesh.colors, atol=1)
    assert b'"frame": "world"' in path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_glb_chunks_are_aligned_and_inside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mesh.glb"
    write_mesh(painted(), path)
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    assert int.from_bytes(data[8:12], "little") == len(data) and length % 4 == 0
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= document["buffers"][0]["byteLength"]


def test_unknown_format_names_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown mesh format '.stl' \(valid: .ply, .obj, .glb\)"):
        write_mesh(painted(), tmp_path / "mesh.stl")
    assert not list(tmp_path.iterdir())
