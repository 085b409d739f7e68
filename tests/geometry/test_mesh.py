# SPDX-License-Identifier: Apache-2.0
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurfield.errors import MachineError, UserError
from neurfield.geometry import WRITERS, Mesh, keep_large_components, report, write_mesh
from neurfield.geometry.mesh import face_normals, is_closed, split_where_sheets_touch, spread_over_faces
from tests.cli.test_faults import disk_of
from tests.geometry.ball import ball

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


def boxes(*places: tuple[int, int, int]) -> Mesh:
    """The surface of unit cubes, which have vertices in common where they touch."""
    corners, faces = [], []
    for place in places:
        for axis in range(3):
            for side in (0, 1):
                if tuple(np.add(place, np.eye(3, dtype=int)[axis] * (2 * side - 1))) in places:
                    continue
                square = np.insert([[0, 0], [1, 0], [1, 1], [0, 1]], axis, side, axis=1)
                square = square if (side == 1) == (axis != 1) else square[::-1]
                faces += [[len(corners) + i for i in triangle] for triangle in ((0, 1, 2), (0, 2, 3))]
                corners += list(np.add(place, square))
    vertices, which = np.unique(corners, axis=0, return_inverse=True)
    return Mesh(vertices.astype(float), which.ravel()[np.array(faces)])


@pytest.mark.parametrize("seed", range(5))
def test_sheets_that_touch_are_told_apart(seed: int) -> None:
    """Boxes that have an edge in common, one of whose ends or both lead round from one to the other."""
    edge, corner = ((0, 0, 0), (1, 1, 0)), ((0, 0, 0), (1, 1, 1))
    round_about = ((0, 0, 1), (1, 0, 1), (1, 1, 1)), ((0, 0, -1), (1, 0, -1), (1, 1, -1))
    generator = np.random.default_rng(seed)
    for places in (edge, corner, (*edge, *round_about[0]), (*edge, *round_about[0], *round_about[1])):
        mesh = boxes(*places)
        mesh = replace(mesh, faces=generator.permutation(mesh.faces))
        assert is_closed(mesh) == (places == corner)
        split = split_where_sheets_touch(mesh)
        assert is_closed(split)
        np.testing.assert_array_equal(split.vertices[split.faces], mesh.vertices[mesh.faces])
        assert report(split).volume == pytest.approx(len(places))
    assert report(split_where_sheets_touch(boxes(*edge))).n_components == 2


@pytest.mark.parametrize("n_left", [400, 100, 30, 6])
def test_vertices_that_fall_together_leave_a_closed_mesh(n_left: int) -> None:
    """A ball whose vertices become others at random: edges of many triangles, sheets that touch themselves, flaps."""
    whole, generator = ball(), np.random.default_rng(n_left)
    faces = generator.integers(n_left, size=len(whole.vertices))[whole.faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    mesh = Mesh(whole.vertices[:n_left], faces)
    assert not is_closed(mesh)
    split = split_where_sheets_touch(mesh)
    assert is_closed(split)
    assert report(split).volume == pytest.approx(np.linalg.det(mesh.vertices[faces]).sum() / 6)


def test_values_spread_ring_by_ring() -> None:
    """Over a strip of five vertices, each triangle's edges counted, and not to a piece of its own."""
    faces = np.array([[0, 1, 2], [2, 1, 3], [2, 3, 4], [5, 6, 7]])
    values = np.full((8, 2), np.nan, np.float32)
    values[0], values[3] = (0, 1), (1, 0.5)
    found = spread_over_faces(faces, values)
    np.testing.assert_allclose(found[:, 0], [0, 0.5, 2 / 3, 1, 1, 0.5, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(found[[1, 2, 4], 1], [0.75, 2 / 3, 0.5], rtol=1e-6)
    assert np.isnan(values[1]).all()
    np.testing.assert_array_equal(spread_over_faces(faces, found), found)
    assert (spread_over_faces(faces, np.full((8, 1), np.nan, np.float32)) == 0.5).all()


def test_a_flap_and_a_border_stay() -> None:
    """Two triangles back to back, as a thin tube becomes, and an open mesh."""
    mesh = tetrahedra([1.0])
    flap = np.array([[0, 1, 4], [1, 0, 4]])
    with_flap = Mesh(np.concatenate([mesh.vertices, [[1, 1, 1]]]), np.concatenate([flap, mesh.faces]))
    split = split_where_sheets_touch(with_flap)
    assert not is_closed(with_flap) and is_closed(split) and len(split.faces) == 6
    opened = replace(mesh, faces=mesh.faces[1:])
    split = split_where_sheets_touch(opened)
    np.testing.assert_array_equal(split.vertices[split.faces], mesh.vertices[mesh.faces[1:]])
    assert len(split.vertices) == 4


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
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


def textured() -> Mesh:
    """With a texture that is no square, of which every corner of a triangle has its own colour."""
    mesh, size = painted(), (6, 8)
    texture = np.arange(144, dtype=np.uint8).reshape(*size, 3)
    x, y = np.arange(8), np.arange(8) % 6
    uv = (np.stack([x, y], axis=1) + 0.5) / (8, 6)
    return replace(mesh, colors=None, uv=uv.astype(np.float32), texture=texture)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_an_independent_reader_sees_the_texture(suffix: str, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh, path = textured(), tmp_path / f"my mesh.v2{suffix}"
    write_mesh(mesh, path)
    loaded = trimesh.load(path, process=False)
    if suffix == ".glb":
        (loaded,) = loaded.geometry.values()
        image = loaded.visual.material.baseColorTexture
        document = path.read_bytes()
        assert b"KHR_materials_unlit" in document and b"COLOR_0" not in document
    else:
        image = loaded.visual.material.image
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), mesh.texture)
    # the reader may number vertices anew; its v goes up
    corners, expected = loaded.vertices[loaded.faces], mesh.vertices[mesh.faces]
    np.testing.assert_allclose(corners, expected, atol=1e-6)
    uv = np.asarray(loaded.visual.uv)[loaded.faces] * (1, -1) + (0, 1)
    np.testing.assert_allclose(uv, mesh.uv[mesh.faces], atol=1e-6)
    names = {".glb": ["my mesh.v2.glb"], ".obj": ["my mesh.v2.obj", "my_mesh.v2.mtl", "my_mesh.v2.png"]}
    assert sorted(p.name for p in tmp_path.iterdir()) == names[suffix]


@pytest.mark.parametrize("stem", ["Tür", "a\tb\nc", "caf\udce9"], ids=["umlaut", "blanks", "no text"])
def test_an_obj_is_found_with_its_texture_whatever_it_is_called(stem: str, tmp_path: Path) -> None:
    mesh, path = textured(), tmp_path / f"{stem}.obj"
    write_mesh(mesh, path)
    (line,) = [line for line in path.read_bytes().split(b"\n") if line.startswith(b"mtllib ")]
    material = tmp_path / os.fsdecode(line[7:])
    (line,) = [line for line in material.read_bytes().split(b"\n") if line.startswith(b"map_Kd ")]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / os.fsdecode(line[7:]))), mesh.texture)


