# SPDX-License-Identifier: Apache-2.0
"""What a caller may choose when a data set is read; Python, scene files and the command line use the same names."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from neurfield.checks import is_number, shown
from neurfield.errors import UserError

SPLITS = ("train", "val", "test")
MAX_AABB_SCALE = 128
R = TypeVar("R", bound="ReadOptions")


@dataclass(frozen=True)
class ReadOptions:
    """How a caller wants a data set to be read, whichever of its views are wanted.

    None is no wish: what a scene file says counts then, else the default. So is False, since a flag has no third value.
    """

    format: str | None = None
    """nerf_synthetic, transforms, tiny_nerf, colmap, idr, nerfies, polycam, record3d, metashape, opensfm, llff
    or nsvf. Default: the one that the data look like."""
    downscale_factor: int | None = None
    """Read images K times smaller: files of that size (also in `images_K`) as they are, others averaged. Default: 1."""
    test_every: int | None = None
    """Where the data set gives no splits, every N-th view is kept for testing; 0 trains on all. Default: 8."""
    max_megapixels: float | None = None
    """Larger images are refused before they are decoded. Default: 64."""
    allow_outside: bool = False
    """Also read images outside of the data folder (absolute paths, links)."""
    scale: float | None = None
    """Override the map into unit space, x_unit = scale * x_world + offset."""
    offset: tuple[float, ...] | None = None
    """Override the offset (three numbers); without it the centre of the scene stays in the middle."""
    aabb_scale: int | None = None
    """Override the side of the field's box in unit space, a power of two from 1 to 128."""
    depth_unit_scale_factor: float | None = None
    """World units per unit of the numbers in depth maps. Default: what the data say, else 0.001."""

    def __post_init__(self) -> None:
        for name in ("downscale_factor", "test_every"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise UserError(f"{name} must be a whole number, got {shown(value)}")
        if self.downscale_factor is not None and self.downscale_factor < 1:
            raise UserError(f"downscale_factor must be at least 1, got {self.downscale_factor}")
        if self.test_every is not None and (self.test_every < 0 or self.test_every == 1):
            raise UserError(f"test_every must be 0 or at least 2, got {self.test_every}")
        if self.max_megapixels is not None and not self.max_megapixels > 0:
            raise UserError(f"max_megapixels must be positive, got {self.max_megapixels}")
        unit = self.depth_unit_scale_factor
        if unit is not None and not (is_number(unit) and unit > 0):
            raise UserError(f"depth_unit_scale_factor must be a positive number, got {shown(unit)}")
        check_normalization("options", self.scale, self.offset, self.aabb_scale)

    def wishes(self) -> dict[str, Any]:
        """What is chosen here, by name."""
        return {name: value for name, value in vars(self).items() if value is not None and value is not False}

    def over(self, other: R) -> R:
        """The other options, with what is chosen here in the place of theirs."""
        return replace(other, **self.wishes())


@dataclass(frozen=True)
class LoadOptions(ReadOptions):
    """How to read a data set, and which of its views: nothing that has a default is left open."""

    downscale_factor: int = 1
    test_every: int = 8
    max_megapixels: float = 64.0
    splits: tuple[str, ...] = SPLITS
    """Views of other splits are neither opened nor decoded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.splits or isinstance(self.splits, str) or any(split not in SPLITS for split in self.splits):
            raise UserError(f"splits must be some of {', '.join(SPLITS)}, one as ('train',), got {self.splits!r}")


def check_normalization(where: str, scale: Any, offset: Any, aabb_scale: Any) -> None:
    """Raises UserError unless each value is None or usable: scale > 0, three offsets, a power of two up to 128."""
    if scale is not None and not (is_number(scale) and scale > 0):
        raise UserError(f"{where}: scale must be a positive number, got {shown(scale)}")
    if offset is not None and not (
        isinstance(offset, list | tuple) and len(offset) == 3 and all(map(is_number, offset))
    ):
        raise UserError(f"{where}: offset must be three numbers, got {shown(offset)}")
    if aabb_scale is not None:
        whole = is_number(aabb_scale) and float(aabb_scale).is_integer() and 1 <= aabb_scale <= MAX_AABB_SCALE
        if not whole or int(aabb_scale) & (int(aabb_scale) - 1):
            raise UserError(
                f"{where}: aabb_scale must be a power of two from 1 to {MAX_AABB_SCALE}, got {shown(aabb_scale)}"
            )
