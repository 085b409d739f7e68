# SPDX-License-Identifier: Apache-2.0
"""`transforms.json` of instant-ngp and nerfstudio: cameras, splits, masks, missing images, normalization."""

import math
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image

from neurfield.cameras.cameras import CAMERA_MODELS
from neurfield.data import load_scene, plan_memory, read_manifest
from neurfield.errors import UserError
from tests.data.small import FOCAL, HEIGHT, WIDTH, circle, frames, pixels, transforms, write_images, write_json


def test_views_arrive_as_they_were_written(tmp_path: Path) -> None:
    transforms(tmp_path)
    scene = load_scene(tmp_path)
    assert len(scene.cameras) == len(scene.images) == len(scene.paths) == 9
    for i, (image, pose) in enumerate(zip(scene.images, circle(9), strict=True)):
        assert image.dtype == torch.uint8
        np.testing.assert_array_equal(image.numpy(), pixels(i))
        np.testing.assert_allclose(scene.cameras.c2w[i].numpy(), pose[:3], atol=1e-6)
    assert scene.cameras.intrinsics[0].tolist() == [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]
    assert scene.cameras.sizes[0].tolist() == [WIDTH, HEIGHT]
    assert scene.name == tmp_path.name and scene.masks is None
    assert load_scene(tmp_path / "transforms.json").paths == scene.paths


@pytest.mark.parametrize(
    ("lens", "expected"),
    [
        ({"fl_x": 11.0}, (11.0, 11.0)),
        ({"fl_y": 12.0}, (12.0, 12.0)),
        ({"fl_x": 11.0, "fl_y": 12.0, "camera_angle_x": 1.0}, (11.0, 12.0)),
        ({"x_fov": 90.0}, (WIDTH / 2, WIDTH / 2)),
        ({"camera_angle_x": math.pi / 2}, (WIDTH / 2, WIDTH / 2)),
        ({"camera_angle_x": math.pi / 2, "camera_angle_y": math.pi / 2}, (WIDTH / 2, HEIGHT / 2)),
        ({"x_fov": 90.0, "camera_angle_x": 0.1}, (WIDTH / 2, WIDTH / 2)),
    ],
)
def test_focal_length_in_all_spellings(tmp_path: Path, lens: dict[str, float], expected: tuple[float, float]) -> None:
    write_images(tmp_path, 2)
    write_json(tmp_path / "transforms.json", {**lens, "frames": frames(circle(2))})
    intrinsics = load_scene(tmp_path).cameras.intrinsics[0].tolist()
    assert intrinsics == pytest.approx([*expected, WIDTH / 2, HEIGHT / 2], rel=1e-6)


def test_a_frame_overrides_shared_intrinsics(tmp_path: Path) -> None:
    content = transforms(tmp_path, k1=0.1, p2=-0.01)
    content["frames"][3].update(
        {"camera_angle_x": math.pi / 2, "cx": 3.0, "cy": 2.0, "k1": 0.0, "w": WIDTH, "h": HEIGHT}
    )
    content["frames"][4].update({"camera_model": "OPENCV_FISHEYE", "k1": 0.2, "k4": 0.01})
    write_json(tmp_path / "transforms.json", content)
    cameras = load_scene(tmp_path).cameras
    assert [CAMERA_MODELS[m] for m in cameras.models[2:5].tolist()] == ["opencv", "pinhole", "opencv_fisheye"]
    torch.testing.assert_close(cameras.distortion[2], torch.tensor([0.1, 0, 0, 0, 0, -0.01]))
    torch.testing.assert_close(cameras.distortion[4], torch.tensor([0.2, 0, 0, 0.01, 0, 0]))
    assert cameras.intrinsics[3].tolist() == pytest.approx([WIDTH / 2, WIDTH / 2, 3.0, 2.0])


def test_distortion_is_honoured_whatever_the_model_is_called(tmp_path: Path) -> None:
    transforms(tmp_path, camera_model="PINHOLE", k2=0.05)
    assert CAMERA_MODELS[int(load_scene(tmp_path).cameras.models[0])] == "opencv"
    transforms(tmp_path, is_fisheye=True, k1=0.05)
    assert CAMERA_MODELS[int(load_scene(tmp_path).cameras.models[0])] == "opencv_fisheye"