@pytest.mark.parametrize("broken", ["disk", "rename"])
def test_the_files_of_a_mesh_are_written_together(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {f"m.{end}": f"old {end}".encode() for end in ("obj", "mtl", "png")}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    mesh = textured()
    monkeypatch.setitem(WRITERS, ".obj", lambda *_: b"#" * 5000)  # the others have some hundred bytes
    if broken == "disk":
        with disk_of(2000), pytest.raises(MachineError, match=r"m\.obj: cannot write"):
            write_mesh(mesh, tmp_path / "m.obj")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
        return
    renamed: list[str] = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (renamed.append(Path(target).name), real(source, target)))
    write_mesh(mesh, tmp_path / "m.obj")
    assert sorted(renamed[:2]) == ["m.mtl", "m.png"] and renamed[2:] == ["m.obj"]
    assert (tmp_path / "m.obj").read_bytes() == b"#" * 5000 and (tmp_path / "m.png").read_bytes() != old["m.png"]


def test_ply_holds_no_texture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m.ply: PLY holds no texture; write .glb or .obj, or leave --texture out"):
        write_mesh(textured(), tmp_path / "m.ply")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mesh", [painted(), textured()], ids=["colors", "texture"])
def test_glb_chunks_are_aligned_and_inside_the_file(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "mesh.glb"
    write_mesh(mesh, path)
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    assert int.from_bytes(data[8:12], "little") == len(data) and length % 4 == 0
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= document["buffers"][0]["byteLength"]


def test_unknown_format_names_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown mesh format '.dae' \(valid: .ply, .obj, .glb, .stl\)"):
        write_mesh(painted(), tmp_path / "mesh.dae")
    with pytest.raises(UserError, match=r"mesh: the end of the name says the format of a mesh; add one of .ply, .obj"):
        write_mesh(painted(), tmp_path / "mesh")
    assert not list(tmp_path.iterdir())


def test_an_stl_has_the_triangles_and_their_normals(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    mesh, path = painted(), tmp_path / "mesh.stl"
    write_mesh(mesh, path)
    loaded = trimesh.load(path, process=False)
    np.testing.assert_allclose(loaded.triangles, mesh.vertices[mesh.faces], atol=1e-6)
    stored = np.frombuffer(path.read_bytes()[84:], np.uint8).reshape(len(mesh.faces), 50)[:, :12].copy().view("<f4")
    np.testing.assert_allclose(stored, loaded.face_normals, atol=1e-6)
