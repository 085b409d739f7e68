# SPDX-License-Identifier: Apache-2.0
"""Networks whose products are of float16 on tensor cores: the perceptron and the renderer, on a device and on the host.

Rounding both factors of a product to 11 bits errs by up to 2^-11 each; errors of many terms average out, those of
layers add up: 2^-11 for each rounding on the way of a value. A ReLU may change its mind where its argument, of order
one, is within four such errors of 0: one of about 500 in each layer, and each changes a gradient by a whole term, so
together by sqrt(1 / 500) of the norm.
"""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from neurfield import ops
from neurfield.ops import FusedField, FusedMarch, GridConfig, MLPConfig
from neurfield.ops.fused_mlp import _config_shape, _flatten, _half_saved_bytes, half_reason
from tests.cases import uniform, unit_vectors
from tests.compare import relative_norm

ROUNDING = 2.0**-11
SMOOTH = ("None", "SiLU", "Exponential", "Sigmoid", "Squareplus", "Softplus", "Tanh")
NETWORKS = [
    MLPConfig(32, 16, 64, 1),
    MLPConfig(31, 3, 64, 2, "ReLU", "Sigmoid", input_padding=1.0),
    MLPConfig(5, 3, 16, 2, "LeakyReLU", bias=True),
    MLPConfig(19, 33, 48, 0, bias=True),
    MLPConfig(64, 32, 128, 3, bias=True),
    *(MLPConfig(7, 5, 32, 2, kind, "None", True) for kind in SMOOTH),
]


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int16) if tensor.dtype == torch.float16 else tensor


def on_host(
    module: ModuleType,
    config: MLPConfig,
    x: Tensor,
    params: Tensor,
    grad_y: Tensor,
    needs: tuple[bool, bool] = (True, True),
) -> list[Tensor]:
    """y and both gradients, from memory that is full of other numbers before."""
    shape, n = _config_shape(config), x.shape[0]
    sizes = module.fused_mlp_half_bytes(shape, n)
    assert sizes[0] == _half_saved_bytes(n, config.n_neurons, config.n_hidden_layers)
    saved, scratch, more = (torch.full((size,), 0x7B, dtype=torch.uint8) for size in sizes)
    y, grad_x = torch.full_like(grad_y, torch.nan), torch.full_like(x, torch.nan)
    grad_params = torch.full_like(params, torch.nan)
    module.fused_mlp_half_forward(shape, bits(x), params, bits(y), saved, scratch)
    module.fused_mlp_half_backward(
        shape, bits(x), params, bits(y), saved, bits(grad_y), bits(grad_x), grad_params, more, *needs
    )
    return [y, grad_x, grad_params]


def on_device(device: torch.device, config: MLPConfig, x: Tensor, params: Tensor, grad_y: Tensor) -> list[Tensor]:
    leaves = [t.to(device).requires_grad_() for t in (x, params)]
    y = ops.fused_mlp(*leaves, config, half_products=True)
    return [t.detach().cpu() for t in (y, *torch.autograd.grad(y, leaves, grad_y.to(device)))]


def check_network(run: Callable[..., list[Tensor]], config: MLPConfig, dtype: torch.dtype, n: int) -> None:
    assert half_reason(config) is None
    limit = (3 / config.n_neurons) ** 0.5 * (0.3 if config.activation == "Exponential" else 1)  # no overflow of halves
    x = uniform(n, config.n_input_dims, low=-1).to(dtype)
    params = uniform(config.n_params, low=-limit, high=limit, seed=1)
    # tiny gradients, as those of a mean over a batch are; float16 ones cannot be that small
    size = 1e-6 if dtype == torch.float32 else 1.0
    grad_y = uniform(n, config.n_output_dims, low=-size, high=size, seed=2).to(dtype)
    actual = run(config, x, params, grad_y)
    exact = [t.double().requires_grad_() for t in (x, params)]
    y = ops.fused_mlp(*exact, config)
    expected = [y.detach(), *torch.autograd.grad(y, exact, grad_y.double())]
    layers = config.n_hidden_layers + 1
    flips = 0.0 if config.activation in SMOOTH else layers / 500**0.5
    for got, want, bound in zip(actual, expected, (2 * layers, 4 * layers, 4 * layers), strict=True):
        assert got.dtype == (torch.float32 if got is actual[2] else dtype)
        assert relative_norm(got, want) <= bound * ROUNDING + (flips if got is not actual[0] else 0)


