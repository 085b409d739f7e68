# SPDX-License-Identifier: Apache-2.0
"""Samples in the occupied cells of a grid that is learned on the way (Mueller et al. 2022; Li et al. 2023, nerfacc).

A ray is cut into intervals [t_i, t_(i+1)] from its near plane on; those whose middle lies in an occupied cell are
samples. Level l of the grid covers the box enlarged 2^l times about its middle; the finest level that holds a place
decides.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.ops.occupancy import MAX_CASCADES, RESOLUTIONS

_BASE_STEP = math.sqrt(3) / 1024  # of ops.march, in sides of the box
_MOST_STEPS = (1 << 20) - 1  # that ops.march takes

# t_starts, t_ends [n], ray_indices [n] -> density or opacity [n]
SampleFn = Callable[[Tensor, Tensor, Tensor], Tensor]


class OccGridEstimator(nn.Module):
    """Which parts of space may be seen, and samples there.

    Args:
        roi_aabb: `(min x, y, z, max x, y, z)` of the innermost box, a cube.
        resolution: cells per axis, one of 8, 16, ..., 256, or three times the same.
        levels: 1 ... 8.

    Attributes:
        occs: float32 `[levels * resolution^3]`, occupancy; -1: never occupied. x is the slowest axis.
        binaries: bool `[levels, resolution, resolution, resolution]`, all False at first. Both may be changed in place.
        aabbs: `[levels, 6]`.

    Raises:
        ValueError: a box that is no cube, or another resolution or number of levels.
    """

    occs: Tensor
    binaries: Tensor
    aabbs: Tensor
    resolution: Tensor
    _raster: Tensor

    def __init__(
        self, roi_aabb: Sequence[float] | Tensor, resolution: int | Sequence[int] | Tensor = 128, levels: int = 1
    ) -> None:
        super().__init__()
        box = torch.as_tensor(roi_aabb, dtype=torch.float32)
        sides = {int(n) for n in torch.as_tensor(resolution).reshape(-1).tolist()}
        size = box[3:] - box[:3] if box.shape == (6,) else box.new_zeros(3)
        side = float(size.max())
        if not side > 0 or float((size - side).abs().max()) > 1e-5 * side:
            raise ValueError(
                f"OccGridEstimator: roi_aabb must be a cube (min x, y, z, max x, y, z), got {box.tolist()}"
            )
        if len(sides) != 1 or not sides <= set(RESOLUTIONS) or not 1 <= levels <= MAX_CASCADES:
            raise ValueError(
                f"OccGridEstimator: resolution must be one of {RESOLUTIONS} along all axes and levels in "
                f"1 ... {MAX_CASCADES}, got {sorted(sides)} and {levels}"
            )
        (n,) = sides
        self.levels, self.cells_per_lvl, self._side, self._low = levels, n**3, side, box[:3].tolist()
        middle, half = (box[:3] + box[3:]) / 2, size / 2
        aabbs = [torch.cat([middle - half * 2**level, middle + half * 2**level]) for level in range(levels)]
        self.register_buffer("resolution", torch.full((3,), n, dtype=torch.int32))
        self.register_buffer("aabbs", torch.stack(aabbs))
        self.register_buffer("occs", torch.zeros(levels * self.cells_per_lvl))
        self.register_buffer("binaries", torch.zeros(levels, n, n, n, dtype=torch.bool))
        self.register_buffer("_raster", raster_order(n), persistent=False)
        self._bits: tuple[Tensor | None, int, tuple[Tensor, ...]] = (None, 0, ())

    @property
    def device(self) -> torch.device:
        return self.occs.device

    @torch.no_grad()
    def sampling(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        sigma_fn: SampleFn | None = None,
        alpha_fn: SampleFn | None = None,
        near_plane: float = 0.0,
        far_plane: float = 1e10,
        t_min: Tensor | None = None,
        t_max: Tensor | None = None,
        render_step_size: float = 1e-3,
        early_stop_eps: float = 1e-4,
        alpha_thre: float = 0.0,
        stratified: bool = False,
        cone_angle: float = 0.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Intervals of rays in occupied cells; not differentiable.

        Args:
            rays_o, rays_d: float32 `[n_rays, 3]`, unit directions.
            sigma_fn, alpha_fn: density or opacity of samples, at most one of them. Samples in front of which less than
                `early_stop_eps` of the light is left, or whose opacity is below `alpha_thre` (at most the mean
                occupancy), are left out then. A value that is NaN is kept, and ends its ray.
            near_plane, far_plane: where the first interval begins, and where the last middle lies at most; `t_min`,
                `t_max` `[n_rays]`: the same for each ray, if that is less.
            render_step_size: length of an interval.
            stratified: begins each ray up to a step later, at random (torch's generator).
            cone_angle: intervals grow to `cone_angle * t`. Then they begin where the ray enters the grid, and their
                starts, not their middles, lie in occupied cells.

        Returns:
            ray_indices int64, t_starts, t_ends `[n_samples]`, ray by ray, front to back.
        """
        near = rays_o.new_full((rays_o.shape[0],), near_plane)
        far = torch.full_like(near, far_plane)
        near = near if t_min is None else torch.maximum(near, t_min)
        far = far if t_max is None else torch.minimum(far, t_max)
        if stratified:
            near = near + torch.rand_like(near) * render_step_size
        march = self._march_cone if cone_angle > 0 else self._march_even
        ray_indices, t_starts, t_ends = march(rays_o, rays_d, near, render_step_size, cone_angle)
        kept = (t_starts + t_ends) / 2 < far[ray_indices]
        kept &= t_ends > near[ray_indices]
        ray_indices, t_starts, t_ends = (x[kept] for x in (ray_indices, t_starts, t_ends))
        if (sigma_fn is None and alpha_fn is None) or max(alpha_thre, early_stop_eps) <= 0:
            return ray_indices, t_starts, t_ends
        fn = alpha_fn if sigma_fn is None else sigma_fn
        assert fn is not None
        values = fn(t_starts, t_ends, ray_indices)
        if values.shape != t_starts.shape:
            raise ValueError(
                f"OccGridEstimator: expected {list(t_starts.shape)} densities or opacities, got {list(values.shape)}"
            )
        thickness = -torch.log1p(-values) if sigma_fn is None else values * (t_ends - t_starts)
        thickness = thickness.masked_fill(thickness.isnan(), torch.inf)  # ends its ray, and no other
        seen = _transmittance(thickness, ray_indices, rays_o.shape[0]) >= early_stop_eps
        if alpha_thre > 0:
            seen &= -torch.expm1(-thickness) >= min(alpha_thre, float(self.occs.mean()))
        return ray_indices[seen], t_starts[seen], t_ends[seen]

    def _march_even(
        self, rays_o: Tensor, rays_d: Tensor, near: Tensor, step: float, cone_angle: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Equal steps: ours test where they start, so rays begin at the middle of their first interval in the grid."""
        entry, _ = ops.ray_aabb(rays_o, rays_d, self.aabbs[-1])
        behind = entry.clamp_min(0).nan_to_num(posinf=0) - near  # rays that miss may begin anywhere
        skipped = torch.ceil(behind.double() / step - 0.5).clamp_min(0)  # steps
        t = near + (skipped + 0.5) * step
        found = self._march(rays_o + t[:, None].float() * rays_d, rays_d, 0.0, step, 0.0)
        ray = found.ray_indices
        number = skipped[ray] + torch.round(found.t_starts.double() * (self._side / step))
        starts = near[ray].double() + number * step
        return ray, starts.float(), (starts + step).float()

    def _march_cone(
        self, rays_o: Tensor, rays_d: Tensor, near: Tensor, step: float, cone_angle: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        first = float(near.min()) if near.numel() else 0.0
        found = self._march(rays_o, rays_d, first, step, cone_angle)
        return found.ray_indices, found.t_starts * self._side, found.t_ends * self._side

    def _march(
        self, origins: Tensor, directions: Tensor, near: float, step: float, cone_angle: float
    ) -> ops.PackedSamples:
        unit = (origins - origins.new_tensor(self._low)) / self._side
        length = math.sqrt(3) * 2 ** (self.levels - 1) * self._side
        return ops.march(
            unit, directions, *self._bitfield(), step_scale=step / self._side / _BASE_STEP, cone_angle=cone_angle,
            near=near / self._side, max_samples=min(math.ceil(length / step) + 2, _MOST_STEPS),
        )  # fmt: skip

    def _bitfield(self) -> tuple[Tensor, ...]:
        """The bits of `binaries` as ops.march takes them, made anew when these have changed."""
        made_of, version, bits = self._bits
        if made_of is not self.binaries or version != self.binaries._version:
            cells = self.binaries.view(self.levels, -1)[:, self._raster]
            bits = ops.occupancy_bits(cells.float(), 0.5)
            self._bits = (self.binaries, self.binaries._version, bits)
        return bits

    def update_every_n_steps(
        self,
        step: int,
        occ_eval_fn: Callable[[Tensor], Tensor],
        occ_thre: float = 1e-2,
        ema_decay: float = 0.95,
        warmup_steps: int = 256,
        n: int = 16,
    ) -> None:
        """Learns the occupancy anew in every n-th step of a training.

        Before `warmup_steps` in all cells, then in a quarter of each level, drawn at random, and in as many occupied
        ones at most.

        Args:
            occ_eval_fn: occupancy `[m, 1]`, density times a step, at positions `[m, 3]`.
            occ_thre: a cell is occupied above this, and above the mean of the cells that are not closed.
            ema_decay: of the stored maximum of the cells that are evaluated.

        Raises:
            RuntimeError: in `eval` mode.
        """
        if not self.training:
            raise RuntimeError("OccGridEstimator: update_every_n_steps is for training; call train() before")
        if step % n == 0:
            self._update(step, occ_eval_fn, occ_thre, ema_decay, warmup_steps)

    @torch.no_grad()
    def _update(
        self,
        step: int,
        occ_eval_fn: Callable[[Tensor], Tensor],
        occ_thre: float = 0.01,
        ema_decay: float = 0.95,
        warmup_steps: int = 256,
    ) -> None:
        n = int(self.resolution[0])
        for level in range(self.levels):
            if step < warmup_steps:
                index = torch.arange(self.cells_per_lvl, device=self.device)
            else:
                index = self._draw(level, self.cells_per_lvl // 4)
            cell = torch.stack([index // (n * n), index // n % n, index % n], dim=1)
            place = (cell + torch.rand(cell.shape, device=self.device)) / n
            low, high = self.aabbs[level, :3], self.aabbs[level, 3:]
            occupancy = occ_eval_fn(low + place * (high - low)).squeeze(-1)
            at = level * self.cells_per_lvl + index
            before = self.occs[at]
            self.occs[at] = torch.where(before < 0, before, torch.maximum(before * ema_decay, occupancy.to(before)))
        mean = self.occs[self.occs >= 0].mean().nan_to_num(0)  # of no cell: all are closed
        self.binaries.copy_((self.occs > mean.clamp_max(occ_thre)).view_as(self.binaries))

    def _draw(self, level: int, n: int) -> Tensor:
        """n cells of a level, and as many of the occupied ones at most."""
        occupied = self.binaries[level].flatten().nonzero()[:, 0]
        if n < len(occupied):
            occupied = occupied[torch.randint(len(occupied), (n,), device=self.device)]
        return torch.cat([torch.randint(self.cells_per_lvl, (n,), device=self.device), occupied])

    @torch.no_grad()
    def mark_invisible_cells(
        self, K: Tensor, c2w: Tensor, width: int, height: int, near_plane: float = 0.0, chunk: int = 32**3
    ) -> None:
        """Closes for good the cells that no camera sees, or that are nearer than `near_plane` in some picture.

        Args:
            K: `[3, 3]` intrinsics, or one for each camera; a camera looks along its z.
            c2w: `[n_cameras, 3, 4]` camera to world.
            width, height: of the pictures.
            chunk: cells at a time.
        """
        n = int(self.resolution[0])
        rotation = c2w[:, :3, :3].transpose(1, 2)
        for level in range(self.levels):
            low, high = self.aabbs[level, :3], self.aabbs[level, 3:]
            for begin in range(0, self.cells_per_lvl, chunk):
                index = torch.arange(begin, min(begin + chunk, self.cells_per_lvl), device=self.device)
                cell = torch.stack([index // (n * n), index // n % n, index % n], dim=1)
                x = low + cell / (n - 1) * (high - low)
                uvd = K @ (rotation @ (x.T - c2w[:, :3, 3:]))
                uv = uvd[:, :2] / uvd[:, 2:]
                width_height = uv.new_tensor([width, height])[:, None]
                in_picture = (uvd[:, 2] >= 0) & ((uv >= 0) & (uv < width_height)).all(dim=1)
                is_near = uvd[:, 2] < near_plane
                is_seen = (in_picture & ~is_near).any(dim=0) & ~(in_picture & is_near).any(dim=0)
                self.occs[level * self.cells_per_lvl + index] = torch.where(is_seen, 0.0, -1.0)


def _transmittance(thickness: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """What is left of the light in front of each sample `[n]`; an opaque sample leaves next to nothing."""
    thickness = thickness.double().clamp(0, 100)
    sums = thickness.cumsum(0) - thickness
    counts = torch.bincount(ray_indices, minlength=n_rays)
    starts = (counts.cumsum(0) - counts).clamp_max(max(len(sums) - 1, 0))
    before = sums[starts[ray_indices]] if len(sums) else sums
    return torch.exp(before - sums).float()


def raster_order(n: int) -> Tensor:
    """Index int64 `[n^3]`, x slowest, of the cells in Morton order, x in the lowest bit."""
    return ops.morton_cells(n) @ torch.tensor([n * n, n, 1])
