# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.ops import FusedMarch, KiloCells, KiloConfig
from neurfield.reference import kilo_mlp as reference
from neurfield.rendering.volume import MarchOptions, composite_rays, march_rays
from neurfield.sampling.occupancy_grid import OccupancyGrid
from tests.cases import generator, strided, uniform, unit_vectors
from tests.compare import assert_close

CONFIG = KiloConfig(16, 4, 2)
N_NETWORKS = 20
SCALE = 60.0  # of density: rays end inside of the box


def cells(shape=(3, 4, 5), seed: int = 3) -> KiloCells:
    """Cells of a box in the middle of the unit cube, a quarter of which have no network."""
    network = torch.randint(0, N_NETWORKS, shape, generator=generator(seed), dtype=torch.int32)
    network[uniform(*shape, seed=seed + 1) < 0.25] = -1
    return KiloCells(network, (0.1, 0.15, 0.2), (shape[2] / 0.8, shape[1] / 0.7, shape[0] / 0.5))


def parameters() -> Tensor:
    return uniform(N_NETWORKS, CONFIG.n_params, low=-1, seed=1) * 0.4


class Composed(torch.nn.Module):
    """The same field, operator by operator."""

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        network, local = ops.kilo_locate(x, cells())
        raw = ops.kilo_mlp(local, directions, network, parameters(), CONFIG)
        return SCALE * torch.relu(raw[:, 0]), raw[:, 1:]


def rays(n: int) -> tuple[Tensor, Tensor]:
    """From a sphere around the box to points inside of it, a few past it."""
    origins = 0.5 + 1.2 * unit_vectors(n, seed=7)
    target = uniform(n, 3, low=0.05, high=0.95, seed=8)
    return origins, torch.nn.functional.normalize(target - origins, dim=1)


def grid(share: float = 0.6) -> OccupancyGrid:
    made = OccupancyGrid(1, resolution=32)
    values = uniform(*made.density_grid.shape, seed=9)
    bitfield, coarse = ops.occupancy_bits(values, 1 - share)
    made.load_state_dict({"density_grid": values, "bitfield": bitfield, "coarse": coarse})
    return made


def render(n: int, march: FusedMarch, **options) -> ops.FusedImage:
    occupancy = grid()
    return ops.kilo_render(
        parameters(), cells(), CONFIG, SCALE, occupancy.bitfield, occupancy.coarse, *rays(n), march, **options
    )


@pytest.mark.parametrize("n", [0, 1, 33, 5000])
def test_equals_the_composed_operators(n: int) -> None:
    options = MarchOptions(near=0.0, step_scale=2)
    image = render(n, options.fused(), skip_weight=0.0)
    origins, directions = rays(n)
    samples = march_rays(grid(), origins, directions, options)
    expected = composite_rays(Composed(), samples, origins, directions, options)
    # densities differ by the error of the encoding (2^-17), which relu(z) * 60 * step carries into every opacity; what
    # a few hundred of them add up to stays below 1e-4 of the light
    assert_close(image.rgb, expected.rgb, 1e-4 * 2**24)
    assert_close(image.acc, expected.acc, 1e-4 * 2**24)
    assert_close(image.depth, expected.depth, 1e-4 * 2**24, 2.0)
    if n > 1000:
        assert float(image.acc.min()) < 0.1 and float(image.acc.max()) > 0.99


def test_jitter_is_that_of_the_march() -> None:
    options = MarchOptions(near=0.0, step_scale=4)
    image = render(300, options.fused((5, 6)), skip_weight=0.0)
    origins, directions = rays(300)
    samples = march_rays(grid(), origins, directions, options, jitter=(5, 6))
    expected = composite_rays(Composed(), samples, origins, directions, options)
    assert_close(image.acc, expected.acc, 1e-4 * 2**24)


@pytest.mark.parametrize("skip_weight", [3e-4, 0.01, 1.0])
@pytest.mark.parametrize("density_scale", [1.0, SCALE])  # 1: a fog, whose samples are all faint
def test_skipped_colours_are_black_and_weigh_little_in_all(skip_weight: float, density_scale: float) -> None:
    march, occupancy = FusedMarch(), grid()
    whole, skipped = (
        ops.kilo_render(
            parameters(), cells(), CONFIG, density_scale, occupancy.bitfield, occupancy.coarse, *rays(3000), march, skip
        )
        for skip in (0.0, skip_weight)
    )
    assert torch.equal(whole.acc, skipped.acc) and torch.equal(whole.depth, skipped.depth)
    lost = whole.rgb - skipped.rgb
    # colours are at most 1; the sums of up to 1024 rounded terms below 1 are off by 2^-24 each
    assert (lost >= -(2**-14)).all() and 1 / 1024 < float(lost.max()) <= 1 / 512 + 2**-14


