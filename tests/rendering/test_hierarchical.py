# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor, nn

from neurfield.rendering.hierarchical import render_hierarchical
from neurfield.rendering.volume import (
    MarchOptions,
    composite_in_rounds,
    composite_rays,
    march_rays,
    sample_functions,
)
from neurfield.sampling.occupancy_grid import OccupancyGrid
from tests.cases import uniform, unit_vectors


class Blob(nn.Module):
    """A soft ball, coloured by position."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sigma = 80 * torch.sigmoid(40 * (0.3 - (x - 0.5).norm(dim=1)))
        return sigma, x

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(x)[0], x.clamp(0, 1)


def rays(n: int) -> tuple[Tensor, Tensor]:
    origins = 0.5 + 1.5 * unit_vectors(n, seed=1)
    return origins, nn.functional.normalize(uniform(n, 3, low=0.2, high=0.8, seed=2) - origins, dim=1)


def test_agrees_with_a_fine_march() -> None:
    origins, directions = rays(200)
    options = MarchOptions(near=0.0, step_scale=0.25, max_samples=8192, stop_transmittance=1e-6)
    samples = march_rays(OccupancyGrid(1), origins, directions, options)
    exact = composite_rays(Blob(), samples, origins, directions, options)
    rgb, depth, acc = render_hierarchical(Blob(), Blob(), origins, directions)
    # 192 intervals of a profile whose width is a tenth of the box: midpoints are off by the square of that, 1e-3
    assert (rgb - exact.rgb).abs().max() < 5e-3
    assert (acc - exact.acc).abs().max() < 5e-3
    assert (depth - exact.depth).abs().max() < 1e-2


def test_rays_that_miss_are_empty() -> None:
    origins = torch.full((3, 3), 5.0)
    rgb, depth, acc = render_hierarchical(Blob(), Blob(), origins, unit_vectors(3).abs())
    assert not rgb.any() and not depth.any() and not acc.any()


def test_all_lies_where_the_rays_lie() -> None:
    """What would be made on the default device cannot meet the rays."""
    origins, directions = rays(50)
    here = render_hierarchical(Blob(), Blob(), origins, directions)
    with torch.device("meta"):
        there = render_hierarchical(Blob(), Blob(), origins, directions)
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))


def test_rounds_give_what_one_pass_gives() -> None:
    origins, directions = rays(300)
    options = MarchOptions(near=0.0, stop_transmittance=1e-3)
    samples = march_rays(OccupancyGrid(1), origins, directions, options)
    whole = composite_rays(Blob(), samples, origins, directions, options)
    seen = 0

    class Counting(Blob):
        def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal seen
            seen += len(x)
            return super().forward(x, directions)

    _, rgb_sigma_fn = sample_functions(Counting(), origins, directions, place=0)
    rgb, depth, acc = composite_in_rounds(rgb_sigma_fn, samples, options.stop_transmittance)
    # both end a ray below a transmittance of 1e-3, the rounds up to 16 samples later
    assert (rgb - whole.rgb).abs().max() <= 1.1e-3
    assert (acc - whole.acc).abs().max() <= 1.1e-3
    assert (depth - whole.depth).abs().max() <= 3e-3
    assert seen < 0.8 * samples.t_starts.shape[0]
