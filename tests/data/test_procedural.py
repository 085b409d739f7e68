# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurfield.data.procedural import NAMES, SCENES, build, shapes, windmill
from neurfield.data.procedural import make as procedural
from neurfield.data.procedural.imaging import Picture
from neurfield.data.procedural.lighting import MOVING_RESOLUTION, Light, LightVolume
from neurfield.data.procedural.model import FAR, HIT, Group, Model, Part, Surface
from neurfield.errors import UserError

SIZE, VIEWS = 48, 6

SHAPES = {
    "sphere": shapes.sphere(0.4),
    "ellipsoid": shapes.ellipsoid(0.5, 0.3, 0.2),
    "box": shapes.box(0.4, 0.3, 0.2, 0.05),
    "cylinder": shapes.cylinder(0.3, -0.2, 0.4, 0.03),
    "cone": shapes.cone(-0.3, 0.4, 0.4, 0.1),
    "capsule": shapes.capsule((-0.2, 0.1, 0.0), (0.3, 0.2, 0.3), 0.1),
    "torus": shapes.torus(0.35, 0.1),
    "gable": shapes.gable(0.4, 0.3, -0.1, 0.3),
    "helix": shapes.helix(0.3, 0.04, -0.3, 0.3, 5),
    "union": shapes.union(shapes.sphere(0.2), shapes.moved(shapes.box(0.2, 0.1, 0.1), (0.3, 0, 0))),
    "smooth_union": shapes.smooth_union(0.1, shapes.sphere(0.2), shapes.moved(shapes.sphere(0.2), (0.3, 0, 0))),
    "difference": shapes.difference(shapes.sphere(0.4), shapes.box(0.1, 0.1, 1)),
    "shell": shapes.shell(shapes.sphere(0.4), 0.02),
    "moved": shapes.moved(shapes.box(0.3, 0.2, 0.1), (0.1, 0.2, 0.0), yaw=30, pitch=20, roll=10),
    "mirrored": shapes.mirrored(shapes.moved(shapes.sphere(0.2), (0.3, 0, 0)), 0),
}


def points(n: int, seed: int = 0, reach: float = 0.8) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-reach, reach, (3, n)).astype(np.float32)


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    return Model(build(request.param, 0.3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("procedural") / "lighthouse"
    return procedural.make("lighthouse", output, views=VIEWS, resolution=SIZE, mesh_resolution=64)


@pytest.mark.parametrize("name", SHAPES)
def test_distance_grows_no_faster_than_space(name: str) -> None:
    """The property that sphere tracing needs. 1 % covers the helix, whose coils are taken as locally flat."""
    a, b = points(20000), points(20000, seed=1)
    b = a + (b - a) * np.float32(0.2)
    slope = np.abs(SHAPES[name](a) - SHAPES[name](b)) / np.linalg.norm(a - b, axis=0)
    assert slope.max() <= 1.01
    assert SHAPES[name](a).min() < 0 < SHAPES[name](a).max()


@pytest.mark.parametrize("yaw,pitch,roll", [(90, 0, 0), (0, 90, 0), (0, 0, 90), (30, 40, 50)])
def test_rotation_is_rigid(yaw: float, pitch: float, roll: float) -> None:
    m = shapes.rotation(yaw, pitch, roll)
    np.testing.assert_allclose(m @ m.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(m) == pytest.approx(1, abs=1e-6)


def test_displacement_keeps_far_points_safe() -> None:
    shape = shapes.displaced(shapes.sphere(0.4), lambda p: np.sin(p[0] * 20) * np.float32(0.02), 0.02)
    p = points(5000)
    exact = shapes.sphere(0.4)(p) + np.sin(p[0] * 20) * np.float32(0.02)
    near = np.abs(shapes.sphere(0.4)(p)) < 0.04
    np.testing.assert_allclose(shape(p)[near], exact[near], atol=1e-6)
    assert (shape(p) <= exact + 1e-6).all()


def test_parts_stay_inside_their_boxes_and_can_be_traced(model: Model) -> None:
    rng = np.random.default_rng(0)
    for part in model.parts:
        low, high = np.float32(part.low)[:, None], np.float32(part.high)[:, None]
        # points just outside of the six faces
        p = low + (high - low) * rng.random((3, 1200), dtype=np.float32)
        for face in range(6):
            p[face % 3, face * 200 : face * 200 + 200] = (low - 2e-3 if face < 3 else high + 2e-3)[face % 3]
        assert part.distance(p).min() > -1e-4, f"{part.surface} leaves its box"
        p = low + (high - low) * rng.random((3, 4000), dtype=np.float32)
        q = p + np.float32(2e-3) * rng.standard_normal((3, 4000)).astype(np.float32)
        slope = np.abs(part.distance(p) - part.distance(q)) / np.linalg.norm(p - q, axis=0)
        # outside, where rays are; a displaced shape jumps, safely, on a shell around it: hence a quantile
        outside = part.distance(p) > 0
        assert np.quantile(slope[outside], 0.97, method="higher") * part.step < 1.1 if outside.any() else True, (
            f"{part.surface} needs a smaller step"
        )


def test_rays_end_on_the_first_surface(model: Model) -> None:
    frame = procedural.frames_of(3)[0]
    c2w = np.float32(frame.c2w)
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-0.3, 0.3, 40), np.linspace(-0.3, 0.3, 40)))
    directions = np.float32(c2w[:, :1] * x + c2w[:, 1:2] * y - c2w[:, 2:3])
    directions /= np.linalg.norm(directions, axis=0)
    t, part = model.cast(c2w[:, 3:], directions)
    hit = part >= 0
    assert 0.2 < hit.mean() < 1 and (t[~hit] == FAR).all()
    end = c2w[:, 3:] + directions[:, hit] * t[hit]
    for solid, rows in model.by_part(part[hit]):
        # found within 12 HIT at the last step, and then moved on by as much
        assert np.abs(solid.distance(end[:, rows])).max() < 24 * HIT
    # nothing in front, looked for in 600 places along each ray
    for s in np.linspace(0.5, 0.998, 600, dtype=np.float32):
        inside = model.nearest(c2w[:, 3:] + directions[:, hit] * (t[hit] * s), 0.01)[0]
        assert inside.min() > -2e-3


