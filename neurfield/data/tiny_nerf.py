# SPDX-License-Identifier: Apache-2.0
"""NumPy archives in the layout of the well-known `tiny_nerf_data.npz`.

`images [n, height, width, 3 or 4]` float in 0 ... 1 or uint8, `poses [n, 4, 4]` camera-to-world (OpenGL axes), `focal`
in pixels. Splits follow its tutorial: the first 100 views are for training if there are more, otherwise every N-th is
for testing.
"""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from neurfield.cameras.poses import rigid_pose
from neurfield.data import normalize, splits
from neurfield.data.image_files import ImageHeader, check_megapixels
from neurfield.data.lens import Intrinsics
from neurfield.data.options import LoadOptions
from neurfield.data.paths import CAMERA_FILES, data_name
from neurfield.data.views import Manifest, View, focus_of, poses, tan_half_fov
from neurfield.errors import UserError, retold

KEYS = ("images", "poses", "focal")
BROKEN = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, NotImplementedError, RuntimeError)
N_TRAIN = 100
# What an archive may unpack to: twenty times the well-known one, in float64.
MAX_BYTES = 4 << 30


def detect(path: Path) -> bool:
    """An `.npz` file that is no archive of cameras, or a folder with `tiny_nerf_data.npz`."""
    is_archive = path.suffix.lower() == ".npz" and path.name not in CAMERA_FILES
    return is_archive if path.is_file() else (path / "tiny_nerf_data.npz").is_file()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Reads the archive; its images are decoded at once, they are small.

    Raises:
        UserError: not an archive, a broken one, arrays missing, of the wrong kind, shape or size, or poses that are
            not rigid.
    """
    file = path if path.is_file() else path / "tiny_nerf_data.npz"
    images, matrices, focal = _arrays(file, options)
    height, width, channels = images.shape[1:]
    factor = options.downscale_factor
    if min(width, height) < factor:
        raise UserError(f"{file}: the images are smaller than the downscale factor {factor}")
    camera = Intrinsics(width, height, focal, focal, width / 2, height / 2).shrunk(factor)
    header = ImageHeader(width, height, channels)
    views = []
    for i, (pixels, matrix) in enumerate(zip(images, matrices, strict=True)):
        where = f"{file}: view {i}"
        try:
            pose = rigid_pose(matrix)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        views.append(View(f"{i:04d}", where, pose, camera, header, pixels=_bytes(pixels, where), shrink=factor))
    if len(views) > N_TRAIN:
        parts = {"train": list(range(N_TRAIN)), "val": [], "test": list(range(N_TRAIN, len(views)))}
        notes = [f"the first {N_TRAIN} views are for training, the other {len(views) - N_TRAIN} for testing"]
    else:
        parts = splits.every_nth(len(views), options.test_every)
        notes = []
    chosen, reasons = normalize.synthetic(poses(views), tan_half_fov(views), channels == 4)
    chosen, reasons = normalize.apply_given(chosen, reasons, focus_of(views), {}, options, str(file))
    return Manifest(data_name(path), "tiny_nerf", views, parts, chosen, notes + reasons).only(options.splits)


def _arrays(file: Path, options: LoadOptions) -> tuple[np.ndarray, np.ndarray, float]:
    """The three arrays; shapes are checked against the limits in the archive's headers before anything is unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            missing = [key for key in KEYS if f"{key}.npy" not in archive.namelist()]
            if missing:
                raise UserError(
                    f"{file}: not a tiny_nerf archive; expected the arrays {', '.join(KEYS)}, no {missing[0]}"
                )
            shapes = {key: member_shape(archive, key) for key in KEYS}
        _check_shapes(file, shapes, options)
        with np.load(file, allow_pickle=False) as arrays:
            images, poses, focal = (arrays[key] for key in KEYS)
    except BROKEN as error:
        raise retold(error, f"{file}: not a readable NumPy archive") from None
    if not np.isfinite(focal).all() or not float(focal.reshape(())) > 0:
        raise UserError(f"{file}: focal must be one positive number of pixels, got {focal}")
    return images, poses, float(focal.reshape(()))


def member_shape(archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that the header of an array says; nothing else is unpacked."""
    with archive.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
    return shape, dtype


def _check_shapes(file: Path, shapes: dict[str, tuple[tuple[int, ...], np.dtype]], options: LoadOptions) -> None:
    images, dtype = shapes["images"]
    poses, pose_dtype = shapes["poses"]
    focal, focal_dtype = shapes["focal"]
    if len(images) != 4 or images[3] not in (3, 4) or min(images) < 1 or not (dtype == np.uint8 or dtype.kind == "f"):
        raise UserError(f"{file}: images must be uint8 or float [n, height, width, 3 or 4], got {dtype} {list(images)}")
    if poses != (images[0], 4, 4) or pose_dtype.kind not in "fiu":
        wanted = f"[{images[0]}, 4, 4] numbers, one pose per image"
        raise UserError(f"{file}: poses must be {wanted}, got {pose_dtype} {list(poses)}")
    if math.prod(focal) != 1 or focal_dtype.kind not in "fiu":
        raise UserError(f"{file}: focal must be one positive number of pixels, got {focal_dtype} {list(focal)}")
    check_megapixels(f"{file}: an image has", images[2], images[1], options.max_megapixels)
    n_bytes = math.prod(images) * dtype.itemsize
    if n_bytes > MAX_BYTES:
        raise UserError(f"{file}: the images unpack to {n_bytes >> 20} MiB, at most {MAX_BYTES >> 20} MiB are read")


def _bytes(pixels: np.ndarray, where: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise UserError(f"{where}: float images must lie in 0 ... 1, got {pixels.min():g} ... {pixels.max():g}")
    return np.rint(pixels * 255).astype(np.uint8)
