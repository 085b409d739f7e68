# SPDX-License-Identifier: Apache-2.0
"""Gradients of grid tables: lanes of a warp whose samples lie in one cell are summed before one of them adds.

Positions are multiples of 2^-12, so that a place in a cell is exact in float, and so are the weights along one axis.
"""

from types import ModuleType

import pytest
import torch
from torch import Tensor

from neurfield import ops
from neurfield.ops import GridConfig
from neurfield.ops._common import native
from tests.cases import uniform, unit_vectors
from tests.compare import EPS

CONFIGS = {
    "hash": GridConfig(3, 8, 2, 10, 4, 2.0),
    "dense": GridConfig(2, 3, 4, 8, 5, 2.0, "Dense"),
    "tiled in levels of 27 entries": GridConfig(3, 5, 1, 8, 3, 2.0, "Tiled"),
    "four axes": GridConfig(4, 2, 8, 8, 3, 2.0),
    "one axis, 40 levels": GridConfig(1, 40, 1, 6, 5, 1.0),
    "nearest": GridConfig(3, 4, 2, 8, 5, 2.0, "Hash", "Nearest"),
}
SAMPLES_OF_RAYS = (1, 2, 40, 3, 31, 33, 150, 64, 7)


def samples(n: int, config: GridConfig, in_order: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, gradients of features and shares of levels: along rays, or anywhere. The last samples have no
    gradient, nor has one in nine of the others."""
    dims = config.n_input_dims
    if in_order:
        x, ray = torch.empty(0, 3), 0
        while len(x) < n:
            steps = 2.0**-9 * torch.arange(SAMPLES_OF_RAYS[ray % len(SAMPLES_OF_RAYS)])[:, None]
            x = torch.cat([x, uniform(1, 3, seed=ray) + steps * unit_vectors(1, seed=ray)])
            ray += 1
        x = torch.cat([x, x[:, :1] * 0.5 + 0.3], dim=1)[:n, :dims] % 1
    else:
        x = uniform(n, dims)
    grad_y = uniform(n, config.n_output_dims, low=-1, seed=2)
    grad_y[uniform(n, seed=3) < 1 / 9] = 0
    grad_y[n - n // 16 :] = 0
    return (x * 4096).round() / 4096, grad_y, uniform(n, high=1.5, seed=4)


def check_gradients(lib: ModuleType, config: GridConfig, inputs: tuple[Tensor, ...], hides: bool) -> None:
    """`lib` has the kernels for the device of the inputs."""
    x, grad_y, levels = inputs[0], inputs[1], inputs[2] if hides else None
    n, sizes = len(x), (list(config.layout), config.per_level_scale)

    def on_cpu(grad_y: Tensor) -> Tensor:
        shares = None if levels is None else levels.cpu()
        return torch.ops.neurfield.hash_grid_backward_params(x.cpu().double(), grad_y.cpu().double(), shares, *sizes)

    expected, terms = on_cpu(grad_y), on_cpu(grad_y.abs())
    products = config.n_input_dims  # of a weight of each axis, and the gradient
    for dtype in (torch.float32, torch.float64):
        actual = x.new_empty(config.n_params, dtype=dtype)
        lib.hash_grid_backward_params(*sizes, x.to(dtype), grad_y.to(dtype), levels, actual)
        # n terms in any order; in double what is expected errs as much
        error = (actual.cpu().double() - expected).abs()
        assert (error <= 2 * (n + products) * EPS[dtype] * terms).all(), dtype

    def exact(order: Tensor) -> Tensor:
        sums, scratch = x.new_empty(config.n_params), x.new_empty(config.n_params + 1, dtype=torch.int64)
        shares = None if levels is None else levels[order]
        lib.hash_grid_backward_params_exact(*sizes, x[order], grad_y[order], shares, sums, scratch)
        return sums.cpu()

    sums = exact(torch.arange(n, device=x.device))
    unit = 2 * n * 2.0**-62  # at most: gradients are below 1
    # a term is rounded to the unit, the sum once to float
    assert ((sums - expected).abs() <= (products + 2) * EPS[torch.float32] * terms + n * unit).all()
    # other neighbours, other runs: the same bits
    assert torch.equal(sums, exact(torch.randperm(n, generator=torch.Generator().manual_seed(5)).to(x.device)))


@pytest.mark.parametrize("hides", (False, True), ids=("all levels", "some levels"))
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_on_the_host(host_module: ModuleType, name: str, hides: bool) -> None:
    check_gradients(host_module, CONFIGS[name], samples(523, CONFIGS[name], in_order=True), hides)


def test_an_exact_sum_reads_no_more_gradients_than_there_are(host_module: ModuleType) -> None:
    config = CONFIGS["hash"]
    x, grad_y, _ = samples(33, config, in_order=True)
    sums, scratch = x.new_empty(config.n_params), torch.empty(config.n_params + 1, dtype=torch.int64)
    sizes = list(config.layout), config.per_level_scale
    with pytest.raises(ValueError, match="grad_y must hold 528 values, got 512"):
        host_module.hash_grid_backward_params_exact(*sizes, x, grad_y[1:], None, sums, scratch)


@pytest.mark.cuda
@pytest.mark.parametrize("in_order", (False, True), ids=("anywhere", "along rays"))
@pytest.mark.parametrize("hides", (False, True), ids=("all levels", "some levels"))
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_on_the_device(device: torch.device, name: str, hides: bool, in_order: bool) -> None:
    inputs = tuple(t.to(device) for t in samples(5003, CONFIGS[name], in_order))
    check_gradients(native(inputs[0]), CONFIGS[name], inputs, hides)


@pytest.mark.cuda
def test_deterministic_algorithms_give_the_same_bits_twice(device: torch.device) -> None:
    config = CONFIGS["hash"]
    x, grad_y, _ = (t.to(device) for t in samples(5003, config, in_order=True))

    def gradient() -> Tensor:
        params = torch.zeros(config.n_params, device=device).requires_grad_()
        return torch.autograd.grad(ops.hash_grid(x, params, config), params, grad_y)[0]

    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradient(), gradient()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, second)