def test_max_samples_and_threads() -> None:
    march = FusedMarch(max_samples=7)
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(render(9000, march))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert float(results[0].acc.max()) < float(render(9000, FusedMarch()).acc.max())


def test_locate_and_its_edges() -> None:
    made = cells()
    low = torch.tensor(made.low)
    high = low + torch.tensor(made.cells.shape).flip(0) / torch.tensor(made.scale)
    x = uniform(4000, 3, low=0.05, high=0.95, seed=2)
    network, local = ops.kilo_locate(x, made)
    assert torch.equal(network, ops.kilo_locate(strided(x), made)[0])
    place = (x.double() - low.double()) * torch.tensor(made.scale, dtype=torch.float64)
    near_face = ((place - place.round()).abs() < 1e-5).any(dim=1)
    cell = place.floor().long()
    inside = ((x >= low) & (x <= high)).all(dim=1) & ~near_face
    expected = made.cells[cell[inside, 2], cell[inside, 1], cell[inside, 0]]
    assert torch.equal(network[inside], expected)
    assert (network[~inside & ~near_face] == -1).all()
    assert ((local[inside] + 1) / 2 - (place - cell)[inside]).abs().max() < 1e-5
    full = dataclasses.replace(made, cells=torch.arange(60, dtype=torch.int32).view(3, 4, 5))
    corners = torch.stack([low, high, torch.full((3,), float("nan"))])
    network, local = ops.kilo_locate(corners, dataclasses.replace(full, scale=(1.0, 1.0, 1.0), low=(0.1, 0.15, 0.2)))
    assert network[0] == 0 and network[2] == -1


def test_gradcheck_and_opcheck() -> None:
    made = cells()
    x = uniform(5, 3, low=0.2, high=0.6, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: ops.kilo_locate(x, made)[1], x)
    opcheck(torch.ops.neurfield.kilo_locate.default, (x.detach(), made.cells, made.box))
    occupancy, march = grid(), FusedMarch()
    opcheck(
        torch.ops.neurfield.kilo_render.default,
        (
            parameters(), made.cells, *rays(4), occupancy.bitfield, occupancy.coarse, [16, 4, 2], made.box, SCALE,
            march.values, [], 0.0,
        ),
    )  # fmt: skip


def test_density_against_float64() -> None:
    x, directions = uniform(500, 3, low=0.2, high=0.6), unit_vectors(500)
    network, local = ops.kilo_locate(x.double(), cells())
    wanted = reference.kilo_mlp(local, directions.double(), network, parameters().double(), CONFIG)
    sigma, rgb = Composed()(x, directions)
    assert (rgb - wanted[:, 1:]).abs().max() < 1e-4 and (sigma - SCALE * wanted[:, 0].relu()).abs().max() < 1e-4 * SCALE


def test_errors_say_expected_and_found() -> None:
    occupancy, march = grid(), FusedMarch()
    arguments = [parameters(), cells(), CONFIG, SCALE, occupancy.bitfield, occupancy.coarse, *rays(4), march]
    with pytest.raises(TypeError, match=r"kilo_render: params must be float32 \[n_networks, \d+\], got float64"):
        ops.kilo_render(arguments[0].double(), *arguments[1:])
    with pytest.raises(ValueError, match=r"kilo_render: directions must be float32 \[4, 3\], got float32 \[3, 3\]"):
        ops.kilo_render(*arguments[:7], arguments[7][1:], march)
    with pytest.raises(ValueError, match="kilo_render: a cell names a network beyond those that params holds"):
        ops.kilo_render(arguments[0][:5], *arguments[1:])
    with pytest.raises(TypeError, match=r"kilo_locate: cells must be int32 \[z, y, x\], got int64"):
        KiloCells(torch.zeros(1, 1, 1, dtype=torch.int64), (0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match="expected cells and a positive scale"):
        KiloCells(torch.zeros(1, 1, 1, dtype=torch.int32), (0, 0, 0), (1, 0, 1))
