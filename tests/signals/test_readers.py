# SPDX-License-Identifier: Apache-2.0
"""Files that fields can learn: what they are recognised as, their values, and what is refused."""

import errno
import os
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
from PIL import Image

from neurfield.data import signals
from neurfield.data.capture import video
from neurfield.data.signals import image, volume
from neurfield.data.signals import video as video_signals
from neurfield.errors import UserError
from neurfield.signal_kinds import KINDS
from neurfield.training.signal_method import SignalKind
from neurfield.viewer.stages import SIGNALS
from tests.meshes import cube, icosphere
from tests.signals.files import write_obj, write_video

DATA = Path(os.environ.get("NEURFIELD_DATA", Path(__file__).parents[3] / "shared/data"))


def png(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def ramp(*shape: int, dtype: str = "uint8") -> np.ndarray:
    top = np.iinfo(dtype).max
    return (np.arange(np.prod(shape)).reshape(shape) * 7919 % (top + 1)).astype(dtype)


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 4), (5, 7)], ids=["RGB", "RGBA", "grey"])
def test_an_8_bit_image_is_read_as_it_is(shape, tmp_path):
    values = ramp(*shape)
    signal = signals.read(png(tmp_path / "a.png", values))
    assert signals.kind_of(tmp_path / "a.png") == "image"
    assert np.array_equal(signal.values, values.reshape(5, 7, -1))
    info = signal.info
    assert (info.sizes, info.dtype, info.low, info.high) == ((5, 7), "uint8", 0, 255)
    assert np.array_equal(info.stored(signal.normalized(signal.values)), signal.values)


def test_16_bit_colours_keep_their_bits(tmp_path):
    import av

    values = ramp(6, 8, 3, dtype="uint16")
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 8, 6, "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format="rgb48be")
    (tmp_path / "a.png").write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
    signal = signals.read(tmp_path / "a.png")
    assert signal.info.dtype == "uint16" and signal.info.high == 65535 and np.array_equal(signal.values, values)
    Image.fromarray(values[..., 0]).save(tmp_path / "g.png")
    grey = signals.read(tmp_path / "g.png")
    assert grey.info.n_channels == 1 and np.array_equal(grey.values[..., 0], values[..., 0])


def test_a_stack_of_pictures_is_refused_and_a_small_one_behind_is_not(tmp_path):
    first, second, small = (Image.fromarray(ramp(*shape)) for shape in ((6, 8), (6, 8), (3, 4)))
    first.save(tmp_path / "stack.tif", save_all=True, append_images=[second])
    refused(tmp_path / "stack.tif", "a stack of pictures, of which the first alone would be learned")
    first.save(tmp_path / "thumbnail.tif", save_all=True, append_images=[small])
    assert signals.read(tmp_path / "thumbnail.tif").info.sizes == (6, 8)


def test_a_radiance_picture_is_its_mantissas_and_exponent(tmp_path):
    codes = np.random.default_rng(0).integers(60, 255, (12, 16, 4), dtype=np.uint8)
    codes[..., 3] = 130
    head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 12 +X 16\n"
    (tmp_path / "a.hdr").write_bytes(head + codes.tobytes())
    signal = signals.read(tmp_path / "a.hdr")
    assert signals.kind_of(tmp_path / "a.hdr") == "image" and signal.info.dtype == "float32"
    assert np.array_equal(signal.values, codes[..., :3] * np.float32(2.0 ** (130 - 136)))


def test_channels_that_say_nothing_are_dropped(tmp_path):
    grey = np.repeat(ramp(4, 4)[..., None], 3, axis=2)
    assert signals.read(png(tmp_path / "a.png", grey)).info.n_channels == 1
    full = np.concatenate([ramp(4, 4, 3), np.full((4, 4, 1), 255, np.uint8)], axis=2)
    assert signals.read(png(tmp_path / "b.png", full)).info.n_channels == 3
    half = np.concatenate([grey, np.full((4, 4, 1), 128, np.uint8)], axis=2)
    assert signals.read(png(tmp_path / "c.png", half)).info.n_channels == 2


