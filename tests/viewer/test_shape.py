# SPDX-License-Identifier: Apache-2.0
"""Distance fields on the stage: where the surface is, how it is lit, cut and measured, and its files."""

import numpy as np
import pytest
import torch
import trimesh

import neurfield
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.paths import look_at
from neurfield.data.signals.mesh import MARGIN, MeshInfo
from neurfield.errors import UserError
from neurfield.export.occupancy_distance import OccupancyDistance
from neurfield.export.sdf_points import export_sdf_points
from neurfield.viewer import shown_data, shown_run
from neurfield.viewer import triangles as triangles_module
from neurfield.viewer.bare import shown_field
from neurfield.viewer.look import CropBox, Look
from neurfield.viewer.show_shape import SHOWN_CELLS, shown_shape
from neurfield.viewer.triangles import Triangles
from tests.viewer.conftest import SIGNAL_SETS

HALF = CropBox((0.0, 0.0, -1.0), (4.0, 4.0, 2.0))  # z below 0


def no_step(part: float) -> None:
    pass


def front(size: int = 64, distance: float = 4.0) -> Cameras:
    """Looks at the ball of radius 1 from +z."""
    pose = look_at(torch.tensor([[0.0, 0.0, distance]]), torch.zeros(3), (0.0, 1.0, 0.0))
    return Cameras.pinhole(pose, 1.4 * size, size, size)


@pytest.fixture(scope="module")
def shown(signal_runs):
    return shown_run(signal_runs["sdf"])


def painted(shown, camera=None, **look):
    return shown.stage.paint(camera or front(), Look(**look), no_step, True)


def test_the_ball_is_where_it_must_be(shown):
    got = painted(shown, with_depth=True)
    assert float(got.depth[32, 32]) == pytest.approx(3.0, abs=0.02) and float(got.depth[0, 0]) == 0
    # its silhouette: sin of half its angle is 1/4
    radius = 1.4 * 64 * np.tan(np.arcsin(1 / 4))
    assert float((got.depth > 0).sum()) == pytest.approx(np.pi * radius**2, rel=0.05)
    assert (got.image[0, 0] == 1).all() and got.image[32, 32].max() < 0.95
    assert painted(shown).depth is None


def test_a_panorama_has_distances_all_around(shown):
    """From within the ball's surroundings, with the ball behind the middle of the picture."""
    back = look_at(torch.tensor([[0.0, 0.0, 4.0]]), torch.tensor([0.0, 0.0, 8.0]), (0.0, 1.0, 0.0))
    got = painted(shown, Cameras.panorama(back, 128, 64), with_depth=True, mode="depth")
    ends = got.depth[32, [0, -1]]
    torch.testing.assert_close(ends, torch.full((2,), 3.0), atol=0.02, rtol=0)
    assert (got.depth >= 0).all() and float(got.depth[32, 64]) == 0
    assert (got.image[32, 0] != got.image[32, 64]).any()  # the nearest has a colour


def test_light_comes_from_above_the_camera(shown):
    image = painted(shown).image
    assert float(image[20, 32, 0]) > float(image[44, 32, 0]) + 0.2


def test_normals_are_those_of_a_ball(shown):
    camera = front()
    normal = 2 * painted(shown, mode="normals").image - 1
    depth = painted(shown, with_depth=True).depth
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[20:44, 20:44] = True
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    place = torch.stack([(x - 32) / 89.6 * depth, (32 - y) / 89.6 * depth, 4.0 - depth], dim=-1)
    assert float((normal[inside] * place[inside]).sum(dim=1).mean()) > 0.99
    assert camera.c2w.shape == (1, 3, 4)


