# SPDX-License-Identifier: Apache-2.0
"""Meshes of fields whose surface is known: a ball, a ring, a hollow ball, nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization
from neurfield.errors import MachineError, UserError
from neurfield.export.density_mesh import density_mesh, occupied_cells
from neurfield.export.mesh import export_mesh
from neurfield.geometry import Mesh, gltf_from_world, report, write_mesh
from neurfield.rendering.renderer import Renderer
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import OccupancyGrid

trimesh = pytest.importorskip("trimesh")

NORM = Normalization(scale=0.25, offset=(0.5, 0.4, 0.6))
CENTRE = torch.tensor([0.48, 0.53, 0.51])
RADIUS = 0.23
FAR_CENTRE = torch.tensor([1.5, 0.5, 0.6])
STEEPNESS = 300.0  # of ln sigma per unit: a field's surface is a few thousandths of the cube thick
AT_SURFACE = 60.0


def ball(x: Tensor) -> Tensor:
    return RADIUS - (x - CENTRE).norm(dim=1)


def ring(x: Tensor) -> Tensor:
    q = x - CENTRE
    return 0.07 - torch.hypot(q[:, :2].norm(dim=1) - 0.25, q[:, 2])


def hollow(x: Tensor) -> Tensor:
    return torch.minimum(ball(x), (x - CENTRE).norm(dim=1) - 0.12)


def speck(x: Tensor) -> Tensor:
    return torch.maximum(ball(x), 0.03 - (x - torch.tensor([0.9, 0.9, 0.9])).norm(dim=1))


def far_ball(x: Tensor) -> Tensor:
    """The ball, and one of radius 0.4 that the cube of side 4 holds and that of side 2 cuts through."""
    return torch.maximum(ball(x), 0.4 - (x - FAR_CENTRE).norm(dim=1))


class Solid(nn.Module):
    """Density that crosses AT_SURFACE where `inside` is 0, red left, green right, blue from above."""

    def __init__(self, inside: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inside = inside

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return AT_SURFACE * torch.exp((STEEPNESS * self.inside(x)).clamp(-12, 4)), x

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        left = x[:, 0] < CENTRE[0]
        return self.density(x)[0], torch.stack([left, ~left, directions[:, 2] < -0.5], dim=1).float()


def fake_run(inside: Callable[[Tensor], Tensor], aabb_scale: int = 1) -> SimpleNamespace:
    """What export_mesh uses of a trained run: eight cameras around a field."""
    field = Solid(inside)
    grid = OccupancyGrid(aabb_scale)
    for step in range(3):
        grid.update(step, lambda x: field.density(x)[0])
    angle = torch.arange(8) * torch.pi / 4
    offset = torch.stack([3 * angle.cos(), 3 * angle.sin(), 1.5 * (torch.arange(8) % 2)], dim=1)
    centre = NORM.to_world(CENTRE)
    cameras = Cameras.pinhole(paths.look_at(centre + offset, centre), 100.0, 96, 80)
    views = SimpleNamespace(normalization=NORM, splits={"train": list(range(8)), "test": []}, train=list(range(8)))
    renderer = Renderer(field, grid, NORM, MarchOptions.for_box(aabb_scale))
    run = SimpleNamespace(field=field, grid=grid, views=views, cameras=cameras, renderer=renderer)
    run.on_cpu, run.at = lambda: run, lambda time, appearance: run
    return run


@pytest.fixture(scope="module")
def ball_run() -> SimpleNamespace:
    return fake_run(ball)


@pytest.mark.parametrize("resolution", [48, 63])
def test_ball_is_closed_and_in_place(ball_run: SimpleNamespace, resolution: int) -> None:
    density = ball_run.field.density
    mesh = density_mesh(lambda x: density(x)[0], occupied_cells(ball_run.grid), resolution, AT_SURFACE)
    found = report(mesh)
    assert found.watertight and found.n_components == 1
    distance = np.linalg.norm(mesh.vertices - CENTRE.numpy(), axis=1)
    # ln sigma is linear across the surface, but cut at +-3 within a cell: off by less than half a cell
    cell = 2.2 * RADIUS / resolution
    assert np.abs(distance - RADIUS).max() < cell / 2
    assert found.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=3 * cell / 2 / RADIUS)


def test_ring_has_a_hole() -> None:
    run = fake_run(ring)
    mesh = density_mesh(lambda x: run.field.density(x)[0], occupied_cells(run.grid), 80, AT_SURFACE)
    assert report(mesh).watertight
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).euler_number == 0


def test_density_is_asked_in_occupied_cells_only(ball_run: SimpleNamespace) -> None:
    (occupied,), asked = occupied_cells(ball_run.grid), []

    def density(x: Tensor) -> Tensor:
        asked.append(x)
        return ball_run.field.density(x)[0]

    density_mesh(density, [occupied], 40, AT_SURFACE)
    cells = (torch.cat(asked) * 128).long().numpy()
    assert occupied[cells[:, 0], cells[:, 1], cells[:, 2]].all()
    assert len(cells) < 40**3


def test_surface_at_the_border_of_the_cube_is_closed() -> None:
    mesh = density_mesh(lambda x: torch.full((len(x),), 100.0), [np.ones((8, 8, 8), bool)], 16, 10.0)
    found = report(mesh)
    assert found.watertight and found.volume == pytest.approx(1, abs=0.2)


def test_occupied_cells_are_those_of_the_grid_and_their_neighbours() -> None:
    grid = OccupancyGrid(1, 8)
    bits = torch.zeros_like(grid.bitfield)
    bits[0, 0b101_001] = 1 << 0b011  # x = 0b111, y = 0b001, z = 0b100 in Morton order
    grid.load_bits(bits)
    (cells,) = occupied_cells(grid)
    x, y, z = 0b111, 0b001, 0b100
    assert cells[x, y, z] and cells.sum() == 2 * 3 * 3 and cells[6:8, 0:3, 3:6].all()


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_export_in_the_world_frame_upright_and_painted(ball_run: SimpleNamespace, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"ball{suffix}"
    done = export_mesh(ball_run, path, resolution=40, level=AT_SURFACE * NORM.scale)
    loaded = trimesh.load(path, process=False)
    mesh = loaded.geometry[next(iter(loaded.geometry))] if suffix == ".glb" else loaded
    centre, radius = NORM.to_world(CENTRE).numpy(), RADIUS / NORM.scale
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), centre, atol=0.05)
    outward = (mesh.vertices - centre) / radius
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - centre, axis=1), radius, atol=0.05)
    assert ((mesh.vertex_normals * outward).sum(axis=1) > 0.95).all()
    assert done.report.watertight and done.found_by == "density 15 per world unit"
    if suffix == ".glb":
        assert loaded.bounds[1][1] == pytest.approx(centre[2] + radius, abs=0.05)  # +z of the world is +y of glTF
        colors = np.asarray(mesh.visual.vertex_attributes["color"], np.float64)
    else:
        colors = np.asarray(mesh.visual.vertex_colors, np.float64)
    left, top = outward[:, 0] < -0.1, outward[:, 2] > 0.6
    colors = colors / colors.max()
    assert (colors[left, 0] > 0.9).all() and (colors[~left & (outward[:, 0] > 0.1), 1] > 0.9).all()
    assert (colors[top, 2] > 0.9).all() and (colors[outward[:, 2] < 0, 2] < 0.1).all()


def test_an_stl_is_not_painted(ball_run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurfield.export.mesh._painted", lambda *_: pytest.fail("colours that no STL holds"))
    done = export_mesh(ball_run, tmp_path / "ball.stl", resolution=24, level=AT_SURFACE * NORM.scale)
    loaded = trimesh.load(tmp_path / "ball.stl")
    assert loaded.is_watertight and done.report.watertight


def test_a_mesh_of_a_world_with_y_down_stands_upright_in_gltf(ball_run: SimpleNamespace, tmp_path: Path) -> None:
    """That of a raw sparse model: the vertices stay in it, the node turns them."""
    angle = torch.arange(8) * torch.pi / 4
    offset = torch.stack([3 * angle.cos(), torch.full((8,), -0.5), 3 * angle.sin()], dim=1)
    centre = NORM.to_world(CENTRE)
    cameras = Cameras.pinhole(paths.look_at(centre + offset, centre, (0.0, -1.0, 0.0)), 100.0, 96, 80)
    run = SimpleNamespace(**{**vars(ball_run), "cameras": cameras})
    run.on_cpu, run.at = lambda: run, lambda time, appearance: run
    export_mesh(run, tmp_path / "ball.glb", resolution=24, level=AT_SURFACE * NORM.scale)
    loaded = trimesh.load(tmp_path / "ball.glb", process=False)
    assert loaded.bounds[1][1] == pytest.approx(-float(centre[1]) + RADIUS / NORM.scale, abs=0.1)


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.48, -0.6, 0.64)])
def test_the_node_of_a_glb_turns_up_to_y(up: tuple[float, float, float], tmp_path: Path) -> None:
    corners = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], up], np.float64)
    write_mesh(Mesh(corners, np.array([[0, 1, 2], [0, 3, 1]]), up=up), tmp_path / "m.glb")
    scene = trimesh.load(tmp_path / "m.glb", process=False)
    matrix, _ = scene.graph[scene.graph.nodes_geometry[0]]
    np.testing.assert_allclose(matrix[:3, :3] @ up, [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-7)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)


def test_a_mesh_is_not_spun_about_its_axis() -> None:
    """Mean ups of real views are a little off an axis: x stays on the right there as well."""
    for up in ((0.0, 0.0, 1.0), (1e-3, -0.999, 2e-3), (-2e-3, 0.999, 1e-3)):
        np.testing.assert_allclose(gltf_from_world(up)[:, 0], [1, 0, 0], atol=5e-3)


def test_metadata_leads_back_to_the_world(ball_run: SimpleNamespace, tmp_path: Path) -> None:
    world = export_mesh(ball_run, tmp_path / "world.ply", resolution=32)
    unit = export_mesh(ball_run, tmp_path / "unit.ply", resolution=32, frame="unit")
    line = (tmp_path / "unit.ply").read_bytes().split(b"\n")[2].decode()
    metadata = json.loads(line.removeprefix("comment neurfield "))
    assert metadata["frame"] == "unit"
    matrix = np.array(metadata["world_from_unit"])
    np.testing.assert_allclose(matrix @ [*unit.report.low, 1], [*world.report.low, 1], atol=1e-6)


def test_surroundings_are_exported_on_request_and_otherwise_told_of(tmp_path: Path) -> None:
    run = fake_run(far_ball, aabb_scale=4)
    options = {"resolution": 96, "level": AT_SURFACE * NORM.scale, "frame": "unit", "surface": "closed"}
    inner, cut, whole = (export_mesh(run, tmp_path / f"{i}.ply", extent=i, **options) for i in (1, 2, 4))
    assert (inner.is_cut, cut.is_cut, whole.is_cut) == (True, True, False)
    assert (inner.report.n_components, whole.report.n_components) == (1, 2)
    assert inner.report.high[0] == pytest.approx(float(CENTRE[0]) + RADIUS, abs=0.01)
    assert cut.report.high[0] == pytest.approx(1.5, abs=0.02) and cut.report.watertight
    assert whole.report.high[0] == pytest.approx(1.9, abs=0.02) and whole.report.watertight
    volume = 4 / 3 * np.pi * (RADIUS**3 + 0.4**3)
    assert whole.report.volume == pytest.approx(volume, rel=0.1)
    assert not export_mesh(fake_run(ball, aabb_scale=4), tmp_path / "ball.ply", resolution=24).is_cut


def wall(x: Tensor) -> Tensor:
    """A slab that the unit cube holds the middle of, and the cube of side 2 all."""
    return (torch.tensor([0.1, 0.9, 0.4]) - (x - CENTRE).abs()).amin(dim=1)


def ball_in_a_room(x: Tensor) -> Tensor:
    return torch.maximum(ball(x), (x - CENTRE).norm(dim=1) - 1.4)


def ball_on_a_tray(x: Tensor) -> Tensor:
    """A tray whose rim the unit cube cuts off."""
    return torch.maximum(ball(x), (torch.tensor([0.54, 0.54, 0.04]) - (x - CENTRE + 0.02).abs()).amin(dim=1))


@pytest.mark.parametrize("inside,extent", [(wall, 2), (ball_in_a_room, 1), (ball_on_a_tray, 1), (ball, 1)])
def test_the_cube_of_side_2_is_taken_of_a_scene_that_ends_in_it(
    inside: Callable[[Tensor], Tensor], extent: int, tmp_path: Path
) -> None:
    run, angle = fake_run(inside, aabb_scale=4), torch.linspace(-0.5, 0.5, 8)
    centre = NORM.to_world(CENTRE)
    offset = 5 * torch.stack([angle.cos(), angle.sin(), torch.full((8,), 0.3)], dim=1)
    run.cameras = Cameras.pinhole(paths.look_at(centre + offset, centre), 50.0, 96, 80)
    found = export_mesh(run, tmp_path / "chosen.ply", 32, frame="unit")
    given = export_mesh(run, tmp_path / "given.ply", 32, frame="unit", extent=extent)
    assert found.extent == given.extent == extent and found.report == given.report
    assert given.unit_share is None and found.unit_share is not None
    if inside is wall:
        assert found.report.high[1] == pytest.approx(float(CENTRE[1]) + 0.9, abs=0.06)
        assert found.unit_share == pytest.approx(5 / 9, abs=0.1)  # of its front, but for perspective


def test_cells_of_the_finest_cube_decide() -> None:
    """A field that is solid where the fine cells say empty: nothing of it shows up in a larger cube, either."""
    fine, coarse = np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)
    fine[:2, :2, :2] = True  # [0, 1/4]^3
    coarse[2:4, 2:4, 2:4] = True  # [0, 1/2]^3, beyond it nothing
    mesh = density_mesh(lambda x: torch.full((len(x),), 100.0), [fine, coarse], 64, 10.0)
    np.testing.assert_allclose([mesh.vertices.min(), mesh.vertices.max()], [0, 0.25], atol=1 / 64)


def holey(x: Tensor) -> Tensor:
    """The ball with a sponge inside: what trained densities are where no ray gets to."""
    sponge = (x * 60).sin().prod(dim=1) * 0.2
    return torch.where(ball(x) > 0.03, sponge, ball(x))


def test_a_mesh_is_what_the_views_see_and_solid_inside(tmp_path: Path) -> None:
    run = fake_run(holey)
    assert not run.renderer.is_fused, "a field of another's"
    seen = export_mesh(run, tmp_path / "seen.ply", resolution=64)
    assert seen.report.watertight and seen.report.n_components == 1 and seen.found_by == "depths of 8 training views"
    vertices = NORM.to_unit(torch.from_numpy(trimesh.load(tmp_path / "seen.ply").vertices).float())
    cell = 2.2 * RADIUS / 64
    # no camera stands above or below: the poles are solid up to where the cameras' rays pass
    belt = (vertices - CENTRE)[:, 2].abs() < 0.8 * RADIUS
    assert ball(vertices)[belt].abs().mean() < 0.4 * cell
    assert ball(vertices)[belt].abs().max() < 2 * cell
    options = {"resolution": 64, "level": AT_SURFACE * NORM.scale, "min_component": 0.0}
    sponge = export_mesh(fake_run(holey), tmp_path / "level.ply", **options)
    assert sponge.report.n_faces == pytest.approx(seen.report.n_faces, rel=0.2), "hollows are dropped"


def test_cavities_and_specks_are_dropped(tmp_path: Path) -> None:
    done = export_mesh(fake_run(hollow), tmp_path / "hollow.ply", resolution=48)
    assert done.report.n_components == 1
    assert done.report.volume == pytest.approx(4 / 3 * np.pi * (RADIUS / NORM.scale) ** 3, rel=0.1)
    run = fake_run(speck)
    assert export_mesh(run, tmp_path / "a.ply", resolution=64, min_component=0.1).report.n_components == 1
    assert export_mesh(run, tmp_path / "b.ply", resolution=64, min_component=0.0).report.n_components == 2


def test_a_field_without_surface_is_one_line(ball_run: SimpleNamespace, tmp_path: Path) -> None:
    empty = fake_run(lambda x: torch.full((len(x),), -1.0))
    with pytest.raises(UserError, match="the field is empty in the cube of side 1; train longer"):
        export_mesh(empty, tmp_path / "x.ply")
    wisp = fake_run(lambda x: torch.where((x - CENTRE).norm(dim=1) < 0.02, -0.0067, -1.0))  # stops no ray
    with pytest.raises(UserError, match="no surface at depths of 8 training views in the cube of side 1; train longer"):
        export_mesh(wisp, tmp_path / "x.ply", resolution=16)
    with pytest.raises(UserError, match=r"no surface at density 1e\+06 per world unit in .*; give a lower --level, or"):
        export_mesh(ball_run, tmp_path / "x.ply", level=1e6, resolution=16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options,message",
    [
        ({"path": "mesh.dae"}, "unknown mesh format '.dae'"),
        ({"path": "mesh.stl", "texture": 64}, "STL holds no texture; write .glb or .obj"),
        ({"resolution": 4}, "--resolution must be 8 ... 4096, got 4"),
        ({"resolution": "a"}, "--resolution must be 8 ... 4096, got 'a'"),
        ({"resolution": 99.5}, "--resolution must be 8 ... 4096, got 99.5"),
        ({"min_component": "a"}, "--min-component must be 0 ... 1, got 'a'"),
        ({"max_triangles": "a"}, "--max-triangles must be at least 100, got 'a'"),
        ({"path": "mesh.glb", "texture": "a"}, "--texture must be 64 ... 8192 texels a side, got 'a'"),
        ({"level": "a"}, "--level must be a density above 0, got 'a'"),
        ({"extent": "a"}, "--extent must be one of 1 .*, got a"),
        ({"level": -1.0}, "--level must be a density above 0, got -1"),
        ({"level": float("nan")}, "--level must be a density above 0, got nan"),
        ({"extent": 2}, r"--extent must be one of 1 \(the field's box has side 1\), got 2"),
        ({"frame": "wrld"}, "unknown frame 'wrld', did you mean 'world'"),
        ({"min_component": 2.0}, "--min-component must be 0 ... 1, got 2"),
        ({"max_triangles": 99}, "--max-triangles must be at least 100, got 99"),
        ({"path": "mesh.glb", "texture": 63}, "--texture must be 64 ... 8192 texels a side, got 63"),
        ({"texture": 512}, "mesh.ply: PLY holds no texture; write .glb or .obj"),
    ],
)
def test_wrong_options_are_one_line(ball_run: SimpleNamespace, options: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / options.pop("path", "mesh.ply")
    with pytest.raises(UserError, match=message):
        export_mesh(ball_run, path, **options)
    assert not path.exists()


def test_an_existing_file_stays_and_a_full_disk_leaves_nothing(
    ball_run: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mesh.ply"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists; choose another --output, or --overwrite"):
        export_mesh(ball_run, path)
    assert path.read_text() == "mine"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match=r"cannot write \(no space left on device\)"):
        export_mesh(ball_run, path, resolution=16, overwrite=True)
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("library", ["fast_simplification", "xatlas"])
def test_a_missing_library_is_named_before_anything_is_done(
    ball_run: SimpleNamespace, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurfield.export.mesh_options.find_spec", lambda name: None if name == library else name)
    with pytest.raises(UserError, match=rf"need {library}, which is not installed: pip install 'neurfield\[mesh\]'"):
        export_mesh(ball_run, tmp_path / "mesh.glb", texture=256)


def test_fewer_triangles_are_the_same_ball(ball_run: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip("fast_simplification")
    done = export_mesh(ball_run, tmp_path / "few.ply", 48, AT_SURFACE * NORM.scale, max_triangles=800)
    assert 700 < done.report.n_faces <= 800 and done.report.watertight
    loaded = trimesh.load(tmp_path / "few.ply", process=False)
    away = np.linalg.norm(loaded.vertices - NORM.to_world(CENTRE).numpy(), axis=1)
    np.testing.assert_allclose(away, RADIUS / NORM.scale, atol=0.03)  # most of a cell
    assert len(loaded.visual.vertex_colors) == len(loaded.vertices)


def test_a_texture_has_the_colors_of_the_field(ball_run: SimpleNamespace, tmp_path: Path) -> None:
    """Red left and green right, with an edge that vertices so few could not have."""
    for library in ("fast_simplification", "xatlas"):
        pytest.importorskip(library)
    path, parts = tmp_path / "ball.obj", []
    done = export_mesh(ball_run, path, 48, max_triangles=800, texture=512, progress=parts.append)
    assert done.report.watertight and done.report.n_components == 1  # cuts are no holes
    assert parts == sorted(parts) and parts[-1] == pytest.approx(1)
    loaded = trimesh.load(path, process=False)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".mtl", ".obj", ".png"]
    places, face = trimesh.sample.sample_surface(loaded, 4000, seed=1)
    weights = trimesh.triangles.points_to_barycentric(loaded.triangles[face], places)
    uv = (weights[:, :, None] * loaded.visual.uv[loaded.faces[face]]).sum(axis=1)
    image = np.asarray(loaded.visual.material.image.convert("RGB"))
    assert image.shape == (512, 512, 3)
    colors = image[(512 * (1 - uv[:, 1])).astype(int), (512 * uv[:, 0]).astype(int)]
    x, _, z = ((places - NORM.to_world(CENTRE).numpy()) / RADIUS * NORM.scale).T
    left, right = (x < -0.02) & (z > -0.5), (x > 0.02) & (z > -0.5)
    for side, color in ((left, 0), (right, 1)):
        assert (colors[side, color] == 255).mean() > 0.98 and (colors[side, 1 - color] == 0).mean() > 0.98
    with pytest.raises(UserError, match="exists"):
        path.unlink()
        export_mesh(ball_run, path, 48, texture=512)  # the picture would be replaced


def test_what_no_view_sees_is_left_out(tmp_path: Path) -> None:
    run = fake_run(ball)
    run.views.train = [0]  # looks along -x
    level = AT_SURFACE * NORM.scale
    whole = export_mesh(run, tmp_path / "closed.ply", 40, level)
    half = export_mesh(run, tmp_path / "seen.ply", 40, level, surface="seen")
    assert whole.report.watertight and whole.n_hidden == 0
    n_dropped = whole.report.n_faces - half.report.n_faces - half.n_hidden  # crumbs along the pixels of the horizon
    assert not half.report.watertight and 0 <= n_dropped < 0.01 * whole.report.n_faces
    cell = 2.2 * RADIUS / 40
    vertices = NORM.to_unit(torch.from_numpy(trimesh.load(tmp_path / "seen.ply").vertices).float()) - CENTRE
    # it stands 3 world units off, so its horizon is a little this side of the middle; a vertex may be six pixels behind
    # what is seen, each two cells wide, and less than that comes of it
    horizon = RADIUS * RADIUS / (3 * NORM.scale)
    assert vertices[:, 0].min() > horizon - 9 * cell
    front = trimesh.load(tmp_path / "closed.ply").vertices
    n_front = int((NORM.to_unit(torch.from_numpy(front).float())[:, 0] - CENTRE[0] > horizon).sum())
    n_there = int((vertices[:, 0] > horizon).sum())
    assert 0.99 * n_front < n_there <= n_front, "all of the near side, but for some of the rim where pixels see past it"


def test_a_sheet_that_is_thinner_than_a_cell_is_there(tmp_path: Path) -> None:
    """A disc that stands across x, which four of the cameras see from the left and four from the right."""

    def disc(x: Tensor) -> Tensor:
        q = x - CENTRE
        return torch.minimum(0.003 - (q[:, 0] - 0.3 * q[:, 1]).abs(), RADIUS - q.norm(dim=1))

    export_mesh(fake_run(disc), tmp_path / "disc.ply", 64, frame="unit")
    mesh = trimesh.load(tmp_path / "disc.ply", process=False)
    q = torch.from_numpy(mesh.vertices).float() - CENTRE
    assert mesh.area == pytest.approx(2 * np.pi * RADIUS**2 * 1.044, rel=0.15)
    assert (q[:, 0] - 0.3 * q[:, 1]).abs().median() < 2.2 * RADIUS / 64


def test_all_views_of_what_moves_are_of_one_time(tmp_path: Path) -> None:
    """As the run has it that `at` gives, of which nothing depends on the times of the cameras."""
    now, moving = fake_run(ball), fake_run(far_ball)
    asked = []
    moving.at = lambda time, appearance: asked.append((time, appearance)) or now
    found = export_mesh(moving, tmp_path / "a.ply", 32, frame="unit").report
    assert asked == [(None, None)]
    assert found.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.15)


def test_a_room_that_is_seen_from_within_has_walls(tmp_path: Path) -> None:
    """By depths its walls are a piece that is inside out."""
    run = fake_run(lambda x: torch.minimum((x - CENTRE).norm(dim=1) - 0.2, 0.35 - (x - CENTRE).norm(dim=1)))
    centre, directions = NORM.to_world(CENTRE), torch.cat([torch.eye(3), -torch.eye(3)])
    ups = [tuple(up.tolist()) for up in directions.roll(1, dims=1)]
    poses = torch.cat([paths.look_at(centre[None], centre + directions[i], ups[i]) for i in range(6)])
    run.cameras = Cameras.pinhole(poses, 40.0, 100, 100)
    run.views.train = list(range(6))
    for surface in ("closed", "seen"):
        export_mesh(run, tmp_path / f"{surface}.ply", 64, surface=surface)
        vertices = NORM.to_unit(torch.from_numpy(trimesh.load(tmp_path / f"{surface}.ply").vertices).float())
        radii = (vertices - CENTRE).norm(dim=1)
        assert float((radii - 0.2).abs().median()) < 0.005 and len(radii) > 5000


def test_surroundings_by_depths(tmp_path: Path) -> None:
    run = fake_run(far_ball, aabb_scale=4)
    found = export_mesh(run, tmp_path / "far.ply", 96, frame="unit", extent=4, surface="seen").report
    vertices = torch.from_numpy(trimesh.load(tmp_path / "far.ply").vertices).float()
    cell = (1.9 - 0.25) / 96
    assert found.n_components == 2 and found.high[0] > 1.5  # its far half is not seen
    assert float(far_ball(vertices).abs().median()) < 0.5 * cell


def test_a_crop_cuts_what_is_seen(tmp_path: Path) -> None:
    """Cells of x below the middle of the ball alone: the views look into its half."""
    whole = fake_run(ball)
    grid = whole.grid.cropped(lambda x: x[:, 0] < CENTRE[0])
    renderer = Renderer(whole.field, grid, NORM, MarchOptions.for_box(1))
    run = SimpleNamespace(**{**vars(whole), "grid": grid, "renderer": renderer})
    run.on_cpu, run.at = lambda: run, lambda time, appearance: run
    found = export_mesh(run, tmp_path / "half.ply", 48, frame="unit").report
    assert found.watertight and found.high[0] == pytest.approx(float(CENTRE[0]), abs=3 / 128)
    assert found.volume == pytest.approx(2 / 3 * np.pi * RADIUS**3, rel=0.15)


def test_pieces_that_no_view_sees_are_dropped(tmp_path: Path) -> None:
    """A speck behind the ball: its cells are solid as far as the only camera can tell, and are a piece of their own."""
    run = fake_run(lambda x: torch.maximum(ball(x), 0.03 - (x - CENTRE + torch.tensor([0.4, 0.0, 0.0])).norm(dim=1)))
    run.views.train = [0]  # looks along -x
    found = export_mesh(run, tmp_path / "a.ply", 48, min_component=0.0).report
    assert found.watertight and found.n_components == 1 and found.low[0] > NORM.to_world(CENTRE)[0] - 1.1
    level = AT_SURFACE * NORM.scale
    assert export_mesh(run, tmp_path / "b.ply", 48, level, min_component=0.0).report.n_components == 2


def test_what_lies_behind_a_silhouette_is_solid_or_left_out(tmp_path: Path) -> None:
    """By depths, the shadow of the ball is solid, and the sides of the shadow are not what a view sees."""
    run = fake_run(ball)
    run.views.train = [0]  # looks along -x
    horizon, cell = RADIUS * RADIUS / (3 * NORM.scale), 2.2 * RADIUS / 40
    lowest = {}
    for surface in ("closed", "seen"):
        export_mesh(run, tmp_path / f"{surface}.ply", 40, surface=surface)
        vertices = NORM.to_unit(torch.from_numpy(trimesh.load(tmp_path / f"{surface}.ply").vertices).float()) - CENTRE
        lowest[surface] = float(vertices[:, 0].min())
        near = vertices[vertices[:, 0] > horizon + 2 * cell]
        assert (near.norm(dim=1) - RADIUS).abs().max() < 2 * cell and len(near) > 500
    pixel = 2 * cell  # of a field that is drawn op by op
    # a vertex may be six pixels behind what is seen; a triangle with one that is has others, a cell further, and the
    # mean depth of a ray that grazes lies behind the horizon
    assert lowest["closed"] < -RADIUS + cell and lowest["seen"] > horizon - 6 * pixel - 2 * cell


def test_surroundings_make_it_what_is_seen(tmp_path: Path) -> None:
    run = fake_run(far_ball, aabb_scale=4)
    run.views.train = [2]
    assert export_mesh(run, tmp_path / "auto.ply", 32).n_hidden > 0
    assert export_mesh(run, tmp_path / "closed.ply", 32, surface="closed").report.watertight
    with pytest.raises(UserError, match="surface"):
        export_mesh(run, tmp_path / "x.ply", 32, surface="open")  # type: ignore[arg-type]
