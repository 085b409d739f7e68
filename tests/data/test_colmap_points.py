# SPDX-License-Identifier: Apache-2.0
"""The cloud of points of a sparse model."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from neurfield.data import colmap_points, load_scene, read_manifest
from neurfield.data.colmap_points import read_points
from neurfield.errors import UserError
from neurfield.viewer.embed import shown_data
from tests.data.small import write_images
from tests.data.test_colmap import write_text

# x, y, z, red, green, blue
POINTS = [(0.5, -1.25, 3.0, 250, 128, 0), (-2.0, 0.0, 1e3, 1, 2, 3), (4.0, 5.0, 6.0, 255, 255, 255)]


def write_points_text(model: Path) -> Path:
    lines = [f"{7 + i} {' '.join(map(str, point))} 0.5{' 1 2' * i}" for i, point in enumerate(POINTS)]
    (model / "points3D.txt").write_text("# 3D point list\n" + "\n".join(lines) + "\n")
    return model / "points3D.txt"


def write_points_binary(model: Path) -> Path:
    data = struct.pack("<Q", len(POINTS))
    for i, point in enumerate(POINTS):
        data += struct.pack("<Q3d3BdQ", 7 + i, *point, 0.5, i) + struct.pack("<ii", 1, 2) * i
    (model / "points3D.bin").write_bytes(data)
    return model / "points3D.bin"


@pytest.mark.parametrize("write", [write_points_text, write_points_binary])
def test_points_and_their_colours(tmp_path, write):
    write_images(tmp_path, 3)
    write_text(tmp_path / "sparse/0", 3)
    write(tmp_path / "sparse/0")
    model = read_manifest(tmp_path).sparse_model
    assert model is not None and model.resolve() == (tmp_path / "sparse/0").resolve()
    cloud = read_points(model)
    assert cloud is not None
    np.testing.assert_array_equal(cloud.positions, np.array(POINTS, np.float32)[:, :3])
    np.testing.assert_array_equal(cloud.colors, np.array(POINTS)[:, 3:].astype(np.uint8))


def test_a_model_without_points(tmp_path):
    assert read_points(write_text(tmp_path / "sparse")) is None


def test_points_that_are_not_finite_are_left_out(tmp_path):
    file = write_points_binary(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[:16] + struct.pack("<d", np.nan) + data[24:])
    cloud = read_points(tmp_path)
    assert cloud is not None and len(cloud.positions) == len(cloud.colors) == 2


def test_every_cut_is_noticed(tmp_path):
    file = write_points_binary(tmp_path)
    whole = file.read_bytes()
    for n in range(len(whole)):
        file.write_bytes(whole[:n])
        with pytest.raises(UserError, match=r"points3D\.bin: the file ends too early"):
            read_points(tmp_path)


def test_cameras_are_shown_without_points_that_cannot_be_read(tmp_path, caplog):
    write_images(tmp_path, 3)
    file = write_points_binary(write_text(tmp_path / "sparse/0", 3))
    whole = file.read_bytes()
    assert shown_data(tmp_path).cloud is not None and not caplog.messages
    file.write_bytes(whole[:-1])
    shown = shown_data(tmp_path)
    assert shown.cloud is None and shown.views is not None and len(shown.views.cameras) == 3
    (line,) = caplog.messages
    assert re.search(r"points3D\.bin: the file ends too early.*; the cameras are shown without points$", line)
    assert len(load_scene(tmp_path).images) == 3


def test_of_more_points_than_fit_the_first_are_taken(tmp_path, monkeypatch):
    """Photos and cameras can be seen all the same."""
    write_points_text(tmp_path)
    monkeypatch.setattr(colmap_points, "MAX_POINTS", 2)
    cloud = read_points(tmp_path)
    assert cloud is not None
    np.testing.assert_array_equal(cloud.positions, np.array(POINTS, np.float32)[:2, :3])


def test_bad_points(tmp_path):
    file = write_points_text(tmp_path)
    file.write_text("1 2 3\n")
    with pytest.raises(UserError, match=r"points3D\.txt:1: expected POINT3D_ID X Y Z R G B, got '1 2 3'"):
        read_points(tmp_path)
    file.write_text("1 2 3 x 0 0 0\n")
    with pytest.raises(UserError, match=r"points3D\.txt:1: expected finite numbers"):
        read_points(tmp_path)
    file.write_text("1 2 3 4 999 -5 0\n")
    cloud = read_points(tmp_path)
    assert cloud is not None and cloud.colors.tolist() == [[255, 0, 0]]


# error, images that see it, the first of which has the number 7; 99 is in no file
SEEN = [(0.5, (7, 9, 7, 99)), (2.5, (7, 8, 9)), (-1.0, (8,))]


def write_seen(model: Path, binary: bool) -> Path:
    """The points with their observations; the second is known less exactly than MAX_ERROR."""
    data, text = struct.pack("<Q", len(POINTS)), ""
    for i, (point, (error, images)) in enumerate(zip(POINTS, SEEN, strict=True)):
        track = [number for image in images for number in (image, 5)]
        data += struct.pack("<Q3d3BdQ", 7 + i, *point, error, len(images)) + struct.pack(f"<{len(track)}i", *track)
        text += " ".join(map(str, (7 + i, *point, error, *track))) + "\n"
    file = model / ("points3D.bin" if binary else "points3D.txt")
    file.write_bytes(data if binary else text.encode())
    return file


@pytest.mark.parametrize("binary", [False, True])
def test_who_sees_the_points(tmp_path, binary):
    write_images(tmp_path, 3)
    write_seen(write_text(tmp_path / "sparse/0", 3), binary)
    seen = load_scene(tmp_path, test_every=0).points
    assert seen is not None
    assert seen.positions.tolist() == [list(POINTS[0][:3]), list(POINTS[2][:3])]
    assert list(zip(seen.points.tolist(), seen.views.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 1)]
    others = load_scene(tmp_path, splits=("train",)).points  # all but the first photo
    assert others is not None and others.views.tolist() == [1, 0] and others.points.tolist() == [0, 1]
    assert load_scene(tmp_path, splits=("test",)).points is None


def test_a_broken_cloud_costs_the_points_and_a_note(tmp_path):
    write_images(tmp_path, 3)
    file = write_seen(write_text(tmp_path / "sparse/0", 3), True)
    assert load_scene(tmp_path).points is not None
    file.write_bytes(file.read_bytes()[:-1])
    scene = load_scene(tmp_path)
    assert scene.points is None and any("the points are not used: " in note for note in scene.notes)


def test_more_observations_than_a_data_set_has_are_refused(tmp_path, monkeypatch):
    model = write_text(tmp_path / "sparse", 3)
    write_seen(model, False)
    names = {f"{i:03d}.png": i for i in range(3)}
    assert colmap_points.read_seen(model, names, (0.0, 0.0, 0.0)) is not None
    monkeypatch.setattr(colmap_points, "MAX_SEEN", 2)
    with pytest.raises(UserError, match=r"points3D\.txt: more than 2 observations are too many"):
        colmap_points.read_seen(model, names, (0.0, 0.0, 0.0))