def test_ways_of_drawing(shown):
    assert list(shown.stage.modes) == ["colour", "depth", "normals", "cost", "error"]
    depth = painted(shown, mode="depth").image
    assert depth[32, 32].mean() > depth[32, 22].mean()  # near is light
    cost = painted(shown, mode="cost").image
    assert cost[32, 32].mean() < cost[32, 53].mean()  # rays that graze take more steps
    error = painted(shown, mode="error").image
    assert error[24:40, 24:40].mean() < 0.35
    alone = shown_shape(shown.stage.distance, shown.triangles.signal.info)
    assert "error" not in alone.stage.modes
    assert 1 < shown.stage.samples_per_ray(front()) < 64


def test_a_box_cuts_the_ball_and_paints_the_cut(shown):
    got = painted(shown, crop=HALF, with_depth=True)
    assert float(got.depth[32, 32]) == pytest.approx(4.0, abs=0.02)
    r, g, b = got.image[32, 32].tolist()
    assert r > g > b
    whole = painted(shown, with_depth=True).depth
    assert abs(float((got.depth > 0).float().mean() - (whole > 0).float().mean())) < 0.05


def test_background_and_levels(shown):
    assert torch.allclose(painted(shown, background=(0.0, 0.5, 1.0)).image[0, 0], torch.tensor([0.0, 0.5, 1.0]))
    assert shown.stage.controls.n_levels == 8
    coarse = painted(shown, level=1, with_depth=True).depth
    assert not torch.equal(coarse, painted(shown, with_depth=True).depth)


def test_files_honour_the_box(shown, tmp_path):
    parts: list[float] = []
    n_faces = shown.exports.mesh(Look(crop=HALF), tmp_path / "half.ply", 48, parts.append)
    mesh = trimesh.load(tmp_path / "half.ply")
    assert len(mesh.faces) == n_faces and mesh.is_watertight and parts
    assert mesh.volume == pytest.approx(2 / 3 * np.pi, rel=0.05)
    assert mesh.bounds[1][2] < 0.05 and mesh.bounds[0][2] == pytest.approx(-1, abs=0.05)
    shown.exports.points(Look(), tmp_path / "all.ply", 3000, parts.append)
    points = trimesh.load(tmp_path / "all.ply")
    assert len(points.vertices) == 3000
    assert np.linalg.norm(points.vertices, axis=1) == pytest.approx(1.0, abs=0.05)
    assert abs(points.vertices.mean(axis=0)).max() < 0.08  # evenly


def test_points_refuse_what_they_cannot_do(shown, tmp_path):
    field, info = shown.stage.distance, shown.triangles.signal.info
    for words, path, n in (
        ("written as .ply", "a.obj", 5),
        ("--num-points must be 1 ... 100000000, got 0", "a.ply", 0),
    ):
        with pytest.raises(UserError, match=words):
            export_sdf_points(field, info, tmp_path / path, n)
    with pytest.raises(UserError, match="no surface"):
        export_sdf_points(lambda x: torch.ones(len(x), 1), info, tmp_path / "a.ply", 5)


def test_what_a_step_raises_ends_the_picture(shown):
    class Enough(Exception):
        pass

    def step(part: float) -> None:
        raise Enough

    with pytest.raises(Enough):
        shown.stage.paint(front(), Look(), step, True)


