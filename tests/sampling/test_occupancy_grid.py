# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import Tensor

from neurfield import ops
from neurfield.reference import occupancy as reference
from neurfield.sampling.occupancy_grid import BASE_STEP, CLOSED, OccupancyGrid


def ball_density(x: Tensor) -> Tensor:
    """Density 100 within 0.25 of the middle of unit space: optical thickness 0.17 per step."""
    return 100.0 * ((x - 0.5).norm(dim=1) < 0.25)


def cell_corners(grid: OccupancyGrid) -> Tensor:
    """Lower corners of the cells of cascade 0, in Morton order."""
    return reference.morton_decode(torch.arange(grid.resolution**3)) / grid.resolution


def is_occupied(grid: OccupancyGrid) -> Tensor:
    return (grid.bitfield[:, :, None] >> torch.arange(8) & 1).bool().flatten(1)


def test_a_new_grid_is_open_everywhere() -> None:
    grid = OccupancyGrid(aabb_scale=4, resolution=16)
    assert grid.n_cascades == 3 and grid.occupied_fraction() == 1.0
    assert (grid.coarse == 0).all()
    with pytest.raises(ValueError, match=r"aabb_scale must be a power of two in 1 ... 128"):
        OccupancyGrid(aabb_scale=3)


def test_a_grid_of_inference_mode_is_updated_too() -> None:
    """Its tensors have no version that says whether others have changed them."""
    with torch.inference_mode():
        grid = OccupancyGrid(resolution=8)
        for step in range(2):
            grid.update(step, lambda x: torch.ones(len(x)) * 1e4)
        assert grid.occupied_fraction() == 1
        grid.density_grid[0, :256] = CLOSED
        grid.update(2, lambda x: torch.ones(len(x)) * 1e4)
    assert grid.occupied_fraction() == 0.5 and (grid.density_grid == CLOSED).sum() == 256


def test_a_density_with_features_is_refused() -> None:
    """As fields give it."""
    with pytest.raises(TypeError, match=r"gives a torch.Tensor, got a tuple .*lambda x: field.density\(x\)\[0\]"):
        OccupancyGrid(resolution=8).update(0, lambda x: (x[:, 0], x))


def test_update_finds_the_ball_and_keeps_it() -> None:
    grid = OccupancyGrid(resolution=32)
    for step in range(20):
        grid.update(step, ball_density)
    radius = (cell_corners(grid) + 0.5 / 32 - 0.5).norm(dim=1)
    half_diagonal = 0.5 * 3**0.5 / 32
    occupied = is_occupied(grid)[0]
    assert occupied[radius < 0.25 - half_diagonal].all()
    assert not occupied[radius > 0.25 + half_diagonal].any()
    for step in range(256, 512, 16):
        grid.update(step, ball_density)
    assert is_occupied(grid)[0][radius < 0.25 - half_diagonal].all()
    assert grid.density_grid.max() == pytest.approx(100 * BASE_STEP)


def test_what_vanishes_is_forgotten() -> None:
    grid = OccupancyGrid(resolution=16)
    grid.update(0, lambda x: torch.full((len(x),), 100.0))
    assert grid.occupied_fraction() == 1.0
    # 0.17 decays below 0.01 in log(17) / -log(0.95) = 55 updates; then the mean is the threshold, and all decay alike
    for step in range(1, 60):
        grid.update(step, ball_density)
    radius = (cell_corners(grid) + 0.5 / 16 - 0.5).norm(dim=1)
    assert not is_occupied(grid)[0][radius > 0.25 + 0.5 * 3**0.5 / 16].any()