@pytest.mark.parametrize(
    "lens",
    [
        {"camera_model": "EQUIRECTANGULAR"},
        {"camera_model": "EQUIRECTANGULAR", "w": WIDTH, "h": HEIGHT},
        {
            "camera_model": "EQUIRECTANGULAR",
            "fl_x": WIDTH / 2,
            "fl_y": HEIGHT,
            "cx": WIDTH / 2,
            "cy": HEIGHT / 2,
            "k1": 0,
        },
        {"camera_model": "EQUIRECTANGULAR", "camera_angle_x": 6.28},
        {"latlong": True, "camera_angle_x": 0.7, "fl_x": 50.0},
    ],
)
def test_the_size_of_a_panorama_says_all(tmp_path: Path, lens: dict) -> None:
    frames = transforms(tmp_path)["frames"]
    write_json(tmp_path / "transforms.json", {**lens, "frames": frames})
    cameras = load_scene(tmp_path).cameras
    assert cameras.is_panorama.all() and not cameras.distortion.any()
    expected = [WIDTH / (2 * math.pi), HEIGHT / math.pi, WIDTH / 2, HEIGHT / 2]
    assert cameras.intrinsics[3].tolist() == pytest.approx(expected)
    small = load_scene(tmp_path, downscale_factor=2).cameras
    assert small.intrinsics[3].tolist() == pytest.approx([value / 2 for value in expected])


def test_every_eighth_view_is_for_testing(tmp_path: Path) -> None:
    transforms(tmp_path, n=10)
    scene = load_scene(tmp_path)
    assert scene.splits == {"train": [1, 2, 3, 4, 5, 6, 7, 9], "val": [], "test": [0, 8]}
    assert any("every 8th" in note for note in scene.notes)
    assert load_scene(tmp_path, test_every=0).splits["train"] == list(range(10))
    assert load_scene(tmp_path, test_every=5).splits["test"] == [0, 5]


def test_only_the_splits_asked_for_are_loaded(tmp_path: Path) -> None:
    transforms(tmp_path, n=10)
    scene = load_scene(tmp_path, splits=("test",))
    assert scene.splits == {"test": [0, 1]}
    assert [Path(p).name for p in scene.paths] == ["000.png", "008.png"]
    np.testing.assert_array_equal(scene.images[1].numpy(), pixels(8))
    assert scene.normalization == load_scene(tmp_path).normalization
    with pytest.raises(UserError, match=r"no views in split 'train' \(there are 2 test\)"):
        scene.views("train")
    with pytest.raises(UserError, match="no views in val"):
        load_scene(tmp_path, splits=("val",))


def test_splits_of_nerfstudio(tmp_path: Path) -> None:
    lists = {
        "train_filenames": ["images/002.png", "./images/001.png", "images/gone.png"],
        "val_filenames": ["images\\004.png"],
        "test_filenames": ["images/000.png"],
    }
    transforms(tmp_path, **lists)
    scene = load_scene(tmp_path)
    names = {split: [Path(scene.paths[i]).stem for i in indices] for split, indices in scene.splits.items()}
    assert names == {"train": ["002", "001"], "val": ["004"], "test": ["000"]}
    assert any("1 names of the file's splits have no view" in note for note in scene.notes)


def test_missing_images_are_counted_and_left_out(tmp_path: Path) -> None:
    transforms(tmp_path)
    for i in (2, 5):
        (tmp_path / "images" / f"{i:03d}.png").unlink()
    scene = load_scene(tmp_path)
    assert len(scene.images) == 7
    assert "transforms.json: 2 of 9 images are missing (images/002.png, images/005.png)" in scene.notes
    assert scene.splits["test"] == [0]
    np.testing.assert_array_equal(scene.images[2].numpy(), pixels(3))


def test_repeated_images_are_dropped_and_noted(tmp_path: Path) -> None:
    content = transforms(tmp_path)
    content["frames"].append({**content["frames"][0], "file_path": "./images/000"})
    write_json(tmp_path / "transforms.json", content)
    scene = load_scene(tmp_path)
    assert len(scene.images) == 9
    assert any("1 images are listed more than once" in note for note in scene.notes)


