# SPDX-License-Identifier: Apache-2.0
"""Data that cannot be used, through the commands that read them: one line, exit code 2, nothing written."""

import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurfield.cli.main import main
from tests.data.small import HEIGHT, WIDTH, circle, pixels, synthetic, transforms, write_json
from tests.data.test_images import png
from tests.data.test_tiny_nerf import write as write_npz
from tests.training.test_trainer import SMALL

HUGE = 10**400  # JSON allows it, float64 does not
COMMANDS = ("train {data} --output-dir {out} --max-num-iterations 1", "data info {data} --output {out}/cameras.png")


def run(command: str, data: Path, out: Path) -> int:
    words = [word.format(data=data, out=out) for word in command.split()]
    small = ["--eval-split", "none", "--set", *SMALL] if words[0] == "train" else []
    return main([*words, *small])


def frame(**change: Any) -> Callable[[Path], Path]:
    """transforms.json whose frame 2 has these values."""

    def write(root: Path) -> Path:
        content = transforms(root)
        content["frames"][2] |= change
        write_json(root / "transforms.json", content)
        return root

    return write


def top(**values: Any) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        transforms(root, **values)
        return root

    return write


def text(content: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / "transforms.json").write_text(content)
        return root

    return write


def image(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A data set in which something is done to one image."""

    def write(root: Path) -> Path:
        transforms(root)
        change(root / "images/002.png")
        return root

    return write


def archive(**changes: Any) -> Callable[[Path], Path]:
    return lambda root: write_npz(root / "a.npz", **changes)


def cut_test_view(root: Path) -> Path:
    """Nothing but decoding would notice, and test views are decoded after training."""
    content = transforms(root)
    content["frames"][0]["file_path"] = "images/000.jpg"  # every 8th view is for testing
    write_json(root / "transforms.json", content)
    path = root / "images/000.jpg"
    Image.fromarray(pixels(0)).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    return root


def no_images(root: Path) -> Path:
    transforms(root)
    shutil.rmtree(root / "images")
    return root


def no_frames(root: Path) -> Path:
    synthetic(root)
    write_json(root / "transforms_train.json", {"camera_angle_x": 0.7, "frames": []})
    return root


def secret(root: Path) -> Path:
    Image.fromarray(pixels(0)).save(root.parent / "secret.png")
    return frame(file_path="../secret.png")(root)


def mixed(root: Path) -> Path:
    exr = pytest.importorskip("OpenEXR")
    content = transforms(root)
    channels = {"RGB": pixels(2).astype(np.float32) / 255}
    with exr.File({"compression": exr.ZIP_COMPRESSION}, channels) as file:
        file.write(str(root / "images/002.exr"))
    content["frames"][2]["file_path"] = "images/002.exr"
    write_json(root / "transforms.json", content)
    return root


def black_masks(root: Path) -> Path:
    content = transforms(root)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(root / "mask.png")
    for entry in content["frames"]:
        entry["mask_path"] = "mask.png"
    write_json(root / "transforms.json", content)
    return root


def bomb(path: Path) -> None:
    """A PNG of 100 megapixels in 70 bytes."""
    png(path, pixels(0), 8, 2)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 10_000, 10_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def broken_16_bits(path: Path) -> None:
    """Right chunks and sums, and a compressed stream that is none."""
    png(path, np.zeros((HEIGHT, WIDTH, 3), np.uint16), 16, 2)
    content = path.read_bytes()
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    stream = content[start : start + 6] + bytes([0xFF] * (length - 2))
    path.write_bytes(content[:start] + stream + struct.pack(">I", zlib.crc32(stream)) + content[start + 8 + length :])


def broken_stream(root: Path) -> Path:
    """An archive whose members have the right names, headers and sizes, and one stream that breaks off its track."""
    path = write_npz(root / "a.npz", images=np.stack([pixels(i, 64, 64) for i in range(16)]))
    with zipfile.ZipFile(path) as opened:
        info = opened.getinfo("images.npy")
    content = bytearray(path.read_bytes())
    middle = info.header_offset + info.compress_size // 2
    content[middle : middle + 2000] = bytes([0xFF] * 2000)
    path.write_bytes(content)
    return path


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


NAN_POSE = [[float("nan")] * 4] * 4
HUGE_POSE = [[HUGE, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
FAR_POSE = [[1, 0, 0, 1e39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]

CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nowhere": (lambda root: root / "none", "none: no such file or folder"),
    "a name too long": (lambda root: root / ("x" * 300), "no such file or folder"),
    "an empty folder": (lambda root: root, "not a data set of a known format"),
    "no image at all": (no_images, "none of the 9 images exist"),
    "a broken image": (image(lambda path: path.write_bytes(b"hello")), "002.png: not an image of a kind"),
    "a truncated image": (image(half), "002.png: the image is broken or truncated"),
    "a truncated test view": (cut_test_view, "000.jpg: the image is broken or truncated"),
    "broken 16-bit colours": (image(broken_16_bits), "002.png: the image is broken or truncated (its 16-bit colours"),
    "another size": (image(lambda path: Image.new("RGB", (9, 6)).save(path)), "has 9 x 6 pixels, its camera 8 x 6"),
    "a bomb": (image(bomb), "the image has 100.0 megapixels (10000 x 10000), more than the 64 allowed"),
    "a pose of NaN": (frame(transform_matrix=NAN_POSE), "frame 2 (images/002.png): transform_matrix: the pose is not"),
    "a huge pose": (frame(transform_matrix=HUGE_POSE), "transform_matrix: expected a 4x4 matrix of numbers"),
    "a pose far away": (frame(transform_matrix=FAR_POSE), "the pose is not finite: 1e+39 in row 0, column 3"),
    "a pose that shears": (frame(transform_matrix=np.diag([1.0, 2, 1, 1]).tolist()), "the pose is not rigid"),
    "a huge lens": (frame(fl_x=HUGE), "fl_x must be a finite number, got 1000000"),
    "a huge time": (frame(time=HUGE), "time must be a number from 0 to 1, got 1000000"),
    "a huge scale": (top(scale=HUGE), "scale must be a positive number, got 1000000"),
    "p1 of a fisheye": (top(camera_model="OPENCV_FISHEYE", p1=0.01), "p1 and p2 are not supported for fisheye"),
    "a path that leaves": (secret, "the path '../secret.png' leaves the data folder"),
    "a path too long": (frame(file_path="x" * 5000), "file name too long"),
    "a suffix too long": (frame(file_path="x" * 253), "file name too long"),
    "a mask too long": (frame(mask_path="x" * 5000), "file name too long"),
    "no transforms": (text('{"name": "package"}'), "not a transforms file"),
    "no JSON": (text("views: 3"), "transforms.json:1: not valid JSON"),
    "zero views": (text('{"frames": []}'), "no frames, expected at least one view"),
    "zero views to train": (no_frames, "transforms_train.json: no frames, expected at least one view"),
    "zero views in an archive": (archive(images=np.zeros((0, 6, 8, 3), np.uint8)), "images must be uint8 or float"),
    "a broken archive": (broken_stream, "a.npz: not a readable NumPy archive"),
    "a focal length of text": (archive(focal=np.array("10")), "focal must be one positive number of pixels, got <U2"),
    "a complex focal length": (archive(focal=np.array(10j)), "focal must be one positive number of pixels, got compl"),
    "poses of text": (archive(poses=np.stack(circle(16)).astype(str)), "poses must be [16, 4, 4] numbers"),
}  # fmt: skip
ONLY_IN_TRAINING = {
    "black masks": (black_masks, "the masks leave no pixel of the train views"),
    "EXR beside PNG": (mixed, "linear (EXR, float TIFF) and sRGB images cannot be mixed"),
}


@pytest.mark.parametrize(
    ("command", "case"),
    [(command, case) for case in CASES for command in COMMANDS] + [(COMMANDS[0], c) for c in ONLY_IN_TRAINING],
)
def test_one_line_and_nothing_written(command, case, tmp_path, capsys):
    write, message = (CASES | ONLY_IN_TRAINING)[case]
    (tmp_path / "data").mkdir()
    data = write(tmp_path / "data")
    (tmp_path / "out").mkdir()
    assert run(command, data, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("neurfield: ") and error.count("\n") == 1, error
    assert message in error and len(error) < 600, error
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("write", [top(), archive()], ids=["transforms", "archive"])
def test_the_same_data_unharmed(command, write, tmp_path, capsys):
    assert run(command, write(tmp_path), tmp_path / "out") == 0
    assert capsys.readouterr().err == ""


FORBIDDEN = {
    "train {data} --output-dir {out}": "{data}",
    "data info {data}": "{data}",
    "data info {data}/inner.obj": "{data}/inner.obj",
    "process {data} --output {out}/photos": "{data}",
    "view {data} --port 0": "{data}",
    "eval {data}": "{data}",
    "eval {data}/step.safetensors": "{data}/step.safetensors",
    "export mesh {data}/run --output {out}/m.ply": "{data}/run/checkpoints",
    "render {data} --output {out}/views": "{data}",
    "train {ball} --resume --output-dir {data}": "{data}/ball",
    "eval {data}/nothing": "{data}",
}


@pytest.mark.parametrize("command", FORBIDDEN)
def test_what_may_not_be_read(command, tmp_path, monkeypatch, capsys):
    """To the superuser, whom modes of files do not stop, the system says no by name."""
    data, ball = tmp_path / "data", tmp_path / "ball"
    for folder in (data / "run/checkpoints", data / "ball", ball, tmp_path / "out"):
        folder.mkdir(parents=True)
    (data / "inner.obj").touch()
    (data / "step.safetensors").touch()
    top()(ball)
    place = Path(FORBIDDEN[command].format(data=data))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place and access(path, mode))
    mode = place.stat().st_mode
    place.chmod(0)
    try:
        code = main([word.format(data=data, out=tmp_path / "out", ball=ball) for word in command.split()])
    finally:
        place.chmod(mode)
    assert code == 2
    assert capsys.readouterr().err == f"neurfield: {place}: may not be read; give yourself the permission: chmod u+rX\n"
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_turns_out_to_be_forbidden_is_the_users(tmp_path, monkeypatch, capsys):
    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied", "sparse/0")

    monkeypatch.setattr("neurfield.data.colmap.detect", denied)
    assert main(["data", "info", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "neurfield: sparse/0: permission denied\n"