def test_normals_of_a_sphere_point_outwards() -> None:
    ball = Part(shapes.sphere(0.5), (-0.5,) * 3, (0.5,) * 3, lambda p, n: Surface(np.ones((3, 1), np.float32)))
    model = Model(Group([ball]))
    p = points(100)
    p *= np.float32(0.5) / np.linalg.norm(p, axis=0)
    # four distances rounded at 0.5, divided by the step of 4e-4
    np.testing.assert_allclose(model.normals(p, np.zeros(100, np.int16)), p * 2, atol=2e-3)


def test_folder_has_the_layout_of_nerf_synthetic(folder: Path) -> None:
    for split, count in (("train", VIEWS), ("val", 1), ("test", 1)):
        content = json.loads((folder / f"transforms_{split}.json").read_text())
        assert len(content["frames"]) == count and 0.69 < content["camera_angle_x"] < 0.7
        for frame in content["frames"]:
            image = np.asarray(Image.open(folder / (frame["file_path"] + ".png")))
            assert image.shape == (SIZE, SIZE, 4) and image.dtype == np.uint8
            assert 0.1 < (image[..., 3] == 255).mean() < 0.9 and (image[0, 0] == 0).all()
            pose = np.array(frame["transform_matrix"])
            np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-6)
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["ground_truth", "test", "train", "val", *(f"transforms_{split}.json" for split in ("train", "val", "test"))]
    )


def test_truth_agrees_with_picture_and_mesh(folder: Path) -> None:
    """Depth unprojects onto the mesh, normals face the camera, both are empty exactly where nothing is."""
    trimesh = pytest.importorskip("trimesh")
    content = json.loads((folder / "transforms_test.json").read_text())
    pose = np.array(content["frames"][0]["transform_matrix"])
    depth = np.load(folder / "ground_truth/test/r_000_depth.npy")
    normal = np.load(folder / "ground_truth/test/r_000_normal.npy").astype(np.float32)
    alpha = np.asarray(Image.open(folder / "test/r_000.png"))[..., 3]
    assert ((depth > 0) >= (alpha == 255)).all() and ((depth > 0) <= (alpha > 0)).all()
    row, column = np.nonzero(depth)
    focal = SIZE / 2 / np.tan(content["camera_angle_x"] / 2)
    z = depth[row, column]
    local = np.stack([(column + 0.5 - SIZE / 2) / focal * z, (SIZE / 2 - row - 0.5) / focal * z, -z])
    world = pose[:3, :3] @ local + pose[:3, 3:]
    mesh = trimesh.load(folder / "ground_truth/mesh.ply", process=False)
    assert mesh.is_watertight
    cell = 2.4 / 64
    from scipy.spatial import cKDTree

    gap = cKDTree(mesh.vertices).query(world.T)[0]
    assert np.median(gap) < cell and np.quantile(gap, 0.99) < 2 * cell  # the rest sits on parts thinner than a cell
    facing = (normal[row, column] * (pose[:3, 3] - world.T)).sum(axis=1)
    assert (facing > -0.02).mean() > 0.995
    np.testing.assert_allclose(np.linalg.norm(normal[row, column], axis=1), 1, atol=2e-3)


