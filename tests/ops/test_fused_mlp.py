# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield._native import lib
from neurfield.ops import MLPConfig
from neurfield.ops.fused_mlp import ACTIVATIONS, ARGUMENTS
from neurfield.reference import fused_mlp as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close, relative_norm, slopes

# One matrix product of width <= 512 has a random rounding error near sqrt(512) / 4 = 6 units of roundoff (6e-8)
# relative to the norm of its result; three layers and their activations stay below 20 of them.
RELATIVE = 20 * 2.0**-24
# Gradients run through forward and backward and sum up to 257 samples: twice the layers, a longer sum.
GRADIENT = 40 * 2.0**-24


def parameters(config: MLPConfig, dtype=torch.float32, seed: int = 1) -> Tensor:
    """Values that keep activations of order one, in every entry, so that padded ones are not accidentally zero."""
    scale = (3.0 / config.n_neurons) ** 0.5
    return uniform(config.n_params, low=-scale, high=scale, dtype=dtype, seed=seed)


def gradients(run, x: Tensor, params: Tensor, grad_y: Tensor, config: MLPConfig) -> tuple[Tensor, Tensor, Tensor]:
    x, params = x.clone().requires_grad_(), params.clone().requires_grad_()
    y = run(x, params, config)
    y.backward(grad_y.to(y.dtype))
    return y.detach(), x.grad, params.grad


def check_all(x: Tensor, config: MLPConfig) -> None:
    """Value and both gradients against float64."""
    params = parameters(config)
    grad_y = uniform(x.shape[0], config.n_output_dims, low=-1, seed=2)
    actual = gradients(ops.fused_mlp, x, params, grad_y, config)
    expected = gradients(reference.fused_mlp, x.double(), params.double(), grad_y, config)
    for got, want, bound in zip(actual, expected, (RELATIVE, GRADIENT, GRADIENT), strict=True):
        assert got.shape == want.shape
        assert relative_norm(got, want) <= bound
    with torch.no_grad():  # the path that keeps nothing
        assert torch.equal(ops.fused_mlp(x, params, config), actual[0])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("n_output_dims", [3, 16, 20])
def test_sizes(n: int, n_output_dims: int) -> None:
    x = uniform(n, 32, low=-1)
    config = MLPConfig(32, n_output_dims, 64, 2, output_activation="Sigmoid")
    check_all(x, config)
    assert torch.equal(
        ops.fused_mlp(strided(x), parameters(config), config), ops.fused_mlp(x, parameters(config), config)
    )


@pytest.mark.parametrize("n_neurons", [16, 32, 48, 64, 80, 96, 112, 128, 256, 272, 512])
@pytest.mark.parametrize("n_hidden_layers", [0, 1, 2, 5])
def test_widths_and_depths(n_neurons: int, n_hidden_layers: int) -> None:
    check_all(uniform(101, 16, low=-1), MLPConfig(16, 4, n_neurons, n_hidden_layers))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("input_padding", [0.0, 1.0])
@pytest.mark.parametrize(("n_input_dims", "n_output_dims"), [(1, 1), (3, 2), (17, 5), (31, 16), (48, 33)])
def test_odd_dimensions(n_input_dims: int, n_output_dims: int, bias: bool, input_padding: float) -> None:
    config = MLPConfig(n_input_dims, n_output_dims, 32, 2, "Tanh", "SiLU", bias, input_padding)
    check_all(uniform(130, n_input_dims, low=-1), config)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_inside_a_network(activation: str) -> None:
    x = uniform(100, 16, low=-1)
    check_all(x, MLPConfig(16, 3, 32, 2, activation, "None"))
    check_all(x, MLPConfig(16, 16, 32, 1, "ReLU", activation, bias=True))


