# SPDX-License-Identifier: Apache-2.0
"""Sparse models of COLMAP, as text and in binary: cameras, lenses, masks, several models, broken files."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from neurfield.cameras.cameras import CAMERA_MODELS
from neurfield.data import colmap, load_scene, read_manifest
from neurfield.data.colmap import MODELS
from neurfield.data.options import LoadOptions
from neurfield.errors import UserError
from tests.data.small import FOCAL, HEIGHT, WIDTH, circle, pixels, write_images

LENS = f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL} {FOCAL} {WIDTH / 2} {HEIGHT / 2}"


def rows(n: int) -> list[str]:
    """Lines of images.txt without observations, in an order that is not that of the names."""
    lines = []
    for i, c2w in reversed(list(enumerate(circle(n)))):
        to_camera = np.diag([1.0, -1.0, -1.0]) @ c2w[:3, :3].T
        x, y, z, w = Rotation.from_matrix(to_camera).as_quat()
        t = -to_camera @ c2w[:3, 3]
        lines += [" ".join(f"{value:.17g}" for value in (i + 7, w, x, y, z, *t)) + f" 1 {i:03d}.png", "1.5 2 -1 3 4 17"]
    return lines


def write_text(folder: Path, n: int = 9, lens: str = LENS) -> Path:
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text(f"# Camera list\n{lens}\n")
    (folder / "images.txt").write_text("# Image list\n" + "\n".join(rows(n)) + "\n")
    return folder


def write_binary(folder: Path, n: int = 9, lens: str = LENS) -> Path:
    folder.mkdir(parents=True)
    data = b""
    for camera in lens.splitlines():
        number, model, width, height, *values = camera.split()
        index = [name for name, _ in MODELS].index(model)
        data += struct.pack("<iiQQ", int(number), index, int(width), int(height))
        data += struct.pack(f"<{len(values)}d", *map(float, values))
    (folder / "cameras.bin").write_bytes(struct.pack("<Q", len(lens.splitlines())) + data)
    data = struct.pack("<Q", n)
    for line in rows(n)[::2]:
        first, *pose, camera, name = line.split()
        data += struct.pack("<i7di", int(first), *map(float, pose), int(camera)) + name.encode() + b"\0"
        data += struct.pack("<Qddqddq", 2, 1.5, 2, -1, 3, 4, 17)
    (folder / "images.bin").write_bytes(data)
    return folder


@pytest.mark.parametrize("write", [write_text, write_binary])
@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0", "."])
def test_views_arrive_as_they_were_written(tmp_path, write, place):
    root = tmp_path / "desk"
    write_images(root, 9)
    model = write(tmp_path / "model")
    target = root / place
    target.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        file.rename(target / file.name)
    scene = load_scene(root)
    assert scene.name == "desk" and scene.splits == {"train": [1, 2, 3, 4, 5, 6, 7], "val": [], "test": [0, 8]}
    for i, (image, pose) in enumerate(zip(scene.images, circle(9), strict=True)):
        np.testing.assert_array_equal(image.numpy(), pixels(i))
        np.testing.assert_allclose(scene.cameras.c2w[i].numpy(), pose[:3], atol=1e-6)
    assert scene.cameras.intrinsics[0].tolist() == [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2]
    assert load_scene(target).paths == scene.paths  # the model's own folder


@pytest.mark.parametrize(
    ("lens", "model", "distortion"),
    [
        ("SIMPLE_PINHOLE {w} {h} 9 4 3", "pinhole", [0] * 6),
        ("SIMPLE_RADIAL {w} {h} 9 4 3 0.1", "opencv", [0.1, 0, 0, 0, 0, 0]),
        ("RADIAL {w} {h} 9 4 3 0.1 0.2", "opencv", [0.1, 0.2, 0, 0, 0, 0]),
        ("OPENCV {w} {h} 9 9 4 3 0.1 0.2 0.01 0.02", "opencv", [0.1, 0.2, 0, 0, 0.01, 0.02]),
        ("FULL_OPENCV {w} {h} 9 9 4 3 0.1 0.2 0.01 0.02 0.3 0 0 0", "opencv", [0.1, 0.2, 0.3, 0, 0.01, 0.02]),
        ("OPENCV_FISHEYE {w} {h} 9 9 4 3 0.1 0.2 0.3 0.4", "opencv_fisheye", [0.1, 0.2, 0.3, 0.4, 0, 0]),
        ("SIMPLE_RADIAL_FISHEYE {w} {h} 9 4 3 0.1", "opencv_fisheye", [0.1, 0, 0, 0, 0, 0]),
        ("RADIAL_FISHEYE {w} {h} 9 4 3 0.1 0.2", "opencv_fisheye", [0.1, 0.2, 0, 0, 0, 0]),
        ("SIMPLE_FISHEYE {w} {h} 9 4 3", "opencv_fisheye", [0] * 6),
        ("FISHEYE {w} {h} 9 9 4 3", "opencv_fisheye", [0] * 6),
    ],
)
@pytest.mark.parametrize("write", [write_text, write_binary])
def test_lenses(tmp_path, write, lens, model, distortion):
    write_images(tmp_path, 2)
    write(tmp_path / "sparse/0", 2, "1 " + lens.format(w=WIDTH, h=HEIGHT))
    cameras = load_scene(tmp_path).cameras
    assert CAMERA_MODELS[int(cameras.models[0])] == model
    assert cameras.intrinsics[0].tolist() == [9, 9, 4, 3]
    assert cameras.distortion[0].tolist() == pytest.approx(distortion)


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_panoramas(tmp_path, write):
    write_images(tmp_path, 2)
    write(tmp_path / "sparse/0", 2, f"1 EQUIRECTANGULAR {WIDTH} {HEIGHT} {WIDTH} {HEIGHT}")
    cameras = load_scene(tmp_path).cameras
    assert bool(cameras.is_panorama.all()) and cameras.sizes[0].tolist() == [WIDTH, HEIGHT]


def test_lenses_are_those_of_colmap():
    """By number and by how many parameters they have, without which binary files cannot be read."""
    pycolmap = pytest.importorskip("pycolmap")
    for number, (name, spelled) in enumerate(MODELS):
        camera = pycolmap.Camera.create_from_model_name(1, name, 100.0, WIDTH, HEIGHT)
        assert (int(camera.model), len(camera.params)) == (number, len(spelled.split()))


def test_text_as_windows_writes_it(tmp_path):
    """A mark of the byte order at the head, line ends of two characters, names with spaces and umlauts."""
    name = "Süd  seite/Tür 1.png"
    write_images(tmp_path, 2)
    model = write_text(tmp_path / "sparse/0", 2)
    (tmp_path / "images" / name).parent.mkdir()
    (tmp_path / "images/001.png").rename(tmp_path / "images" / name)
    for file in model.iterdir():
        text = file.read_text().replace("001.png", name)
        file.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert [view.name for view in read_manifest(tmp_path).views] == ["images/000.png", f"images/{name}"]


def test_the_largest_of_several_models_is_taken_and_named(tmp_path):
    write_images(tmp_path, 9)
    write_text(tmp_path / "sparse/0", 2)
    write_binary(tmp_path / "sparse/1", 9)
    manifest = read_manifest(tmp_path)
    assert len(manifest.views) == 9
    assert any("largest of the models 0 with 2, 1 with 9 views" in note for note in manifest.notes)


def test_masks_missing_photos_and_smaller_ones(tmp_path):
    write_images(tmp_path, 3)
    write_text(tmp_path / "sparse/0", 4)
    (tmp_path / "masks").mkdir()
    keep = np.zeros((HEIGHT, WIDTH), np.uint8)
    keep[:, :2] = 255
    Image.fromarray(keep).save(tmp_path / "masks/001.png.png")
    manifest = read_manifest(tmp_path)
    assert [view.name for view in manifest.views] == ["images/000.png", "images/001.png", "images/002.png"]
    assert any("1 of 4 images are missing (images/003.png)" in note for note in manifest.notes)
    masks = load_scene(tmp_path).masks
    assert masks is not None and masks[0] is None and masks[1] is not None and int(masks[1].sum()) == 2 * HEIGHT
    (tmp_path / "images_2").mkdir()
    for i in range(3):
        Image.fromarray(pixels(i + 9, WIDTH // 2, HEIGHT // 2)).save(tmp_path / f"images_2/{i:03d}.png")
    small = load_scene(tmp_path, downscale_factor=2)
    np.testing.assert_array_equal(small.images[0].numpy(), pixels(9, WIDTH // 2, HEIGHT // 2))
    assert small.cameras.intrinsics[0, 0] == FOCAL / 2


def broken(file: str, old: str, new: str):
    def change(model: Path) -> None:
        text = (model / file).read_text()
        assert old in text
        (model / file).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("cameras.txt", "PINHOLE", "PINHOLES"), "unknown model 'PINHOLES', did you mean"),
        (broken("cameras.txt", LENS, "1 PINHOLE 8"), "expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS"),
        (broken("cameras.txt", "PINHOLE", "FOV"), "the model FOV is not supported"),
        (broken("cameras.txt", f" {HEIGHT / 2}", ""), "PINHOLE has 4 parameters, got 3"),
        (broken("cameras.txt", f" {FOCAL}", " nan"), "cameras.txt:2: expected finite numbers"),
        (broken("cameras.txt", f" {FOCAL}", " -1"), "focal length in x must be positive"),
        (broken("cameras.txt", "1 PINHOLE", "2 PINHOLE"), "there is no camera 1"),
        (broken("images.txt", "# Image list\n", "# Image list\n1 2 3\n\n"), "images.txt:2: expected IMAGE_ID QW"),
        (
            broken("images.txt", "# Image list\n", "# Image list\n1 3 0 0 0 0 0 0 1 a.png\n\n"),
            "must have length 1, got 3",
        ),
        (broken("images.txt", "000.png", "../../000.png"), "leaves the data folder"),
        (broken("images.txt", "000.png", "a" * 5000 + ".png"), "cannot look for the file .*too long"),
        (lambda model: (model / "images.txt").write_text("# nothing\n"), "no images, expected at least one view"),
    ],
)
def test_a_broken_model_is_one_clear_line(tmp_path, change, message):
    write_images(tmp_path, 2)
    model = write_text(tmp_path / "sparse/0", 2)
    change(model)
    with pytest.raises(UserError, match=message) as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value) and "sparse" in str(error.value)


@pytest.mark.parametrize("write", [write_text, write_binary])
@pytest.mark.parametrize(
    "other", [f"{name} 8 6" + " 1" * len(spelled.split()) for name, spelled in MODELS if "-" in spelled]
)
def test_a_lens_that_no_photo_has_may_be_of_any_kind(tmp_path, write, other):
    write_images(tmp_path, 2)
    write(tmp_path / "sparse/0", 2, f"9 {other}\n{LENS}")
    assert read_manifest(tmp_path).views[1].intrinsics.fl_x == FOCAL


def observed(folder: Path, write, n: int) -> Path:
    """A model of one photo with `n` observations, 24 bytes each."""
    model = write(folder, 1)
    if write is write_binary:
        data = (model / "images.bin").read_bytes()
        (model / "images.bin").write_bytes(data[:-56] + struct.pack("<Q", n) + b"\0" * (24 * n))
    else:
        (model / "images.txt").write_text(rows(1)[0] + "\n" + "  1.000000 -2.000000 -1 " * n)
    return model


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_observations_are_not_read(tmp_path, write):
    write_images(tmp_path, 1)
    observed(tmp_path / "sparse/0", write, 200_000)  # 4.8 MB
    options = LoadOptions(test_every=0)
    read_manifest(tmp_path, options)
    tracemalloc.start()
    try:
        assert len(read_manifest(tmp_path, options).views) == 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_entries_and_names_without_end(tmp_path, monkeypatch):
    write_images(tmp_path, 3)
    model = write_binary(tmp_path / "sparse/0", 3)
    data = (model / "images.bin").read_bytes()
    monkeypatch.setattr(colmap, "MAX_TEXT", 4)
    with pytest.raises(UserError, match=r"images\.bin: byte 72: the name of an image has no end"):
        read_manifest(tmp_path)
    monkeypatch.setattr(colmap, "MAX_TEXT", 8)  # "002.png" and its end
    assert (model / "images.bin").write_bytes(data) and len(read_manifest(tmp_path).views) == 3
    monkeypatch.setattr(colmap, "MAX_ENTRIES", 2)
    with pytest.raises(UserError, match=r"images\.bin: more than 2 entries"):
        read_manifest(tmp_path)


def test_smaller_photos_in_folders_within_images(tmp_path):
    write_images(tmp_path, 2, folder="images/left")
    write_images(tmp_path, 2, folder="images_2/left")
    for i in range(2):
        Image.fromarray(pixels(i + 9, WIDTH // 2, HEIGHT // 2)).save(tmp_path / f"images_2/left/{i:03d}.png")
    model = write_text(tmp_path / "sparse/0", 2)
    text = (model / "images.txt").read_text().replace("000.png", "left/000.png").replace("001.png", "left/001.png")
    (model / "images.txt").write_text(text)
    small = load_scene(tmp_path, downscale_factor=2)
    np.testing.assert_array_equal(small.images[1].numpy(), pixels(10, WIDTH // 2, HEIGHT // 2))


def test_every_cut_of_a_binary_model_is_noticed(tmp_path):
    write_images(tmp_path, 2)
    model = write_binary(tmp_path / "sparse/0", 2)
    for file in (model / "images.bin", model / "cameras.bin"):
        whole = file.read_bytes()
        for n in range(len(whole)):
            file.write_bytes(whole[:n])
            with pytest.raises(UserError, match="the file ends too early"):
                read_manifest(tmp_path)
        file.write_bytes(whole)
    assert len(read_manifest(tmp_path).views) == 2


def test_numbers_of_a_hostile_binary_model(tmp_path):
    write_images(tmp_path, 2)
    model = write_binary(tmp_path / "sparse/0", 2)
    data = bytearray((model / "cameras.bin").read_bytes())
    (model / "images.bin").write_bytes(struct.pack("<Q", 2**63) + b"\0" * 100)
    with pytest.raises(UserError, match="ends too early"):
        read_manifest(tmp_path)
    data[12:16] = struct.pack("<i", 99)
    (model / "cameras.bin").write_bytes(data)
    write_binary(tmp_path / "other", 2)
    (tmp_path / "other/images.bin").replace(model / "images.bin")
    with pytest.raises(UserError, match="unknown model 99"):
        read_manifest(tmp_path)


def test_real_text_and_binary_are_the_same_scene(data_root):
    folder = data_root / "lund_door"
    if not folder.exists():
        pytest.skip(f"no lund_door in {data_root}")
    binary, text = read_manifest(folder), read_manifest(folder / "sparse_txt/0")
    assert len(binary.views) == 12 and [view.name for view in binary.views] == [view.name for view in text.views]
    for a, b in zip(binary.views, text.views, strict=True):
        np.testing.assert_allclose(a.c2w, b.c2w, atol=1e-12)
        assert a.intrinsics == b.intrinsics
    assert binary.views[0].intrinsics.distortion[0] == pytest.approx(-0.0336422)