def test_closed_cells_are_neither_evaluated_nor_opened() -> None:
    grid = OccupancyGrid(resolution=16)
    closed = cell_corners(grid)[:, 0] < 0.5
    grid.density_grid[0, closed] = CLOSED
    seen = []

    def density(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.full((len(x),), 50.0)

    grid.update(0, density)
    grid.update(256, density)
    assert (torch.cat(seen)[:, 0] >= 0.5).all() and len(seen[0]) == 16**3 // 2
    assert torch.equal(is_occupied(grid)[0], ~closed)
    assert (grid.density_grid[0, closed] == CLOSED).all()


def test_updates_are_deterministic_and_saved() -> None:
    grids = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            grid = OccupancyGrid(aabb_scale=2, resolution=16)
            for step in (0, 1, 256, 272):
                grid.update(step, ball_density, seed=3)
            grids.append(grid)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(grids[0].density_grid, grids[1].density_grid)
    loaded = OccupancyGrid(aabb_scale=2, resolution=16)
    loaded.load_state_dict(grids[0].state_dict())
    assert torch.equal(loaded.bitfield, grids[1].bitfield) and torch.equal(loaded.coarse, grids[1].coarse)


@pytest.mark.parametrize(("threshold", "decay"), [(0.01, 0.95), (0.01, 0.5), (0.1, 0.5)])
def test_threshold_and_decay_say_when_a_cell_is_forgotten(threshold: float, decay: float) -> None:
    grid = OccupancyGrid(resolution=16, threshold=threshold, decay=decay)
    outside = (cell_corners(grid) + 0.5 / 16 - 0.5).norm(dim=1) > 0.25 + 0.5 * 3**0.5 / 16
    grid.update(0, lambda x: torch.full((len(x),), 100.0))
    n_updates = math.ceil(math.log(100 * BASE_STEP / threshold) / -math.log(decay))
    for step in range(1, n_updates + 1):
        assert is_occupied(grid)[0][outside].all()
        grid.update(step, lambda x: 1e5 * ball_density(x))  # so dense that the mean is above the thresholds
    assert not is_occupied(grid)[0][outside].any()


def test_an_empty_field_leaves_an_empty_grid() -> None:
    grid = OccupancyGrid(resolution=16)
    grid.update(0, lambda x: torch.zeros(len(x)))
    assert grid.occupied_fraction() == 0.0
    samples = grid.march(torch.tensor([[-1.0, 0.5, 0.5]]), torch.tensor([[1.0, 0, 0]]))
    assert samples.t_starts.shape == (0,)
    grid.update(256, ball_density)  # open cells are still drawn
    assert grid.occupied_fraction() > 0


def test_march_uses_the_cone_of_the_grid() -> None:
    ray = torch.tensor([[0.5, 0.5, 0.5]]), torch.tensor([[0.0, 0, 1]])
    small, large = OccupancyGrid(resolution=16), OccupancyGrid(aabb_scale=8, resolution=16)
    assert small.march(*ray).t_ends.diff().max() == pytest.approx(BASE_STEP, rel=1e-3)
    dt = large.march(*ray)
    assert (dt.t_ends - dt.t_starts)[-1] == pytest.approx(float(dt.t_starts[-1]) / 256, rel=1e-3)


def test_max_draws_bounds_the_evaluations() -> None:
    grid, drawn = OccupancyGrid(resolution=16), []

    def density(x: Tensor) -> Tensor:
        drawn.append(len(x))
        return ball_density(x)

    for step, max_draws, expected in ((0, None, 16**3), (0, 1000, 1000), (256, 1000, 1000), (256, None, 16**3 // 2)):
        drawn.clear()
        grid.update(step, density, max_draws=max_draws)
        assert sum(drawn) == expected


@pytest.mark.parametrize("aabb_scale", [1, 4])
def test_cropped_keeps_the_bits_of_cells_inside(aabb_scale: int):
    grid = OccupancyGrid(aabb_scale, resolution=16)
    before = grid.bitfield.clone()

    def inside(x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] < 0.3) & (x[:, 2] > 0.1)

    cropped = grid.cropped(inside)
    assert torch.equal(grid.bitfield, before)
    cells = torch.arange(grid.density_grid.numel(), dtype=torch.int32)
    # every cell once, at a random place in it: far from the planes of the cut it tells the side of the middle
    drawn, positions = ops.occupancy_draw(cells, len(cells), 16, seed=1, step=0)
    bits = (cropped.bitfield.view(-1)[drawn // 8] >> (drawn % 8).to(torch.uint8) & 1).bool()
    size = 2.0 ** (drawn // 16**3) / 16
    clear = ((positions[:, 0] - 0.3).abs() > size) & ((positions[:, 2] - 0.1).abs() > size)
    assert clear.float().mean() > 0.5
    assert torch.equal(bits[clear], inside(positions)[clear])
    assert torch.equal(cropped.coarse, ops.occupancy_coarse(cropped.bitfield))


def test_cells_at_are_those_of_the_finest_cascade_around():
    grid = OccupancyGrid(4, resolution=16)
    cells, sizes = grid.cells_at(torch.tensor([[0.5, 0.5, 0.5], [0.99, 0.1, 0.0], [1.2, 0.5, 0.5], [-1.4, 0.5, 0.5]]))
    assert sizes.tolist() == [1 / 16, 1 / 16, 2 / 16, 4 / 16]
    assert cells.tolist() == [[8, 8, 8], [15, 1, 0], [9, 4, 4], [-6, 2, 2]]


def test_bits_are_closed_on_the_device_of_the_grid() -> None:
    with torch.device("meta"):  # a device that this machine has
        grid = OccupancyGrid(aabb_scale=2, resolution=16)
    grid._close_bits()
    assert {buffer.device.type for buffer in grid.buffers()} == {"meta"}