def test_masks_of_both_conventions(tmp_path: Path) -> None:
    """nerfstudio: black = ignore; instant-ngp: not black = ignore; both on one image add up."""
    content = transforms(tmp_path, n=3)
    (tmp_path / "masks").mkdir()
    black_left = np.full((HEIGHT, WIDTH), 255, np.uint8)
    black_left[:, :2] = 0
    white_top = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    white_top[0, :, 2] = 1
    Image.fromarray(black_left).save(tmp_path / "masks/a.png")
    Image.fromarray(white_top).save(tmp_path / "images/dynamic_mask_001.png")
    for i in (0, 1):
        content["frames"][i]["mask_path"] = "masks/a.png"
    write_json(tmp_path / "transforms.json", content)
    scene = load_scene(tmp_path)
    assert scene.masks is not None
    expected = (black_left > 0).astype(np.uint8)
    np.testing.assert_array_equal(scene.masks[0], expected)
    expected[0] = 0
    np.testing.assert_array_equal(scene.masks[1], expected)
    assert scene.masks[2] is None and scene.masks[0].dtype == torch.uint8


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_of_one_character_and_of_two_are_the_same(tmp_path: Path, listed: str, stored: str) -> None:
    """macOS stores two, and most programs write one."""
    content = transforms(tmp_path, 2)
    for i, frame in enumerate(content["frames"]):
        frame["file_path"] = normalize(listed, f"images/Tür {i}.png")
        frame["mask_path"] = normalize(listed, f"images/Tür {i} Maske.png")
        (tmp_path / f"images/{i:03d}.png").rename(tmp_path / normalize(stored, f"images/Tür {i}.png"))
        Image.new("L", (WIDTH, HEIGHT), 255).save(tmp_path / normalize(stored, f"images/Tür {i} Maske.png"))
    write_json(tmp_path / "transforms.json", content)
    assert len(load_scene(tmp_path).images) == 2


def test_what_says_nothing_of_the_time_and_small_letters_of_the_lens(tmp_path: Path) -> None:
    content = transforms(tmp_path, camera_model="opencv_fisheye")
    content["frames"] = [frame | {"time": None} for frame in content["frames"]]
    write_json(tmp_path / "transforms.json", content)
    scene = load_scene(tmp_path)
    assert not scene.cameras.times.any() and CAMERA_MODELS[int(scene.cameras.models[0])] == "opencv_fisheye"


def test_times_and_applied_transform(tmp_path: Path) -> None:
    swap = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0.5]]
    content = transforms(tmp_path, applied_transform=swap)
    for i, frame in enumerate(content["frames"]):
        frame["time"] = i / 8
    write_json(tmp_path / "transforms.json", content)
    scene = load_scene(tmp_path)
    torch.testing.assert_close(scene.cameras.times, torch.arange(9) / 8)
    assert scene.applied_transform is not None
    assert scene.applied_transform.tolist() == swap


def test_given_normalization_is_taken_in_the_axes_of_the_file(tmp_path: Path) -> None:
    transforms(tmp_path, scale=0.2, offset=[0.1, 0.2, 0.3], aabb_scale=8)
    norm = load_scene(tmp_path).normalization
    assert (norm.scale, norm.offset, norm.aabb_scale, norm.source) == (0.2, (0.1, 0.2, 0.3), 8, "given")
    transforms(tmp_path, aabb_scale=4)  # instant-ngp's own map
    norm = load_scene(tmp_path).normalization
    assert (norm.scale, norm.offset, norm.aabb_scale, norm.source) == (0.33, (0.5, 0.5, 0.5), 4, "given")


def test_instant_ngp_map_is_not_forced_on_a_scene_that_lies_elsewhere(tmp_path: Path) -> None:
    content = transforms(tmp_path, aabb_scale=4)
    for frame in content["frames"]:
        frame["transform_matrix"][0][3] += 100
    write_json(tmp_path / "transforms.json", content)
    scene = load_scene(tmp_path)
    assert scene.normalization.source == "poses" and scene.normalization.aabb_scale == 4
    torch.testing.assert_close(scene.normalization.to_unit(torch.tensor([100.0, 0, 0]))[:2], torch.tensor([0.5, 0.5]))
    assert any("outside of the unit cube" in note for note in scene.notes)


