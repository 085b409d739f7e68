# SPDX-License-Identifier: Apache-2.0
"""Camera paths in files: nerfstudio's camera_path.json and instant-ngp's base_cam.json.

nerfstudio: `camera_path[]` of `camera_to_world` (16 numbers, row by row, OpenGL axes, here taken in the world frame of
the data), `fov` (vertical, degrees), `render_time`; `render_width`, `render_height`, `fps`, `seconds`. Crops are
ignored, with a note. With the `camera_type` `equirectangular` frames are panoramas and need no `fov`.

instant-ngp: `path[]` of keyframes `R` (quaternion xyzw), `T`, `fov` (vertical, degrees) in its own frame: the world
scaled by 0.33 and shifted by 0.5 (or as the data says), its axes in the order y z x, cameras with y down and z forward.
"""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.poses import rigid_pose
from neurfield.checks import is_number, shown
from neurfield.errors import UserError
from neurfield.files import check_readable

NGP_SCALE, NGP_OFFSET = 0.33, (0.5, 0.5, 0.5)
NGP_SIZE = (1920, 1080)  # its files name no size
CAMERA_TYPES = ("perspective", "equirectangular")  # nerfstudio's names of what is rendered
MAX_SIZE = 16384
MAX_FRAMES = 100_000


@dataclass(frozen=True)
class CameraPath:
    """Views to be rendered in order; `fps` is None where the file does not say; `notes` tell what was not honoured.

    `has_times`: the file says the times of the cameras.
    """

    cameras: Cameras
    fps: float | None
    notes: list[str] = field(default_factory=list)
    has_times: bool = False


def read_camera_path(
    path: str | Path,
    n_frames: int | None = None,
    size: tuple[int, int] = NGP_SIZE,
    ngp_scale: float = NGP_SCALE,
    ngp_offset: tuple[float, float, float] = NGP_OFFSET,
) -> CameraPath:
    """Reads either format; which one is told by its keys.

    Args:
        path: the JSON file.
        n_frames: frames of an instant-ngp path (default: 30 for each step between keyframes); nerfstudio's are counted
            already.
        size: width and height for instant-ngp paths.
        ngp_scale, ngp_offset: `scale` and `offset` of the data the instant-ngp path was made with.

    Raises:
        UserError: missing file, no JSON, wrong or missing values; one line that names the place.
    """
    path = Path(path)
    content = _load(path)
    if isinstance(content.get("camera_path"), list):
        found = _nerfstudio(path, content)
        counted = [] if n_frames is None else [f"{path.name}: it says its frames itself; --seconds is ignored"]
        return replace(found, notes=[*found.notes, *counted])
    if isinstance(content.get("path"), list):
        return _instant_ngp(path, content["path"], n_frames, size, ngp_scale, ngp_offset)
    formats = "'camera_path' (nerfstudio) or 'path' (instant-ngp)"
    raise UserError(f"{path}: expected a camera path with {formats}, found {list(content)[:6]}")


