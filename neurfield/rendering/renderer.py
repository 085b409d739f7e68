# SPDX-License-Identifier: Apache-2.0
"""Whole images of a field: colour, depth, opacity and normals, in tiles of rays."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.checks import shown, words
from neurfield.data.scene import Normalization
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_module import RenderFn
from neurfield.ops.pixel import rays_per_side
from neurfield.progress import Progress, silent
from neurfield.registry import lookup
from neurfield.rendering.color import BACKGROUNDS
from neurfield.rendering.volume import (
    Field,
    MarchOptions,
    composite_in_rounds,
    march_rays,
    render_normals,
    render_occupancy,
    sample_functions,
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
_COLORS = frozenset(DEFAULT_OUTPUTS)  # what fused kernels give
_TILE_RAYS = 1 << 14  # rays at a time on the composed path: some hundred MB of samples and activations at most
# the fused path needs memory for its results only; tiles serve progress and interruption, and on a GPU the last rays of
# each leave it half idle
_FUSED_TILE_RAYS = {"cpu": 1 << 18, "cuda": 1 << 22}


class Renderer:
    """Renders views of a field in the frame of the input's world.

    Args:
        field: gives sigma and rgb; normals need its `density`, and are its own where it has `outward(x, reach)`, see
            fields.outward; `fused_render()`, where it has that, is the fast way.
            One that has `at(conditions)` is drawn at the time of each camera.
        grid: where the field can be non-zero.
        normalization: world to unit space.
        options: marching; None: those for the box.
        background: colour behind transparent rays, `[3]` sRGB.
        rays_per_pixel: a square number up to 64; a pixel is the mean of so many rays on a regular grid within it.

    Raises:
        ValueError: rays_per_pixel is no such number.
    """

    def __init__(
        self,
        field: Field,
        grid: OccupancyGrid,
        normalization: Normalization,
        options: MarchOptions | None = None,
        background: Sequence[float] = BACKGROUNDS["white"],
        rays_per_pixel: int = 1,
    ):
        self.field, self.grid, self.normalization = field, grid, normalization
        self.options = options or MarchOptions.for_box(normalization.aabb_scale)
        self.background = torch.tensor(background, dtype=torch.float32)
        self.rays_per_pixel = rays_per_pixel

    @property
    def rays_per_pixel(self) -> int:
        return self._side**2

    @rays_per_pixel.setter
    def rays_per_pixel(self, n: int) -> None:
        self._side = rays_per_side("Renderer", n)

    @property
    def is_fused(self) -> bool:
        """Whether native code draws the field."""
        return _fused(self._at(Conditions())) is not None

    @torch.no_grad()
    def render(
        self,
        camera: Cameras,
        outputs: Sequence[str] = DEFAULT_OUTPUTS,
        progress: Progress = silent,
        tile_rays: int | None = None,
        appearance: int | None = None,
        device: torch.device | str | None = "cpu",
    ) -> dict[str, Tensor]:
        """One view.

        Args:
            camera: a batch of one view, world frame.
            outputs: names of OUTPUTS, which says what they are.
            progress: called with the finished part, 0 ... 1; what it raises ends the rendering.
            tile_rays: rays between two calls of `progress`, at least one row of pixels; None: as suits the memory.
            appearance: number of the training view whose look is meant; None: the mean look.
            device: where the outputs are to lie; None: where the field does, which of a GPU nobody waits for.

        Returns:
            float32 tensors by output name.

        Raises:
            UserError: an unknown output.
            ValueError: not exactly one view.
        """
        outputs = words(outputs)
        for name in outputs:
            lookup(OUTPUTS, name, "output")
        if not isinstance(camera, Cameras) or len(camera) != 1:
            got = len(camera) if isinstance(camera, Cameras) else shown(camera)
            raise ValueError(f"render: expected one view, as run.cameras[0], got {got}")
        width, height = camera.sizes[0].tolist()
        unit = self.normalization.in_unit(camera).to(self._device)
        views = None if appearance is None else torch.tensor([appearance], device=self._device)
        field = self._at(Conditions(unit.times, views))
        is_fused = _fused(field) is not None and _COLORS.issuperset(outputs)
        largest = _FUSED_TILE_RAYS[self._device.type] if is_fused else _TILE_RAYS
        rows = max(1, min(tile_rays or largest, largest) // (width * self.rays_per_pixel))
        parts = []
        for top in range(0, height, rows):
            origins, directions = image_rays(unit, top, min(top + rows, height), self._side)
            part = self._rendered(field, origins, directions, outputs, self.rays_per_pixel)
            parts.append({name: value.to(device or value.device) for name, value in part.items()})
            progress(min(top + rows, height) / height)
        whole = parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in outputs}
        return {name: value.view(height, width, *value.shape[1:]) for name, value in whole.items()}

    @torch.no_grad()
    def render_rays(
        self,
        origins: Tensor,
        directions: Tensor,
        outputs: Sequence[str],
        rays_per_pixel: int = 1,
        conditions: Conditions | None = None,
    ) -> dict[str, Tensor]:
        """Outputs `[n, ...]` of rays `[n * rays_per_pixel, 3]` in unit space with unit directions, see `render`.

        The rays may lie on any device, the outputs lie on the CPU. `conditions`, of one row each, are of all rays.
        """
        field = self._at((conditions or Conditions()).to(self._device))
        result = self._rendered(field, origins.to(self._device), directions.to(self._device), outputs, rays_per_pixel)
        return {name: value.cpu() for name, value in result.items()}

    def drawing(self, conditions: Conditions) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """What draws rays `[n, 3]` in unit space under conditions of one row each, all where the field lies.

        It gives rgb over black `[n, 3]`, the sum of weight * distance (unit space) and opacity `[n]`, without gradient.
        """
        field = self._at(conditions.to(self._device))
        return torch.no_grad()(lambda origins, directions: self._colors(field, origins, directions))

    def _rendered(
        self, field: Field, origins: Tensor, directions: Tensor, outputs: Sequence[str], rays_per_pixel: int
    ) -> dict[str, Tensor]:
        background = self.background.to(self._device)
        result: dict[str, Tensor] = {}
        if _COLORS & set(outputs):
            colors = self._colors(field, origins, directions)
            rgb, depth, acc = (_pixel_means(value, rays_per_pixel) for value in colors)
            result["rgb"] = rgb + (1 - acc)[:, None] * background
            result["depth"] = torch.where(acc > 0, depth / acc.clamp_min(1e-10), 0) / self.normalization.scale
            result["accumulation"] = acc
        if "normal" in outputs:
            samples = march_rays(self.grid, origins, directions, self.options)
            normals = render_normals(field, samples, origins, directions, self.options)
            result["normal"] = _pixel_means(normals, rays_per_pixel)
        if "occupancy" in outputs:
            color, hit = render_occupancy(self.grid, origins, directions, self.options)
            result["occupancy"] = _pixel_means(torch.where(hit[:, None], color, background), rays_per_pixel)
        if "samples" in outputs:
            counts = march_rays(self.grid, origins, directions, self.options).packed_info[:, 1].float()
            result["samples"] = _pixel_means(counts, rays_per_pixel)
        return {name: result[name] for name in outputs}

    @property
    def _device(self) -> torch.device:
        """Where the field and its grid lie."""
        return self.grid.bitfield.device

    def _at(self, conditions: Conditions) -> Field:
        return self.field.at(conditions) if hasattr(self.field, "at") else self.field

    def _colors(self, field: Field, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """rgb over black, sum of weight * distance, opacity."""
        fused = _fused(field)
        if fused is not None:
            image = fused(self.grid.bitfield, self.grid.coarse, origins, directions, self.options.fused())
            return image.rgb, image.depth, image.acc
        samples = march_rays(self.grid, origins, directions, self.options)
        _, rgb_sigma_fn = sample_functions(field, origins, directions, place=0)
        return composite_in_rounds(rgb_sigma_fn, samples, self.options.stop_transmittance)


def _fused(field: Field) -> RenderFn | None:
    return field.fused_render() if hasattr(field, "fused_render") else None


def _pixel_means(values: Tensor, rays_per_pixel: int) -> Tensor:
    """Means over the consecutive rays of each pixel."""
    return values if rays_per_pixel == 1 else values.unflatten(0, (-1, rays_per_pixel)).mean(1)


def image_rays(camera: Cameras, top: int, bottom: int, side: int = 1) -> tuple[Tensor, Tensor]:
    """Rays of the pixels of rows `top` to `bottom` of a single view, row by row.

    A pixel has `side`^2 rays, through the middles of as many equal parts of it, row by row. They lie where the camera
    does.
    """
    device = camera.sizes.device
    width, within = int(camera.sizes[0, 0]), (torch.arange(side, device=device) + 0.5) / side
    rows, columns = torch.arange(top, bottom, device=device), torch.arange(width, device=device)
    y = (rows[:, None, None, None] + within[:, None]).expand(-1, width, -1, side)
    x = (columns[:, None, None] + within).expand(len(rows), -1, side, -1)
    pixel_xy = torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)
    return ops.camera_rays(camera, torch.zeros(pixel_xy.shape[0], dtype=torch.int64, device=device), pixel_xy)
