# SPDX-License-Identifier: Apache-2.0
"""nerfacc's estimators as the samplers of a training, ours or its own.

They know intervals in whose middles a field is looked at; a sample of ours sits where its interval begins. So the
intervals are handed on half a step later: the same places, and the same lengths.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neurfield.data.scene import box
from neurfield.errors import UserError
from neurfield.fields.proposal import Proposal
from neurfield.nerfacc.backend import estimators
from neurfield.nerfacc.occ_grid import raster_order
from neurfield.ops import PackedSamples
from neurfield.rendering.volume import MarchOptions, packed_samples
from neurfield.sampling.evaluate import evaluate
from neurfield.sampling.occupancy_grid import BASE_STEP, CLOSED, WARMUP_STEPS, OccupancyGrid
from neurfield.training.density import DensityFn
from neurfield.training.sampler import AnySamplerConfig, OccGridConfig, PropNetConfig, SamplerConfig
from neurfield.training.step_random import step_seed

MARGIN = 0.5  # of the transmittance where a ray ends: room for the roundings of a quick density
_LEARNED_STEPS = 1000  # after which proposals learn as rarely as they ever do

# positions [n, 3] and which of the rays they are on, int64 [n], to sigma [n]
DensityAlong = Callable[[Tensor, Tensor], Tensor]


class RayEstimator(Protocol):
    """Draws the samples of training rays, and keeps the occupancy grid that the run is rendered with."""

    def samples(
        self, origins: Tensor, directions: Tensor, density: DensityAlong, step: int, learning_rate: float
    ) -> PackedSamples:
        """Of rays `[n, 3]` in unit space, in one step of the training; waits for the device."""
        ...

    def update(self, step: int, density_fn: DensityFn, seed: int, max_draws: int) -> None:
        """As OccupancyGrid.update."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What changes while training beside the grid, by name; not copies."""
        ...

    def refresh(self) -> None:
        """Follows a grid and tensors that were replaced."""
        ...


def create(
    config: AnySamplerConfig, grid: OccupancyGrid, places: Tensor, options: MarchOptions, seed: int
) -> RayEstimator | None:
    """What `config` names, on the device of the grid, or None where that is our own march.

    Args:
        grid: with closed cells; it is changed by `update` alone.
        places: `[n, 3]` of the training cameras in unit space.
        options: of the march that it takes the place of.
        seed: of the run; all random numbers come from it and from the number of the step.

    Raises:
        UserError: nerfacc itself cannot be used, or a proposal has no resolution.
    """
    if isinstance(config, SamplerConfig):
        return None
    library = estimators(config.backend, config.otype, grid.bitfield.device.type)
    if isinstance(config, OccGridConfig):
        return OccGridSampler(library, config, grid, options, seed)
    return PropNetSampler(library, config, grid, places, options, seed)


class OccGridSampler:
    """An OccGridEstimator over the cells of the occupancy grid, which takes over what it learns of them."""

    def __init__(
        self, library: Any, config: OccGridConfig, grid: OccupancyGrid, options: MarchOptions, seed: int
    ) -> None:
        self._grid, self._config, self._options, self._seed = grid, config, options, seed
        device = grid.bitfield.device
        cube = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
        self._estimator = library.OccGridEstimator(cube, grid.resolution, grid.n_cascades).to(device)
        self._cells = raster_order(grid.resolution).to(device)
        self.refresh()

    def samples(
        self, origins: Tensor, directions: Tensor, density: DensityAlong, step: int, learning_rate: float
    ) -> PackedSamples:
        def sigma_fn(t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor) -> Tensor:
            middles = (t_starts + t_ends) / 2
            return density(origins[ray_indices] + middles[:, None] * directions[ray_indices], ray_indices)

        with _seeded(self._seed, 2 * step, origins.device):
            ray_indices, t_starts, t_ends = self._estimator.sampling(
                origins, directions, sigma_fn, near_plane=self._options.near,
                render_step_size=self._options.step_scale * BASE_STEP, cone_angle=self._options.cone_angle,
                early_stop_eps=self._options.stop_transmittance * MARGIN, alpha_thre=self._config.alpha_threshold,
                stratified=True,
            )  # fmt: skip
        half = (t_ends - t_starts) / 2
        return packed_samples(ray_indices, t_starts + half, t_ends + half, len(origins))

    def update(self, step: int, density_fn: DensityFn, seed: int, max_draws: int) -> None:
        """As many cells as the estimator looks at; `max_draws` does not bound them."""

        def occupancy(x: Tensor) -> Tensor:
            return evaluate(density_fn, x)[:, None].nan_to_num(0.0) * BASE_STEP  # a maximum would keep NaN for good

        with _seeded(self._seed, 2 * step + 1, self._cells.device):
            self._estimator.update_every_n_steps(
                step, occupancy, self._grid.threshold, self._grid.decay, WARMUP_STEPS, n=1
            )
        self._grid.density_grid.copy_(self._estimator.occs.view(self._grid.n_cascades, -1)[:, self._cells])
        self._grid.renew_bits()
        self.refresh()

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def refresh(self) -> None:
        """Cells are occupied as the grid says; before anything was seen, all are but those that are closed."""
        density = self._grid.density_grid
        limit = self._grid.occupied_from() if bool((density > 0).any()) else CLOSED / 2
        occs, binaries = torch.empty_like(density), torch.empty_like(density, dtype=torch.bool)
        occs[:, self._cells], binaries[:, self._cells] = density, density > limit
        self._estimator.occs.copy_(occs.view_as(self._estimator.occs))
        self._estimator.binaries.copy_(binaries.view_as(self._estimator.binaries))


