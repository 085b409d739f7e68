# SPDX-License-Identifier: Apache-2.0
"""Where a scene may have density, learned while training, so that rays take samples only there.

Cascades of `resolution^3` cells around the middle of unit space (Mueller et al. 2022, section 5.4), each cell with a
decaying maximum of the optical thickness seen in it and one bit: occupied or not. The layout is that of
neurfield.ops.occupancy.
"""

import copy
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.ops.occupancy import MAX_CASCADES, RESOLUTIONS
from neurfield.sampling.evaluate import evaluate

BASE_STEP = math.sqrt(3) / 1024  # the finest step of a ray; densities are stored times this
CLOSED = -1.0  # value of cells that stay empty for good
WARMUP_STEPS = 256  # until then all cells are drawn alike; afterwards half of the draws are in occupied ones

DensityFn = Callable[[Tensor], Tensor]


class OccupancyGrid(nn.Module):
    """Cascades `0 ... log2(aabb_scale)` of cells; buffers `density_grid bitfield coarse` are part of a checkpoint.

    Every cell begins open with its bit set. Cells closed by `carve` or `close_unseen` stay empty for good.

    Args:
        aabb_scale: side of the outermost cube in unit space, a power of two in 1 ... 128.
        resolution: cells per axis of each cascade, a power of two in 8 ... 256.
        threshold: optical thickness of one finest step from which a cell counts as occupied.
        decay: of the stored maximum, per update.
    """

    density_grid: Tensor  # float32 [n_cascades, resolution^3], Morton order
    bitfield: Tensor  # uint8 [n_cascades, resolution^3 / 8]
    coarse: Tensor  # uint8 [n_cascades, (resolution / 8)^3]

    def __init__(
        self, aabb_scale: int = 1, resolution: int = 128, threshold: float = 0.01, decay: float = 0.95
    ) -> None:
        super().__init__()
        if aabb_scale not in [2**k for k in range(MAX_CASCADES)] or resolution not in RESOLUTIONS:
            raise ValueError(
                f"OccupancyGrid: aabb_scale must be a power of two in 1 ... {2 ** (MAX_CASCADES - 1)} and "
                f"resolution one of {RESOLUTIONS}, got {aabb_scale} and {resolution}"
            )
        self.aabb_scale, self.resolution = aabb_scale, resolution
        self.threshold, self.decay = threshold, decay
        self.n_cascades = aabb_scale.bit_length()
        self.register_buffer("density_grid", torch.zeros(self.n_cascades, resolution**3))
        bitfield, coarse = ops.occupancy_bits(self.density_grid, CLOSED / 2)
        self.register_buffer("bitfield", bitfield)
        self.register_buffer("coarse", coarse)
        # the densities at the time, their version, and how many cells were open
        self._counted: tuple[Tensor | None, int, int] = (None, 0, 0)

    @property
    def cone_angle(self) -> float:
        """Growth of the step with distance that suits the grid: none within the unit cube, else 1/256."""
        return 0.0 if self.n_cascades == 1 else 1 / 256

    @torch.no_grad()
    def update(self, step: int, density_fn: DensityFn, seed: int = 0, max_draws: int | None = None) -> None:
        """Evaluates the density in some cells, lets the others decay, and sets the bits anew.

        Before step 256 as many cells are drawn as are open; afterwards a quarter of that among the open ones and a
        quarter among the occupied ones, the position in a cell at random. Deterministic given `seed` and `step`. Waits
        for the device only in the first update and after others have changed the densities, to count the open cells.

        Args:
            step: of training.
            density_fn: positions float32 `[n, 3]` in unit space -> density `[n]`; called in chunks.
            seed: of the run.
            max_draws: bounds the number of cells drawn, and so the cost. Cells that are not drawn for long fade.
        """
        n_open = self._count_open()
        n_draws = math.ceil(n_open * (1 if step < WARMUP_STEPS else 0.25))
        thresholds = [CLOSED / 2] if step < WARMUP_STEPS else [CLOSED / 2, self.threshold]
        if max_draws is not None:
            n_draws = min(n_draws, max(max_draws // len(thresholds), 1))
        drawn = []
        for i, threshold in enumerate(thresholds):
            cells, n_cells = ops.occupancy_select_padded(self.density_grid, threshold)
            drawn.append(ops.occupancy_draw(cells, n_draws, self.resolution, seed, step, i, n_cells))
        if n_open:
            cells, positions = (torch.cat(parts) for parts in zip(*drawn, strict=True))
            ops.occupancy_update(self.density_grid, cells, evaluate(density_fn, positions) * BASE_STEP, self.decay)
            self._remember_open(n_open)  # an update opens and closes none
        self.renew_bits()

    def occupied_from(self) -> Tensor:
        """Value `[]` above which a cell counts as occupied: the threshold, or the mean where that is less."""
        return ops.occupancy_mean(self.density_grid).clamp_max(self.threshold).float()

    @torch.no_grad()
    def renew_bits(self) -> None:
        """Makes the bits follow the densities."""
        self._set_bits(self.density_grid, self.occupied_from())

    def _count_open(self) -> int:
        """Cells that are not closed for good."""
        grid, version, count = self._counted
        if grid is not self.density_grid or grid.is_inference() or version != grid._version:
            count = int((self.density_grid > CLOSED / 2).sum())
            self._remember_open(count)
        return count

    def _remember_open(self, count: int) -> None:
        grid = self.density_grid
        self._counted = (grid, 0 if grid.is_inference() else grid._version, count)

    @torch.no_grad()
    def load_bits(self, bitfield: Tensor) -> None:
        """Takes over a `bitfield` of this shape alone: what is not set stays closed for good.

        Raises:
            ValueError: another shape.
        """
        if bitfield.shape != self.bitfield.shape:
            raise ValueError(f"OccupancyGrid: expected bits {list(self.bitfield.shape)}, got {list(bitfield.shape)}")
        self.bitfield.copy_(bitfield)
        self.density_grid.copy_(torch.where(self.is_set(), 1.0, CLOSED))
        self._set_bits(self.density_grid, 0.0)

    @torch.no_grad()
    def carve(self, cameras: Cameras, opaque: Tensor) -> None:
        """Closes for good the cells outside of the visual hull of silhouettes.

        A cell is closed when some view that sees all of it is not opaque in its whole footprint and one pixel around.
        Views that see a cell only in part say nothing against it.

        Args:
            cameras: in unit space.
            opaque: bool `[n_pixels]`, of all views one after the other (PixelSampler.silhouettes).
        """
        ops.carve(self.density_grid, cameras, opaque.view(torch.uint8), CLOSED)
        self._close_bits()

    @torch.no_grad()
    def close_unseen(self, cameras: Cameras) -> None:
        """Closes for good the cells of which no camera (in unit space) sees any part."""
        ops.close_unseen(self.density_grid, cameras, CLOSED)
        self._close_bits()

    def march(
        self,
        origins: Tensor,
        directions: Tensor,
        *,
        step_scale: float = 1.0,
        cone_angle: float | None = None,
        near: float = 0.0,
        max_samples: int = 1024,
        capacity: int | None = None,
        padded: bool = False,
        seed: int = 0,
        step: int | None = None,
    ) -> ops.PackedSamples:
        """Samples of rays in occupied cells; arguments as in neurfield.ops.march, `cone_angle` None: the grid's own."""
        return ops.march(
            origins, directions, self.bitfield, self.coarse, step_scale=step_scale,
            cone_angle=self.cone_angle if cone_angle is None else cone_angle, near=near, max_samples=max_samples,
            capacity=capacity, padded=padded, seed=seed, step=step,
        )  # fmt: skip

    def cells_at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of the finest cascade around positions `[n, 3]` in unit space.

        Returns:
            int64 `[n, 3]` cells along x, y, z, counted from the origin of unit space, and their sides `[n]`.
        """
        reach = (positions - 0.5).abs().amax(dim=1) * 2
        cascade = torch.log2(reach.clamp_min(1e-9)).ceil().clamp(0, self.n_cascades - 1)
        sizes = torch.exp2(cascade) / self.resolution
        return torch.floor(positions / sizes[:, None]).long(), sizes

    def cropped(self, inside: Callable[[Tensor], Tensor]) -> "OccupancyGrid":
        """A copy without the bits of cells whose middle is not `inside` (positions `[n, 3]` in unit space -> bool).

        For rendering and meshes; its densities are those of the whole grid. The cut is as fine as the cells:
        `1 / resolution` of the unit cube, twice that in each further cascade.
        """
        cropped = copy.deepcopy(self)
        device = self.bitfield.device
        middles = _middles(self.resolution).to(device).view(-1, 8, 3)  # of the cells of a byte
        weights = 2 ** torch.arange(8, dtype=torch.uint8, device=device)
        for cascade, bits in enumerate(cropped.bitfield):
            (used,) = bits.nonzero(as_tuple=True)  # most of space is empty
            kept = inside((0.5 + middles[used] * 2**cascade).view(-1, 3)).view(-1, 8)
            bits[used] &= (kept * weights).sum(dim=1, dtype=torch.uint8)
        cropped.coarse.copy_(ops.occupancy_coarse(cropped.bitfield))
        return cropped

    def is_set(self) -> Tensor:
        """The bits of all cells, bool `[n_cascades, resolution^3]`, in Morton order."""
        bits = torch.arange(8, dtype=torch.uint8, device=self.bitfield.device)
        return (self.bitfield[:, :, None] >> bits & 1).view_as(self.density_grid).bool()

    def occupied_fraction(self) -> float:
        """Share of set bits among all cells."""
        return float(self.is_set().double().mean())

    def _close_bits(self) -> None:
        """Clears the bits of closed cells and leaves the others as they are."""
        self._set_bits((self.is_set() & (self.density_grid >= 0)).float(), 0.5)

    def _set_bits(self, density: Tensor, threshold: float | Tensor) -> None:
        """Sets the bits of the cells in which `density` is larger."""
        bitfield, coarse = ops.occupancy_bits(density, threshold)
        self.bitfield.copy_(bitfield)
        self.coarse.copy_(coarse)


@functools.lru_cache(maxsize=1)
def _middles(resolution: int) -> Tensor:
    """Middles `[resolution^3, 3]` of the cells of the unit cube around the origin, in Morton order."""
    return (ops.morton_cells(resolution) + 0.5) / resolution - 0.5
