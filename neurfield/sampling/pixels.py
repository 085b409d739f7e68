# SPDX-License-Identifier: Apache-2.0
"""Training rays from random pixels of posed images."""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.ops.pixel import PIXEL_BLOCK, SampledPixels, block_counts
from neurfield.sampling.occupancy_grid import OccupancyGrid


class PixelSampler:
    """Draws pixels with replacement, uniformly over all images, and returns their rays and colours.

    Of panoramas uniformly over the view, not the picture (ops.sample_pixels).

    Images are packed into one buffer once, unless they lie so already, as those of load_scene can: their memory is
    shared then, and is not to be written to. uint8 stays uint8.
    Where images differ in channels they are brought to RGB or, if any has alpha, RGBA.

    Args:
        images: per view uint8 or float32 `[height, width]` or `[height, width, 1 ... 4]`: grey, grey and alpha, RGB,
            RGBA.
        cameras: of the same views, in the frame in which rays are wanted (unit space for training).
        masks: per view uint8 `[height, width]`, 0 = never draw the pixel, or None for a view without a mask.
        depths: per view float32 `[height, width]` in the unit of the frame, 0 = not known, or None for a view without:
            along the optical axis, in panoramas along the ray.

    Raises:
        ValueError: images, cameras, masks and depths do not fit together, or no pixel is left.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        cameras: Cameras,
        masks: Sequence[Tensor | None] | None = None,
        depths: Iterable[Tensor | None] | None = None,
    ) -> None:
        if len(images) != len(cameras) or not images:
            raise ValueError(
                f"PixelSampler: expected one image per camera, got {len(images)} and {len(cameras)} cameras"
            )
        if len({image.dtype for image in images}) > 1:
            raise ValueError("PixelSampler: images must share one dtype, uint8 or float32")
        found = torch.tensor([image.shape[1::-1] for image in images])
        wrong = (found != cameras.sizes).any(dim=1).nonzero()[:, 0]
        if len(wrong):
            view = int(wrong[0])
            raise ValueError(
                f"PixelSampler: image {view} must have the size of its camera {cameras.sizes[view].tolist()}, "
                f"got {found[view].tolist()}"
            )
        self.cameras = cameras
        self.values = _pack(images)
        self.masks = _pack_planes("mask", masks, cameras.sizes, torch.uint8, 1) if masks is not None else None
        self.depths = _pack_planes("depth", depths, cameras.sizes, torch.float32, 0) if depths is not None else None
        self.blocks = _blocks_with_pixels(self.masks, cameras.sizes) if self.masks is not None else None
        if self.blocks is not None and not len(self.blocks):
            raise ValueError("PixelSampler: the masks leave no pixel to draw")

    @property
    def n_blocks(self) -> int:
        """Blocks of 8 x 8 pixels that are drawn from."""
        return len(self.blocks) if self.blocks is not None else int(block_counts(self.cameras.sizes).sum())

    def silhouettes(self, margin: float = 0.0) -> Tensor:
        """bool `[n_pixels]`, of all views one after the other: where something is or may be.

        That is where alpha is not 0, where a pixel is masked, and everywhere in images without alpha; and around, up to
        `margin` times the longer side of the image.
        """
        opaque = self.values[:, -1] != 0 if self.values.shape[1] % 2 == 0 else torch.ones_like(self.values[:, 0]) > 0
        opaque = opaque if self.masks is None else opaque | (self.masks == 0)
        return opaque if margin <= 0 else torch.cat([_widened(*view, margin) for view in self._pictures(opaque)])

    def _pictures(self, values: Tensor) -> Iterator[tuple[Tensor, int, int]]:
        """Of values of all pixels those of each view, with its width and height."""
        sizes = self.cameras.sizes.tolist()
        for part, size in zip(values.split([width * height for width, height in sizes]), sizes, strict=True):
            yield part, *size

    def restrict(self, grid: OccupancyGrid) -> None:
        """From now on draws only from blocks of 8 x 8 pixels near those whose rays meet an occupied cell of `grid`.

        Rays of the others see nothing, whatever the field learns in open cells, so with a carved grid nothing is lost.
        Does nothing when no block would be left.
        """
        seen = ops.occupied_pixel_blocks(self.cameras, grid.bitfield, grid.coarse)
        if self.blocks is not None:
            seen = seen[torch.isin(seen, self.blocks)]
        if len(seen):
            self.blocks = seen

    def to(self, device: torch.device) -> None:
        """Moves images, masks, depths and cameras; rays are drawn there from now on."""
        self.cameras, self.values = self.cameras.to(device), self.values.to(device)
        self.masks = None if self.masks is None else self.masks.to(device)
        self.depths = None if self.depths is None else self.depths.to(device)
        self.blocks = None if self.blocks is None else self.blocks.to(device)

    def of_view(self, view: int) -> "PixelSampler":
        """One that draws from a single view; it shares the images. It has no blocks where a mask leaves no pixel."""
        sizes = self.cameras.sizes
        first, last = _range_of(sizes.prod(dim=1), view)
        only = copy.copy(self)
        only.cameras, only.values = self.cameras[view], self.values[first:last]
        only.masks = None if self.masks is None else self.masks[first:last]
        only.depths = None if self.depths is None else self.depths[first:last]
        if self.blocks is not None:
            first, last = _range_of(block_counts(sizes), view)
            only.blocks = self.blocks[(self.blocks >= first) & (self.blocks < last)] - first
        return only

    def sample(self, n: int, step: int, seed: int = 0, rays_per_pixel: int = 1) -> SampledPixels:
        """Draws `n` pixels with their rays; the same for equal `step` and `seed`, whatever the number of threads."""
        return ops.sample_pixels(
            self.values, self.cameras.sizes, self.cameras, n, seed, step, masks=self.masks, blocks=self.blocks,
            rays_per_pixel=rays_per_pixel,
        )  # fmt: skip

    def _number(self, view: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """int64 `[n]` of pixels, in the order of `values`."""
        widths, heights = self.cameras.sizes.to(view.device).unbind(1)
        first = (widths * heights).cumsum(0) - widths * heights
        return first[view] + y * widths[view] + x

    def at(self, view: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Of pixels, int64 `[n]` each: float32 RGBA `[n, 4]` of 0 ... 1 (of floats as they are), and whether they show
        something: no mask ignores them, and they are not transparent.
        """
        number = self._number(view, x, y)
        color = _as_color(self.values[number], with_alpha=True)
        color = color / 255 if color.dtype == torch.uint8 else color
        seen = color[:, 3] > 0
        return color, seen if self.masks is None else seen & (self.masks[number] != 0)

    def distances(self, drawn: SampledPixels) -> Tensor | None:
        """float32 `[n_rays]`: how far away what the rays of drawn pixels hit is, 0 where that is not known.

        None where it is known of no pixel.
        """
        if self.depths is None:
            return None
        view, x, y = drawn.picks.long().unbind(1)
        depth = self.depths[self._number(view, x, y)]
        along = self.cameras.depth_per_length(view, drawn.directions.unflatten(0, (len(view), -1)))
        return (depth[:, None] / along).where(along > 0, 0.0).flatten()  # z-depth of 0 or below says nothing