class PropNetSampler:
    """A PropNetEstimator over proposals that learn beside the field, with an Adam of their own."""

    def __init__(
        self,
        library: Any,
        config: PropNetConfig,
        grid: OccupancyGrid,
        places: Tensor,
        options: MarchOptions,
        seed: int,
    ) -> None:
        if not config.proposal_samples or len(config.proposal_samples) != len(config.proposal_resolutions):
            raise UserError(
                "sampler PropNetEstimator: expected as many proposal_resolutions as proposal_samples, at least one, "
                f"got {len(config.proposal_resolutions)} and {len(config.proposal_samples)}"
            )
        device = grid.bitfield.device
        self._grid, self._config, self._options, self._seed = grid, config, options, seed
        with _seeded(seed, 0, device):
            made = [Proposal(box(grid.aabb_scale), resolution) for resolution in config.proposal_resolutions]
        self._proposals = nn.ModuleList(made).to(device)
        self._adam = torch.optim.Adam(self._proposals.parameters(), eps=1e-15)
        for param in self._proposals.parameters():  # what Adam makes in its first step, so that it can be loaded before
            moments = {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
            self._adam.state[param] = {"step": torch.zeros(()), **moments}
        self._estimator = library.PropNetEstimator(self._adam).to(device)
        # what lies in front of the box for all cameras, and behind it
        self._half = grid.aabb_scale / 2
        beside = (places.float() - 0.5).abs()
        self._near = max(float((beside - self._half).clamp_min(0).norm(dim=1).min()), options.near)
        self._far = float((beside + self._half).norm(dim=1).max())

    def samples(
        self, origins: Tensor, directions: Tensor, density: DensityAlong, step: int, learning_rate: float
    ) -> PackedSamples:
        interval = max(round(min(step / _LEARNED_STEPS, 1.0) * self._config.proposal_interval), 1)
        learns = step % interval == 0
        n_rays = len(origins)

        def look(t_starts: Tensor, t_ends: Tensor, sigma: DensityAlong) -> Tensor:
            """Densities in the middles of intervals `[n_rays, n]`, zero outside of the box."""
            x = origins[:, None] + ((t_starts + t_ends) / 2)[..., None] * directions[:, None]
            inside = ((x - 0.5).abs() < self._half).all(dim=-1)
            rays = torch.arange(n_rays, device=x.device)[:, None].expand_as(inside)
            return torch.zeros_like(t_starts).masked_scatter(inside, sigma(x[inside], rays[inside]).to(t_starts))

        with _seeded(self._seed, step, origins.device):
            t_starts, t_ends = self._estimator.sampling(
                [lambda t0, t1, of=of: look(t0, t1, lambda x, rays: of(x)) for of in self._proposals],
                list(self._config.proposal_samples), self._config.n_samples, n_rays, self._near, self._far,
                sampling_type=self._config.sampling_type, stratified=True, requires_grad=learns,
            )  # fmt: skip
        length = t_ends - t_starts
        with torch.no_grad():
            sigmas = look(t_starts, t_ends, density)
        thickness = sigmas.nan_to_num(0.0) * length
        trans = torch.exp(thickness - thickness.cumsum(dim=1))
        if learns:
            self._adam.param_groups[0]["lr"] = learning_rate
            self._estimator.update_every_n_steps(trans, True)
        # what is NaN is kept, so that a loss shows it
        kept = ((thickness > 0) | sigmas.isnan()) & (trans >= self._options.stop_transmittance * MARGIN)
        rays = torch.arange(n_rays, device=kept.device)[:, None].expand_as(kept)
        starts = t_starts + length / 2
        return packed_samples(rays[kept], starts[kept], (starts + length)[kept], n_rays)

    def update(self, step: int, density_fn: DensityFn, seed: int, max_draws: int) -> None:
        self._grid.update(step, density_fn, seed, max_draws)

    def tensors(self) -> dict[str, Tensor]:
        state = {f"proposals.{name}": value for name, value in self._proposals.state_dict().items()}
        for name, param in self._proposals.named_parameters():
            state |= {f"proposals_adam.{name}.{key}": value for key, value in self._adam.state[param].items()}
        return state

    def refresh(self) -> None:
        self._proposals.load_state_dict(self._proposals.state_dict())  # its modules may derive something


@contextlib.contextmanager
def _seeded(seed: int, number: int, device: torch.device) -> Iterator[None]:
    """Torch's generators begin anew within, and go on as before behind it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(step_seed(seed, number))
        yield
