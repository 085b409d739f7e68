# SPDX-License-Identifier: Apache-2.0
"""Marching rays through a 128^3 grid, drawing training pixels, and the upkeep of the grid.

The scene is a hollow ball, 3 % of the cells, seen from all around: rays cross two thin walls and much empty space, as
those of a trained object do. "every step tested" is the same march without skipping; torch tests all steps at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Row, measure, report
from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.sampling.occupancy_grid import BASE_STEP, OccupancyGrid
from neurfield.sampling.pixels import PixelSampler
from tests.cases import uniform

N_RAYS = 2**16
N_VIEWS, SIZE = 100, 400


def hollow_ball(x: Tensor) -> Tensor:
    radius = (x - 0.5).norm(dim=1)
    return 100.0 * ((radius > 0.27) & (radius < 0.3))


def rays() -> tuple[Tensor, Tensor]:
    """From a sphere around the unit cube to points within its middle."""
    origins = 0.5 + 1.3 * torch.nn.functional.normalize(uniform(N_RAYS, 3, low=-1), dim=1)
    directions = uniform(N_RAYS, 3, low=0.1, high=0.9, seed=1) - origins
    return origins, torch.nn.functional.normalize(directions, dim=1)


def march_torch(origins: Tensor, directions: Tensor, occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Ray indices and distances of the occupied steps, all 1024 steps of all rays tested; occupied [128, 128, 128]."""
    t_near, t_far = ops.ray_aabb(origins, directions, torch.tensor([0.0, 0, 0, 1, 1, 1]))
    t = t_near[:, None] + torch.arange(1024) * BASE_STEP
    x = origins[:, None] + t[:, :, None] * directions[:, None]
    cell = (x * 128).long().clamp_(0, 127)
    hit = occupied[cell[:, :, 0], cell[:, :, 1], cell[:, :, 2]] & (t < t_far[:, None])
    return hit.nonzero()[:, 0], t[hit]


def row(name: str, count: int, unit: str, fn: Callable[[], object], note: str = "", seconds: float = 1.5) -> Row:
    timing = measure(fn, seconds=seconds)
    return Row(name, count / timing.median / 1e6, unit, timing.spread, note=note)


def marching(grid: OccupancyGrid) -> list[Row]:
    origins, directions = rays()
    rows = []
    for scale in (1.0, 1.5, 2.0):
        samples = grid.march(origins, directions, step_scale=scale)
        per_ray = f"{len(samples.t_starts) / N_RAYS:.1f} samples a ray"
        capacity = len(samples.t_starts)

        def march(scale: float = scale, capacity: int = capacity) -> None:
            grid.march(origins, directions, step_scale=scale, capacity=capacity, step=0)

        rows.append(row(f"march, step x {scale}", N_RAYS, "Mrays/s", march, per_ray))
    tested = torch.zeros_like(grid.coarse)
    rows.append(
        row(
            "march, step x 1.0, every step tested", N_RAYS, "Mrays/s",
            lambda: ops.march(origins, directions, grid.bitfield, tested, step=0),
        )
    )  # fmt: skip
    axis = (torch.arange(128) + 0.5) / 128
    occupied = hollow_ball(torch.cartesian_prod(axis, axis, axis)).view(128, 128, 128) > 0
    few = 2**10
    rows.append(
        row(
            "march, step x 1.0, torch", few, "Mrays/s", lambda: march_torch(origins[:few], directions[:few], occupied),
            f"{few} rays at a time",
        )
    )  # fmt: skip
    return rows


def pixels() -> list[Row]:
    images = [uniform(SIZE, SIZE, 4, high=256, seed=i).to(torch.uint8) for i in range(N_VIEWS)]
    cameras = Cameras.pinhole(torch.eye(4).expand(N_VIEWS, 4, 4), 555.0, SIZE, SIZE)
    sampler = PixelSampler(images, cameras)
    n = 2**14
    return [row("pixels with their rays", n, "Mrays/s", lambda: sampler.sample(n, 0), f"{n} at a time")]


def upkeep(grid: OccupancyGrid) -> list[Row]:
    n = grid.density_grid.numel()
    free = torch.zeros(n)
    return [
        row("grid update without the field", n, "Mcells/s", lambda: grid.update(0, lambda x: free[: len(x)])),
        row("bits and distances of the grid", n, "Mcells/s", lambda: ops.occupancy_bits(grid.density_grid, 0.01)),
    ]


def main() -> None:
    grid = OccupancyGrid()
    for step in range(4):
        grid.update(step, hollow_ball)
    rows = marching(grid) + pixels() + upkeep(grid)
    report("march", f"marching {N_RAYS} rays, {100 * grid.occupied_fraction():.1f} % of 128^3 cells occupied", rows)


if __name__ == "__main__":
    main()
