# SPDX-License-Identifier: Apache-2.0
"""Camera intrinsics as instant-ngp, nerfstudio and Blender exports spell them in `transforms.json`.

Keys stand in the frame or, shared, at the top of the file; a frame's own ones win. Focal lengths, in order of
preference: `fl_x fl_y` (pixels), `x_fov y_fov` (degrees), `camera_angle_x camera_angle_y` (radians). Distortion
(`k1 k2 k3 k4 p1 p2`) is never dropped: coefficients that are not zero make a camera `opencv`, whatever its model is
called, unless it is a fisheye. A fisheye has `k1 ... k4` alone, as in OpenCV. A panorama (`EQUIRECTANGULAR` of
nerfstudio, `latlong` of instant-ngp) has neither: its size says all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurfield.cameras.cameras import CAMERA_MODELS, PANORAMA, panorama_intrinsics
from neurfield.checks import is_float32, shown
from neurfield.errors import UserError

PERSPECTIVE_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL")
FISHEYE_MODELS = ("OPENCV_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
PANORAMA_MODELS = ("EQUIRECTANGULAR",)
# Projections that would be rendered wrongly if they were read as a perspective camera. `equirectangular` is what
# instant-ngp calls rows of equal area; its `latlong` is what everybody else calls equirectangular.
UNSUPPORTED_FLAGS = ("ftheta_p0", "equirectangular", "orthographic", "rolling_shutter", "k5", "k6")

FOCAL_KEYS = ("fl_x", "fl_y", "x_fov", "y_fov", "camera_angle_x", "camera_angle_y")
CENTER_KEYS = ("cx", "cy")
SIZE_KEYS = ("w", "h")
DISTORTION_KEYS = ("k1", "k2", "k3", "k4", "p1", "p2")
MODEL_KEYS = ("camera_model", "is_fisheye", "latlong", *UNSUPPORTED_FLAGS)


@dataclass(frozen=True)
class Intrinsics:
    """One camera in pixels of a known image size: `fl_x fl_y cx cy` as in Cameras, corner of the image at 0."""

    width: int
    height: int
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    model: str = "pinhole"
    distortion: tuple[float, ...] = (0.0,) * 6

    def resized(self, width: int, height: int) -> "Intrinsics":
        """The camera of the same picture, resampled to another size."""
        x, y = width / self.width, height / self.height
        return Intrinsics(
            width, height, self.fl_x * x, self.fl_y * y, self.cx * x, self.cy * y, self.model, self.distortion
        )

    def shrunk(self, factor: int) -> "Intrinsics":
        """The camera after averaging over `factor` x `factor` pixels; what fills no block is cut off."""
        f, d = float(factor), self.distortion
        size = (self.width // factor, self.height // factor)
        return Intrinsics(*size, self.fl_x / f, self.fl_y / f, self.cx / f, self.cy / f, self.model, d)

    @property
    def is_panorama(self) -> bool:
        return self.model == CAMERA_MODELS[PANORAMA]

    @property
    def field_of_view(self) -> tuple[float, float]:
        """Degrees across and from top to bottom, without distortion."""
        if self.is_panorama:
            return math.degrees(self.width / self.fl_x), math.degrees(self.height / self.fl_y)
        x, y = self.tan_half_fov
        return math.degrees(2 * math.atan(x)), math.degrees(2 * math.atan(y))

    @property
    def tan_half_fov(self) -> tuple[float, float]:
        """Half the width and height of the picture at distance one, without distortion; infinite for a panorama."""
        if self.is_panorama:
            return math.inf, math.inf
        return self.width / 2 / self.fl_x, self.height / 2 / self.fl_y


@dataclass(frozen=True)
class Lens:
    """Intrinsics as a file gives them; the size and what depends on it may only be known from the image."""

    values: Mapping[str, float]
    model: str
    where: str

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height if the file gives them."""
        return (int(self.values["w"]), int(self.values["h"])) if "w" in self.values else None

    def at(self, width: int, height: int) -> Intrinsics:
        """Intrinsics of an image of this size.

        Raises:
            UserError: no focal length, or one that is no number above zero; tangential distortion of a fisheye; a
                panorama with a lens, or one that does not go all around.
        """
        if self.model == CAMERA_MODELS[PANORAMA]:
            return self._panorama(width, height)
        x, y = self._focal("x", width), self._focal("y", height)
        fl_x, fl_y = x or y, y or x
        if fl_x is None or fl_y is None:
            raise UserError(f"{self.where}: no focal length; expected one of {', '.join(FOCAL_KEYS)}")
        distortion = tuple(self.values.get(key, 0.0) for key in DISTORTION_KEYS)
        if self.model == CAMERA_MODELS[2] and any(distortion[4:]):
            raise UserError(
                f"{self.where}: p1 and p2 are not supported for fisheye cameras, got {distortion[4]:g} and "
                f"{distortion[5]:g}; undistort the images, or set them to 0 if they are a leftover"
            )
        model = "opencv" if self.model == "pinhole" and any(distortion) else self.model
        cx, cy = self.values.get("cx", width / 2), self.values.get("cy", height / 2)
        return Intrinsics(width, height, fl_x, fl_y, cx, cy, model, distortion)

    def _panorama(self, width: int, height: int) -> Intrinsics:
        """What nerfstudio asks for is accepted: half the width and the height as focal lengths."""
        whole = {"fl_x": width / 2, "fl_y": float(height), "cx": width / 2, "cy": height / 2}
        for key, expected in {**whole, **dict.fromkeys(DISTORTION_KEYS, 0.0)}.items():
            value = self.values.get(key, expected)
            if abs(value - expected) > (1 if key in whole else 0):  # files differ in where pixels have their centres
                raise UserError(
                    f"{self.where}: a panorama goes all around and has no lens; expected {key} to be {expected:g} or "
                    f"left out, got {value:g}"
                )
        return Intrinsics(width, height, *panorama_intrinsics(width, height), CAMERA_MODELS[PANORAMA])

    def _focal(self, axis: str, size: int) -> float | None:
        if f"fl_{axis}" in self.values:
            focal = self.values[f"fl_{axis}"]
        elif f"{axis}_fov" in self.values:
            focal = _from_angle(math.radians(self.values[f"{axis}_fov"]), size)
        elif f"camera_angle_{axis}" in self.values:
            focal = _from_angle(self.values[f"camera_angle_{axis}"], size)
        else:
            return None
        if not (focal > 0 and is_float32(focal)):
            raise UserError(
                f"{self.where}: the focal length in {axis} must be positive (angles between 0 and 180 degrees)"
            )
        return focal