def test_same_bytes_in_another_process(folder: Path) -> None:
    model = Model(SCENES["lighthouse"]())
    picture = Picture(model, LightVolume.bake(model, Light()))
    frame = procedural.frames_of(VIEWS)[2]
    focal = 0.5 * SIZE / np.tan(0.5 * procedural.CAMERA_ANGLE_X)
    view = picture.render(np.float32(frame.c2w), focal, SIZE)
    np.testing.assert_array_equal(view.rgba, np.asarray(Image.open(folder / "train/r_002.png")))


def test_pictures_converge_to_many_samples(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adaptive averages against 7 x 7 rays in every pixel; 3 x 3 samples of full contrast edges give 34 dB."""
    volume = LightVolume(model, Light())
    volume.values[:] = 1
    picture = Picture(model, volume)
    c2w, focal = np.float32(procedural.frames_of(3)[1].c2w), 1.4 * SIZE
    quick = picture.render(c2w, focal, SIZE).rgba.astype(np.float32)
    monkeypatch.setattr("neurfield.data.procedural.imaging.SUBSAMPLES", 7)
    monkeypatch.setattr("neurfield.data.procedural.imaging.THRESHOLD", -1.0)
    full = picture.render(c2w, focal, SIZE).rgba.astype(np.float32)
    premultiplied = [image[..., :3] * image[..., 3:] / 255 for image in (quick, full)]
    error = np.sqrt(np.square(premultiplied[0] - premultiplied[1]).mean())
    assert 20 * np.log10(255 / error) > 34


def test_a_scene_that_moves(tmp_path: Path) -> None:
    """Frames have times, pictures are of them, the ground truth is that of each test view's time."""
    folder = procedural.make("windmill", tmp_path / "mill", views=4, resolution=SIZE, mesh_resolution=16)
    times = {
        split: [frame["time"] for frame in json.loads((folder / f"transforms_{split}.json").read_text())["frames"]]
        for split in ("train", "val", "test")
    }
    assert sorted(times["train"]) == pytest.approx([0, 1 / 3, 2 / 3, 1]) and times["train"] != sorted(times["train"])
    assert times["val"] == times["test"] == [0.5]
    model = Model(build("windmill", 0.5))
    volume = LightVolume.bake(model, Light(), MOVING_RESOLUTION)
    frame = next(frame for frame in procedural.frames_of(4, moves=True) if frame.split == "test")
    focal = 0.5 * SIZE / np.tan(0.5 * procedural.CAMERA_ANGLE_X)
    view = Picture(model, volume).render(np.float32(frame.c2w), focal, SIZE)
    np.testing.assert_array_equal(view.rgba, np.asarray(Image.open(folder / "test/r_000.png")))
    np.testing.assert_array_equal(view.depth, np.load(folder / "ground_truth/test/r_000_depth.npy"))
    truth = json.loads((folder / "ground_truth/scene.json").read_text())
    assert truth["mesh"]["time"] == 0
    assert {path.name for path in folder.iterdir()} >= {"train", "test", "ground_truth"}
    assert not list(folder.glob("light*"))


def test_the_windmill_turns_half_a_turn_and_its_ball_hops() -> None:
    middle = np.float32(windmill.HUB)[:, None]
    tips = {"up": (0, 0, 0.5), "right": (0.5, 0, 0), "down": (0, 0, -0.5)}
    for time, red in ((0.0, "up"), (0.5, "right"), (1.0, "down")):
        sail = Model(windmill.sails(180 * time)).parts[0]
        for name, tip in tips.items():
            inside = float(sail.distance(middle + np.float32(tip)[:, None])[0]) < 0.01
            assert inside == (name == red), (time, name)
    heights = [windmill.ball_middle(t)[2] for t in (0, 1 / 6, 1 / 3, 1 / 2, 1)]
    assert heights[1] == pytest.approx(heights[3]) and heights[0] == pytest.approx(heights[2])
    assert heights[0] < heights[1]


def test_wrong_use_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown procedural scene 'lighthous', did you mean 'lighthouse'"):
        procedural.make("lighthous", tmp_path / "x")
    with pytest.raises(UserError, match=r"views must be 1 ... 10000, got 0"):
        procedural.make("lighthouse", tmp_path / "x", views=0)
    with pytest.raises(UserError, match=r"resolution must be 8 ... 4096, got 5000"):
        procedural.make("lighthouse", tmp_path / "x", resolution=5000)
    (tmp_path / "old" / "pictures").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no transforms_train\.json, so it is not replaced"):
        procedural.make("lighthouse", tmp_path / "old", overwrite=True)
    (tmp_path / "old" / "transforms_train.json").write_text("{}")
    with pytest.raises(UserError, match="exists; choose another --output, or --overwrite"):
        procedural.make("lighthouse", tmp_path / "old")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