def _range_of(counts: Tensor, i: int) -> tuple[int, int]:
    """Where the things of part `i` begin and end, of parts with so many things."""
    last = int(counts[: i + 1].sum())
    return last - int(counts[i]), last


def _widened(opaque: Tensor, width: int, height: int, margin: float) -> Tensor:
    """bool `[height * width]`: whether a pixel of a square of that margin around is opaque."""
    r = math.ceil(margin * max(width, height))
    rows = torch.nn.functional.max_pool2d(opaque.view(1, height, width).float(), (1, 2 * r + 1), 1, (0, r))
    return torch.nn.functional.max_pool2d(rows, (2 * r + 1, 1), 1, (r, 0)).bool().view(-1)


def _pack(images: Sequence[Tensor]) -> Tensor:
    """All pixels `[n_pixels, n_channels]`."""
    flat = [image.reshape(image.shape[0] * image.shape[1], -1) for image in images]
    channels = {pixels.shape[1] for pixels in flat}
    if len(channels) > 1:
        with_alpha = any(count % 2 == 0 for count in channels)
        flat = [_as_color(pixels, with_alpha) for pixels in flat]
    return _joined(flat)


def _joined(parts: list[Tensor]) -> Tensor:
    """Rows of all parts: where they already lie one behind the other, as data.load has them, the same memory."""
    first = parts[0]
    memory, end = first.untyped_storage().data_ptr(), first.data_ptr()
    for part in parts:
        if not part.is_contiguous() or (part.untyped_storage().data_ptr(), part.data_ptr()) != (memory, end):
            return torch.cat(parts)
        end += part.numel() * part.element_size()
    return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())


def _as_color(pixels: Tensor, with_alpha: bool) -> Tensor:
    n_channels = pixels.shape[1]
    color = pixels[:, :3] if n_channels >= 3 else pixels[:, :1].expand(-1, 3)
    if not with_alpha:
        return color
    opaque = torch.full_like(pixels[:, :1], 255 if pixels.dtype == torch.uint8 else 1)
    return torch.cat([color, pixels[:, -1:] if n_channels % 2 == 0 else opaque], dim=1)


def _pack_planes(what: str, planes: Iterable[Tensor | None], sizes: Tensor, dtype: torch.dtype, missing: int) -> Tensor:
    """One value of each pixel of all images, `missing` in those without a plane; `planes` are asked for one by one."""
    packed = torch.full((int(sizes.prod(dim=1).sum()),), missing, dtype=dtype)
    first = 0
    for view, (plane, (width, height)) in enumerate(zip(planes, sizes.tolist(), strict=True)):
        if plane is not None:
            if plane.dtype != dtype or list(plane.shape) != [height, width]:
                wanted, found = (str(kind).removeprefix("torch.") for kind in (dtype, plane.dtype))
                raise ValueError(
                    f"PixelSampler: {what} {view} must be {wanted} [{height}, {width}], got {found} {list(plane.shape)}"
                )
            packed[first : first + width * height] = plane.reshape(-1)
        first += width * height
    return packed


def _blocks_with_pixels(masks: Tensor, sizes: Tensor) -> Tensor:
    """Numbers of the blocks that have a pixel which is not masked."""
    kept, first_block, first_pixel = [], 0, 0
    for width, height in sizes.tolist():
        mask = masks[first_pixel : first_pixel + width * height].view(1, height, width)
        padded = torch.nn.functional.pad(mask, (0, -width % PIXEL_BLOCK, 0, -height % PIXEL_BLOCK))
        rows = padded.view(padded.shape[1] // PIXEL_BLOCK, PIXEL_BLOCK, -1, PIXEL_BLOCK)
        any_pixel = rows.ne(0).any(dim=3).any(dim=1).reshape(-1)
        kept.append(any_pixel.nonzero()[:, 0] + first_block)
        first_block += any_pixel.numel()
        first_pixel += width * height
    return torch.cat(kept).to(torch.int32)
