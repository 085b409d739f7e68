# SPDX-License-Identifier: Apache-2.0
"""A camera path by its keyframes, as a viewer edits it.

In files it is nerfstudio's camera_path.json: `camera_path` holds every frame, so that other programs and
`neurfield render --camera-path` play it, and `keyframes` what it was made from, so that it can be edited again.
Poses are in the world frame of the data.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.path_files import CAMERA_TYPES, MAX_FRAMES, MAX_SIZE, read_camera_path
from neurfield.cameras.poses import rigid_pose
from neurfield.checks import is_number
from neurfield.errors import UserError

MAX_KEYS = 1000
_KEYS_OF_FRAMES = 24  # keyframes taken from a file that has only frames


@dataclass(frozen=True)
class KeyframePath:
    """Keyframes and how they are played.

    Attributes:
        poses: `[n_keys, 3, 4]` camera-to-world, OpenGL axes.
        fov: `[n_keys]` vertical, degrees.
        seconds: length of the whole path.
        fps: frames per second.
        loop: whether the last key is followed by the first.
        size: width and height of the frames.
        time: of all frames; None: it runs from 0 to 1. It means something to fields that move.
        panorama: frames show all around; `fov` is then that of the keyframes alone, as an editor shows them.
    """

    poses: Tensor
    fov: Tensor
    seconds: float = 4.0
    fps: float = 30.0
    loop: bool = False
    size: tuple[int, int] = (1280, 720)
    time: float | None = None
    panorama: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n_frames <= MAX_FRAMES:
            raise UserError(f"a camera path has 1 ... {MAX_FRAMES} frames, got {self.seconds:g} s at {self.fps:g} fps")
        if not all(1 <= side <= MAX_SIZE for side in self.size):
            raise UserError(f"frames must be 1 ... {MAX_SIZE} pixels wide and high, got {self.size}")

    @property
    def n_frames(self) -> int:
        return round(self.seconds * self.fps)

    def cameras(self) -> Cameras:
        """Every frame.

        Raises:
            UserError: no keyframes.
        """
        if len(self.poses) == 0:
            raise UserError("the path has no keyframes yet; add one first")
        poses, fov = paths.through(self.poses, self.fov[:, None], self.n_frames, self.loop)
        if self.panorama:
            cameras = Cameras.panorama(poses, *self.size)
        else:  # a spline overshoots between keys that differ much
            focal = self.size[1] / 2 / torch.tan(torch.deg2rad(fov.clamp(1, 170)) / 2)
            cameras = Cameras.pinhole(poses, focal[:, 0], *self.size)
        times = torch.linspace(0, 1, len(cameras)) if self.time is None else torch.full_like(cameras.times, self.time)
        return replace(cameras, times=times)

    def dumps(self) -> str:
        """The text of a file; raises UserError without keyframes."""
        width, height = self.size
        frames = self.cameras()
        fov = 2 * torch.rad2deg(torch.atan(frames.shown_extents[:, 1] / 2))
        content: dict[str, Any] = {
            "camera_type": CAMERA_TYPES[self.panorama],
            "render_width": width,
            "render_height": height,
            "fps": self.fps,
            "seconds": self.seconds,
            "is_cycle": self.loop,
            "keyframes": [
                {"matrix": _flat(pose), "fov": angle, "aspect": width / height}
                for pose, angle in zip(self.poses, self.fov.tolist(), strict=True)
            ],
            "camera_path": [
                {"camera_to_world": _flat(pose), "fov": angle, "aspect": width / height, "render_time": time}
                for pose, angle, time in zip(frames.c2w, fov.tolist(), frames.times.tolist(), strict=True)
            ],
        }
        return json.dumps(content)


def read_keyframes(path: Path, size: tuple[int, int] = (1280, 720)) -> KeyframePath:
    """Reads a file that `KeyframePath.dumps` or nerfstudio wrote, or an instant-ngp path.

    A file without keyframes that can be used gives some of its frames, evenly chosen.

    Args:
        size: of the frames, where the file does not say.

    Raises:
        UserError: as neurfield.cameras.path_files.read_camera_path.
    """
    frames = read_camera_path(path, size=size)
    cameras = frames.cameras
    width, height = cameras.sizes[0].tolist()
    content = json.loads(path.read_text(encoding="utf-8"))
    fps = frames.fps or KeyframePath.fps
    result = KeyframePath(
        cameras.c2w,
        2 * torch.rad2deg(torch.atan(cameras.shown_extents[:, 1] / 2)),
        len(cameras) / fps,
        fps,
        content.get("is_cycle") is True,
        (width, height),
        panorama=bool(cameras.is_panorama[0]),
    )
    keys = _keys(content.get("keyframes"))
    if keys is not None:
        return replace(result, poses=keys[0], fov=keys[1])
    n = min(len(cameras), _KEYS_OF_FRAMES)
    chosen = torch.linspace(0, len(cameras) - 1, n).round().long()
    return replace(result, poses=result.poses[chosen], fov=result.fov[chosen])


def _keys(entries: object) -> tuple[Tensor, Tensor] | None:
    """Poses and angles of `keyframes`; None where they are not the lists of numbers that are written now."""
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_KEYS:
        return None
    poses, fov = [], []
    for entry in entries:
        matrix: Any = entry.get("matrix") if isinstance(entry, dict) else None
        angle: Any = entry.get("fov") if isinstance(entry, dict) else None
        if not isinstance(matrix, list) or len(matrix) != 16 or not all(map(is_number, matrix)):
            return None
        if not is_number(angle) or not 1 <= angle <= 170:
            return None
        try:
            poses.append(torch.from_numpy(rigid_pose([matrix[row : row + 4] for row in range(0, 16, 4)])).float())
        except ValueError:
            return None
        fov.append(float(angle))
    return torch.stack(poses), torch.tensor(fov)


def _flat(pose: Tensor) -> list[float]:
    return [*pose.flatten().tolist(), 0.0, 0.0, 0.0, 1.0]
