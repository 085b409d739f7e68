# SPDX-License-Identifier: Apache-2.0
"""Poses of Polycam, Record3D, Metashape, OpenSfM, LLFF, NSVF and Nerfies: what their own projection puts into a pixel,
our ray of that pixel hits; and what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from neurfield import ops
from neurfield.cameras.paths import quaternion_from_matrix
from neurfield.data import load_scene, read_manifest
from neurfield.errors import UserError
from tests.data.small import HEIGHT, WIDTH, circle, write_images, write_json

N = 9
FOCAL = (10.0, 11.0)
CENTER = (4.3, 2.8)  # of 8 x 6 pixels
POINTS = np.random.default_rng(0).uniform(-0.6, 0.6, (40, 3))
Project = Callable[[np.ndarray, np.ndarray], np.ndarray]  # pose [4, 4] with OpenGL axes, points [n, 3] -> pixels [n, 2]


def in_camera(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Right, down and forward of points in the world."""
    return (points - pose[:3, 3]) @ pose[:3, :3] * [1, -1, -1]


def pinhole(pose: np.ndarray, points: np.ndarray, focal: tuple[float, float] = FOCAL) -> np.ndarray:
    x = in_camera(pose, points)
    return x[:, :2] / x[:, 2:] * focal + CENTER


def check_projection(root: Path, project: Project, poses: list[np.ndarray], points: np.ndarray = POINTS) -> None:
    cameras = load_scene(root, test_every=0).cameras
    assert len(cameras) == len(poses)
    for i, pose in enumerate(poses):
        pixels = torch.from_numpy(project(pose, points)).float()
        origins, directions = ops.camera_rays(cameras, torch.full((len(points),), i), pixels)
        to_point = torch.from_numpy(points).float() - origins
        along = (to_point * directions).sum(dim=1, keepdim=True)
        assert (along > 0).all()
        torch.testing.assert_close(to_point, along * directions, rtol=0, atol=2e-4)


def write_polycam(root: Path, n: int = N, cameras: str = "corrected_cameras", **changes: Any) -> None:
    images = cameras.replace("cameras", "images")
    write_images(root, n, f"keyframes/{images}", suffix=".jpg")
    (root / "keyframes" / cameras).mkdir(parents=True)
    lens = {"fx": FOCAL[0], "fy": FOCAL[1], "cx": CENTER[0], "cy": CENTER[1], "width": WIDTH, "height": HEIGHT}
    for i, pose in enumerate(circle(n)):
        entries = {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        write_json(root / f"keyframes/{cameras}/{i:03d}.json", {**lens, **entries, "blur_score": 100.0, **changes})


def write_record3d(root: Path, n: int = N, unpacked: bool = False, **changes: Any) -> None:
    folder, file = ("rgbd", "metadata") if unpacked else ("rgb", "metadata.json")
    write_images(root, n, folder, suffix=".jpg")
    for i in range(n):
        (root / folder / f"{i:03d}.jpg").rename(root / folder / f"{i}.jpg")
    turned = quaternion_from_matrix(torch.from_numpy(np.stack(circle(n))[:, :3, :3])).tolist()  # w first
    poses = [[*q[1:], q[0], *pose[:3, 3]] for q, pose in zip(turned, circle(n), strict=True)]
    matrix = [FOCAL[0], 0, 0, 0, FOCAL[1], 0, *CENTER, 1]
    write_json(root / file, {"poses": poses, "K": matrix, "w": WIDTH, "h": HEIGHT, "fps": 30, **changes})


CALIBRATION = {"f": 10.0, "b1": 0.3, "cx": 0.3, "cy": -0.2, "k1": -0.2, "k2": 0.05, "k3": 0.01, "p1": 0.02, "p2": -0.01}
SCALE, SHIFT = 2.5, np.array([1.0, 2.0, 3.0])
TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def write_metashape(
    root: Path,
    n: int = N,
    kind: str = "frame",
    calibration: dict[str, float] = CALIBRATION,
    head: str = "",
    folder: str = "images",
    lost: str = "",
    in_component: bool = True,
    before: str = "",
) -> None:
    write_images(root, n, folder, suffix=".JPG")
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in calibration.items())
    to_world = (
        f"<transform><rotation>{' '.join(map(str, TURN.ravel()))}</rotation>"
        f"<translation>{' '.join(map(str, SHIFT))}</translation><scale>{SCALE}</scale></transform>"
    )
    cameras = ""
    for i, pose in enumerate(circle(n)):
        local = pose @ np.diag([1.0, -1, -1, 1])
        matrix = f"<transform>{' '.join(map(str, local.ravel()))}</transform>"
        cameras += f'<camera id="{i}" sensor_id="0" component_id="0" label="{before}{i:03d}">{matrix}</camera>'
    components = (
        f'<components next_id="1"><component id="0">{to_world if in_component else ""}</component></components>'
    )
    (root / "cameras.xml").write_text(
        f'<?xml version="1.0"?>{head}<document version="1.5.0"><chunk label="Chunk 1">'
        f'<sensors next_id="1"><sensor id="0" label="unknown" type="{kind}">'
        f'<resolution width="{WIDTH}" height="{HEIGHT}"/><calibration class="initial"><f>1</f></calibration>'
        f'<calibration type="{kind}" class="adjusted">{inner}</calibration></sensor></sensors>{components}'
        f'<cameras next_id="{n}"><group id="0" label="g">{cameras}</group>{lost}</cameras></chunk></document>'
    )


