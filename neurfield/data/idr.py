# SPDX-License-Identifier: Apache-2.0
"""Photos with projection matrices in one archive, as IDR, NeuS and their followers lay out DTU and BlendedMVS.

`image/` holds the photos; `cameras_sphere.npz` (or `cameras.npz`), for the i-th of them by name, `world_mat_i [4, 4]` =
K (R | t), from the world to pixels whose centres are whole numbers, and `scale_mat_i`, which maps the unit sphere to
the sphere around the object. That sphere fills the unit cube; the world stays that of `world_mat`. Every N-th view is
for testing. Masks of the object (`mask/`) are not used: they are no pixels to be ignored.
"""

import re
import zipfile
from pathlib import Path

import numpy as np

from neurfield.cameras.poses import Array, from_opencv
from neurfield.data import lens, normalize
from neurfield.data.options import LoadOptions
from neurfield.data.paths import CAMERA_FILES
from neurfield.data.posed_photos import posed_photos
from neurfield.data.scene import Normalization
from neurfield.data.tiny_nerf import BROKEN, member_shape
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError, retold

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_SKEW = 1e-3  # of the focal length: what rounding leaves in the decomposition is far less


def detect(path: Path) -> bool:
    """One of the archives, or a folder with one and `image/`."""
    return path.name in CAMERA_FILES if path.is_file() else _file(path) is not None and (path / "image").is_dir()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: no archive or a broken one, another number of cameras than of photos, matrices that are no
            projection, and see `views.inspect`.
    """
    file = path if path.is_file() else _file(path)
    if file is None:
        raise UserError(f"{path}: no {' or '.join(CAMERA_FILES)} in it")
    root = file.parent.resolve()
    photos = sorted(p.name for p in (root / "image").glob("*") if p.suffix.lower() in SUFFIXES)
    projections, sphere = _matrices(file)
    if len(projections) != len(photos):
        raise UserError(f"{file}: has {len(projections)} cameras (world_mat_0 ...), image/ has {len(photos)} photos")
    frames = [
        _frame(f"{file}: world_mat_{i}", name, m) for i, (name, m) in enumerate(zip(photos, projections, strict=True))
    ]
    notes = ["the masks of the object are not used"] if (root / "mask").is_dir() else []

    def around_object(c2w: Array, tan_half_fov: Array, has_alpha: bool) -> tuple[Normalization, list[str]]:
        if sphere is None:
            return normalize.from_poses(c2w, tan_half_fov, has_alpha)
        return normalize.sphere(*sphere, c2w, has_alpha), []

    return posed_photos("idr", frames, root, options, str(file), notes, around_object)


def _file(path: Path) -> Path | None:
    return next((path / name for name in CAMERA_FILES if (path / name).is_file()), None)


def _matrices(file: Path) -> tuple[list[Array], tuple[Array, float] | None]:
    """Projections `[n, 3, 4]` in order, and centre and radius of the object's sphere, if the archive has one."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            n = sum(bool(re.fullmatch(r"world_mat_\d+", name)) for name in names)
            wanted = [f"world_mat_{i}" for i in range(n)] + ["scale_mat_0"] * ("scale_mat_0" in names)
            missing = [name for name in wanted if name not in names]
            if missing or not n:
                raise UserError(f"{file}: no {missing[0] if missing else 'world_mat_0'} in it")
            for name in wanted:  # before anything is unpacked
                shape, dtype = member_shape(archive, name)
                if shape not in ((4, 4), (3, 4)) or dtype.kind not in "fiu":
                    raise UserError(f"{file}: {name} must be a matrix [4, 4] of numbers, got {dtype} {list(shape)}")
        with np.load(file, allow_pickle=False) as arrays:
            matrices = [arrays[name][:3].astype(np.float64) for name in wanted]
    except BROKEN as error:
        raise retold(error, f"{file}: not a readable NumPy archive") from None
    if len(matrices) == n:
        return matrices, None
    scale = matrices.pop()
    radius = float(scale[0, 0])
    if not (
        np.isfinite(scale).all() and radius > 0 and np.allclose(scale[:, :3], radius * np.eye(3), atol=1e-4 * radius)
    ):
        raise UserError(f"{file}: scale_mat_0 must be a scale above 0 and a translation, got {scale.round(4).tolist()}")
    return matrices, (scale[:, 3], radius)


def _frame(where: str, photo: str, projection: Array) -> Frame:
    try:
        camera, pose = _decomposed(projection)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    values = {"fl_x": camera[0, 0], "fl_y": camera[1, 1], "cx": camera[0, 2] + 0.5, "cy": camera[1, 2] + 0.5}
    return Frame(f"image/{photo}", where, pose, lens.parse({k: float(v) for k, v in values.items()}, {}, where))


def _decomposed(projection: Array) -> tuple[Array, Array]:
    """K `[3, 3]`, upper triangular with 1 in its corner, and the pose `[3, 4]` of the camera, OpenGL axes.

    Of P = K (R | t) the inverse of K R is R^T K^-1, a rotation times an upper triangle: its QR decomposition (Hartley
    and Zisserman, Multiple View Geometry, 6.2.4), once the signs are chosen so that focal lengths are positive.
    """
    if not np.isfinite(projection).all():
        raise ValueError("the matrix is not finite")
    left = projection[:, :3]
    if np.linalg.matrix_rank(left) < 3:
        raise ValueError("no projection: its left part is singular")
    rotation, triangle = np.linalg.qr(np.linalg.inv(left))
    camera = np.linalg.inv(triangle)
    signs = np.sign(np.diag(camera))
    camera, rotation = camera * signs, rotation * signs
    camera = camera / camera[2, 2]
    if np.linalg.det(rotation) < 0:  # a projection is one up to a factor, of either sign
        rotation = -rotation
    if abs(camera[0, 1]) > MAX_SKEW * camera[0, 0]:
        raise ValueError(f"its pixels are skewed by {camera[0, 1] / camera[0, 0]:.2g}, which no lens here has")
    position = -np.linalg.solve(left, projection[:, 3])
    return camera, from_opencv(rotation, position)