# Largest error in ulp of the result, as csrc/math/activation.h states it; Softplus rounds 10 z first, which moves
# e^(10 z) by 10 |z| ulp. Sine is bounded absolutely (2^-23).
ULP = {
    "None": 0,
    "ReLU": 0,
    "LeakyReLU": 1,
    "SiLU": 5,
    "Exponential": 2,
    "Sigmoid": 4,
    "Squareplus": 4,
    "Softplus": 5,
    "Tanh": 4,
}


# of coordinate networks, absolute: of the function, and per size of the rounded argument (csrc/math/activation.h)
ABSOLUTE = {"Sine": 2.0**-23, "Gaussian": 2.0**-22, "Gabor": 2.0**-21, "FINER": 2.0**-23}


def argument_error(activation: str, z: Tensor, omega: float) -> Tensor:
    """How far float32 may be from omega z or omega (|z| + 1) z."""
    z = z.double().abs()
    if activation == "FINER":
        return 3 * 2.0**-24 * omega * (z + 1) * z
    return (2.0**-24 if omega != 1 else 0.0) * omega * z * (activation in ("Sine", "Gabor"))


def first_layer(activation: str, z: Tensor, omega: float, scale: float) -> tuple[Tensor, Tensor]:
    """a(z) and a'(z) [n, 16] of a hidden layer."""
    keys = {key: value for key, value in (("first_omega", omega), ("scale", scale)) if key in ARGUMENTS[activation]}
    config = MLPConfig(16, 16, 16, 1, activation, **keys)
    eye = torch.eye(16, dtype=z.dtype).flatten()
    z = z.clone().requires_grad_()
    y = ops.fused_mlp(z, torch.cat([eye, eye]), config)
    (grad,) = torch.autograd.grad(y.sum(), z)
    return y.detach(), grad


@pytest.mark.parametrize("activation", ARGUMENTS)
@pytest.mark.parametrize(("omega", "scale"), [(1.0, 1.0), (30.0, 10.0), (200.0, 0.5)])
def test_coordinate_activations_keep_their_bounds(activation: str, omega: float, scale: float) -> None:
    """Arguments of Sine up to 8000, of FINER up to 20000, where range reduction would show."""
    z = torch.cat([uniform(20000, 16, low=-40, high=40), uniform(20000, 16, low=-2, high=2, seed=1)])
    z = z if activation != "FINER" else z / 4
    (y, grad), (exact, exact_grad) = (first_layer(activation, v, omega, scale) for v in (z, z.double()))
    w, s = (omega, scale) if activation in ("Sine", "Gabor", "FINER") else (0.0, scale)
    expected = reference.ACTIVATIONS[activation](z.double(), omega, scale)
    torch.testing.assert_close(exact, expected, atol=1e-11, rtol=0)
    argument = argument_error(activation, z, omega)
    assert float(((y - exact).abs() / (ABSOLUTE[activation] + argument)).max()) <= 1
    # the derivative is at most `slope` times such a function, and is rounded four more times
    slope = w * (z.double().abs() + 1) if activation == "FINER" else w + 2 * s * (activation in ("Gaussian", "Gabor"))
    bound = slope * (2 * ABSOLUTE[activation] + argument + 4 * 2.0**-24)
    assert float(((grad - exact_grad).abs() / bound).max()) <= 1


