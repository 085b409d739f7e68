# SPDX-License-Identifier: Apache-2.0
"""Folders with `transforms_{train,val,test}.json`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurfield.data import load_scene, read_manifest
from neurfield.errors import UserError
from neurfield.sampling.pixels import PixelSampler
from tests.data.small import HEIGHT, WIDTH, circle, frames, look_at, pixels, synthetic, turned, write_images, write_json


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".PNG"])
def test_paths_without_suffix_find_their_images(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path, 3, "train", suffix=suffix)
    write_json(tmp_path / "transforms_train.json", {"camera_angle_x": 0.7, "frames": frames(circle(3), "./train", "")})
    scene = load_scene(tmp_path)
    assert [Path(p).name for p in scene.paths] == [f"{i:03d}{suffix}" for i in range(3)]
    if suffix != ".jpg":  # the others were written without loss
        np.testing.assert_array_equal(scene.images[2].numpy(), pixels(2))


def test_splits_alpha_focal_and_normalization(tmp_path: Path) -> None:
    synthetic(tmp_path)
    scene = load_scene(tmp_path)
    assert scene.splits == {"train": [0, 1, 2, 3], "val": [4, 5], "test": [6, 7, 8]}
    assert scene.has_alpha
    np.testing.assert_array_equal(scene.images[6].numpy(), pixels(0, channels=4))
    focal = WIDTH / 2 / np.tan(0.35)
    assert scene.cameras.intrinsics[0].tolist() == pytest.approx([focal, focal, WIDTH / 2, HEIGHT / 2])
    norm = scene.normalization
    assert (norm.scale, norm.offset, norm.aabb_scale, norm.source) == (1 / 3, (0.5, 0.5, 0.5), 1, "synthetic")
    torch.testing.assert_close(norm.to_unit(torch.tensor([-1.5, 0, 1.5])), torch.tensor([0.0, 0.5, 1.0]))
    assert load_scene(tmp_path / "transforms_train.json").splits == scene.splits


def test_other_splits_are_not_touched(tmp_path: Path) -> None:
    synthetic(tmp_path)
    (tmp_path / "test/001.png").write_bytes(b"broken")
    (tmp_path / "transforms_val.json").write_text("{")
    scene = load_scene(tmp_path, splits=("train",))
    assert scene.splits == {"train": [0, 1, 2, 3]} and len(scene.images) == 4
    with pytest.raises(UserError, match=r"test/001\.png"):
        load_scene(tmp_path, splits=("test",))


def test_the_map_is_the_same_for_every_split(tmp_path: Path) -> None:
    synthetic(tmp_path)
    assert load_scene(tmp_path, splits=("test",)).normalization == load_scene(tmp_path).normalization


def test_cameras_elsewhere_are_normalized_from_their_poses(tmp_path: Path) -> None:
    write_images(tmp_path, 6, "train")
    poses = [look_at([30 + 40 * np.cos(a), 40 * np.sin(a), 9], (30, 0, 2)) for a in range(6)]
    write_json(tmp_path / "transforms_train.json", {"camera_angle_x": 0.7, "frames": frames(poses, "./train", "")})
    scene = load_scene(tmp_path)
    assert scene.normalization.source == "poses"
    unit = scene.normalization.to_unit(torch.tensor([30.0, 0.0, 2.0]))
    torch.testing.assert_close(unit, torch.full((3,), 0.5), atol=1e-4, rtol=0)
    assert any("do not look at the usual box" in note for note in scene.notes)


def test_full_alpha_is_dropped_and_mixed_channels_are_unified(tmp_path: Path) -> None:
    synthetic(tmp_path, {"train": 3}, channels=3)
    opaque = np.concatenate([pixels(1), np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], axis=2)
    Image.fromarray(opaque).save(tmp_path / "train/001.png")
    scene = load_scene(tmp_path)
    assert not scene.has_alpha and all(image.shape[2] == 3 and image.is_contiguous() for image in scene.images)
    for i, image in enumerate(scene.images):
        np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / f"train/{i:03d}.png"))[:, :, :3])
    opaque[0, 0, 3] = 254
    Image.fromarray(opaque).save(tmp_path / "train/001.png")
    scene = load_scene(tmp_path)
    assert all(image.shape[2] == 4 for image in scene.images) and (scene.images[0][:, :, 3] == 255).all()


def test_training_draws_from_the_images_as_they_were_read(tmp_path: Path) -> None:
    synthetic(tmp_path)
    scene = load_scene(tmp_path)
    images, cameras = [scene.images[view] for view in scene.views("train")], scene.unit_cameras("train")
    values = PixelSampler(images, cameras).values
    assert values.data_ptr() == images[0].data_ptr()  # a copy would be as large as all of them
    torch.testing.assert_close(values, torch.cat([image.flatten(0, 1) for image in images]))
    assert PixelSampler([image.clone() for image in images], cameras).values.equal(values)
    turned = PixelSampler(images[::-1], cameras).values
    torch.testing.assert_close(turned, torch.cat([image.flatten(0, 1) for image in images[::-1]]))


def test_missing_splits(tmp_path: Path) -> None:
    synthetic(tmp_path, {"train": 2})
    assert load_scene(tmp_path).splits == {"train": [0, 1], "val": [], "test": []}
    with pytest.raises(UserError, match=r"no views in test; there is no transforms_test\.json"):
        load_scene(tmp_path, splits=("test",))


def test_splits_with_and_without_times_are_refused(tmp_path: Path) -> None:
    synthetic(tmp_path)
    file = tmp_path / "transforms_test.json"
    content = json.loads(file.read_text())
    for i, frame in enumerate(content["frames"]):
        frame["time"] = i / len(content["frames"])
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"frames of transforms_test.json have a time, those of transforms_.*none"):
        read_manifest(tmp_path)
    file.write_text(json.dumps(content | {"frames": [frame | {"time": None} for frame in content["frames"]]}))
    assert not read_manifest(tmp_path).times_differ  # null says nothing of a time


def test_panoramas_among_the_frames_are_known_whichever_splits_are_read(tmp_path: Path) -> None:
    synthetic(tmp_path, {"train": 6, "test": 2})
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    for frame in content["frames"][:3]:
        pose = turned(np.array(frame["transform_matrix"]))
        pose[:3, 3] += [0, 0, 40]
        frame |= {"camera_model": "EQUIRECTANGULAR", "transform_matrix": pose.tolist()}
    write_json(tmp_path / "transforms_train.json", content)
    for splits in (("train",), ("test",), ("train", "test")):
        assert load_scene(tmp_path, splits=splits).normalization.source == "synthetic"


@pytest.mark.parametrize("factor", [1, 2])
def test_smaller_images_are_mapped_into_unit_space_as_large_ones(tmp_path: Path, factor: int) -> None:
    """Focal lengths in pixels are those of the whole image."""
    synthetic(tmp_path)
    for file in tmp_path.glob("*.json"):
        content = json.loads(file.read_text())
        del content["camera_angle_x"]
        for frame in content["frames"]:
            frame["transform_matrix"][0][3] += 5
        write_json(file, content | {"fl_x": 10.0})
    normalization = load_scene(tmp_path, downscale_factor=factor).normalization
    assert normalization.source == "poses"
    assert normalization.scale == pytest.approx(0.5 / (math.hypot(3.9, 1) * HEIGHT / 20))
