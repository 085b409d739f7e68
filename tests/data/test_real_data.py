# SPDX-License-Identifier: Apache-2.0
"""Real data sets, where the machine has them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neurfield.cameras.cameras import CAMERA_MODELS
from neurfield.data import load_scene, plan_memory, read_manifest
from neurfield.data.image_files import read_header, read_pixels
from neurfield.data.normalize import from_poses
from neurfield.data.views import poses, tan_half_fov


def folder(root: Path, name: str) -> Path:
    if not (root / name).exists():
        pytest.skip(f"no {name} in {root}")
    return root / name


def test_lego(data_root: Path) -> None:
    path = folder(data_root, "lego")
    scene = load_scene(path, splits=("train", "test"))
    assert {split: len(views) for split, views in scene.splits.items()} == {"train": 100, "test": 25}
    assert scene.has_alpha and scene.images[0].shape == (400, 400, 4)
    assert scene.cameras.intrinsics[0].tolist() == pytest.approx([555.5555, 555.5555, 200, 200], abs=1e-3)
    distances = scene.cameras.c2w[:, :, 3].norm(dim=1)
    torch.testing.assert_close(distances, torch.full_like(distances, 4.0311), atol=1e-3, rtol=0)
    assert scene.normalization.source == "synthetic"
    assert (
        sum(image.numel() for image in scene.images)
        == plan_memory(read_manifest(path, splits=("train", "test"))).images
    )


def test_fox(data_root: Path) -> None:
    scene = load_scene(folder(data_root, "fox"))
    assert len(scene.splits["train"]) == 43 and len(scene.splits["test"]) == 7
    assert scene.images[0].shape == (960, 540, 3) and scene.masks is None
    assert CAMERA_MODELS[int(scene.cameras.models[0])] == "opencv"
    expected = torch.tensor([0.0578421, -0.0805099, 0, 0, -0.000980296, 0.00015575])
    torch.testing.assert_close(scene.cameras.distortion[0], expected)
    assert scene.normalization.aabb_scale == 4 and scene.normalization.scale == 0.33


def test_fox_without_the_hints_of_its_file(data_root: Path) -> None:
    """The automatic choice comes close to what the capture's own tool chose: the same box, a scale within 1.5 times."""
    views = read_manifest(folder(data_root, "fox")).views
    norm, notes = from_poses(poses(views), tan_half_fov(views), False)
    assert norm.aabb_scale == 4 and 0.33 / 1.5 < norm.scale < 0.33 * 1.5 and not notes
    np.testing.assert_allclose(norm.offset, 0.5, atol=0.1)


def test_dnerf_times(data_root: Path) -> None:
    scene = load_scene(folder(data_root, "dnerf_lego"), splits=("train", "val"))
    times = scene.cameras.times[scene.splits["train"]]
    assert times[0] == 0 and times[-1] == 1 and (times.diff() > 0).all()
    assert len(scene.splits["val"]) == 11


def test_tiny_lego(data_root: Path) -> None:
    scene = load_scene(folder(data_root, "tiny_lego/tiny_lego.npz"))
    assert len(scene.splits["train"]) == 100 and len(scene.splits["test"]) == 6
    assert scene.images[0].shape == (100, 100, 3)
    assert scene.cameras.intrinsics[0, 0].item() == pytest.approx(138.8889, abs=1e-3)


def test_exr_photograph(data_root: Path) -> None:
    path = folder(data_root, "images/albert.exr")
    image = read_pixels(path, read_header(path, 64))
    assert image.shape == (1024, 1024, 4) and image.dtype == np.float32 and 0 <= image.min() <= image.max() <= 1


def test_dtu(data_root: Path) -> None:
    path = folder(data_root, "dtu_scan24")
    manifest = read_manifest(path)
    with np.load(path / "cameras_sphere.npz") as arrays:
        projections = [arrays[f"world_mat_{i}"][:3] for i in range(49)]
        centre = arrays["scale_mat_0"][:3, 3]
    assert len(manifest.views) == 49 and manifest.format == "idr" and manifest.normalization.source == "given"
    rng = np.random.default_rng(0)
    for view, projection in zip(manifest.views, projections, strict=True):
        point = centre + rng.uniform(-200, 200, 3)
        u, v, w = projection @ [*point, 1.0]
        x, y, z = view.c2w[:, :3].T @ (point - view.c2w[:, 3])
        camera = view.intrinsics
        found = camera.fl_x * x / -z + camera.cx, camera.fl_y * -y / -z + camera.cy
        assert w > 0 and z < 0 and found == pytest.approx((u / w + 0.5, v / w + 0.5), abs=0.02)  # skew is left out
