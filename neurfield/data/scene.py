# SPDX-License-Identifier: Apache-2.0
"""What a data set is once it has been read: cameras, images, splits and the map into the unit cube."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.data.options import LoadOptions
from neurfield.data.seen_points import SeenPoints
from neurfield.errors import UserError


@dataclass(frozen=True)
class Normalization:
    """Similarity from the world of the input to unit space: `x_unit = scale * x_world + offset`.

    The field lives in the box of side `aabb_scale` (a power of two, 1 ... 128) centred at 0.5 in unit space; the inner
    unit cube holds what the cameras look at. `source` says who chose it: "given", "synthetic", "alpha", "poses".
    `origin` is where the origin of the world lies in the frame of the input: not 0 where that is too far away, see
    origin.py.
    """

    scale: float
    offset: tuple[float, float, float]
    aabb_scale: int = 1
    source: str = "given"
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Raises ValueError for what is no such map, as a file may hold it. Numbers of NumPy become Python's."""
        object.__setattr__(self, "scale", float(self.scale))
        for name in ("offset", "origin"):
            object.__setattr__(self, name, tuple(float(x) for x in getattr(self, name)))
        if not (len(self.offset) == 3 and all(map(math.isfinite, (self.scale, *self.offset))) and self.scale > 0):
            raise ValueError(f"normalization: expected a scale above 0 and an offset, got {self.scale}, {self.offset}")
        if not (type(self.aabb_scale) is int and self.aabb_scale.bit_count() == 1 and 1 <= self.aabb_scale <= 128):
            raise ValueError(f"normalization: expected aabb_scale 1, 2, 4, ... 128, got {self.aabb_scale}")
        if not (len(self.origin) == 3 and all(map(math.isfinite, self.origin))):
            raise ValueError(f"normalization: expected an origin of three numbers, got {self.origin}")

    def to_unit(self, x: Tensor) -> Tensor:
        """World positions `[..., 3]` in unit space."""
        return x * self.scale + x.new_tensor(self.offset)

    def to_world(self, x: Tensor) -> Tensor:
        """Positions `[..., 3]` of unit space in the world."""
        return (x - x.new_tensor(self.offset)) / self.scale

    def in_unit(self, cameras: Cameras) -> Cameras:
        """Cameras of the world in unit space."""
        return cameras.transformed(self.scale, cameras.c2w.new_tensor(self.offset))

    @property
    def world(self) -> str:
        """What the world is called."""
        place = ", ".join(repr(x).removesuffix(".0") for x in self.origin)
        return "world frame" + (f" whose origin is at ({place}) of the data" if any(self.origin) else "")

    @property
    def aabb(self) -> tuple[float, float, float, float, float, float]:
        """`(min x, y, z, max x, y, z)` of the field's box in unit space."""
        return box(self.aabb_scale)


def box(aabb_scale: int) -> tuple[float, float, float, float, float, float]:
    """`(min x, y, z, max x, y, z)` of the box of side `aabb_scale` around the middle of the unit cube."""
    low, high = 0.5 - aabb_scale / 2, 0.5 + aabb_scale / 2
    return (low, low, low, high, high, high)