def _load(path: Path) -> dict[str, Any]:
    check_readable(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no camera path {path}") from None
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _nerfstudio(path: Path, content: dict[str, Any]) -> CameraPath:
    kind = content.get("camera_type", "perspective")
    if kind not in CAMERA_TYPES:
        raise UserError(f"{path}: camera_type {shown(kind)} cannot be rendered (valid: {', '.join(CAMERA_TYPES)})")
    frames = content["camera_path"]
    _check_count(path, "camera_path", frames)
    width = int(_number(path, content, "render_width", 1, MAX_SIZE))
    height = int(_number(path, content, "render_height", 1, MAX_SIZE))
    poses = torch.stack([_pose(path, i, frame) for i, frame in enumerate(frames)])
    if kind == "equirectangular":
        cameras = Cameras.panorama(poses, width, height)
    else:
        focal = [_focal(path, _entry(path, i, frame), height) for i, frame in enumerate(frames)]
        cameras = Cameras.pinhole(poses, torch.tensor(focal), width, height)
    times = [_time(path, i, frame) for i, frame in enumerate(frames)]
    notes = [f"{path.name}: the crop is ignored"] if content.get("crop") else []
    fps = _number(path, content, "fps", 0.001, 1000) if "fps" in content else None
    has_times = any(frame.get("render_time") is not None for frame in frames)
    return CameraPath(replace(cameras, times=torch.tensor(times)), fps, notes, has_times)


def _instant_ngp(
    path: Path,
    keys: list[Any],
    n_frames: int | None,
    size: tuple[int, int],
    scale: float,
    offset: tuple[float, float, float],
) -> CameraPath:
    _check_count(path, "path", keys)
    poses = torch.stack([_ngp_pose(path, i, key, scale, offset) for i, key in enumerate(keys)])
    fov = torch.tensor([[_number(path, _entry(path, i, key), "fov", 0.1, 179)] for i, key in enumerate(keys)])
    n = n_frames or 30 * max(len(keys) - 1, 1)
    poses, fov = paths.spline(poses, fov, n)
    focal = size[1] / 2 / torch.tan(torch.deg2rad(fov[:, 0]) / 2)
    return CameraPath(Cameras.pinhole(poses, focal, *size), None)


def _ngp_pose(path: Path, i: int, key: Any, scale: float, offset: tuple[float, float, float]) -> Tensor:
    """A key in our world, `[3, 4]`: rows back to x y z, y and z axes of the camera turned round, unscaled."""
    entry = _entry(path, i, key)
    x, y, z, w = _numbers(path, i, entry, "R", 4)
    if x * x + y * y + z * z + w * w < 1e-12:
        raise UserError(f"{path}: frame {i}: 'R' is not a rotation, all its numbers are 0")
    rotation = paths.matrix_from_quaternion(torch.tensor([[w, x, y, z]]))[0]
    position = torch.tensor(_numbers(path, i, entry, "T", 3))
    from_ngp = [2, 0, 1]  # its rows are y z x
    rotation = rotation[from_ngp] * torch.tensor([1.0, -1.0, -1.0])
    position = (position[from_ngp] - torch.tensor(offset)) / scale
    return torch.cat([rotation, position[:, None]], dim=1)


def _pose(path: Path, i: int, frame: Any) -> Tensor:
    values = _numbers(path, i, _entry(path, i, frame), "camera_to_world", 16)
    try:
        pose = rigid_pose([values[row : row + 4] for row in range(0, 16, 4)])
    except ValueError as error:
        raise UserError(f"{path}: frame {i}: camera_to_world: {error}") from None
    return torch.from_numpy(pose).float()


def _focal(path: Path, frame: dict[str, Any], height: int) -> float:
    return height / 2 / math.tan(math.radians(_number(path, frame, "fov", 0.1, 179)) / 2)


def _time(path: Path, i: int, frame: dict[str, Any]) -> float:
    time = frame.get("render_time")
    if time is not None and not is_number(time):
        raise UserError(f"{path}: frame {i}: expected a finite number for 'render_time', found {shown(time)}")
    return float(time or 0.0)


def _check_count(path: Path, name: str, frames: list[Any]) -> None:
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise UserError(f"{path}: expected 1 ... {MAX_FRAMES} frames in {name!r}, found {len(frames)}")


def _entry(path: Path, i: int, frame: Any) -> dict[str, Any]:
    if not isinstance(frame, dict):
        raise UserError(f"{path}: frame {i}: expected an object, found {type(frame).__name__}")
    return frame


def _number(path: Path, content: dict[str, Any], name: str, low: float, high: float) -> float:
    value: Any = content.get(name)
    if not is_number(value) or not low <= value <= high:
        raise UserError(f"{path}: expected a number {low:g} ... {high:g} for {name!r}, found {shown(value)}")
    return float(value)


def _numbers(path: Path, i: int, frame: dict[str, Any], name: str, count: int) -> list[float]:
    values = frame.get(name)
    if isinstance(values, list) and values and isinstance(values[0], list):
        values = [value for row in values if isinstance(row, list) for value in row]
    if not isinstance(values, list) or len(values) != count or not all(map(is_number, values)):
        raise UserError(f"{path}: frame {i}: expected {count} finite numbers for {name!r}, found {str(values)[:60]}")
    return [float(value) for value in values]