def test_arrays_are_mapped_and_told_apart(tmp_path):
    for name, shape, kind in (("i", (6, 5, 3), "image"), ("j", (6, 5), "image"), ("v", (6, 5, 7), "volume")):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).random(shape, np.float32))
        assert signals.kind_of(tmp_path / f"{name}.npy") == kind
        signal = signals.read(tmp_path / f"{name}.npy")
        assert isinstance(signal.values.base, np.memmap) or isinstance(signal.values, np.memmap)
        assert signal.info.n_channels == (3 if name == "i" else 1)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "limits"),
    [
        ("int64", 0, 1999, (0, 1999)),
        ("int16", -120, 3000, (-120, 3000)),
        ("int32", 5, 70000, (0, 70000)),
        ("uint8", 3, 40, (0, 255)),
        (">u2", 3, 40, (0, 65535)),
        ("float32", 0.25, 0.5, (0, 1)),
        ("float64", -2, 7.5, (-2, 7.5)),
    ],
)
def test_numbers_of_an_array_use_the_whole_range_of_the_field_and_codes_that_of_their_type(
    dtype, low, high, limits, tmp_path
):
    """Heights and labels in wide integers would be rounding errors of their type's range, and negative ones lost."""
    values = np.array([[low, high], [high, low]], dtype)
    np.save(tmp_path / "a.npy", values)
    signal = signals.read(tmp_path / "a.npy")
    assert (signal.info.low, signal.info.high) == limits
    seen = signal.normalized(signal.values)
    assert seen.min() >= 0 and seen.max() <= 1
    np.testing.assert_allclose(signal.info.stored(seen)[..., 0], values, rtol=2e-7)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(4096)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(99),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 17"),  # numpy's tokenizer has an error of its own
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 17)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1" + "0" * 30 + ", 17)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 17)}"),
        npy("{[]: 1}"),
    ],
)
def test_whatever_is_no_array_is_refused_in_a_line(content, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"a.npy: not a whole .npy file of numbers \(.+\)$"):
        signals.read(tmp_path / "a.npy")


def test_an_archive_that_is_called_an_array_is_none(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=ramp(4, 4))
    with pytest.raises(UserError, match=r"a.npy: not a whole .npy file of numbers"):
        signals.read(tmp_path / "a.npy")


def test_a_video_has_all_its_pictures(tmp_path):
    path = write_video(tmp_path / "a.mp4", n=5, fps=12)
    signal = signals.read(path)
    assert signals.kind_of(path) == "video" and signal.info.sizes == (5, 16, 32) and signal.info.fps == 12


def test_a_nifti_volume_keeps_values_and_affine(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values, affine = ramp(4, 5, 6), np.diag([2.0, 3, 4, 1])
    for suffix in (".nii", ".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / f"a{suffix}")
        signal = signals.read(tmp_path / f"a{suffix}")
        assert np.array_equal(signal.values[..., 0], values) and signal.info.suffix == suffix
        assert np.array_equal(np.reshape(signal.info.affine, (4, 4)), affine) and signal.info.name == "a"
        assert np.shares_memory(signal.rows(), signal.values)  # else each look at them is a copy


def test_what_means_nothing_in_the_units_of_a_nifti_volume_is_left_out(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti2Image(ramp(4, 5, 6), np.eye(4))  # its numbers have 32 bits, 8 in a NIfTI-1
    image.header["xyzt_units"] = 1 << 20 | 0xC0 | 2
    nibabel.save(image, tmp_path / "a.nii")
    assert signals.read(tmp_path / "a.nii").info.units == 2


@pytest.mark.parametrize("suffix", [".obj", ".stl", ".ply", ".off"])
def test_a_mesh_is_merged_closed_and_boxed(suffix, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    vertices, faces = cube()
    path = tmp_path / f"c{suffix}"
    trimesh.Trimesh(vertices.numpy() * 3 + 5, faces.numpy(), process=False).export(path)
    signal = signals.read(path)
    info = signal.info
    assert signals.kind_of(path) == "sdf" and info.is_closed and (info.n_vertices, info.n_triangles) == (8, 12)
    assert info.low == (2, 2, 2) and info.high == (8, 8, 8)
    assert float(signal.vertices.min()) == pytest.approx(0.05) and float(signal.vertices.max()) == pytest.approx(0.95)
    x = signal.vertices.new_tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 1.0]])
    assert signal.distance(x).tolist() == pytest.approx([-0.45, 0.05], abs=1e-6)


def refused(path: Path, match: str, **options: float) -> None:
    with pytest.raises(UserError, match=match) as error:
        signals.read(path, **options)
    assert "\n" not in str(error.value) and path.name in str(error.value)


def test_broken_files_are_refused_in_one_line(tmp_path):
    for name in ("a.png", "a.exr", "a.hdr", "a.npy", "a.mp4", "a.stl", "a.nii", "a.nii.gz"):
        (tmp_path / name).write_bytes(b"not what it says it is")
        with pytest.raises(UserError) as error:
            signals.read(tmp_path / name, kind=None)
        assert "\n" not in str(error.value)
    png(tmp_path / "b.png", ramp(64, 64, 3))
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "b.png", "broken or truncated")