@dataclass(frozen=True, repr=False)
class Scene:
    """Posed images in memory.

    Attributes:
        name: of the data folder.
        cameras: all views, in the world frame of the input.
        images: one tensor per view, `[height, width, 3 or 4]`; uint8 sRGB with straight alpha, or float32 linear.
            Those of load_scene share one block of memory, and so does a training on them: `clone()` one to change it.
        splits: view indices by "train", "val", "test".
        normalization: world to unit space.
        masks: per view uint8 `[height, width]`, 0 = ignore the pixel, or None.
        depths: per view float32 `[height, width]` in world units, or None: of what a pixel shows, along the optical
            axis (z-depth), in panoramas along the ray. What is 0, below or not finite is not known.
        paths: file of each view, for messages and file names.
        notes: what the reader wants the user to know (missing frames, chosen splits, ...).
        applied_transform: float64 `[3, 4]` from the frame of the original capture to the world of the input
            (nerfstudio's `applied_transform`), or None.
        points: of which it is known which views see them, or None; None without training views, which alone need them.
        source, options: where the data set lies and how it was read; "" for a scene that was not read from files.

    Raises:
        ValueError: images, masks, paths or splits that do not fit the cameras or each other.
    """

    name: str
    cameras: Cameras
    images: list[Tensor]
    splits: dict[str, list[int]]
    normalization: Normalization
    masks: list[Tensor | None] | None = None
    paths: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    applied_transform: Tensor | None = None
    source: str = ""
    options: LoadOptions = field(default_factory=LoadOptions)
    depths: list[Tensor | None] | None = None
    points: SeenPoints | None = None

    def __post_init__(self) -> None:
        n = len(self.cameras)
        parts = {"images": self.images, "masks": self.masks, "paths": self.paths, "depths": self.depths}
        for name, values in parts.items():
            if values is not None and len(values) != n and not (name == "paths" and not values):
                raise ValueError(f"scene {self.name}: expected {name} of its {n} views, got {len(values)}")
        for view, (image, (width, height)) in enumerate(zip(self.images, self.cameras.sizes.tolist(), strict=True)):
            if not isinstance(image, Tensor) or image.dtype not in (torch.uint8, torch.float32):
                kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
                raise ValueError(f"scene {self.name}: image {view} must be a uint8 or float32 tensor, got {kind}")
            if image.shape not in ((height, width, 3), (height, width, 4)):
                raise ValueError(
                    f"scene {self.name}: image {view} must be [{height}, {width}, 3 or 4] as its camera says, "
                    f"got {list(image.shape)}"
                )
            if image.dtype != self.images[0].dtype or image.shape[2] != self.images[0].shape[2]:
                raise ValueError(f"scene {self.name}: image {view} has other channels or another dtype than image 0")
        for view, (depth, (width, height)) in enumerate(
            zip(self.depths or (), self.cameras.sizes.tolist(), strict=False)
        ):
            is_tensor = isinstance(depth, Tensor)
            if depth is not None and not (
                is_tensor and depth.dtype == torch.float32 and depth.shape == (height, width)
            ):
                found = f"{depth.dtype} {list(depth.shape)}" if is_tensor else type(depth).__name__
                raise ValueError(
                    f"scene {self.name}: depth {view} must be a float32 tensor [{height}, {width}], got {found}"
                )
        for split, views in self.splits.items():
            if not all(type(view) is int and 0 <= view < n for view in views):
                raise ValueError(f"scene {self.name}: splits: {split} must be numbers of views, ints in 0 ... {n - 1}")

    def __repr__(self) -> str:
        """A line: pictures say nothing as numbers."""
        views = ", ".join(f"{len(views)} {split}" for split, views in self.splits.items())
        sizes = {tuple(image.shape[1::-1]) for image in self.images}
        largest = max(sizes, key=math.prod, default=None)
        pixels = f", {'up to ' if len(sizes) > 1 else ''}{largest[0]} x {largest[1]} pixels" if largest else ""
        return f"Scene({self.name!r}: {views or 'no'} views{pixels})"

    @property
    def has_alpha(self) -> bool:
        return len(self.images) > 0 and self.images[0].shape[2] == 4

    def views(self, split: str) -> list[int]:
        """View indices of one split; raises UserError when it is unknown or empty."""
        return views_of(self.name, self.splits, split)

    def unit_cameras(self, split: str) -> Cameras:
        """Cameras of one split in unit space."""
        return self.normalization.in_unit(self.cameras[self.views(split)])


def views_of(name: str, splits: Mapping[str, list[int]], split: str) -> list[int]:
    """View indices of one of the splits of the scene `name`.

    Raises:
        UserError: it has no views in it, with the counts of those that it has.
    """
    if found := splits.get(split):
        return found
    there = ", ".join(f"{len(views)} {other}" for other, views in splits.items() if views)
    raise UserError(f"{name}: no views in split {split!r} (there are {there or 'none'})")


def uses_pixels(mask: Tensor | None) -> bool:
    """Whether a mask leaves any pixel of its view; None masks nothing."""
    return mask is None or bool(mask.any())


def is_known(depth: Tensor) -> Tensor:
    """bool, where a depth map says something."""
    return (depth > 0) & depth.isfinite()
