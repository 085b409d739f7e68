# SPDX-License-Identifier: Apache-2.0
"""Files that fields are drawn into: suffixes in capitals, pictures of shapes from everywhere."""

import errno
import os

import numpy as np
import pytest
import skimage.io
import torch
import trimesh
from PIL import Image
from torch import nn

from neurfield.data import signals
from neurfield.data.signals.grid import GridInfo
from neurfield.data.signals.mesh import MeshInfo
from neurfield.errors import MachineError, UserError
from neurfield.export import sampled_array, tiff_file
from neurfield.export.image_file import IMAGE_WRITERS, write_image
from neurfield.export.sdf_mesh import export_sdf_mesh
from neurfield.export.sdf_picture import write_sdf_picture
from neurfield.export.sdf_points import export_sdf_points
from neurfield.export.video_file import write_video
from neurfield.export.views import is_video
from neurfield.export.volume_file import write_volume
from neurfield.rendering.sphere_trace import picture
from tests.png import zlib_effort


class Colors(nn.Module):
    """Positions are the colours, the rest is 0.5."""

    def __init__(self, n_channels: int):
        super().__init__()
        self.n_channels = n_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x.new_full((len(x), 4), 0.5)], dim=1)[:, : self.n_channels]


class Capsule(nn.Module):
    """A long body along the last axis, distance with a sign."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - 0.5
        x = torch.cat([x[:, :2], x[:, 2:] - x[:, 2:].clamp(-0.25, 0.25)], dim=1)
        return x.norm(dim=1, keepdim=True) - 0.1


def info(*sizes: int, n_channels: int = 3) -> GridInfo:
    return GridInfo("a", ".png", sizes, n_channels, "uint8", 0.0, 255.0)


@pytest.mark.parametrize("suffix", [*IMAGE_WRITERS, ".Jpg"])
def test_images_with_suffixes_in_capitals(suffix, tmp_path):
    path = tmp_path / f"a{suffix.upper() if suffix.islower() else suffix}"
    write_image(Colors(3), info(8, 16), (8, 16), path)
    assert signals.kind_of(path) == "image" and signals.read(path).info.sizes == (8, 16)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "others"), [("a.JPG", ".png or .webp"), ("a.hdr", ".exr")])
def test_alpha_is_refused_before_a_file_without_it_is_sampled(name, others, tmp_path):
    with pytest.raises(UserError, match=f"has no alpha, and the image does; give a {others}"):
        write_image(nn.Identity(), info(8, 16, n_channels=4), (8, 16), tmp_path / name)


@pytest.mark.parametrize("suffix", [s for s in IMAGE_WRITERS if s != ".npy"])
def test_numbers_that_are_no_codes_become_no_picture(suffix, tmp_path):
    heights = GridInfo("a", ".npy", (4, 5), 1, "int16", -120.0, 3000.0)
    with pytest.raises(UserError, match=r"holds uint8, uint16 or floats, and the values are int16; give a \.npy"):
        write_image(Colors(1), heights, (4, 5), tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n_channels", [1, 3])
def test_a_radiance_picture_is_rounded_to_its_nearest_codes(n_channels, tmp_path):
    """Half a step is 1 / 255 of the largest colour at most: of 255.5, which is written as 128 x 2."""
    random = np.random.default_rng(0)
    values = 2.0 ** random.uniform(-30, 30, (48, 64, 1)) * random.uniform(0, 1, (48, 64, n_channels))
    values[0, :5] = [[0.0], [-1.0], [1e38], [255.6], [1e-42]]
    IMAGE_WRITERS[".hdr"](tmp_path / "a.hdr", values.astype(np.float32))
    back = signals.read(tmp_path / "a.hdr").values
    assert back.shape == values.shape and back.dtype == np.float32
    values = np.maximum(values, 0)
    assert (np.abs(back - values) <= values.max(axis=2, keepdims=True) / 255 + 1e-38).all()
    assert not back[0, :2].any() and back[0, 2].max() > 9.9e37


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
def test_a_tiff_keeps_every_bit(dtype, n_channels, tmp_path):
    """As another reader has it, and as ours: learned from it, a picture is written into its own format again."""
    random = np.random.default_rng(0)
    values = random.random((7, 5, n_channels))
    if dtype != "float32":
        values = np.rint(values * np.iinfo(dtype).max)
    values = values.astype(dtype)
    IMAGE_WRITERS[".tif"](tmp_path / "a.tif", values)
    others = values.squeeze(2) if n_channels == 1 else values[..., [0, 0, 0, 1]] if n_channels == 2 else values
    assert np.array_equal(skimage.io.imread(tmp_path / "a.tif"), others)
    signal = signals.read(tmp_path / "a.tif")
    assert signal.info.suffix == ".tif" and signal.info.dtype == dtype and np.array_equal(signal.values, values)


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_a_png_is_not_packed_longer_than_is_worth_it(n_channels, tmp_path):
    write_image(Colors(n_channels), info(24, 32, n_channels=n_channels), (24, 32), tmp_path / "a.png")
    assert zlib_effort(tmp_path / "a.png") == "fast"


def test_a_tiff_that_would_be_too_large_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(tiff_file, "MAX_BYTES", 104)
    with pytest.raises(UserError, match=r"TIFF holds 4 GiB, the picture has 0.0; give a .png or .npy"):
        write_image(Colors(3), info(5, 7), (5, 7), tmp_path / "a.tiff")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "limit"), [(".webp", 16383), (".jpg", 65500), (".JPEG", 65500)])
def test_a_format_is_asked_for_its_largest_side_before_anything_is_sampled(suffix, limit, tmp_path):
    write_image(Colors(1), info(1, limit, n_channels=1), (1, limit), tmp_path / f"fits{suffix}")
    with pytest.raises(UserError, match=rf"{suffix.lower()} holds {limit} pixels a side, not {limit + 1} x 1; give a"):
        write_image(nn.Identity(), info(1, 9), (1, limit + 1), tmp_path / f"a{suffix}")
    assert [path.stem for path in tmp_path.iterdir()] == ["fits"]


@pytest.mark.parametrize("suffix", [s for s in IMAGE_WRITERS if s != ".npy"])
def test_a_picture_that_memory_does_not_hold_is_refused_before_it_is_sampled(suffix, monkeypatch, tmp_path):
    monkeypatch.setattr(sampled_array, "available_bytes", lambda: 64 * 64 * 3)  # as much as the array alone
    with pytest.raises(
        UserError, match=r"0 million samples need 0\.\d MiB of memory in this format, 0\.0 MiB are free"
    ):
        write_image(nn.Identity(), info(64, 64), (64, 64), tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())
    write_image(Colors(3), info(64, 64), (64, 64), tmp_path / "a.npy")


def test_a_volume_that_memory_does_not_hold_is_refused_before_it_is_sampled(monkeypatch, tmp_path):
    pytest.importorskip("nibabel")
    monkeypatch.setattr(sampled_array, "available_bytes", lambda: 16**3)
    with pytest.raises(UserError, match="of memory in this format"):
        write_volume(nn.Identity(), info(16, 16, 16, n_channels=1), (16, 16, 16), tmp_path / "a.nii.gz")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system has no posix_fallocate")
@pytest.mark.parametrize(
    ("write", "sizes"), [(write_image, (8, 9)), (write_video, (2, 4, 9)), (write_volume, (2, 4, 9))]
)
def test_an_array_takes_its_room_on_the_disk_before_it_is_filled(write, sizes, monkeypatch, tmp_path):
    """To write through a map where the disk is full ends the process without a word."""
    asked = []

    def full(descriptor, offset, length):
        asked.append((offset, length, os.fstat(descriptor).st_size))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MachineError, match=r"a\.npy: cannot write \(no space left on device\)"):
        write(nn.Identity(), info(*sizes), sizes, tmp_path / "a.npy")
    assert asked == [(0, 128 + 72 * 3, 128 + 72 * 3)] and not list(tmp_path.iterdir())  # a header and the values


@pytest.mark.parametrize("suffix", [".MP4", ".Mov", ".MKV"])
def test_videos_with_suffixes_in_capitals(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_video(Colors(3), info(3, 16, 32), (3, 16, 32), path)
    assert is_video(path) and signals.read(path).info.sizes == (3, 16, 32)
    write_video(Colors(3), info(3, 16, 32), (3, 16, 32), tmp_path / "a.NPY")
    assert np.load(tmp_path / "a.NPY").shape == (3, 16, 32, 3)
    write_sdf_picture(Capsule(), (32, 16), 2, 20.0, tmp_path / f"b{suffix}")
    assert signals.read(tmp_path / f"b{suffix}").info.sizes == (2, 16, 32)


def test_a_shape_is_drawn_from_straight_above_and_below(tmp_path):
    """Seen along +y from azimuth 0 the body's axis, z, is upright; half a degree aside it looks all but the same."""
    for elevation in (90.0, -90.0):
        seen = picture(Capsule(), 64, 64, 0.0, elevation)[..., 0] < 250
        rows, columns = seen.any(1).sum(), seen.any(0).sum()
        assert rows > 2.5 * columns > 0
        near = picture(Capsule(), 64, 64, 0.0, elevation * 0.995)[..., 0] < 250
        assert (seen ^ near).sum() < 0.1 * seen.sum()
    write_sdf_picture(Capsule(), (32, 16), 1, 90.0, tmp_path / "a.PNG")
    assert Image.open(tmp_path / "a.PNG").size == (32, 16)


