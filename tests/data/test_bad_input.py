# SPDX-License-Identifier: Apache-2.0
"""Data that cannot be used: one clear line that names the file, the frame and what was found."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurfield.data import load_scene
from neurfield.errors import UserError
from tests.data.small import HEIGHT, WIDTH, pixels, transforms, write_images, write_json
from tests.data.test_tiny_nerf import write as write_archive


def fails(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_scene(path, **options)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_data(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere: no such file or folder")
    fails(tmp_path, "not a data set of a known format")
    (tmp_path / "a.txt").write_text("hello")
    fails(tmp_path / "a.txt", "not a data set of a known format; expected transforms.json")
    (tmp_path / "a.HEIC").write_bytes(b"ftypheic")
    fails(
        tmp_path / "a.HEIC",
        r"pictures are read as PNG, JPEG, WebP, TIFF, EXR or HDR; convert it, .*: magick .*a.HEIC .*a.png",
    )
    write_images(tmp_path, 1)
    fails(
        tmp_path / "images/000.png",
        r"a single file \(image\), no scene; neurfield train, or train_signal from Python, makes a field of it",
    )


@pytest.mark.parametrize("inner", [".", "images"])
def test_photos_alone_are_told_to_lack_cameras(tmp_path: Path, inner: str) -> None:
    write_images(tmp_path, 3, inner)
    (tmp_path / inner / "a.HEIC").write_bytes(b"ftypheic")
    fails(tmp_path, f"4 pictures in .*nothing that says where each was taken from.*with neurfield process {tmp_path}")


@pytest.mark.parametrize(
    ("photos", "poses", "message"),
    [
        ("images", "bundle.out", "of Bundler .*take an import into COLMAP"),
        ("images", "cameras.csv", "of RealityCapture .*take its export for COLMAP, or ns-process-data realitycapture"),
    ],
)
def test_poses_of_other_programs_are_named(tmp_path: Path, photos: str, poses: str, message: str) -> None:
    write_images(tmp_path, 3, photos)
    (tmp_path / poses).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / poses).write_text("")
    folder = tmp_path if photos == "images" else tmp_path / photos
    fails(
        tmp_path,
        rf"3 pictures in .*, and what looks like poses {message}.*or find them anew with neurfield process {folder}$",
    )


def test_a_part_of_a_data_set_is_told_the_whole(tmp_path: Path) -> None:
    transforms(tmp_path, 3)
    fails(tmp_path / "images", f"did you mean {tmp_path}[?]")


def test_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.r3d").write_bytes(b"PK")
    fails(tmp_path / "a.r3d", r"an archive: unpack it \(a .r3d is a .zip\) and name the folder")


def test_meshes_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.glb").write_bytes(b"glTF")
    fails(tmp_path / "a.glb", "meshes are read as OBJ, PLY, STL or OFF; export it as one of these")


def test_the_data_set_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    transforms(tmp_path / "b", n=3)
    fails(tmp_path, f"not a data set of a known format; did you mean {re.escape(str(tmp_path / 'b'))}\\?")
    write_archive(tmp_path / "a" / "mine.npz")
    fails(tmp_path / "a", "did you mean .*mine.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"frames": [', r"transforms\.json:1: not valid JSON"),
        ("[]", "not a transforms file"),
        ('{"name": "package", "version": "1.0"}', "not a transforms file; expected an object with a list of 'frames'"),
        ('{"frames": {}}', "not a transforms file"),
        ('{"frames": []}', "no frames, expected at least one view"),
        ('{"frames": [3]}', "frame 0: expected an object"),
        ('{"frames": [{"file_path": 7}]}', "frame 0: file_path must be the path of an image, got 7"),
        ('{"frames": [{"file_path": "a.png"}]}', r"frame 0 \(a.png\): no transform_matrix"),
        ("[" * 100_000, "not usable JSON|not valid JSON"),
        ('{"frames": ' + "9" * 5000 + "}", "not usable JSON"),
    ],
)
def test_json_that_is_no_transforms_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "transforms.json").write_text(text)
    fails(tmp_path, message)


def test_binary_json(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_bytes(b"\xff\xfe\x00\x01")
    fails(tmp_path, "not a JSON file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform_matrix": [[float("nan")] * 4] * 4}, r"frame 2 \(images/002.png\): transform_matrix: .*not finite"),
        ({"transform_matrix": np.diag([1.0, 1.0, -1.0, 1.0]).tolist()}, "frame 2 .*mirrored"),
        ({"transform_matrix": np.diag([1.0, 2.0, 1.0, 1.0]).tolist()}, "frame 2 .*not rigid"),
        ({"transform_matrix": [1, 2, 3]}, "frame 2 .*4x4"),
        ({"time": 1.5}, "frame 2 .*time must be a number from 0 to 1, got 1.5"),
        ({"time": "noon"}, "frame 2 .*time must be a number"),
        ({"fl_x": float("inf")}, "frame 2 .*fl_x must be a finite number, got inf"),
        ({"fl_x": 1e39}, r"frame 2 .*fl_x must be a finite number, got 1e\+39"),  # float32 has none of that size
        ({"k1": -1e300}, r"frame 2 .*k1 must be a finite number, got -1e\+300"),
        ({"camera_angle_x": 1e-300}, "frame 2 .*focal length in x must be positive"),
        ({"fl_x": -3}, "frame 2 .*focal length in x must be positive"),
        ({"camera_angle_x": 4.0}, "frame 2 .*focal length in x must be positive"),
        ({"k1": "0.1"}, "frame 2 .*k1 must be a finite number, got '0.1'"),
        ({"w": 8}, "frame 2 .*w and h must both be whole numbers"),
        ({"w": 8.5, "h": 6}, "frame 2 .*w and h must both be whole numbers"),
        ({"camera_model": "ORTHOPHOTO"}, "camera_model 'ORTHOPHOTO' is not supported"),
        ({"equirectangular": True}, "equirectangular is not supported"),  # instant-ngp's, of rows of equal area
        ({"camera_model": "EQUIRECTANGULAR"}, "frame 2 .* has no lens; expected fl_x to be 4 or left out, got 10"),
        ({"camera_model": "EQUIRECTANGULAR", "fl_x": 4, "cx": 1}, "expected cx to be 4 or left out, got 1"),
        ({"latlong": True, "k1": 0.01}, "expected k1 to be 0 or left out, got 0.01"),
        ({"orthographic": True}, "orthographic is not supported"),
        ({"k5": 0.1}, "k5 is not supported"),
        ({"mask_path": "masks/gone.png"}, "frame 2 .*no mask at"),
        ({"mask_path": 3}, "frame 2 .*mask_path must be the path of an image"),
    ],
)
def test_frames_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = transforms(tmp_path, n=3)
    content["frames"][2] |= change
    write_json(tmp_path / "transforms.json", content)
    fails(tmp_path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0}, "scale must be a positive number, got 0"),
        ({"scale": "big"}, "scale must be a positive number"),
        ({"offset": [1, 2]}, "offset must be three numbers"),
        ({"aabb_scale": 3}, "aabb_scale must be a power of two from 1 to 128, got 3"),
        ({"aabb_scale": 256}, "aabb_scale must be a power of two"),
        ({"train_filenames": "all"}, "train_filenames must be a list"),
        ({"train_filenames": ["x.png"]}, "no file of its train/val/test_filenames is one of its frames"),
        ({"applied_transform": [[1, 2], [3, 4]]}, "applied_transform: expected a 4x4 matrix"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    transforms(tmp_path, n=3, **change)
    fails(tmp_path, message)


def test_no_focal_length(tmp_path: Path) -> None:
    content = transforms(tmp_path, n=3)
    del content["fl_x"], content["fl_y"]
    write_json(tmp_path / "transforms.json", content)
    fails(tmp_path, "no focal length; expected one of fl_x")


def test_all_images_missing(tmp_path: Path) -> None:
    content = transforms(tmp_path, n=3)
    (tmp_path / "images").rename(tmp_path / "photos")
    fails(tmp_path, "none of the 3 images exist; the first was looked for at .*images/000.png, and there is no folder")
    (tmp_path / "photos").rename(tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_suffix(".PNG"))
    content = transforms(tmp_path / "other", n=3)  # images/000.png ...
    write_json(tmp_path / "transforms.json", content)
    fails(tmp_path, "images/000.png, did you mean '000.PNG'")


@pytest.mark.parametrize("place", ["images", "transforms.json"])
def test_what_may_not_be_read_within_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A folder that may not be entered, where the superuser, who runs this at times, may."""
    transforms(tmp_path, n=3)
    access, forbidden = os.access, tmp_path / place

    def refuse(name: str) -> None:
        real = getattr(Path, name)

        def call(path: Path, *arguments: Any, **options: Any) -> Any:
            if path == forbidden or (path.parent == forbidden and name == "is_file"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **options)

        monkeypatch.setattr(Path, name, call)

    refuse("is_file" if place == "images" else "read_bytes")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != forbidden and access(path, mode))
    fails(tmp_path, rf"^{forbidden}: may not be read; give yourself the permission: chmod u\+rX$")


