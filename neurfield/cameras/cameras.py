# SPDX-License-Identifier: Apache-2.0
"""Cameras in one convention: OpenGL axes (x right, y up, looking down -z), camera-to-world, pixel centres at +0.5."""

import math
from dataclasses import dataclass, replace
from typing import SupportsIndex

import torch
from torch import Tensor

from neurfield.cameras.poses import Focus, focus

# Stored per view as an index into this tuple.
#   pinhole         no distortion
#   opencv          radial k1 ... k4 (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) and tangential p1 p2
#   opencv_fisheye  equidistant, theta (1 + k1 theta^2 + ... + k4 theta^8)
#   equirectangular longitude and latitude, from the middle of the picture on: all around, or what is left of it
CAMERA_MODELS = ("pinhole", "opencv", "opencv_fisheye", "equirectangular")
PANORAMA = CAMERA_MODELS.index("equirectangular")

_SHAPES = {"c2w": (3, 4), "intrinsics": (4,), "sizes": (2,), "models": (), "distortion": (6,), "times": ()}  # of a view
_MAX_SIDE = 1 << 20  # pixels


@dataclass(frozen=True, repr=False)
class Cameras:
    """A batch of views; float32 tensors, on the CPU unless `to` has moved them.

    Attributes:
        c2w: `[n, 3, 4]` camera-to-world, orthonormal rotation, OpenGL axes.
        intrinsics: `[n, 4]` focal lengths and principal point `fl_x fl_y cx cy` in pixels, corner of the image at 0;
            of a panorama pixels per radian, and where the viewing axis is.
        sizes: int64 `[n, 2]` width, height in pixels.
        models: int64 `[n]` index into CAMERA_MODELS.
        distortion: `[n, 6]` `k1 k2 k3 k4 p1 p2`, zeros for pinhole.
        times: `[n]` in 0 ... 1, zeros for static scenes.
    """

    c2w: Tensor
    intrinsics: Tensor
    sizes: Tensor
    models: Tensor
    distortion: Tensor
    times: Tensor

    @staticmethod
    def pinhole(c2w: Tensor, focal: float | Tensor, width: int, height: int) -> "Cameras":
        """Views `c2w [n, 3 or 4, 4]`, a tensor or an array, through a centred pinhole.

        Args:
            focal: in pixels, of all or of each, `[n]`.

        Raises:
            ValueError: poses or focal lengths of another shape.
        """
        c2w, focal = torch.as_tensor(c2w), torch.as_tensor(focal, dtype=torch.float32)
        if c2w.ndim != 3 or c2w.shape[1] not in (3, 4) or c2w.shape[2] != 4:
            raise ValueError(f"cameras: expected poses [n, 3 or 4, 4], one as c2w[None], got shape {list(c2w.shape)}")
        n = c2w.shape[0]
        if focal.shape not in ((), (n,)):
            raise ValueError(
                f"cameras: expected one focal length or one for each of {n} views, got {list(focal.shape)}"
            )
        intrinsics = torch.tensor([1.0, 1.0, width / 2, height / 2]).repeat(n, 1)
        intrinsics[:, :2] = focal.expand(n)[:, None]
        sizes = torch.tensor([width, height]).expand(n, 2).clone()
        zeros = torch.zeros(n, dtype=torch.int64)
        return Cameras(c2w[:, :3].float(), intrinsics, sizes, zeros, torch.zeros(n, 6), torch.zeros(n))

    @staticmethod
    def panorama(c2w: Tensor, width: int, height: int) -> "Cameras":
        """Views `c2w [n, 3 or 4, 4]` all around, the viewing axis in the middle."""
        made = Cameras.pinhole(c2w, 1.0, width, height)
        intrinsics = torch.tensor(panorama_intrinsics(width, height)).expand_as(made.intrinsics).clone()
        return replace(made, intrinsics=intrinsics, models=torch.full_like(made.models, PANORAMA))

    def check(self) -> None:
        """For what comes from a file: raises ValueError where these are no cameras; that rotations are is not asked."""
        for name, shape in _SHAPES.items():
            value, dtype = getattr(self, name), torch.int64 if name in ("sizes", "models") else torch.float32
            if value.dtype != dtype or value.shape != (*self.c2w.shape[:1], *shape) or not bool(value.isfinite().all()):
                raise ValueError(f"cameras.{name}: expected finite {dtype} of shape {['n', *shape]}")
        for name, value, low, high in (
            ("intrinsics", self.intrinsics[:, :2], 1e-6, 1e12),
            ("sizes", self.sizes, 1, _MAX_SIDE),
            ("models", self.models, 0, len(CAMERA_MODELS) - 1),
            ("times", self.times, 0, 1),
        ):
            if not bool(((value >= low) & (value <= high)).all()):
                raise ValueError(f"cameras.{name}: expected {low:g} ... {high:g}")

    def __repr__(self) -> str:
        """A line: thousands of numbers say little."""
        models = ", ".join(CAMERA_MODELS[i] for i in self.models.unique().tolist())
        sizes = self.sizes.unique(dim=0).tolist()
        pixels = f", {'up to ' if len(sizes) > 1 else ''}{' x '.join(map(str, max(sizes)))} pixels" if sizes else ""
        return f"Cameras({len(self)} views{', ' if models else ''}{models}{pixels})"

    @property
    def times_differ(self) -> bool:
        """Whether the views are of different times."""
        return bool((self.times != self.times[:1]).any())

    @property
    def is_panorama(self) -> Tensor:
        """bool `[n]`."""
        return self.models == PANORAMA

    def latitudes(self, view: int) -> Tensor:
        """Of the rows of a panorama, in radians, `[height]`."""
        _, fl_y, _, cy = self.intrinsics[view].unbind()
        return (cy - 0.5 - torch.arange(int(self.sizes[view, 1]), device=cy.device)) / fl_y

    def depth_per_length(self, views: Tensor, directions: Tensor) -> Tensor:
        """`[n, k]` what the lengths of rays are multiplied by to be depths: along the optical axis, 0 or below for rays
        of a fisheye that look beside or behind it; of panoramas along the ray.

        Args:
            views: int64 `[n]`.
            directions: `[n, k, 3]` of unit length, of `k` rays of each.
        """
        along = -(directions * self.c2w[views, None, :, 2]).sum(2)
        return along.masked_fill(self.is_panorama[views, None], 1.0)

    def focus(self) -> Focus:
        """Where the views look, on the host."""
        return focus(self.c2w.double().cpu().numpy(), self.is_panorama.cpu().numpy())

    def opening(self, side: float) -> tuple[int, float]:
        """With which view to begin to look around: the first that is aimed, or the first panorama where all are; and
        how far ahead is what to turn around, at least a tenth of the unit cube's `side`.
        """
        seen = self.focus()
        return seen.first, max(float(seen.depths[seen.first]), 0.1 * side)

    @property
    def shown_extents(self) -> Tensor:
        """`[n, 2]` width and height at distance one of what a flat picture shows of the views: all of it, distortion
        aside, but of a panorama the middle, a right angle wide and high."""
        return torch.where(self.is_panorama[:, None], 2.0, self.sizes / self.intrinsics[:, :2])

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def __getitem__(self, index: SupportsIndex | slice | list[int] | Tensor) -> "Cameras":
        """Views by index, slice, list or mask; a whole number, also NumPy's or torch's, gives a batch of one."""
        if isinstance(index, SupportsIndex) and getattr(index, "ndim", 0) == 0:
            index = [range(len(self))[index]]
        return Cameras(*(value[index] for value in vars(self).values()))

    def to(self, device: torch.device) -> "Cameras":
        """The same on a device."""
        return Cameras(*(value.to(device) for value in vars(self).values()))

    def transformed(self, scale: float, offset: Tensor) -> "Cameras":
        """The same cameras after the world is mapped by `x -> scale * x + offset [3]`; rotations do not change."""
        position = self.c2w[:, :, 3:] * scale + offset.view(1, 3, 1)
        return replace(self, c2w=torch.cat([self.c2w[:, :, :3], position], dim=2))

    def resized(self, factor: float | Tensor) -> "Cameras":
        """Cameras of images scaled by `factor`, or each by its own, `[n, 1]`: 0.5 halves them. Sizes are rounded down,
        at least one pixel.
        """
        sizes = (self.sizes * factor).long().clamp_min(1)
        ratio = (sizes / self.sizes).repeat(1, 2)
        return replace(self, intrinsics=self.intrinsics * ratio, sizes=sizes)


def panorama_intrinsics(width: int, height: int) -> tuple[float, float, float, float]:
    """`fl_x fl_y cx cy` of a picture that goes all around: once across, half the way from top to bottom."""
    return width / (2 * math.pi), height / math.pi, width / 2, height / 2