@pytest.mark.parametrize("config", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_network_on_the_host(host_module: ModuleType, config: MLPConfig, dtype: torch.dtype) -> None:
    for n in (1, 33, 150) if config.n_neurons < 100 else (33,):
        check_network(lambda *arguments: on_host(host_module, *arguments), config, dtype, n)


@pytest.mark.parametrize("config", [NETWORKS[0], MLPConfig(12, 3, 16, 2, "ReLU", "Sigmoid", bias=True)])
def test_network_whose_thread_blocks_take_several_tiles(host_module: ModuleType, config: MLPConfig) -> None:
    # of 128 samples; there are two multiprocessors with at most four thread blocks
    check_network(lambda *arguments: on_host(host_module, *arguments), config, torch.float32, 2 * 8 * 128 + 1)


@pytest.mark.parametrize("config", [NETWORKS[1], NETWORKS[3], NETWORKS[4]])
def test_one_gradient_alone_is_that_of_both(host_module: ModuleType, config: MLPConfig) -> None:
    limit = (3 / config.n_neurons) ** 0.5
    x, params = uniform(33, config.n_input_dims, low=-1), uniform(config.n_params, low=-limit, high=limit, seed=1)
    arguments = host_module, config, x, params, uniform(33, config.n_output_dims, low=-1, seed=2)
    _, grad_x, grad_params = on_host(*arguments)
    _, grad_x_alone, nothing = on_host(*arguments, needs=(True, False))
    assert torch.equal(grad_x_alone, grad_x) and nothing.isnan().all()
    _, nothing, grad_params_alone = on_host(*arguments, needs=(False, True))
    assert torch.equal(grad_params_alone, grad_params) and nothing.isnan().all()


def test_the_core_reads_no_more_than_it_is_given(host_module: ModuleType) -> None:
    """What backward is handed comes from a forward pass that may have kept nothing, or from another one."""
    config, n = MLPConfig(5, 3, 16, 2, bias=True), 33
    shape = _config_shape(config)
    n_saved, _, n_scratch = host_module.fused_mlp_half_bytes(shape, n)
    saved, scratch = (torch.zeros(size, dtype=torch.uint8) for size in (n_saved, n_scratch))
    x, params, y = uniform(n, 5), uniform(config.n_params), uniform(n, 3)
    whole = {"x": x, "params": params, "y": y, "saved": saved, "grad_y": y}
    written = {"grad_x": x.clone(), "grad_params": params.clone(), "scratch": scratch}
    host_module.fused_mlp_half_backward(shape, *whole.values(), *written.values(), True, True)
    for name, array in (whole | written).items():
        short = whole | written | {name: array[..., 1:].contiguous()}
        with pytest.raises(ValueError, match=rf"fused_mlp(_backward)?: {name} must hold \d+ values, got \d+"):
            host_module.fused_mlp_half_backward(shape, *short.values(), True, True)


@pytest.mark.parametrize("activation", ["ReLU", "SiLU", "Exponential"])
def test_a_sample_without_a_gradient_adds_nothing_even_where_halves_end(
    host_module: ModuleType, activation: str
) -> None:
    config = MLPConfig(16, 3, 32, 2, activation)
    limit = 0.2 if activation == "Exponential" else 0.6
    x, params = uniform(20, 16, low=-1), uniform(config.n_params, low=-limit, high=limit, seed=1)
    grad_y = uniform(20, 3, low=-1, seed=2)
    x[3], grad_y[3] = 60000.0 * x[3], 0.0
    hidden = torch.nn.functional.linear(x[3], config.matrices(params)[0][0])
    assert activation == "Exponential" or float(hidden.max()) > 65504
    _, grad_x, grad_params = on_host(host_module, config, x, params, grad_y)
    others = torch.arange(20) != 3
    _, grad_x_without, grad_params_without = on_host(host_module, config, x[others], params, grad_y[others])
    assert torch.equal(grad_x[others], grad_x_without)
    assert relative_norm(grad_params, grad_params_without) < 20 * 2.0**-24  # another order of sums


def test_shared_memory_that_networks_ask_for(host_module: ModuleType) -> None:
    """What decides whether a device can take them: as the kernels lay it out."""
    block = 512  # 16 x 16 halves; sums of a gradient are float
    wide = MLPConfig(128, 128, 128, 2)
    # one layer: its matrix, its gradient, and both operands of 8 row blocks
    assert host_module.fused_mlp_half_shared_bytes(_config_shape(wide)) == 64 * block * 3 + 8 * 16 * block
    # rows of both buffers and a chunk of weights
    row, chunk = 2 * 32 * (900 + 4 + 12), 64 * 68
    assert host_module.fused_mlp_shared_bytes(_config_shape(MLPConfig(900, 3, 64))) == (
        4 * (row + chunk),
        8 * (row + chunk),
    )
    assert 4 * (row + chunk) > host_module.max_shared_bytes()


@pytest.mark.cuda
def test_what_does_not_fit_a_device_goes_through_torch(device: torch.device) -> None:
    config = MLPConfig(4000, 3, 16, 0)
    x, params = uniform(2, 4000, low=-1), uniform(config.n_params, low=-1, seed=1)
    y = ops.fused_mlp(x.to(device), params.to(device), config).cpu()
    # 4000 products of at most 1, summed in another order; partial sums stay below 40
    torch.testing.assert_close(y, ops.fused_mlp(x, params, config), rtol=0, atol=4000 * 2.0**-24 * 40)


@pytest.mark.cuda
@pytest.mark.parametrize("config", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_network_on_the_device(device: torch.device, config: MLPConfig, dtype: torch.dtype) -> None:
    for n in (1, 33, 150, 100_000):
        check_network(lambda *arguments: on_device(device, *arguments), config, dtype, n)


@pytest.mark.cuda
def test_network_gives_the_same_bits_twice(device: torch.device) -> None:
    config = NETWORKS[1]
    inputs = uniform(5000, 31), uniform(config.n_params, low=-0.2, high=0.2), uniform(5000, 3)
    first, second = (on_device(device, config, *inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.cuda
def test_opcheck(device: torch.device) -> None:
    config = MLPConfig(5, 3, 16, 1, "SiLU", "Tanh", True)
    x, params = uniform(7, 5).to(device), uniform(config.n_params, low=-1).to(device)
    leaves = x.clone().requires_grad_(), params.clone().requires_grad_()
    opcheck(torch.ops.neurfield.fused_mlp_half.default, (*leaves, *_flatten(config), True))
    y, saved = torch.ops.neurfield.fused_mlp_half(x, params, *_flatten(config), True)
    opcheck(
        torch.ops.neurfield.fused_mlp_half_backward.default,
        (uniform(7, 3).to(device), x, params, y, saved, *_flatten(config), True, True),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_what_tensor_cores_cannot_take_has_a_reason() -> None:
    for config, words in (
        (MLPConfig(129, 3), "it has 129 inputs, more than 128"),
        (MLPConfig(3, 200), "it has 200 outputs, more than 128"),
        (MLPConfig(3, 3, activation="Sine"), "Sine needs more of its argument than the 11 bits of float16"),
        (
            MLPConfig(3, 3, activation="Gabor", omega=20.0),
            "Gabor needs more of its argument than the 11 bits of float16",
        ),
        (MLPConfig(3, 3, output_activation="FINER"), "FINER needs more of its argument than the 11 bits of float16"),
        (MLPConfig(3, 3, output_activation="SiLU"), "its output activation is SiLU"),
        (MLPConfig(3, 3, 256), "it is 256 wide, more than 128"),
    ):
        assert half_reason(config) == words


def test_on_the_cpu_half_products_mean_nothing() -> None:
    config = MLPConfig(5, 3, 16, 1)
    x, params = uniform(20, 5), uniform(config.n_params)
    assert torch.equal(ops.fused_mlp(x, params, config, half_products=True), ops.fused_mlp(x, params, config))


# ---- the renderer ----

FIELDS = {
    "16-64-16, 32-64-64-3": (GridConfig(3, 8, 2, 12, 8, 1.5), MLPConfig(16, 16, 64, 1),
                             MLPConfig(32, 3, 64, 2, "ReLU", "Sigmoid", False, 1.0), 4),
    "odd widths": (GridConfig(3, 3, 4, 10, 8, 1.5, "Hash", "Smoothstep"), MLPConfig(12, 7, 32, 2),
                   MLPConfig(16, 3, 16, 1, "ReLU", "Sigmoid"), 3),
    "128 wide": (GridConfig(3, 2, 8, 10, 8, 1.5), MLPConfig(16, 20, 128, 1), MLPConfig(24, 3, 64, 1), 2),
}  # fmt: skip


def fused_field(name: str, device: torch.device | str = "cpu") -> FusedField:
    grid, density, color, degree = FIELDS[name]
    table = uniform(grid.n_params, low=-1, seed=1).to(device)
    networks = []
    for seed, config in enumerate((density, color)):
        limit = (3 / config.n_neurons) ** 0.5
        networks += [config, uniform(config.n_params, low=-limit, high=limit, seed=2 + seed).to(device)]
    return FusedField(grid, table, *networks, degree, (0.0,) * 3, (1.0,) * 3, table.half())


def check_images(name: str, march: FusedMarch, skip_weight: float, render: Callable) -> None:
    cells = uniform(1, 32**3, seed=9) - 0.7
    bitfield, coarse = ops.occupancy_bits(cells, 0.0)
    n = 150
    origins = torch.tensor([0.5, 0.5, -1.0]) + 0.1 * unit_vectors(n)
    origins[3] = 5.0  # misses
    targets = torch.full((n, 3), 0.5) + 0.6 * (uniform(n, 3, seed=5) - 0.5)
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    expected = ops.fused_render(fused_field(name), bitfield, coarse, origins, directions, march, skip_weight)
    actual = render(name, bitfield, coarse, origins, directions, march, skip_weight)
    assert 0.02 < float(expected.acc.mean()) < 0.9
    # ln(sigma) of order one, after roundings of 2 layers; alpha has the relative error of sigma. A colour counts with
    # its weight and has the roundings of up to 3 layers. Errors of samples average out: bounds of a single one.
    sigma_error = 4 * 2 * ROUNDING
    for got, want, scale in ((actual.acc, expected.acc, 1.0), (actual.depth, expected.depth, 2.0)):
        torch.testing.assert_close(got.cpu(), want, rtol=0, atol=scale * sigma_error)
    torch.testing.assert_close(actual.rgb.cpu(), expected.rgb, rtol=0, atol=2 * sigma_error + 2 * skip_weight)
    median = actual.median_depth.cpu()
    assert (median == expected.median_depth).float().mean() > 0.95  # the half may fall to the next sample


MARCHES = [
    (FusedMarch(step_scale=8.0), 0.0),
    (FusedMarch(step_scale=4.0, stop_transmittance=0.05, max_samples=20, jitter=(1, 2)), 0.0),
    (FusedMarch(step_scale=8.0, cone_angle=0.01), 0.02),
]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("march", "skip_weight"), MARCHES)
def test_image_on_the_host(kernels_on_host, name: str, march: FusedMarch, skip_weight: float) -> None:
    def render(name: str, *arguments):
        with kernels_on_host:
            return ops.fused_render(fused_field(name), *arguments)

    check_images(name, march, skip_weight, render)


def test_a_nan_density_ends_the_ray_and_has_no_colour(kernels_on_host) -> None:
    bitfield, coarse = ops.occupancy_bits(torch.ones(1, 32**3), 0.0)
    origins = torch.tensor([[0.5, 0.5, -1.0], [5.0, 0.5, -1.0]])  # the second one misses
    rays = bitfield, coarse, origins, torch.tensor([0.0, 0.0, 1.0]).repeat(2, 1)
    field = fused_field("odd widths")
    field.density_params.fill_(torch.nan)
    expected = ops.fused_render(field, *rays, FusedMarch())
    with kernels_on_host:
        actual = ops.fused_render(field, *rays, FusedMarch())
    assert expected.acc.isnan().tolist() == [True, False] and expected.rgb.eq(0).all()
    for got, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.cuda
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("march", "skip_weight"), MARCHES)
def test_image_on_the_device(device: torch.device, name: str, march: FusedMarch, skip_weight: float) -> None:
    def render(name: str, *arguments):
        moved = [a.to(device) if isinstance(a, Tensor) else a for a in arguments]
        return ops.fused_render(fused_field(name, device), *moved)

    check_images(name, march, skip_weight, render)


def check_density(name: str, density: Callable[[Tensor], Tensor]) -> None:
    x = uniform(333, 3, seed=8)
    expected = ops.fused_density(fused_field(name), x)
    torch.testing.assert_close(density(x).cpu(), expected, rtol=8 * ROUNDING, atol=0)


@pytest.mark.parametrize("name", FIELDS)
def test_density_on_the_host(kernels_on_host, name: str) -> None:
    def density(x: Tensor) -> Tensor:
        with kernels_on_host:
            return ops.fused_density(fused_field(name), x)

    check_density(name, density)


@pytest.mark.cuda
@pytest.mark.parametrize("name", FIELDS)
def test_density_on_the_device(device: torch.device, name: str) -> None:
    check_density(name, lambda x: ops.fused_density(fused_field(name, device), x.to(device)))