def test_edges_of_a_shape_are_smooth():
    """Four rays know the covered part of a pixel to a quarter, one ray says all or nothing."""
    seen, fine = (picture(Capsule(), size, size, 0.0, 90.0)[..., 0].float() for size in (64, 256))
    assert (seen - nn.functional.avg_pool2d(fine[None], 4)[0]).abs().max() < 255 / 4


@pytest.mark.parametrize("elevation", [91.0, -90.5, float("nan")])
def test_elevations_beyond_are_refused(elevation, tmp_path):
    with pytest.raises(UserError, match=r"--elevation must be within -90 \.\.\. 90 degrees"):
        write_sdf_picture(Capsule(), (32, 16), 1, elevation, tmp_path / "a.png")
    with pytest.raises(UserError, match="--orbit: expected at least 1 view, got -3"):
        write_sdf_picture(Capsule(), (32, 16), -3, 0.0, tmp_path / "a.mp4")
    with pytest.raises(UserError, match="--fps must be above 0 and at most 240, got 0"):
        write_sdf_picture(Capsule(), (32, 16), 3, 0.0, tmp_path / "a.mp4", fps=0)


def test_memory_that_runs_out_in_an_exr_is_not_a_disk_that_refuses(tmp_path, monkeypatch):
    openexr = pytest.importorskip("OpenEXR")
    monkeypatch.setattr(openexr, "File", lambda *args: torch.empty(1 << 58, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="memory"):
        IMAGE_WRITERS[".exr"](tmp_path / "a.exr", np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_a_shape_of_a_survey_comes_out_near_its_origin_and_says_where_that_is(suffix, tmp_path):
    """float32 at 5.5 million is half a unit, a twentieth of this shape."""
    low, high = (499_995.25, 5_499_995.0, 300.0), (500_005.25, 5_500_005.0, 310.0)
    far = MeshInfo("a", ".obj", 3, 1, False, low, high)
    assert far.normalization.origin == (500_000, 5_500_000, 300) and "origin" not in far.describe()
    export_sdf_mesh(Capsule(), far, tmp_path / f"a{suffix}", resolution=32)
    found = trimesh.load(tmp_path / f"a{suffix}", force="mesh")
    # the capsule is 0.2, 0.2 and 0.7 units of the cube around its middle
    sizes = np.array([0.2, 0.2, 0.7]) / far.scale
    middle = (np.array(low) + np.array(high)) / 2 - far.normalization.origin
    np.testing.assert_allclose(found.bounds, [middle - sizes / 2, middle + sizes / 2], atol=0.02 / far.scale)
    export_sdf_points(Capsule(), far, tmp_path / "points.ply", 500)
    points = np.asarray(trimesh.load(tmp_path / "points.ply").vertices)
    np.testing.assert_allclose((points.min(0) + points.max(0)) / 2, middle, atol=0.04 / far.scale)
    assert (
        b"5500000.0" in (tmp_path / f"a{suffix}").read_bytes()
        and b"5500000.0" in (tmp_path / "points.ply").read_bytes()
    )
    near = MeshInfo("a", ".obj", 3, 1, False, (0.0, 0.0, 900.0), (10.0, 10.0, 910.0))
    assert near.normalization.origin == (0, 0, 0)