def test_a_mesh_alone_has_triangles_and_no_field(signal_files, monkeypatch):
    shown = shown_data(signal_files["sdf"])
    assert shown.stage is None and shown.exports is None
    vertices, faces = shown.triangles.in_world()
    assert vertices.shape[1] == 3 and np.linalg.norm(vertices, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert faces.max() < len(vertices)
    monkeypatch.setattr(triangles_module, "MAX_TRIANGLES", 3)
    with pytest.raises(UserError, match="more than the 3 that a page draws"):
        shown.triangles.in_world()
    with pytest.raises(UserError, match=r"ball\.obj: the mesh has 512 triangles, .* or train a field of it"):
        shown_data(signal_files["sdf"])  # instead of a page with nothing in it


def test_a_shape_of_a_survey_is_shown_near_its_origin_where_its_files_are(tmp_path):
    """float32, which cameras have, is half a unit at 5.5 million: a twentieth of this shape."""
    middle = np.array([500_003.0, 5_500_002.0, 303.0])
    trimesh.creation.icosphere(subdivisions=2, radius=5.0).apply_translation(middle).export(tmp_path / "a.obj")
    shown = shown_data(tmp_path / "a.obj")
    origin = np.array(shown.frame.origin)
    assert np.abs(middle - origin).max() <= 50 and (origin % 10 == 0).all()
    vertices, _ = shown.triangles.in_world()
    assert np.linalg.norm(vertices + origin - middle, axis=1) == pytest.approx(5.0, abs=1e-4)
    unit = shown.frame.to_unit(torch.from_numpy(vertices))
    assert float((unit - 0.5).abs().max()) == pytest.approx(MARGIN / 2, abs=1e-5)


def test_a_mesh_is_read_once(signal_runs):
    calls = []

    def read():
        calls.append(1)
        return signal_runs["sdf"].signal()

    triangles = Triangles(read)
    assert triangles.signal is triangles.signal and len(calls) == 1
    assert float(triangles.distance(torch.full((1, 3), 0.5))) == pytest.approx(0.45, abs=0.01)


def test_an_occupancy_field_is_shown_by_its_surface(signal_files):
    run = neurfield.train_signal(
        signal_files["sdf"], "occupancy", max_num_iterations=300, overrides=(*SIGNAL_SETS, "field.max_resolution=64")
    )
    shown = shown_run(run)
    got = painted(shown, with_depth=True)
    assert float(got.depth[32, 32]) == pytest.approx(3.0, abs=0.03)
    radius = 1.4 * 64 * np.tan(np.arcsin(1 / 4))
    assert float((got.depth > 0).sum()) == pytest.approx(np.pi * radius**2, rel=0.05)
    assert shown.exports is not None and "error" in shown.stage.modes
    alone = painted(shown_field(run.field, "occupancy"), front(distance=3.0), with_depth=True)  # 0.45 around the middle
    assert float((alone.depth > 0).sum()) > 100


def test_files_of_a_cut_occupancy_field_have_the_cells_that_are_asked_for(tmp_path):
    radius = 0.3
    info = MeshInfo("ball", "", 0, 0, True, (0.5 - MARGIN / 2,) * 3, (0.5 + MARGIN / 2,) * 3)  # its frame is the cube
    shown = shown_shape(
        OccupancyDistance(lambda x: 40 * (radius - (x - 0.5).norm(dim=1, keepdim=True)), SHOWN_CELLS), info
    )
    look, parts = Look(crop=CropBox((0.5, 0.5, 0.25), (1.0, 1.0, 0.5))), list[float]()
    shown.exports.mesh(look, tmp_path / "half.ply", 320, parts.append)
    shown.exports.points(look, tmp_path / "points.ply", 4000, parts.append)
    mesh, points = trimesh.load(tmp_path / "half.ply"), trimesh.load(tmp_path / "points.ply")
    assert mesh.is_watertight and mesh.volume == pytest.approx(2 / 3 * np.pi * radius**3, rel=0.01)
    # A chord c lies within c^2 / (8 r) of the ball; a cell is at most (44 / 64) / n_cells wide, its diagonal 3^0.5 of
    # that. Vertices are on chords between corners of cells, points anywhere on triangles; float32 rounds by 1e-7.
    for vertices, n_cells in ((mesh.vertices, 320), (points.vertices, 256)):
        assert vertices[:, 2].max() < 0.5 + 1e-6
        is_round = vertices[:, 2] < 0.5 - 1 / n_cells
        off = np.linalg.norm(vertices[is_round] - 0.5, axis=1) - radius
        assert is_round.sum() > 1000 and np.abs(off).max() < 3 * (44 / 64 / n_cells) ** 2 / (8 * radius) + 2e-7