def test_paths_of_a_machine_with_windows(tmp_path: Path) -> None:
    content = transforms(tmp_path, n=1)
    content["frames"][0]["file_path"] = r"C:\a\0.png"
    write_json(tmp_path / "transforms.json", content)
    fails(tmp_path, "looked for at .*C:/a/0.png, and .*; write the paths as they are seen from the folder of the file")


def test_image_of_another_size_than_its_camera(tmp_path: Path) -> None:
    transforms(tmp_path, n=3)
    Image.fromarray(pixels(0, WIDTH + 1, HEIGHT)).save(tmp_path / "images/001.png")
    fails(tmp_path, r"frame 1 .*image .*001\.png has 9 x 6 pixels, its camera 8 x 6; correct w and h")


def test_exif_orientation_decides_the_size(tmp_path: Path) -> None:
    """Upright size = camera: turned. Stored size = camera: left as stored, with a note."""
    exif = Image.Exif()
    exif[0x0112] = 6
    transforms(tmp_path, n=3)
    sideways = pixels(7, HEIGHT, WIDTH)
    Image.fromarray(sideways).save(tmp_path / "images/000.png", exif=exif)
    stored = pixels(8)
    Image.fromarray(stored).save(tmp_path / "images/001.png", exif=exif)
    scene = load_scene(tmp_path)
    np.testing.assert_array_equal(scene.images[0].numpy(), sideways[::-1].transpose(1, 0, 2))
    np.testing.assert_array_equal(scene.images[1].numpy(), stored)
    assert any("1 images are turned" in note for note in scene.notes)
    assert any("orientation of 1 images is ignored" in note for note in scene.notes)


