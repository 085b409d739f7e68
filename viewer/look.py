# SPDX-License-Identifier: Apache-2.0
"""What a page asks to see: from where, and how it is drawn. Values, so that a change is told by comparison."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.cameras.paths import matrix_from_quaternion, quaternion_from_matrix

Triple = tuple[float, float, float]
Quad = tuple[float, float, float, float]
_FLIP = torch.tensor([1.0, -1.0, -1.0])  # viser's cameras have y down and z forward


@dataclass(frozen=True)
class Eye:
    """Camera of a page, as viser tells it: rotation wxyz with y down and z forward, vertical field of view in radians.

    `width` and `height` are those of the page's picture in pixels.
    """

    wxyz: Quad
    position: Triple
    fov: float
    width: int
    height: int

    @property
    def c2w(self) -> Tensor:
        """`[3, 4]`, OpenGL axes."""
        return matrix_from_viser(self.wxyz, self.position)

    def camera(self, width: int, height: int) -> Cameras:
        """The same view at another size of the same shape."""
        return Cameras.pinhole(self.c2w[None], height / 2 / math.tan(self.fov / 2), width, height)


def matrix_from_viser(wxyz: Quad, position: Triple) -> Tensor:
    """Pose `[3, 4]` with OpenGL axes of viser's rotation and position."""
    rotation = matrix_from_quaternion(torch.tensor([wxyz], dtype=torch.float32))[0] * _FLIP
    return torch.cat([rotation, torch.tensor(position, dtype=torch.float32)[:, None]], dim=1)


def viser_pose(c2w: Tensor) -> tuple[Quad, Triple]:
    """Rotation and position for viser of a pose `[3, 4]` with OpenGL axes."""
    w, x, y, z = quaternion_from_matrix((c2w[:, :3] * _FLIP)[None])[0].tolist()
    return (w, x, y, z), triple(c2w[:, 3].tolist())


def triple(values: Sequence[float]) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z


@dataclass(frozen=True)
class CropBox:
    """A box in the world; what is outside of it is not drawn and not exported."""

    center: Triple
    size: Triple
    wxyz: Quad = (1.0, 0.0, 0.0, 0.0)

    def inside(self, x: Tensor) -> Tensor:
        """Which of the world positions `[n, 3]` are in the box."""
        return (self._beyond(x) <= 0).all(dim=1)

    def distance(self, x: Tensor) -> Tensor:
        """Distance `[n]` of world positions `[n, 3]` to the box, negative inside."""
        beyond = self._beyond(x)
        return beyond.clamp_min(0).norm(dim=1) + beyond.amax(dim=1).clamp_max(0)

    def _beyond(self, x: Tensor) -> Tensor:
        """How far positions are outside of the slab across each axis of the box, `[n, 3]`."""
        axes = matrix_from_quaternion(x.new_tensor([self.wxyz]))[0]
        local = (x - x.new_tensor(self.center)) @ axes
        return local.abs() - x.new_tensor(self.size) / 2


@dataclass(frozen=True)
class Look:
    """How a page wants its picture.

    Attributes:
        mode: key of the stage's modes.
        colors: key of rendering.outputs.COLOR_MAPS, for depth.
        depth_range: nearest and farthest depth with a colour; None: what the picture has.
        background: sRGB in 0 ... 1; None: that of the training.
        crop: None: everything.
        split: share of the width, from the right, that shows the data (of a scene, the photo of the nearest training
            view); None: no data.
        longest: pixels of the longer side at most.
        with_depth: also give the depth, so that things in the scene are hidden by the field.
        level: how many levels of detail the field is drawn with; None: all.
        time: of a video or of a field that moves, 0 ... 1.
        appearance: number of the training view whose look a field has that tells photos apart; None: the mean look.
        sections: where a volume is cut across its axes, x first, 0 ... 1; None: not across that axis.
        window: stored values of a volume that are black and white; None: those of the data.
    """

    mode: str = "colour"
    colors: str = "warm"
    depth_range: tuple[float, float] | None = None
    background: Triple | None = None
    crop: CropBox | None = None
    split: float | None = None
    longest: int = 1280
    with_depth: bool = False
    level: int | None = None
    time: float = 0.0
    appearance: int | None = None
    sections: tuple[float | None, float | None, float | None] = (0.5, 0.5, 0.5)
    window: tuple[float, float] | None = None