def parse(frame: Mapping[str, Any], shared: Mapping[str, Any], where: str) -> Lens:
    """Reads the lens of one frame.

    Raises:
        UserError: an unsupported camera model, or a value that is no finite number.
    """
    keys: dict[str, Any] = {}
    for group in (FOCAL_KEYS, CENTER_KEYS, SIZE_KEYS, DISTORTION_KEYS, MODEL_KEYS):
        source = frame if any(key in frame for key in group) else shared
        keys.update({key: source[key] for key in group if source.get(key) is not None})
    model = _model(keys, where)
    if keys.get("latlong"):  # instant-ngp wants a focal length in each file and does not use it
        keys = {key: value for key, value in keys.items() if key not in FOCAL_KEYS}
    values = {}
    for key in (*FOCAL_KEYS, *CENTER_KEYS, *SIZE_KEYS, *DISTORTION_KEYS):
        if key in keys:
            if not is_float32(keys[key]):
                raise UserError(f"{where}: {key} must be a finite number, got {shown(keys[key])}")
            values[key] = float(keys[key])
    sizes = [values[key] for key in SIZE_KEYS if key in values]
    if len(sizes) == 1 or any(size < 1 or size != int(size) for size in sizes):
        raise UserError(f"{where}: w and h must both be whole numbers of pixels, got {sizes}")
    return Lens(values, model, where)


def _model(keys: Mapping[str, Any], where: str) -> str:
    for flag in UNSUPPORTED_FLAGS:
        if keys.get(flag) and keys[flag] != [0.0] * 4:
            raise UserError(
                f"{where}: {flag} is not supported; use a perspective or fisheye camera, or undistort the images"
            )
    name = keys.get("camera_model")
    name = name.upper() if isinstance(name, str) else name
    if name is not None and name not in PERSPECTIVE_MODELS + FISHEYE_MODELS + PANORAMA_MODELS:
        valid = ", ".join(PERSPECTIVE_MODELS + FISHEYE_MODELS + PANORAMA_MODELS)
        raise UserError(f"{where}: camera_model {shown(name)} is not supported (valid: {valid})")
    if name in PANORAMA_MODELS or keys.get("latlong"):
        return CAMERA_MODELS[PANORAMA]
    fisheye = name in FISHEYE_MODELS or bool(keys.get("is_fisheye"))
    return CAMERA_MODELS[2] if fisheye else CAMERA_MODELS[0]


def _from_angle(angle: float, size: int) -> float:
    """Focal length in pixels of a full field of view in radians; 0 for angles that are none."""
    return size / 2 / math.tan(angle / 2) if 0 < angle < math.pi else 0.0
