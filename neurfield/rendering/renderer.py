# SPDX-License-Identifier: Apache-2.0
"""Whole images of a field: colour, depth, opacity and normals, in tiles of rays."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization
from neurfield.registry import lookup
from neurfield.rendering.color import BACKGROUNDS
from neurfield.rendering.volume import (
    Field,
    MarchOptions,
    composite_rays,
    march_rays,
    render_normals,
    render_occupancy,
)
from neurfield.sampling.occupancy_grid import OccupancyGrid

# name of an output, everywhere: what it is
OUTPUTS = {
    "rgb": "sRGB colour over the background, [h, w, 3]",
    "depth": "expected distance along the ray in world units, 0 where nothing is hit, [h, w]",
    "normal": "world frame, pointing out of the surface, unit length where opaque, [h, w, 3]",
    "accumulation": "opacity, 0 ... 1, [h, w]",
    "occupancy": "sRGB picture of the cells that may have density, over the background, [h, w, 3]",
    "samples": "samples in such cells along the ray, before any is hidden, [h, w]",
}
DEFAULT_OUTPUTS = ("rgb", "depth", "accumulation")  # a normal costs many densities
_TILE_RAYS = 1 << 14  # rays at a time on the composed path: some hundred MB of samples and activations at most
_FUSED_TILE_RAYS = 1 << 18  # the fused path needs memory for its results only; tiles serve progress and interruption


class Renderer:
    """Renders views of a field in the frame of the input's world.

    Args:
        field: gives sigma and rgb; normals need its `density`, and `fused()`, where it has that, is the fast way.
        grid: where the field can be non-zero.
        normalization: world to unit space.
        options: marching; None: those for the box.
        background: colour behind transparent rays, `[3]` sRGB.
    """

    def __init__(
        self,
        field: Field,
        grid: OccupancyGrid,
        normalization: Normalization,
        options: MarchOptions | None = None,
        background: Sequence[float] = BACKGROUNDS["white"],
    ):
        self.field, self.grid, self.normalization = field, grid, normalization
        self.options = options or MarchOptions.for_box(normalization.aabb_scale)
        self.background = torch.tensor(background, dtype=torch.float32)

    @torch.no_grad()
    def render(
        self,
        camera: Cameras,
        outputs: Sequence[str] = DEFAULT_OUTPUTS,
        progress: Callable[[float], None] | None = None,
        tile_rays: int | None = None,
    ) -> dict[str, Tensor]:
        """One view.

        Args:
            camera: a batch of one view, world frame.
            outputs: names of OUTPUTS, which says what they are.
            progress: called with the finished part, 0 ... 1; what it raises ends the rendering.
            tile_rays: rays between two calls of `progress`, at least one row of pixels; None: as suits the memory.

        Returns:
            float32 CPU tensors by output name.

        Raises:
            UserError: an unknown output.
            ValueError: not exactly one view.
        """
        for name in outputs:
            lookup(OUTPUTS, name, "output")
        if len(camera) != 1:
            raise ValueError(f"render: expected one view, got {len(camera)}")
        width, height = camera.sizes[0].tolist()
        unit = camera.transformed(self.normalization.scale, torch.tensor(self.normalization.offset))
        largest = _TILE_RAYS if self._fused() is None else _FUSED_TILE_RAYS
        rows = max(1, min(tile_rays or largest, largest) // width)
        parts = []
        for top in range(0, height, rows):
            origins, directions = image_rays(unit, top, min(top + rows, height))
            parts.append(self.render_rays(origins, directions, outputs))
            if progress:
                progress(min(top + rows, height) / height)
        whole = {name: torch.cat([part[name] for part in parts]) for name in outputs}
        return {name: value.view(height, width, *value.shape[1:]) for name, value in whole.items()}

    @torch.no_grad()
    def render_rays(self, origins: Tensor, directions: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of rays `[n, 3]` in unit space with unit directions; see `render` for their meaning."""
        result: dict[str, Tensor] = {}
        if {"rgb", "depth", "accumulation"} & set(outputs):
            rgb, depth, acc = self._colors(origins, directions)
            result["rgb"] = rgb + (1 - acc)[:, None] * self.background
            result["depth"] = torch.where(acc > 0, depth / acc.clamp_min(1e-10), 0) / self.normalization.scale
            result["accumulation"] = acc
        if "normal" in outputs:
            samples = march_rays(self.grid, origins, directions, self.options)
            result["normal"] = render_normals(self.field, samples, origins, directions, self.options)
        if "occupancy" in outputs:
            color, hit = render_occupancy(self.grid, origins, directions, self.options)
            result["occupancy"] = torch.where(hit[:, None], color, self.background)
        if "samples" in outputs:
            result["samples"] = march_rays(self.grid, origins, directions, self.options).packed_info[:, 1].float()
        return {name: result[name] for name in outputs}

    def _fused(self) -> ops.FusedField | None:
        return self.field.fused() if hasattr(self.field, "fused") else None

    def _colors(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rgb over black, sum of weight * distance, opacity."""
        fused = self._fused()
        if fused is not None:
            march = self.options.fused()
            image = ops.fused_render(fused, self.grid.bitfield, self.grid.coarse, origins, directions, march)
            return image.rgb, image.depth, image.acc
        samples = march_rays(self.grid, origins, directions, self.options)
        result = composite_rays(self.field, samples, origins, directions, self.options)
        return result.rgb, result.depth, result.acc


def image_rays(camera: Cameras, top: int, bottom: int) -> tuple[Tensor, Tensor]:
    """Rays through the pixel centres of rows `top` to `bottom` of a single view, row by row."""
    width = int(camera.sizes[0, 0])
    y, x = torch.meshgrid(torch.arange(top, bottom) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixel_xy = torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)
    return ops.camera_rays(camera, torch.zeros(pixel_xy.shape[0], dtype=torch.int64), pixel_xy)