def test_bombs_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    png(tmp_path / "a.png", np.zeros((1200, 1000), np.uint8))
    refused(tmp_path / "a.png", "more than the 1 allowed; raise --max-megapixels", max_megapixels=1)
    np.save(tmp_path / "a.npy", np.zeros((1200, 1000), np.uint8))
    refused(tmp_path / "a.npy", "more than the 1 allowed", max_megapixels=1)
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n")
    refused(tmp_path / "a.hdr", "more than the 64 allowed")
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header.set_data_shape((30000, 30000, 30000))
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(8))
    monkeypatch.setattr(volume, "available_bytes", lambda: 1 << 30)
    refused(tmp_path / "a.nii", r"need .* GiB, 1.* GiB are free")


def test_a_video_is_in_memory_once_and_says_how_much_of_it_is_read(tmp_path):
    path, parts = write_video(tmp_path / "a.mp4", n=500, fps=25), []
    tracemalloc.start()
    try:
        values = signals.read(path, progress=parts.append).values
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values.shape == (500, 16, 32, 3) and peak < 1.5 * values.nbytes
    assert parts == sorted(parts) and len(parts) == 500 and parts[-1] == 1


@pytest.mark.parametrize("counted", [0, 4, 90])
def test_a_video_has_all_its_pictures_however_many_were_counted(counted, tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", n=40, fps=25)
    expected = signals.read(path).values
    monkeypatch.setattr(video_signals, "count", lambda *_: counted)
    assert len(expected) == 40 and np.array_equal(signals.read(path).values, expected)


def test_a_video_larger_than_memory_is_refused_at_its_first_picture(tmp_path, monkeypatch):
    path, seen = write_video(tmp_path / "a.mp4", n=40, fps=25), []
    monkeypatch.setattr(video_signals, "available_bytes", lambda: 39 * 16 * 32 * 3)
    upright = video_signals.upright
    monkeypatch.setattr(video_signals, "upright", lambda frame: (seen.append(1), upright(frame))[1])
    refused(path, r"its pictures need 0\.1 MiB, 0\.1 MiB are free; shorten it, or make it smaller")
    assert len(seen) == 1


def test_of_large_pictures_only_a_part_is_looked_at_for_what_they_do_not_say(tmp_path):
    """A comparison of all pixels would take as much memory as they do."""
    values = np.zeros((6000, 8000, 3), np.uint8)
    values[0, 0] = 1, 2, 3
    tracemalloc.start()
    try:
        assert np.shares_memory(image._fewest_channels(values), values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * values.nbytes


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ, SMPTE ST 2084"), (18, "HLG, ARIB STD-B67"), (1, None)])
def test_of_a_video_for_another_screen_the_user_is_warned_once(transfer, name, tmp_path, caplog):
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 32, 16
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace = transfer, 9, 9  # those of BT.2020
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    signals.read(path)
    assert len(video.take(path, tmp_path, 3, 64, lambda done: None)) == 3
    line = (
        f"{path}: an HDR video ({name}): its codes are taken as if they were sRGB, which makes pale and wrong colours; "
    )
    assert caplog.messages == ([line + "convert it to SDR first"] * 2 if name else [])  # of the one and the other


def test_a_playlist_with_the_name_of_a_video_opens_no_other_file(tmp_path):
    write_video(tmp_path / "other.mp4", n=3, fps=10)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n"
    for text in ("ffconcat version 1.0\nfile other.mp4\n", playlist):
        for suffix in (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"):
            (tmp_path / f"clip{suffix}").write_text(text)
            refused(tmp_path / f"clip{suffix}", f"not a whole {suffix} video")
    head = "\n-Y 16 +X 32\n"
    (tmp_path / "a.hdr").write_text(f"ffconcat version 1.0\nfile other.mp4\n#{head}")
    refused(tmp_path / "a.hdr", "not a whole Radiance picture")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_video_is_read_by_its_suffix_whatever_its_name(suffix, tmp_path):
    path = write_video(tmp_path / f"a{suffix}", n=3, fps=10)
    assert signals.read(path).info.sizes == (3, 16, 32)
    for name in (f"http:x{suffix}", f"concat:a|b{suffix.upper()}"):
        path = path.rename(tmp_path / name)
        assert signals.read(path).info.sizes == (3, 16, 32)


@pytest.mark.parametrize("large", [0, 1])
def test_pictures_larger_than_announced_are_not_decoded(large, tmp_path):
    """The container says 32 x 16, one picture is of 3000 x 2000."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuvj420p"
        for k in range(2):
            context = av.CodecContext.create("mjpeg", "w")
            context.width, context.height = (3000, 2000) if k == large else (32, 16)
            context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 10)
            frame = av.VideoFrame(context.width, context.height, "yuvj420p")
            for packet in [*context.encode(frame), *context.encode(None)]:
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, k, k, Fraction(1, 10)
                container.mux(packet)
    refused(tmp_path / "a.avi", "more than 1 megapixels within", max_megapixels=1)


def test_empty_and_not_finite_values_are_refused(tmp_path):
    np.save(tmp_path / "e.npy", np.zeros((0, 5), np.float32))
    refused(tmp_path / "e.npy", "no pixels")
    values = np.zeros((4, 5, 6), np.float32)
    values[1, 2, 3] = np.nan
    np.save(tmp_path / "v.npy", values)
    refused(tmp_path / "v.npy", "NaN or infinite")
    np.save(tmp_path / "w.npy", np.array([[1.7e308, -1.7e308]]))
    refused(tmp_path / "w.npy", "difference is more than float64 holds")
    np.save(tmp_path / "o.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(UserError, match=r"not a whole \.npy file"):
        signals.kind_of(tmp_path / "o.npy")


def test_meshes_without_a_surface_are_refused(tmp_path):
    pytest.importorskip("trimesh")
    vertices, faces = icosphere(1)
    (tmp_path / "e.obj").write_text("# nothing\n")
    refused(tmp_path / "e.obj", "triangles")
    write_obj(tmp_path / "p.obj", vertices, faces[:0])
    refused(tmp_path / "p.obj", "triangles")
    vertices = vertices.clone()
    vertices[faces[0, 0], 1] = float("nan")
    write_obj(tmp_path / "n.obj", vertices, faces)
    refused(tmp_path / "n.obj", "NaN or infinite")
    write_obj(tmp_path / "z.obj", vertices * 0 + 1, faces)
    refused(tmp_path / "z.obj", "points or lines|NaN")


def test_a_mesh_opens_no_other_file(tmp_path):
    pytest.importorskip("trimesh")
    vertices, faces = cube()
    (tmp_path / "m").mkdir()
    path = write_obj(tmp_path / "m/c.obj", vertices, faces, head="mtllib ../secret.mtl\nusemtl x\n")
    (tmp_path / "secret.mtl").write_text("newmtl x\nmap_Kd /etc/passwd\n")
    assert signals.read(path).info.n_triangles == 12


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("images/albert.exr", "image", "1024 x 1024, 1 channel, float32 0 ... 1"),
        ("images/kodim04.png", "image", "512 x 768, RGB, uint8 0 ... 255"),
        ("meshes/armadillo.obj", "sdf", "49990 vertices, 99976 triangles, closed"),
        ("meshes/bunny.obj", "sdf", "2503 vertices, 4968 triangles, not closed"),
        ("video/bikes.mp4", "video", "250 pictures of 640 x 272, RGB, uint8 0 ... 255, 25 pictures a second"),
        ("volume/inia19-t1-brain.nii.gz", "volume", "168 x 206 x 128, 1 channel, uint8"),
    ],
)
def test_real_files(name, kind, text):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    assert signals.kind_of(path) == kind
    assert text in signals.read(path).info.describe()


def test_large_arrays_are_averaged_slab_by_slab(tmp_path):
    """Means of 3 x 3 x 3 boxes where 27 times as many values are too many; what fills no box is left out."""
    values = np.random.default_rng(3).random((10, 13, 9, 2)).astype(np.float32)
    np.save(tmp_path / "v.npy", values)
    signal = signals.read(tmp_path / "v.npy")
    whole = signal.averaged()
    assert np.array_equal(whole, np.moveaxis(signal.normalized(values), -1, 0))
    small = signal.averaged(max_values=100)
    assert small.shape == (2, 3, 4, 3)
    expected = whole[:, :9, :12, :9].reshape(2, 3, 3, 4, 3, 3, 3).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(small, expected, rtol=1e-5)


def test_memory_that_runs_out_is_not_called_a_broken_array(tmp_path, monkeypatch):
    def refused(*args, **keys):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    np.save(tmp_path / "a.npy", ramp(4, 4))
    monkeypatch.setattr(np.lib.format, "open_memmap", refused)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        signals.read(tmp_path / "a.npy")


def test_every_kind_can_be_read_learned_and_shown():
    assert set(signals.READERS) == set(KINDS) == set(SIGNALS) == set(get_args(SignalKind))
