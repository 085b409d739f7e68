# SPDX-License-Identifier: Apache-2.0
"""Photos in, field, pictures, videos and meshes out: all through the command line, and read back from the disk.

The scene is a ball, coloured by its normal, that stands aside of the world's origin: whatever mixes up frames, axes,
scales or kinds of depth moves it or paints it wrong.
"""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from neurfield.cameras.paths import quaternion_from_matrix
from neurfield.cli.main import main
from neurfield.data.scene import Normalization
from neurfield.rendering.color import linear_to_srgb
from tests.scenes import RADIUS as SMALL_RADIUS
from tests.scenes import ball_scene, write_transforms
from tests.training.test_trainer import SMALL

SCALE = 2.0  # of the world, against that of tests.scenes
CENTRE = np.array([6.0, -3.0, 2.0])
RADIUS = SCALE * SMALL_RADIUS
DISTANCE = SCALE * 3.0  # of every camera
SIZE = 48
N_TRAIN, N_TEST = 24, 2
NGP_SCALE = 0.33 / SCALE
NORM = Normalization(NGP_SCALE, tuple(0.5 - NGP_SCALE * CENTRE), 1, "given")

# Fog is punished, so that seconds of training make a surface.
METHOD = (*SMALL, "field.max_resolution=32", "loss.distortion=0.05", "loss.opacity_entropy=0.001")
PLACE = 0.5 / 32 / NGP_SCALE  # half of a finest cell: where surfaces must be
COLOR = 127.5 * 2 * PLACE / RADIUS  # of a point that is off by twice that, since a colour is a normal
ALIGNED = 2 / 3  # least mean cosine of normals; without noise it is 1, with axes swapped or turned 1 / 3 at most


@pytest.fixture(scope="module")
def scene():
    small = ball_scene(N_TRAIN, N_TEST, SIZE)
    cameras = small.cameras.transformed(SCALE, torch.from_numpy(CENTRE).float())
    return dataclasses.replace(small, cameras=cameras, normalization=NORM)