def through_identity(activation: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """a(x) and a'(x) [n, 16] by a network of one identity matrix."""
    config = MLPConfig(16, 16, 16, 0, output_activation=activation)
    x = x.clone().requires_grad_()
    y = ops.fused_mlp(x, torch.eye(16, dtype=x.dtype).flatten(), config)
    (grad,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), grad


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_keep_their_bounds(activation: str) -> None:
    wide = uniform(40000, 16, low=-87, high=87)
    tiny = uniform(4000, 16, low=-1, seed=3) * 2.0 ** -uniform(4000, 16, low=0, high=30, seed=4)
    x = torch.cat([wide, uniform(4000, 16, low=-2, high=2, seed=5), tiny])
    (y, grad), (exact, exact_grad) = through_identity(activation, x), through_identity(activation, x.double())
    if activation in ("Gaussian", "Gabor", "FINER"):
        pytest.skip("its bound is in test_coordinate_activations_keep_their_bounds")
    if activation == "Sine":
        x = torch.cat([x, uniform(4000, 16, low=-8192, high=8192, seed=6), uniform(100, 16, low=-1e8, high=1e8)])
        (y, grad), (exact, exact_grad) = through_identity(activation, x), through_identity(activation, x.double())
        assert float((y - exact).abs().max()) <= 2.0**-23
    else:
        ulp = 2.0 ** (torch.floor(torch.log2(exact.abs().clamp_min(2.0**-126))) - 23)
        allowed = ULP[activation] + (10 * x.abs() if activation == "Softplus" else 0)
        error = (y - exact).abs()
        error[exact.abs() < 2.0**-126] = 0  # where float is subnormal, results may be flushed to zero
        assert float((error / ulp - allowed).max()) <= 0
    scale = exact_grad.abs() if activation == "Exponential" else torch.maximum(x.abs().double(), torch.ones_like(exact))
    assert float(((grad - exact_grad).abs() / scale).max()) <= 2.0**-21


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_special_values(activation: str) -> None:
    x = torch.tensor([[float("nan")], [float("inf")], [-float("inf")], [0.0]])
    config = MLPConfig(1, 16, 16, 0, output_activation=activation)
    params = torch.zeros(16, 16)
    params[:, 0] = 1
    y = ops.fused_mlp(x, params.flatten(), config)
    assert torch.equal(y.nan_to_num(7.0), y[:, :1].nan_to_num(7.0).expand(4, 16))
    expected = reference.ACTIVATIONS[activation](x[:, 0].double(), 1.0, 1.0)
    if activation == "Exponential":  # saturates
        assert 3.4e38 < float(y[1, 0]) <= torch.finfo(torch.float32).max
        expected[1] = y[1, 0]
    if activation == "SiLU":  # e^infinity saturates, and so minus infinity meets a small positive number
        expected[2] = -torch.inf
    if activation == "Squareplus":  # the limit; the formula of the reference is infinity minus infinity
        expected[2] = 0
    torch.testing.assert_close(y[:, 0].double(), expected, equal_nan=True, rtol=1e-6, atol=1e-37)


def test_tile_position_does_not_change_numbers() -> None:
    config = MLPConfig(32, 16, 64, 2)
    x, params = uniform(500, 32, low=-1), parameters(config)
    whole = ops.fused_mlp(x, params, config)
    parts = [ops.fused_mlp(part, params, config) for part in x.split([1, 95, 7, 200, 197])]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("n", [97, 20000])
def test_thread_count_does_not_change_numbers(n: int) -> None:
    config = MLPConfig(32, 3, 64, 2, "ReLU", "Sigmoid")
    x, params, grad_y = uniform(n, 32, low=-1), parameters(config), uniform(n, 3, seed=2)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(gradients(ops.fused_mlp, x, params, grad_y, config))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_padded_rows_are_idle_and_padded_columns_meet_the_padding() -> None:
    config = MLPConfig(5, 3, 16, 1, "None", "None", input_padding=1.0)
    params = torch.zeros(config.n_params, requires_grad=True)
    first, last = (weights for weights, _ in config.matrices(params.data))
    first[0, 5] = 2.0  # the first padded column: 2 * 1
    last[1, 0] = 3.0
    last[7, 0] = 99.0  # a padded row
    y = ops.fused_mlp(torch.zeros(4, 5), params, config)
    assert torch.equal(y, torch.tensor([[0.0, 6.0, 0.0]]).expand(4, 3))
    y.sum().backward()
    grad_first, grad_last = (weights for weights, _ in config.matrices(params.grad))
    assert torch.equal(grad_last[:3, 0], torch.full((3,), 8.0)) and not grad_last[3:].any()
    assert torch.equal(grad_first[0], torch.tensor([0.0] * 5 + [12.0] * 11))


def test_parameter_counts_of_instant_ngp() -> None:
    assert MLPConfig(32, 16, 64, 1).n_params == 3072
    assert MLPConfig(32, 3, 64, 2).n_params == 7168


GRADCHECK_CASES = [
    MLPConfig(3, 2, 16, 1, "Softplus", "None"),
    MLPConfig(17, 5, 16, 2, "Sine", "Tanh", bias=True),
    MLPConfig(4, 1, 16, 2, "SiLU", "Squareplus", input_padding=1.0),
    MLPConfig(2, 3, 16, 1, "Tanh", "SiLU"),
    MLPConfig(2, 3, 16, 0, "None", "Sigmoid", bias=True),
    MLPConfig(2, 18, 32, 1, "Squareplus", "Exponential"),
    MLPConfig(3, 2, 16, 1, "ReLU", "LeakyReLU"),
    MLPConfig(3, 2, 16, 2, "Sine", "None", True, first_omega=3.0, omega=2.0),
    MLPConfig(3, 2, 16, 2, "Gaussian", "Gabor", True, scale=1.5),
    MLPConfig(3, 2, 16, 2, "Gabor", "Gaussian", first_omega=3.0, omega=2.0, scale=0.5),
]


@pytest.mark.parametrize("config", GRADCHECK_CASES)
def test_gradcheck_and_gradgradcheck(config: MLPConfig) -> None:
    x = uniform(3, config.n_input_dims, low=-1, dtype=torch.float64).requires_grad_()
    params = parameters(config, torch.float64).requires_grad_()

    def run(x: Tensor, params: Tensor) -> Tensor:
        return ops.fused_mlp(x, params, config)

    assert gradcheck(run, (x, params), fast_mode=True)
    assert gradgradcheck(run, (x, params), fast_mode=True)
    assert gradgradcheck(lambda *inputs: slopes(run, *inputs), (x, params), fast_mode=True)
    assert gradcheck(lambda x: run(x, params.detach()), x)
    assert gradcheck(lambda params: run(x.detach(), params), params, fast_mode=True)


def test_finer_matches_a_reference_that_detaches_its_factor() -> None:
    """gradcheck cannot: the derivative leaves |z| + 1 alone. First and second derivatives, in float64."""
    config = MLPConfig(3, 2, 16, 2, "FINER", "FINER", True, first_omega=3.0, omega=2.0)
    results = []
    for run in (ops.fused_mlp, reference.fused_mlp):
        x = uniform(9, 3, low=-1, dtype=torch.float64).requires_grad_()
        params = parameters(config, torch.float64).requires_grad_()
        y = run(x, params, config)
        first = torch.autograd.grad(y.square().sum(), (x, params), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), (x, params))
        results.append((y, *first, *second))
    for got, want in zip(*results, strict=True):
        assert relative_norm(got, want) <= 1e-12