def test_overrides_keep_the_centre(tmp_path: Path) -> None:
    content = transforms(tmp_path)
    for frame in content["frames"]:
        frame["transform_matrix"][0][3] += 7
    write_json(tmp_path / "transforms.json", content)
    automatic = load_scene(tmp_path).normalization
    center = automatic.to_world(torch.tensor([0.5, 0.5, 0.5]))
    wider = load_scene(tmp_path, scale=automatic.scale / 2, aabb_scale=16).normalization
    torch.testing.assert_close(wider.to_world(torch.tensor([0.5, 0.5, 0.5])), center)
    assert (wider.scale, wider.aabb_scale, wider.source) == (automatic.scale / 2, 16, "given")
    moved = load_scene(tmp_path, offset=(0.0, 0.0, 0.0)).normalization
    assert (moved.scale, moved.offset) == (automatic.scale, (0.0, 0.0, 0.0))


def test_downscaling_averages_pixels_and_moves_the_camera(tmp_path: Path) -> None:
    transforms(tmp_path)
    scene = load_scene(tmp_path, downscale_factor=2)
    expected = np.rint(pixels(3).reshape(3, 2, 4, 2, 3).astype(np.float64).mean(axis=(1, 3)))
    np.testing.assert_allclose(scene.images[3].numpy(), expected, atol=0)
    assert scene.cameras.intrinsics[0].tolist() == [FOCAL / 2, FOCAL / 2, WIDTH / 4, HEIGHT / 4]
    assert scene.cameras.sizes[0].tolist() == [4, 3]


def test_downscaling_weights_colours_by_alpha(tmp_path: Path) -> None:
    transforms(tmp_path, n=2, channels=4)
    image = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    image[0, 0] = (200, 100, 0, 255)  # one of four pixels of the first block
    Image.fromarray(image).save(tmp_path / "images/001.png")
    small = load_scene(tmp_path, downscale_factor=2, splits=("train",)).images[0]
    assert small[0, 0].tolist() == [200, 100, 0, 64]
    assert small[1, 1].tolist() == [0, 0, 0, 0]


def test_smaller_copies_are_used_when_asked_for(tmp_path: Path) -> None:
    transforms(tmp_path, n=2)
    (tmp_path / "images_2").mkdir()
    for i in range(2):
        Image.fromarray(pixels(10 + i, 4, 3)).save(tmp_path / f"images_2/{i:03d}.png")
    scene = load_scene(tmp_path, downscale_factor=2)
    np.testing.assert_array_equal(scene.images[1].numpy(), pixels(11, 4, 3))
    assert scene.cameras.intrinsics[0].tolist() == [FOCAL / 2, FOCAL / 2, WIDTH / 4, HEIGHT / 4]
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images_2").rename(tmp_path / "images")
    np.testing.assert_array_equal(load_scene(tmp_path, downscale_factor=2).images[1].numpy(), pixels(11, 4, 3))
    with pytest.raises(UserError, match="pass --downscale-factor 2"):
        load_scene(tmp_path)


def test_masks_shrink_with_their_image(tmp_path: Path) -> None:
    content = transforms(tmp_path, n=2)
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[0, 0] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    content["frames"][1]["mask_path"] = "mask.png"
    write_json(tmp_path / "transforms.json", content)
    masks = load_scene(tmp_path, downscale_factor=2, splits=("train",)).masks
    assert masks is not None and masks[0] is not None
    assert masks[0].shape == (3, 4) and masks[0].sum() == 11 and masks[0][0, 0] == 0


def test_memory_plan_needs_no_decoding(tmp_path: Path) -> None:
    transforms(tmp_path)
    manifest = read_manifest(tmp_path)
    (tmp_path / "images/000.png").write_bytes(b"gone")  # the header was read before
    plan = plan_memory(manifest)
    assert plan.images == 9 * WIDTH * HEIGHT * 3 and plan.masks == 0 and plan.n_pixels == 9 * WIDTH * HEIGHT
    assert plan.images < plan.peak <= 4 * plan.images