def test_broken_image(tmp_path: Path) -> None:
    transforms(tmp_path, n=3)
    path = tmp_path / "images/002.png"
    path.write_bytes(path.read_bytes()[:60])
    fails(tmp_path, r"images/002\.png: .*(broken|truncated)")
    path.write_bytes(b"hello")
    fails(tmp_path, r"images/002\.png: not an image")


def test_bomb(tmp_path: Path) -> None:
    transforms(tmp_path, n=3)
    fails(tmp_path, r"000\.png: the image has 0\.0 megapixels \(8 x 6\)", max_megapixels=1e-5)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "images/../../secret.png", "a\0b", "link/secret.png"]
)
def test_paths_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    content = transforms(root, n=3)
    Image.fromarray(pixels(0)).save(tmp_path / "secret.png")
    (root / "link").symlink_to(tmp_path)
    content["frames"][1]["file_path"] = name
    write_json(root / "transforms.json", content)
    fails(root, r"frame 1 .*(leaves the data folder|expected a path)")
    content["frames"][1]["file_path"] = "images/001.png"
    content["frames"][1]["mask_path"] = name
    write_json(root / "transforms.json", content)
    fails(root, r"frame 1 .*(leaves the data folder|expected a path)")


def test_a_link_without_suffix_cannot_leave_either(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    content = transforms(root, n=3)
    Image.fromarray(pixels(0)).save(tmp_path / "secret.png")
    (root / "inside.png").symlink_to(tmp_path / "secret.png")
    content["frames"][0]["file_path"] = "inside"
    write_json(root / "transforms.json", content)
    fails(root, "leaves the data folder")
    assert len(load_scene(root, allow_outside=True).images) == 3


def test_mask_of_another_size(tmp_path: Path) -> None:
    content = transforms(tmp_path, n=3)
    Image.fromarray(np.zeros((5, 9), np.uint8)).save(tmp_path / "mask.png")
    content["frames"][0]["mask_path"] = "mask.png"
    write_json(tmp_path / "transforms.json", content)
    fails(tmp_path, r"mask\.png: the mask has 9 x 5 pixels, its image 8 x 6")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": ()}, "splits must be some of train, val, test"),
        ({"splits": ("training",)}, "splits must be some of"),
        ({"downscale_factor": 0}, "downscale_factor must be at least 1"),
        ({"downscale_factor": 2.0}, "downscale_factor must be a whole number, got 2.0"),
        ({"test_every": "8"}, "test_every must be a whole number, got '8'"),
        ({"splits": "test"}, "splits must be some of .*, one as"),
        ({"downscale_factor": 7}, "smaller than the downscale factor 7"),
        ({"test_every": 1}, "test_every must be 0 or at least 2"),
        ({"max_megapixels": 0.0}, "max_megapixels must be positive"),
        ({"aabb_scale": 5}, "power of two"),
        ({"format": "odm"}, "unknown data format 'odm'"),
        ({"format": "colmap"}, "no sparse model of COLMAP"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    transforms(tmp_path, n=3)
    fails(tmp_path, message, **options)


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    content = transforms(tmp_path, n=3)
    (tmp_path / "transforms.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert len(load_scene(tmp_path).images) == 3


def test_image_of_an_unknown_kind(tmp_path: Path) -> None:
    content = transforms(tmp_path, n=3)
    Image.fromarray(pixels(0)).save(tmp_path / "images/000.gif")
    content["frames"][0]["file_path"] = "images/000.gif"
    write_json(tmp_path / "transforms.json", content)
    fails(tmp_path, r"000\.gif: not an image of a kind that is read here")


@pytest.mark.parametrize("given", [{"scale": 1e-10, "offset": [1e300, 0, 0]}, {"scale": 1e-308, "offset": [9, 9, 9]}])
def test_a_unit_cube_beyond_all_numbers(tmp_path: Path, given: dict[str, Any]) -> None:
    transforms(tmp_path, n=3, **given)
    message = "the scale .* and the offset .* put the scene where float32 has no numbers; correct them"
    fails(tmp_path, message)
    transforms(tmp_path, n=3)
    fails(tmp_path, message, scale=given["scale"], offset=tuple(given["offset"]))