def test_eikonal_gradient_matches_reference() -> None:
    """The second derivative that an SDF needs: d/dparams of (|dy/dx| - 1)^2."""
    config = MLPConfig(3, 1, 64, 2, "Softplus", "None", bias=True)
    grads = []
    for dtype, run in ((torch.float32, ops.fused_mlp), (torch.float64, reference.fused_mlp)):
        x = uniform(200, 3, low=-1).to(dtype).requires_grad_()
        params = parameters(config).to(dtype).requires_grad_()
        (normal,) = torch.autograd.grad(run(x, params, config).sum(), x, create_graph=True)
        ((normal.norm(dim=1) - 1) ** 2).mean().backward()
        grads.append((x.grad, params.grad))
    for got, want in zip(*grads, strict=True):
        assert relative_norm(got, want) <= 1e-5  # methods: fp32 against fp64, 1e-5 relative


def test_gradient_of_a_laplacian_matches_reference() -> None:
    """The third derivative that a Poisson equation needs, beside a term of the values, whose gradient is not all."""
    config = MLPConfig(2, 1, 64, 2, "Sine", bias=True, first_omega=5.0, omega=5.0)
    grads = []
    for dtype, run in ((torch.float32, ops.fused_mlp), (torch.float64, reference.fused_mlp)):
        x = uniform(200, 2, low=-1).to(dtype).requires_grad_()
        params = parameters(config).to(dtype).requires_grad_()
        y = run(x, params, config)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        rows = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0] for i in range(2)]
        laplacian = rows[0][:, 0] + rows[1][:, 1]
        (laplacian.square().mean() + y.square().mean()).backward()
        grads.append((x.grad, params.grad))
    for got, want in zip(*grads, strict=True):
        assert relative_norm(got, want) <= 1e-5  # as above


