# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import occupancy as reference
from tests.cases import generator, uniform


def random_grid(n_cascades: int, resolution: int, share: float = 0.1, seed: int = 0) -> torch.Tensor:
    """Densities 1 in a share of the cells, in clumps so that whole blocks stay empty, 0 elsewhere."""
    blocks = uniform(n_cascades, (resolution // 4) ** 3, seed=seed) < share
    cells = uniform(n_cascades, resolution**3, seed=seed + 1) < 0.5
    return (blocks.repeat_interleave(64, dim=1) & cells).float()


def test_morton_order_golden_values() -> None:
    codes = torch.tensor([53, 2117, 262146, 2097151])
    cells = torch.tensor([[1, 2, 3], [5, 0, 9], [64, 1, 0], [127, 127, 127]])
    assert torch.equal(reference.morton_decode(codes), cells)
    assert torch.equal(reference.morton_encode(cells), codes)
    # the native order: positions drawn in a cell lie in it
    drawn, positions = ops.occupancy_draw(codes.int(), 4, 128, seed=0, step=0)
    assert torch.equal(drawn, codes)
    assert torch.equal((positions * 128).floor().long(), cells)


@pytest.mark.parametrize("n_cascades", [1, 2, 5, 8])
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_bits_and_coarse_match_reference(n_cascades: int, resolution: int) -> None:
    grid = random_grid(n_cascades, resolution, share=0.02)
    bitfield, coarse = ops.occupancy_bits(grid, 0.5)
    assert torch.equal(bitfield, reference.occupancy_bits(grid, 0.5))
    assert torch.equal(coarse, reference.occupancy_coarse(bitfield))
    assert torch.equal(coarse, ops.occupancy_coarse(bitfield))


def test_empty_and_full_grids() -> None:
    for value, expected in ((0.0, 0), (1.0, 255)):
        bitfield, coarse = ops.occupancy_bits(torch.full((2, 32**3), value), 0.5)
        assert (bitfield == expected).all()
        assert (coarse == (0 if value else 4)).all()


def test_threshold_is_exclusive_and_nan_is_empty() -> None:
    grid = torch.zeros(1, 512)
    grid[0, :4] = torch.tensor([0.01, 0.02, torch.nan, torch.inf])
    bitfield, _ = ops.occupancy_bits(grid, 0.01)
    assert bitfield[0, 0] == 0b1010


def test_select_and_mean() -> None:
    grid = random_grid(3, 32) - (uniform(3, 32**3, seed=7) < 0.2).float()
    cells = ops.occupancy_select(grid, -0.5)
    assert torch.equal(cells.long(), torch.nonzero(grid.view(-1) > -0.5)[:, 0])
    padded, n_selected = ops.occupancy_select_padded(grid, -0.5)
    assert padded.shape == (grid.numel(),) and torch.equal(padded[: int(n_selected)], cells)
    assert float(ops.occupancy_mean(grid)) == pytest.approx(grid[0].clamp_min(0).double().mean().item(), rel=1e-12)


def test_draw_visits_every_cell_alike_and_uniformly() -> None:
    cells = torch.arange(0, 512, 2, dtype=torch.int32)
    n = 256 * 40
    drawn, positions = ops.occupancy_draw(cells, n, 8, seed=3, step=5)
    counts = torch.bincount(drawn, minlength=512)
    assert (counts[::2] == 40).all() and (counts[1::2] == 0).all()
    inside = positions * 8 - reference.morton_decode(drawn)
    assert ((inside >= 0) & (inside <= 1)).all()
    # the mean of n uniform numbers has standard error sqrt(1 / 12 n)
    assert ((inside.double().mean(dim=0) - 0.5).abs() < 4 / math.sqrt(12 * n)).all()
    again = ops.occupancy_draw(cells, n, 8, seed=3, step=5)
    other = ops.occupancy_draw(cells, n, 8, seed=3, step=5, draw=1)
    assert torch.equal(positions, again[1]) and not torch.equal(positions, other[1])


def test_draw_of_fewer_samples_than_cells() -> None:
    cells = torch.arange(4096, dtype=torch.int32)
    drawn, _ = ops.occupancy_draw(cells, 1000, 16, seed=0, step=0)
    assert (drawn.diff() >= 0).all()
    # chi-square of eight equal parts of the list: stratification makes it smaller than chance
    parts = torch.bincount(drawn // 512, minlength=8)
    assert (parts - 125).abs().max() <= 1
    assert ops.occupancy_draw(cells[:0], 0, 16, seed=0, step=0)[0].shape == (0,)


def test_draw_of_the_leading_cells_of_a_list() -> None:
    cells = torch.arange(4096, dtype=torch.int32)
    for n in (1, 1000):
        expected = ops.occupancy_draw(cells[:n], 300, 16, seed=1, step=2)
        actual = ops.occupancy_draw(cells, 300, 16, seed=1, step=2, n_cells=torch.tensor([n]))
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    drawn, positions = ops.occupancy_draw(cells, 5, 16, seed=1, step=2, n_cells=torch.tensor([0]))
    assert (drawn == -1).all() and (positions == 0.5).all()
    grid = uniform(1, 512)
    before = grid.clone()
    ops.occupancy_update(grid, drawn, torch.full((5,), 9.0), 1.0)
    assert torch.equal(grid, before)


def test_the_threshold_of_bits_may_be_a_tensor() -> None:
    grid = uniform(2, 16**3)
    expected = ops.occupancy_bits(grid, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(ops.occupancy_bits(grid, torch.tensor(0.3)), expected, strict=True))


def test_positions_of_coarser_cascades() -> None:
    cell = torch.tensor([2 * 512 + 511], dtype=torch.int32)  # last cell of cascade 2, which covers [-1.5, 2.5]^3
    _, positions = ops.occupancy_draw(cell, 8, 8, seed=0, step=0)
    assert ((positions >= 2) & (positions <= 2.5)).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_update_matches_reference(threads: int) -> None:
    grid = uniform(2, 16**3) - (uniform(2, 16**3, seed=1) < 0.3).float() * 2
    grid[grid < 0] = -1
    cells = torch.randint(0, grid.numel(), (20000,), generator=generator())
    values = uniform(20000, seed=2)
    expected = reference.occupancy_update(grid, cells, values, 0.95)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        ops.occupancy_update(grid, cells, values, 0.95)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(grid, expected)  # one product, then maxima: exact


def test_update_survives_what_is_not_finite() -> None:
    grid = torch.tensor([0.5, 0.5, -1.0] + [0.0] * 509)[None]
    ops.occupancy_update(grid, torch.tensor([0, 1, 2, 3]), torch.tensor([torch.nan, torch.inf, 3, 0.25]), 0.5)
    assert grid[0, :4].tolist() == [0.25, torch.finfo(torch.float32).max, -1, 0.25]


def test_opcheck() -> None:
    opcheck(torch.ops.neurfield.occupancy_bits.default, (random_grid(2, 16), torch.tensor(0.5)))
    args = (uniform(1, 512), torch.tensor([3, 3, 7]), uniform(3), 0.95)
    opcheck(torch.ops.neurfield.occupancy_update.default, args)
    opcheck(torch.ops.neurfield.occupancy_coarse.default, (ops.occupancy_bits(random_grid(2, 16), 0.5)[0],))
    opcheck(torch.ops.neurfield.occupancy_mean.default, (random_grid(2, 16),))
    opcheck(torch.ops.neurfield.occupancy_select.default, (random_grid(2, 16), 0.5))
    listed = torch.arange(100, dtype=torch.int32), torch.tensor([70])
    opcheck(torch.ops.neurfield.occupancy_draw.default, (*listed, 30, 16, 1, 2, 0))


def test_errors_say_expected_and_found() -> None:
    with pytest.raises(TypeError, match=r"occupancy_bits: threshold must be float32 \[\], got float64 \[\]"):
        ops.occupancy_bits(torch.zeros(1, 512), torch.tensor(0.5).double())
    with pytest.raises(ValueError, match=r"occupancy_draw: n_cells must be int64 \[1\], got int64 \[2\]"):
        ops.occupancy_draw(torch.zeros(9, dtype=torch.int32), 3, 8, 0, 0, n_cells=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"occupancy_bits: density_grid must be \[1 ... 8, res.*\[1, 100\]"):
        ops.occupancy_bits(torch.zeros(1, 100), 0.5)
    with pytest.raises(TypeError, match=r"occupancy_update: values must be float32 \[2\], got float64 \[2\]"):
        ops.occupancy_update(torch.zeros(1, 512), torch.tensor([0, 1]), torch.zeros(2).double(), 0.95)
    with pytest.raises(ValueError, match=r"occupancy_update: cells must be in \[0, 512\)"):
        ops.occupancy_update(torch.zeros(1, 512), torch.tensor([512]), torch.zeros(1), 0.95)