@pytest.fixture(scope="module")
def run(scene, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run")
    data = write_transforms(scene, folder / "ball")
    words = ["train", data, "--output-dir", folder, "--timestamp", "t", "--max-num-iterations", 300, "--set", *METHOD]
    command = [sys.executable, "-m", "neurfield.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "test: PSNR" in done.stdout, done.stdout + done.stderr
    return str(folder / "ball/ngp-fast/t")


def render(run: str, output: Path, *words: object) -> dict:
    assert main(["render", run, "--output", str(output), *map(str, words)]) == 0
    return json.loads((output / "frames.json").read_text()) if output.is_dir() else {}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def views(run, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("views") / "test"
    render(run, output, "--split", "test", "--outputs", "rgb", "depth", "normal", "accumulation")
    return output


def solid(scene, view: int) -> np.ndarray:
    """Pixels two pixels and more inside of the ball's outline."""
    alpha = (scene.images[view][..., 3] > 0).float()[None, None]
    return (-torch.nn.functional.max_pool2d(-alpha, 5, 1, 2)[0, 0] > 0).numpy()


def test_eval_measures_the_pictures_that_render_writes(run, scene, views, capsys):
    assert main(["eval", run]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["psnr"] > 24 and report["step"] == 300  # the ball in its mean colour would give 17 dB
    for number, view in enumerate(range(N_TRAIN, N_TRAIN + N_TEST)):
        rgba = scene.images[view].numpy() / 255
        truth = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        error = np.square(pixels(views / f"rgb/{view:03d}.png") / 255 - truth).mean()
        assert -10 * math.log10(error) == pytest.approx(report["per_image"][number]["psnr"], abs=0.05)  # 8 bits


def test_every_output_shows_the_ball_in_the_world_frame(scene, views):
    frames = json.loads((views / "frames.json").read_text())["frames"]
    assert len(frames) == N_TEST
    for number, view in enumerate(range(N_TRAIN, N_TRAIN + N_TEST)):
        frame, camera = frames[number], scene.cameras[view]
        np.testing.assert_allclose(np.array(frame["transform_matrix"])[:3], camera.c2w[0].numpy(), atol=1e-5)
        assert (frame["w"], frame["h"]) == (SIZE, SIZE) and frame["fl_x"] == pytest.approx(1.4 * SIZE)
        read = {name: views / path for name, path in frame["files"].items()}
        inside, truth = solid(scene, view), scene.images[view].numpy().astype(float)
        rgb, normal, acc = (pixels(read[name]).astype(int) for name in ("rgb", "normal", "accumulation"))
        assert np.abs(rgb - truth[..., :3])[inside].mean() < COLOR
        assert mean_cosine(normal[inside], truth[inside, :3]) > ALIGNED
        assert acc[inside].mean() > 240 and acc[0, 0] < 8 and rgb[0, 0].min() > 247
        depth = np.load(read["depth"])
        assert depth.dtype == np.float32 and depth[0, 0] == 0
        points = world_points(frame, depth)[inside]
        error = points - (CENTRE + RADIUS * (2 * truth[inside, :3] / 255 - 1))
        assert np.linalg.norm(error, axis=1).mean() < PLACE


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between normals `[n, 3]` that are given as bytes."""
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a.reshape(-1, 3) - 127.5, b.reshape(-1, 3) - 127.5))
    return float((a * b).sum(axis=1).mean())


def world_points(frame: dict, z_depth: np.ndarray) -> np.ndarray:
    """Points `[h, w, 3]` of a z-depth, by frames.json alone."""
    y, x = np.mgrid[: frame["h"], : frame["w"]] + 0.5
    local = np.stack([(x - frame["cx"]) / frame["fl_x"], -(y - frame["cy"]) / frame["fl_y"], -np.ones_like(x)], -1)
    c2w = np.array(frame["transform_matrix"])
    return (local * z_depth[..., None]) @ c2w[:3, :3].T + c2w[:3, 3]


def test_depth_is_the_same_in_every_format(run, views, tmp_path):
    exr_module = pytest.importorskip("OpenEXR")
    expected = np.load(views / "depth/024.npy")
    render(run, tmp_path / "exr", "--outputs", "depth", "--depth-format", "exr")
    with exr_module.File(str(tmp_path / "exr/depth/024.exr")) as file:
        np.testing.assert_array_equal(file.channels()["Z"].pixels, expected)
    content = render(run, tmp_path / "mm", "--outputs", "depth", "--depth-format", "png")
    assert content["depth"]["unit"].startswith("millimetre")
    millimetres = pixels(tmp_path / "mm/depth/024.png")
    assert millimetres.dtype == np.uint16
    np.testing.assert_allclose(millimetres / 1000, expected, atol=0.5001e-3)


def test_depth_along_the_ray_is_longer_off_the_axis(run, scene, views, tmp_path):
    content = render(run, tmp_path / "ray", "--outputs", "depth", "--depth-kind", "ray")
    ray, z = np.load(tmp_path / "ray/depth/024.npy"), np.load(views / "depth/024.npy")
    offset = (np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2) / (1.4 * SIZE)
    np.testing.assert_allclose(ray, z * np.sqrt(1 + (offset**2).sum(axis=0)), rtol=1e-5)
    assert content["depth"]["kind"].startswith("distance from the camera")
    assert ray[SIZE // 2, SIZE // 2] == pytest.approx(DISTANCE - RADIUS, abs=PLACE)


def test_orbit_goes_around_the_ball(run, tmp_path):
    frames = render(run, tmp_path / "orbit", "--orbit", 4, "--elevation", 30, "--downscale-factor", 2)["frames"]
    assert len(frames) == 4
    for frame in frames:
        pose = np.array(frame["transform_matrix"])
        offset = pose[:3, 3] - CENTRE
        assert np.linalg.norm(offset) == pytest.approx(DISTANCE, rel=0.01)
        assert offset[2] == pytest.approx(DISTANCE / 2, rel=0.01)
        rgb = pixels(tmp_path / "orbit" / frame["files"]["rgb"]).astype(int)
        assert rgb.shape == (SIZE // 2, SIZE // 2, 3)
        middle = 127.5 + 127.5 * offset / np.linalg.norm(offset)
        assert np.abs(rgb[SIZE // 4, SIZE // 4] - middle).mean() < 2 * COLOR  # a single pixel


def test_orbit_video_with_every_output(run, tmp_path):
    av = pytest.importorskip("av")
    words = ["--orbit", 3, "--fps", 12, "--outputs", "rgb", "depth", "normal", "accumulation"]
    render(run, tmp_path / "orbit.mp4", *words)
    with av.open(str(tmp_path / "orbit.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.width, stream.height, stream.average_rate) == (3, 4 * SIZE, SIZE, 12)
        images = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
    for image in images:
        rgb, depth, normal, acc = (image[:, i * SIZE : (i + 1) * SIZE] for i in range(4))
        half = SIZE // 2
        assert rgb[2, 2].min() > 235 and depth[2, 2].min() > 235 and acc[2, 2].max() < 20  # outside: white, black
        assert acc[half, half].min() > 235 and depth[half, half].min() < 235
        middle = slice(half - 8, half + 8)
        assert mean_cosine(normal[middle, middle], rgb[middle, middle]) > ALIGNED


def test_a_camera_path_of_nerfstudio_is_in_the_world_frame(run, scene, views, tmp_path):
    camera = scene.cameras[N_TRAIN]
    fov = math.degrees(2 * math.atan(0.5 / 1.4))
    frame = {"camera_to_world": [*camera.c2w[0].flatten().tolist(), 0, 0, 0, 1], "fov": fov, "aspect": 1}
    content = {"camera_type": "perspective", "render_width": SIZE, "render_height": SIZE, "camera_path": [frame] * 2}
    (tmp_path / "camera_path.json").write_text(json.dumps(content))
    render(run, tmp_path / "out", "--camera-path", tmp_path / "camera_path.json")
    assert_same_picture(tmp_path / "out/rgb/00001.png", views / "rgb/024.png")


def test_a_camera_path_of_instant_ngp_has_the_frame_of_the_data(run, scene, views, tmp_path):
    """As instant-ngp keeps a pose: y and z of the camera turned, scaled and shifted, rows in the order y z x."""
    av = pytest.importorskip("av")
    c2w = scene.cameras.c2w[N_TRAIN]
    position = c2w[:, 3] * NORM.scale + torch.tensor(NORM.offset)
    rotation = (c2w[:, :3] * torch.tensor([1.0, -1.0, -1.0]))[[1, 2, 0]]
    w, x, y, z = quaternion_from_matrix(rotation[None])[0].tolist()
    fov = math.degrees(2 * math.atan(0.5 / 1.4))
    key = {"R": [x, y, z, w], "T": position[[1, 2, 0]].tolist(), "fov": fov}
    (tmp_path / "base_cam.json").write_text(json.dumps({"path": [key, key], "time": 0.0}))
    words = ["--camera-path", tmp_path / "base_cam.json", "--seconds", 0.2, "--fps", 10]
    render(run, tmp_path / "out", *words)
    assert [path.name for path in sorted((tmp_path / "out/rgb").iterdir())] == ["00000.png", "00001.png"]
    assert_same_picture(tmp_path / "out/rgb/00001.png", views / "rgb/024.png")
    render(run, tmp_path / "path.mp4", *words)
    with av.open(str(tmp_path / "path.mp4")) as container:
        assert container.streams.video[0].frames == 2


def assert_same_picture(path: Path, expected: Path) -> None:
    """Poses went through a few roundings, so that single samples fall into other cells at the outline."""
    difference = np.abs(pixels(path).astype(int) - pixels(expected))
    assert difference.mean() < 0.1 and np.quantile(difference, 0.99) <= 1


def test_the_point_cloud_is_the_ball_in_the_world_frame(run, tmp_path, capsys):
    path = tmp_path / "ball.ply"
    assert main(["export", "pointcloud", run, "--output", str(path), "--num-points", "2000"]) == 0
    cloud = trimesh.load(path)
    assert capsys.readouterr().out == f"{len(cloud.vertices)} points; world frame; written to {path}\n"
    assert 1000 < len(cloud.vertices) <= 2000
    radius = np.linalg.norm(cloud.vertices - CENTRE, axis=1)
    assert np.abs(np.median(radius) - RADIUS) < PLACE


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_mesh_is_the_ball_in_the_world_frame(run, suffix, tmp_path, capsys):
    path = tmp_path / f"ball.{suffix}"
    assert main(["export", "mesh", run, "--output", str(path), "--resolution", "48"]) == 0
    assert "closed" in capsys.readouterr().out
    loaded = trimesh.load(path, process=False)
    if suffix == "glb":
        (mesh,) = loaded.geometry.values()
        upright = loaded.to_mesh().vertices  # turned by its node: glTF's up is +y
        vertices = upright[:, [0, 2, 1]] * [1, -1, 1]
        linear = np.asarray(mesh.visual.vertex_attributes["color"], float)[:, :3] / 65535
        colors = 255 * linear_to_srgb(torch.from_numpy(linear)).numpy()
    else:
        mesh, vertices = loaded, np.asarray(loaded.vertices)
        colors = np.asarray(mesh.visual.vertex_colors)[:, :3].astype(float)
    offset = vertices - CENTRE
    radius = np.linalg.norm(offset, axis=1)
    assert np.quantile(np.abs(radius - RADIUS), 0.9) < 2 * PLACE  # what no camera sees may bulge
    assert np.abs(vertices.max(axis=0) + vertices.min(axis=0) - 2 * CENTRE).max() < 4 * PLACE
    seen = np.abs(radius - RADIUS) < 2 * PLACE
    assert np.abs(colors - (127.5 + 127.5 * offset / radius[:, None]))[seen].mean() < COLOR
    assert mesh.is_watertight