def test_parameters_may_depend_on_positions() -> None:
    """As of a hypernetwork: the gradient in either leaves the other alone."""
    config, mix = MLPConfig(3, 2, 16, 1, "Tanh"), uniform(3, 768, low=-0.5, high=0.5, dtype=torch.float64)
    x = uniform(4, 3, low=-1, dtype=torch.float64).requires_grad_()
    assert gradgradcheck(lambda x: ops.fused_mlp(x, x.mean(0) @ mix[:, : config.n_params], config), x)


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_not_kept_is_evaluated_again(keep: bool) -> None:
    config = MLPConfig(3, 2, 16, 2, "Softplus", "SiLU")
    x, params = uniform(33, 3).requires_grad_(), parameters(config).requires_grad_()
    flat = (2, 16, 2, "Softplus", "SiLU", False, 0.0, [1.0, 1.0, 1.0], False)
    y, _ = torch.ops.neurfield.fused_mlp(x, params, None, *flat, keep)
    found = torch.autograd.grad(y.sum(), (x, params))
    expected = torch.autograd.grad(ops.fused_mlp(x, params, config).sum(), (x, params))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_the_core_reads_no_more_than_it_is_given() -> None:
    """What backward is handed comes from a forward pass that may have kept nothing, or from another one."""
    config = MLPConfig(3, 2, 16, 2, "Softplus", "SiLU")
    flat = (2, 16, 2, "Softplus", "SiLU", False, 0.0, [1.0, 1.0, 1.0], False)
    x, params, grad_y = uniform(33, 3), parameters(config), uniform(33, 2)
    y, saved = torch.ops.neurfield.fused_mlp(x, params, None, *flat, True)
    whole = {"grad_y": grad_y, "x": x, "params": params, "modulation": None, "y": y, "saved": saved}
    torch.ops.neurfield.fused_mlp_backward(*whole.values(), *flat, True, True, False)
    for name, short in (
        ("saved", saved[:0]), ("saved", saved[1:]), ("grad_y", grad_y[1:]), ("y", y[1:]), ("params", params[1:]),
        ("x", x[1:]), ("modulation", uniform(32, 2)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"fused_mlp(_backward)?: \w+ must hold \d+ values, got \d+"):
            torch.ops.neurfield.fused_mlp_backward(*(whole | {name: short}).values(), *flat, True, True, False)


def test_large_outputs_do_not_share_memory_until_they_are_gone() -> None:
    config = MLPConfig(16, 16, 16, 1)
    params, x = parameters(config), uniform(40000, 16)
    first = ops.fused_mlp(x, params, config)
    kept = first.clone()
    second = ops.fused_mlp(2 * x, params, config)
    assert torch.equal(first, kept) and not torch.equal(first, second)
    idle = lib.idle_buffer_bytes()
    del first
    assert lib.idle_buffer_bytes() > idle


def test_only_the_gradient_that_is_asked_for() -> None:
    config = MLPConfig(16, 2, 32, 1)
    x, params = uniform(50, 16), parameters(config)
    both = gradients(ops.fused_mlp, x, params, torch.ones(50, 2), config)
    only_x, only_params = x.clone().requires_grad_(), params.clone().requires_grad_()
    ops.fused_mlp(only_x, params, config).sum().backward()
    ops.fused_mlp(x, only_params, config).sum().backward()
    assert torch.equal(only_x.grad, both[1]) and torch.equal(only_params.grad, both[2])


def test_opcheck() -> None:
    for bias in (False, True):
        config = MLPConfig(5, 3, 16, 1, "SiLU", "Sine", bias)
        flat = (3, 16, 1, "SiLU", "Sine", bias, 0.0, [1.0, 1.0, 1.0], False)
        x, params = uniform(7, 5).requires_grad_(), parameters(config).requires_grad_()
        opcheck(torch.ops.neurfield.fused_mlp.default, (x, params, None, *flat, True))
        y, saved = torch.ops.neurfield.fused_mlp(x.detach(), params.detach(), None, *flat, True)
        opcheck(
            torch.ops.neurfield.fused_mlp_backward.default,
            (uniform(7, 3).requires_grad_(), x, params, None, y, saved, *flat, True, True, False),
        )


def test_errors_say_expected_and_found() -> None:
    config = MLPConfig(5, 3, 16, 1)
    x, params = torch.zeros(4, 5), torch.zeros(config.n_params)
    with pytest.raises(TypeError, match=r"fused_mlp: x must be float32/float64 \[n, 5\], got float16 \[4, 5\]"):
        ops.fused_mlp(x.half(), params, config)
    with pytest.raises(ValueError, match=r"fused_mlp: x must be float32/float64 \[n, 5\], got float32 \[4, 6\]"):
        ops.fused_mlp(torch.zeros(4, 6), params, config)
    with pytest.raises(ValueError, match=r"fused_mlp: params must be float32 \[512\], got float32 \[511\]"):
        ops.fused_mlp(x, params[1:], config)
    with pytest.raises(TypeError, match=r"x must be float32/float64 \[n, \d+\], got bfloat16 \[.*\]; use .float\(\)"):
        ops.fused_mlp(x.bfloat16(), params, config)
    with pytest.raises(TypeError, match=r"fused_mlp: params must be float32 \[512\], got float64 \[512\]"):
        ops.fused_mlp(x, params.double(), config)
    for change, message in [
        ({"n_neurons": 24}, r"n_neurons must be a multiple of 16 in 16 ... 512, got 24"),
        ({"n_neurons": 528}, r"n_neurons must be a multiple of 16 in 16 ... 512, got 528"),
        ({"omega": 2.0}, r"activation ReLU takes no omega, got 2.0"),
        ({"activation": "Gaussian", "first_omega": 2.0}, r"activation Gaussian takes no first_omega, got 2.0"),
        ({"activation": "Sine", "omega": 0.0}, r"omega must be a positive number, got 0.0"),
        ({"activation": "Gabor", "scale": float("inf")}, r"scale must be a positive number, got inf"),
        ({"n_hidden_layers": -1}, r"n_hidden_layers must be at least 0, got -1"),
        ({"n_input_dims": 0}, r"n_input_dims and n_output_dims must be at least 1, got 0 and 3"),
        ({"activation": "relu6"}, r"activation must be one of None, ReLU, .*, got 'relu6'"),
        ({"output_activation": ""}, r"output_activation must be one of None, ReLU, .*, got ''"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(config, **change)


def test_forward_close_elementwise() -> None:
    """Elementwise too: |error| <= (sum of terms) roundings at the size of the sum of magnitudes of one layer."""
    config = MLPConfig(32, 16, 64, 0, "None", "None")
    x, params = uniform(97, 32, low=-1), parameters(config)
    magnitude = reference.fused_mlp(x.double().abs(), params.double().abs(), config)
    assert_close(
        ops.fused_mlp(x, params, config), reference.fused_mlp(x.double(), params.double(), config), 33, magnitude
    )