def metashape_frame(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Metashape's manual, "Frame cameras"; the points are in the world, the pose within the component."""
    x, y = (
        in_camera(pose, (points - SHIFT) / SCALE @ TURN)[:, :2]
        / in_camera(pose, (points - SHIFT) / SCALE @ TURN)[:, 2:]
    ).T
    c, r2 = CALIBRATION, x * x + y * y
    radial = 1 + c["k1"] * r2 + c["k2"] * r2**2 + c["k3"] * r2**3
    xd = x * radial + c["p1"] * (r2 + 2 * x * x) + 2 * c["p2"] * x * y
    yd = y * radial + c["p2"] * (r2 + 2 * y * y) + 2 * c["p1"] * x * y
    return np.stack([WIDTH / 2 + c["cx"] + xd * c["f"] + xd * c["b1"], HEIGHT / 2 + c["cy"] + yd * c["f"]], axis=1)


BROWN = {
    "projection_type": "brown", "width": WIDTH, "height": HEIGHT, "focal_x": 1.25, "focal_y": 1.3,
    "c_x": 0.03, "c_y": -0.02, "k1": -0.2, "k2": 0.05, "k3": 0.01, "p1": 0.02, "p2": -0.01,
}  # fmt: skip


def rotation_vector(matrix: np.ndarray) -> list[float]:
    """Axis times angle, by the eigenvector of 1; the angle is not 0 or pi."""
    skew = matrix - matrix.T
    axis = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
    angle = math.atan2(float(np.linalg.norm(axis)) / 2, (np.trace(matrix) - 1) / 2)
    return (axis / np.linalg.norm(axis) * angle).tolist()


def write_opensfm(root: Path, n: int = N, lens: dict[str, Any] = BROWN, place: str = ".", **shot: Any) -> None:
    write_images(root, n, suffix=".jpg")
    shots = {}
    for i, pose in enumerate(circle(n)):
        to_camera = (pose[:3, :3] * [1, -1, -1]).T
        entry = {
            "camera": "a",
            "rotation": rotation_vector(to_camera),
            "translation": (-to_camera @ pose[:3, 3]).tolist(),
        }
        shots[f"{i:03d}.jpg"] = {**entry, **shot}
    (root / place).mkdir(exist_ok=True)
    small = {"cameras": {"a": lens}, "shots": dict(list(shots.items())[:2])}
    write_json(root / place / "reconstruction.json", [small, {"cameras": {"a": lens}, "shots": shots, "points": {}}])


def opensfm_brown(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """OpenSfM's documentation, "Brown camera", in pixels whose corner is at 0."""
    x, y = (in_camera(pose, points)[:, :2] / in_camera(pose, points)[:, 2:]).T
    c, r2 = BROWN, x * x + y * y
    radial = 1 + r2 * (c["k1"] + r2 * (c["k2"] + r2 * c["k3"]))
    xd = x * radial + 2 * c["p1"] * x * y + c["p2"] * (r2 + 2 * x * x)
    yd = y * radial + 2 * c["p2"] * x * y + c["p1"] * (r2 + 2 * y * y)
    u, v = c["focal_x"] * xd + c["c_x"], c["focal_y"] * yd + c["c_y"]
    return np.stack([WIDTH / 2 + WIDTH * u, HEIGHT / 2 + WIDTH * v], axis=1)


def write_llff(root: Path, n: int = N, poses: list[np.ndarray] | None = None, **changes: Any) -> np.ndarray:
    write_images(root, n, suffix=".JPG")
    rows = np.zeros((n, 17))
    for row, pose in zip(rows, poses or circle(n), strict=True):
        right, up, back, position = pose[:3].T
        row[:15] = np.stack([-up, right, back, position, [HEIGHT, WIDTH, FOCAL[0]]], axis=1).ravel()
        row[15:] = 2.0, 6.0
    np.save(root / "poses_bounds.npy", changes.get("rows", rows))
    return rows


def write_nsvf(root: Path, n: int = N, names: str = "0_{:04d}", matrix: bool = True, **changes: str) -> None:
    write_images(root, n, "rgb")
    (root / "pose").mkdir(exist_ok=True)
    for i, pose in enumerate(circle(n)):
        name = names.format(i)
        (root / f"rgb/{i:03d}.png").rename(root / f"rgb/{name}.png")
        np.savetxt(root / f"pose/{name}.txt", pose * [1, -1, -1, 1])
    (f, g), (cx, cy) = FOCAL, CENTER
    lens = f"{f} 0 {cx} 0\n0 {g} {cy} 0\n0 0 1 0\n0 0 0 1\n"
    if not matrix:
        lens = f"{f} {cx} {cy} 0.\n0. 0. 0.\n0.\n1.\n{HEIGHT} {WIDTH}\n"
    for name, text in ({"intrinsics": lens, "bbox": "-1 -2 -3 1 2 5 0.4\n"} | changes).items():
        (root / f"{name}.txt").write_text(text)


def test_nsvf(tmp_path: Path) -> None:
    write_nsvf(tmp_path)
    check_projection(tmp_path, pinhole, circle(N))
    norm = read_manifest(tmp_path).normalization
    assert (norm.scale, norm.offset, norm.source) == (1 / 8, (0.5, 0.5, 0.375), "given")
    write_nsvf(tmp_path / "lines", matrix=False)
    check_projection(tmp_path / "lines", lambda pose, points: pinhole(pose, points, (FOCAL[0],) * 2), circle(N))
    (tmp_path / "lines/bbox.txt").unlink()
    assert read_manifest(tmp_path / "lines").normalization.source == "poses"


@pytest.mark.parametrize(
    ("others", "counts"), [((), (9, 0, 0)), (("1_",), (9, 0, 2)), (("1_", "2_"), (9, 2, 2)), (("a_",), (9, 0, 2))]
)
def test_names_of_nsvf_say_their_splits(tmp_path: Path, others: tuple[str, ...], counts: tuple[int, ...]) -> None:
    write_nsvf(tmp_path)
    for prefix in others:
        write_nsvf(tmp_path, 2, prefix + "{:04d}")
    splits = read_manifest(tmp_path).splits
    assert tuple(len(splits[name]) for name in ("train", "val", "test")) == counts


NERFIES = {
    "focal_length": 10.0, "pixel_aspect_ratio": 1.1, "principal_point": list(CENTER), "skew": 0.0,
    "image_size": [WIDTH, HEIGHT], "radial_distortion": [-0.2, 0.05, 0.01], "tangential_distortion": [0.02, -0.01],
}  # fmt: skip


def write_nerfies(
    root: Path, n: int = N, folder: str = "rgb/1x", val: int = 2, ids: dict[str, str] | None = None, **changes: Any
) -> None:
    write_images(root, n, folder)
    (root / "camera").mkdir()
    names = [f"{i:03d}" for i in range(n)]
    for i, pose in zip(names, circle(n), strict=True):
        turn = (pose[:3, :3] * [1, -1, -1]).T
        camera = {"orientation": turn.tolist(), "position": pose[:3, 3].tolist(), **NERFIES, **changes}
        write_json(root / f"camera/{i}.json", camera)
    told = [(ids or {}).get(i, i) for i in names]
    lists = {"count": n, "ids": [*told, "unused"], "train_ids": told[: n - val], "val_ids": told[n - val :]}
    write_json(root / "dataset.json", lists)
    write_json(root / "metadata.json", {i: {"time_id": 3 * k, "warp_id": 0} for k, i in enumerate(told)})


def nerfies(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Nerfies' camera: distortion as OpenCV has it, the second focal length by the aspect of pixels."""
    within = in_camera(pose, points)
    x, y = (within[:, :2] / within[:, 2:]).T
    (k1, k2, k3), (p1, p2) = (-0.2, 0.05, 0.01), (0.02, -0.01)
    r = x * x + y * y
    radial = 1 + r * (k1 + r * (k2 + k3 * r))
    xd = radial * x + 2 * p1 * x * y + p2 * (r + 2 * x * x)
    yd = radial * y + 2 * p2 * x * y + p1 * (r + 2 * y * y)
    return np.stack([10.0 * xd, 11.0 * yd], axis=1) + CENTER


def test_nerfies(tmp_path: Path) -> None:
    write_nerfies(tmp_path)
    manifest = read_manifest(tmp_path)
    assert [view.time for view in manifest.views] == [i / (N - 1) for i in range(N)]
    assert manifest.times_differ and manifest.splits == {"train": list(range(7)), "val": [], "test": [7, 8]}
    check_projection(tmp_path, nerfies, circle(N))
    write_nerfies(tmp_path / "smaller", folder="rgb/2x", val=0, image_size=[2 * WIDTH, 2 * HEIGHT])
    (tmp_path / "smaller/metadata.json").unlink()
    with pytest.raises(UserError, match=r"no pictures in rgb/1x; pass --downscale-factor 2 for the largest"):
        read_manifest(tmp_path / "smaller")
    smaller = read_manifest(tmp_path / "smaller", downscale_factor=2)
    assert smaller.views[0].intrinsics.fl_x == 5.0 and not smaller.times_differ and smaller.splits["test"] == [0, 8]


def test_polycam(tmp_path: Path) -> None:
    write_polycam(tmp_path)
    (tmp_path / "keyframes/depth").mkdir()
    for i in range(N - 1):  # coarser than the photos, in millimetres
        millimetres = np.full((HEIGHT // 2, WIDTH // 2), 1000 + i, np.uint16)
        Image.fromarray(millimetres).save(tmp_path / f"keyframes/depth/{i:03d}.png")
    check_projection(tmp_path, pinhole, circle(N))
    manifest = read_manifest(tmp_path)
    assert [view.name for view in manifest.views][:2] == [f"keyframes/corrected_images/{i:03d}" for i in range(2)]
    assert manifest.splits["test"] == [0, 8] and manifest.name == tmp_path.name
    first, second = manifest.notes
    assert "the depth maps of 1 images are missing" in first and second == "every 8th view is for testing"
    depths = load_scene(tmp_path).depths
    assert depths is not None and depths[N - 1] is None
    for i, depth in enumerate(depths[: N - 1]):
        assert depth is not None and depth.shape == (HEIGHT, WIDTH) and bool((depth == np.float32(1 + 1e-3 * i)).all())
    write_polycam(tmp_path / "raw", cameras="cameras")
    check_projection(tmp_path / "raw", pinhole, circle(N))
    assert "as the phone recorded them" in read_manifest(tmp_path / "raw").notes[0]


@pytest.mark.parametrize("unpacked", [False, True])
def test_record3d(tmp_path: Path, unpacked: bool) -> None:
    write_record3d(tmp_path, unpacked=unpacked)
    check_projection(tmp_path, pinhole, circle(N))
    each = [[FOCAL[0] + i, FOCAL[1], *CENTER] for i in range(N)]
    write_json(
        next(tmp_path.glob("metadata*")),
        json.loads(next(tmp_path.glob("metadata*")).read_text()) | {"perFrameIntrinsicCoeffs": each},
    )
    assert [view.intrinsics.fl_x for view in read_manifest(tmp_path).views] == [FOCAL[0] + i for i in range(N)]


def test_metashape(tmp_path: Path) -> None:
    lost = '<camera id="90" sensor_id="0" label="lost"/><camera id="91" enabled="false" sensor_id="0" label="off"/>'
    write_metashape(tmp_path, lost=lost)
    world = SCALE * POINTS @ TURN.T + SHIFT
    check_projection(tmp_path, metashape_frame, circle(N), world)
    check_projection(tmp_path / "cameras.xml", metashape_frame, circle(N), world)
    assert read_manifest(tmp_path).notes[0].endswith("cameras.xml: 1 of 10 cameras were not aligned")
    write_metashape(
        tmp_path / "beside", folder=".", calibration={"f": 10.0}, in_component=False, before="C:\\of them\\"
    )
    for view, pose in zip(read_manifest(tmp_path / "beside").views, circle(N), strict=True):
        np.testing.assert_allclose(view.c2w, pose[:3], atol=1e-9)  # without a transform the component is the world


@pytest.mark.parametrize(
    ("kind", "calibration", "model"),
    [("fisheye", {"f": 4.0, "k1": 0.01}, "opencv_fisheye"), ("spherical", {}, "equirectangular")],
)
def test_other_lenses_of_metashape(tmp_path: Path, kind: str, calibration: dict[str, float], model: str) -> None:
    write_metashape(tmp_path, kind=kind, calibration=calibration)
    assert {view.intrinsics.model for view in read_manifest(tmp_path).views} == {model}


@pytest.mark.parametrize("place", [".", "opensfm"])
def test_opensfm(tmp_path: Path, place: str) -> None:
    write_opensfm(tmp_path, place=place)
    check_projection(tmp_path, opensfm_brown, circle(N))
    assert (
        read_manifest(tmp_path)
        .notes[0]
        .endswith("the largest of reconstructions of 2 and 9 photos, which were not joined")
    )


@pytest.mark.parametrize(
    ("camera", "model"),
    [
        ({"projection_type": "perspective", "focal": 1.2, "k1": 0.0, "k2": 0.0}, "pinhole"),
        ({"projection_type": "fisheye_opencv", "focal_x": 0.6, "focal_y": 0.6, "k4": 0.001}, "opencv_fisheye"),
        ({"projection_type": "spherical"}, "equirectangular"),
    ],
)
def test_other_lenses_of_opensfm(tmp_path: Path, camera: dict[str, Any], model: str) -> None:
    write_opensfm(tmp_path, lens={"width": WIDTH, "height": HEIGHT, **camera})
    lenses = [view.intrinsics for view in read_manifest(tmp_path).views]
    assert {lens.model for lens in lenses} == {model}
    if "focal" in camera:
        assert lenses[0].fl_x == lenses[0].fl_y == 1.2 * WIDTH and (lenses[0].cx, lenses[0].cy) == (4, 3)


@pytest.mark.parametrize("in_component", [False, True])
def test_components_of_metashape_that_nothing_joins_are_not_mixed(tmp_path: Path, in_component: bool) -> None:
    write_metashape(tmp_path, in_component=in_component)
    file = tmp_path / "cameras.xml"
    text = file.read_text()
    for i in (0, 3):
        text = text.replace(
            f'<camera id="{i}" sensor_id="0" component_id="0"', f'<camera id="{i}" sensor_id="0" component_id="1"'
        )
    file.write_text(text)
    manifest = read_manifest(tmp_path)
    assert [view.name for view in manifest.views] == [f"images/{i:03d}" for i in range(N) if i not in (0, 3)]
    assert manifest.notes[0].endswith("cameras.xml: the largest of components of 7 and 2 photos, which were not joined")
    if in_component:  # both have their place in the world
        to_world = text[text.index("<component id") : text.index("</components>")].replace('id="0"', 'id="1"')
        file.write_text(text.replace("</components>", to_world + "</components>"))
        assert len(read_manifest(tmp_path).views) == N


def test_no_declaration_hides_in_another_encoding(tmp_path: Path) -> None:
    write_metashape(tmp_path, head='<!DOCTYPE a [<!ENTITY b "10">]>')
    file = tmp_path / "cameras.xml"
    file.write_bytes(file.read_text().replace("<f>10.0</f>", "<f>&b;</f>").encode("utf-16"))
    with pytest.raises(UserError, match=r"cameras.xml: expected UTF-8 text; export the cameras again"):
        read_manifest(file, format="metashape")


def test_a_folder_called_as_that_of_opendronemap_may_hold_the_photos(tmp_path: Path) -> None:
    (tmp_path / "opensfm").mkdir()
    write_opensfm(tmp_path / "opensfm")
    assert len(read_manifest(tmp_path / "opensfm").views) == N


def test_llff(tmp_path: Path) -> None:
    write_llff(tmp_path)

    def centred(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
        return pinhole(pose, points, (FOCAL[0], FOCAL[0])) - CENTER + [WIDTH / 2, HEIGHT / 2]

    check_projection(tmp_path, centred, circle(N))
    assert read_manifest(tmp_path / "poses_bounds.npy").name == tmp_path.name


def test_bounds_of_llff_say_how_deep_a_scene_of_parallel_cameras_is(tmp_path: Path) -> None:
    poses = []
    for i in range(N):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * i - 0.4
        poses.append(pose)
    write_llff(tmp_path, poses=poses)
    manifest = read_manifest(tmp_path)
    norm = manifest.normalization
    np.testing.assert_allclose(
        (0.5 - np.array(norm.offset)) / norm.scale, [0.0, 0.0, -3.0], atol=0.05
    )  # 2 / (1/2 + 1/6)
    assert not any("guess" in note for note in manifest.notes)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: write_polycam(root, fx="wide"), r"000.json: fx must be a finite number, got 'wide'"),
        (lambda root: write_polycam(root, t_11=7.0), r"000.json: t_00 ... t_23: the pose is not rigid"),
        (lambda root: write_record3d(root, poses=[]), r"expected an object with a list of poses"),
        (lambda root: write_record3d(root, poses=[[0] * 7] * N), r"pose 0: its quaternion must have length 1, got 0"),
        (lambda root: write_record3d(root, poses=[[0, 0, 0, 1, 1e300, 0, 0]] * N), r"pose 0: the pose is not finite"),
        (lambda root: write_record3d(root, K=[1, 2]), r"K must be finite numbers \[9\], got \[1, 2\]"),
        (
            lambda root: write_record3d(root, perFrameIntrinsicCoeffs=[[1] * 4]),
            r"perFrameIntrinsicCoeffs must be a list of 9 lenses",
        ),
        (lambda root: write_metashape(root, kind="rpc"), r"sensors of type 'rpc' are not supported \(valid: frame"),
        (lambda root: write_metashape(root, calibration={"k1": 0.1}), r"no calibration with a focal length f"),
        (
            lambda root: write_metashape(root, calibration=CALIBRATION | {"p3": 1}),
            r"p3 of its sensor are not supported",
        ),
        (lambda root: write_metashape(root, calibration=CALIBRATION | {"b2": 1}), r"skewed \(b2 = 1\)"),
        (lambda root: write_metashape(root, head='<!DOCTYPE a [<!ENTITY b "c">]>'), r"declarations .* are not read"),
        (lambda root: write_metashape(root, n=0), r"none of its 0 cameras was aligned"),
        (
            lambda root: write_opensfm(root, lens=BROWN | {"projection_type": "dual"}),
            r"projection 'dual' of its camera",
        ),
        (lambda root: write_opensfm(root, lens=BROWN | {"focal_x": None}), r"focal_x of its camera must be a finite"),
        (lambda root: write_opensfm(root, camera="b"), r"shot '000.jpg': there is no camera 'b'"),
        (lambda root: write_opensfm(root, rotation=[1, 2]), r"rotation must be finite numbers \[3\], got \[1, 2\]"),
        (
            lambda root: write_opensfm(root, lens=BROWN | {"projection_type": ["a"]}),
            r"projection \['a'\] of its camera",
        ),
        (lambda root: write_nerfies(root, ids={"000": "../../a"}), r"'camera/../../a.json' leaves the data folder"),
        (lambda root: write_nerfies(root, ids={"000": "a\0b"}), r"dataset.json: expected a path, got 'camera/a"),
        (lambda root: write_nerfies(root, skew=1.0), r"000.json: its pixels are skewed"),
        (lambda root: write_nerfies(root, position=[1, 2]), r"position must be finite numbers \[3\], got \[1, 2\]"),
        (lambda root: write_nerfies(root, orientation=[[1] * 3] * 3), r"orientation: the pose is not rigid"),
        (
            lambda root: write_nerfies(root, position=["1", "2", "3"]),
            r"position must be finite numbers \[3\], got \['1'",
        ),
        (lambda root: write_nerfies(root, focal_length=True), r"focal_length must be a finite number, got True"),
        (lambda root: write_nerfies(root, focal_length="a"), r"focal_length must be a finite number, got 'a'"),
        (lambda root: write_nsvf(root, 0), r"pose: no poses, expected NAME.txt"),
        (lambda root: write_nsvf(root, intrinsics="1 2 3\n"), r"expected a matrix \[4, 4\], or a focal length"),
        (lambda root: write_nsvf(root, intrinsics="a"), r"intrinsics.txt: expected numbers \(could not convert"),
        (lambda root: write_nsvf(root, bbox="1 1 1 0 2 2"), r"bbox.txt: expected the lower and the upper corner"),
        (lambda root: write_nsvf(root, bbox="0 0 0 1 1 1e308"), r"bbox.txt: expected finite numbers"),
        (lambda root: write_nsvf(root, bbox="0 0 0 1e-320 1e-320 1e-320"), r"expected a scale above 0 and an offset"),
        (
            lambda root: write_nsvf(root, intrinsics="9 4 3 0\n0 0 0\n0\n1\n6 8\n1\n"),
            r"poses from world to camera are not supported",
        ),
        (lambda root: write_llff(root, rows=np.zeros((3, 17))), r"row 0: expected finite numbers, depths above 0"),
        (lambda root: write_llff(root, rows=np.ones((3, 16))), r"expected numbers \[n, 17\], got float64 \[3, 16\]"),
        (lambda root: write_llff(root, rows=write_llff(root)[:3]), r"has 3 poses, images/ has 9 photos"),
    ],
)
def test_what_is_no_such_file_is_refused_in_a_line(
    tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        read_manifest(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_header_of_an_array_that_promises_more_than_the_file_has(tmp_path: Path) -> None:
    write_llff(tmp_path)
    with (tmp_path / "poses_bounds.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 17)})
        file.write(bytes(1000))
    with pytest.raises(UserError, match=r"not a whole \.npy file of numbers"):
        read_manifest(tmp_path)
    (tmp_path / "poses_bounds.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"not a whole \.npy file of numbers"):
        read_manifest(tmp_path)
