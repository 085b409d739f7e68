# SPDX-License-Identifier: Apache-2.0
"""Lookups of modulation grids, and what the fused MLP does with them."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.ops import MLPConfig
from neurfield.reference import fused_mlp as mlp_reference
from neurfield.reference import modulation as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close, relative_norm, slopes

# (resolution, wraps): 1-4 dimensions, an axis of a single node, the view directions of a radiance field
GRIDS = [
    ((64,), (False,)),
    ((5,), (True,)),
    ((32, 32), (False, False)),
    ((10, 3), (True, False)),
    ((3, 1, 4), (False, False, True)),
    ((2, 3, 4, 5), (False, True, False, False)),
]


def grid_values(resolution: tuple[int, ...], n_channels: int, dtype=torch.float32) -> Tensor:
    return uniform(int(torch.tensor(resolution).prod()), n_channels, low=-1, dtype=dtype, seed=3)


@pytest.mark.parametrize(("resolution", "wraps"), GRIDS)
@pytest.mark.parametrize("n", SIZES)
def test_forward_and_backward_match_reference(n: int, resolution: tuple[int, ...], wraps: tuple[bool, ...]) -> None:
    x, values = uniform(n, len(resolution), low=-0.3, high=1.3), grid_values(resolution, 6)
    grad_y = uniform(n, 6, low=-1, seed=1)
    results = []
    for run, dtype in ((ops.modulation, torch.float32), (reference.modulation, torch.float64)):
        leaves = [t.clone().to(dtype).requires_grad_() for t in (x, values)]
        y = run(*leaves, resolution, wraps)
        y.backward(grad_y.to(dtype))
        results.append((y.detach(), *(leaf.grad for leaf in leaves)))
    # a position rounds at the resolution (twice), which moves the values by that much; corners are added up
    roundings, size = 4 + 2 ** len(resolution), 2.0 * max(resolution)
    assert_close(results[0][0], results[1][0], roundings, size)
    # x in float32 may lie on the other side of a node: there the slope is another one (here nothing does)
    assert_close(results[0][1], results[1][1], 6 * roundings, size * max(resolution))
    assert_close(results[0][2], results[1][2], roundings, size * max(n, 1))
    assert torch.equal(ops.modulation(strided(x), strided(values), resolution, wraps), results[0][0])


def test_nodes_ends_and_wrapping() -> None:
    values = torch.tensor([[0.0], [10.0], [40.0]])
    x = torch.tensor([[-1.0], [0.0], [0.25], [0.5], [1.0], [7.0]])
    y = ops.modulation(x, values, [3])
    assert torch.equal(y[:, 0], torch.tensor([0.0, 0.0, 5.0, 10.0, 40.0, 40.0]))
    wrapped = ops.modulation(torch.tensor([[0.0], [0.5], [1.0], [-0.25], [1 - 2.0**-24]]), values[:2], [2], [True])
    torch.testing.assert_close(wrapped[:, 0], torch.tensor([0.0, 10.0, 0.0, 5.0, 0.0]), atol=2e-6, rtol=0)
    assert ops.modulation(torch.tensor([[float("nan")]]), values, [3]).isnan().all()


def test_constant_grids_give_the_constant() -> None:
    x = uniform(100, 3, low=-1, high=2)
    y = ops.modulation(x, torch.full((60, 2), 3.0), [3, 4, 5])
    assert_close(y, torch.full_like(y, 3.0, dtype=torch.float64), 12, 3.0)


def test_thread_count_does_not_change_gradients() -> None:
    x, values = uniform(20000, 2), grid_values((8, 8), 4).requires_grad_()
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(torch.autograd.grad(ops.modulation(x, values, [8, 8]).sin().sum(), values)[0])
    torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize(("resolution", "wraps"), GRIDS)
def test_gradcheck(resolution: tuple[int, ...], wraps: tuple[bool, ...]) -> None:
    x = uniform(4, len(resolution), low=0.05, high=0.95, dtype=torch.float64).requires_grad_()
    values = grid_values(resolution, 2, torch.float64).requires_grad_()
    assert gradcheck(lambda x, values: ops.modulation(x, values, resolution, wraps), (x, values))


def test_opcheck() -> None:
    x, values = uniform(7, 2).requires_grad_(), grid_values((3, 4), 2).requires_grad_()
    opcheck(torch.ops.neurfield.modulation.default, (x, values, [3, -4]))
    arguments = (uniform(7, 2), x.detach(), values.detach(), [3, -4], True, True)
    opcheck(torch.ops.neurfield.modulation_backward.default, arguments)


def test_errors_say_expected_and_found() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(
        ValueError, match=r"modulation: values must be float32 \[12, n_channels\], got float32 \[11, 2\]"
    ):
        ops.modulation(x, torch.zeros(11, 2), [3, 4])
    with pytest.raises(ValueError, match=r"expected 1 ... 4 dimensions with a resolution .*, got 2 with \[3\] and"):
        ops.modulation(x, torch.zeros(3, 2), [3])
    with pytest.raises(ValueError, match=r"got 5 with \[1, 1, 1, 1, 1\]"):
        ops.modulation(torch.zeros(4, 5), torch.zeros(1, 2), [1] * 5)
    with pytest.raises(TypeError, match=r"values must be float32 \[12, n_channels\], got float64 \[12, 2\]"):
        ops.modulation(x, torch.zeros(12, 2, dtype=torch.float64), [3, 4])


# ---- inside the fused MLP ----

# as in tests/ops/test_fused_mlp.py, and two passes over each row per layer for mean and variance
RELATIVE, GRADIENT = 30 * 2.0**-24, 80 * 2.0**-24


def inputs(config: MLPConfig, n: int, n_modulation: int, dtype=torch.float32) -> list[Tensor]:
    bound = (3.0 / config.n_neurons) ** 0.5
    x = uniform(n, config.n_input_dims, low=-1, dtype=dtype)
    params = uniform(config.n_params, low=-bound, high=bound, dtype=dtype, seed=1)
    return [x, params, uniform(n, n_modulation, low=-1.5, high=1.5, dtype=dtype, seed=2)]


def results(run, config: MLPConfig, tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    leaves = [t.clone().to(dtype).requires_grad_() for t in tensors]
    y = run(leaves[0], leaves[1], config, leaves[2])
    y.backward(uniform(*y.shape, low=-1, dtype=dtype, seed=4))
    return [y.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("normalizes", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_modulated_network_matches_reference(n: int, normalizes: bool, shared: bool) -> None:
    config = MLPConfig(5, 3, 64, 3, "ReLU", "Sigmoid", True, normalizes=normalizes)
    tensors = inputs(config, n, 2 if shared else 6)
    actual = results(ops.fused_mlp, config, tensors, torch.float32)
    expected = results(mlp_reference.fused_mlp, config, tensors, torch.float64)
    for got, want, bound in zip(actual, expected, (RELATIVE, *[GRADIENT] * 3), strict=True):
        assert got.shape == want.shape
        assert relative_norm(got, want) <= bound
    with torch.no_grad():
        assert torch.equal(ops.fused_mlp(*tensors[:2], config, tensors[2]), actual[0])
    assert torch.equal(ops.fused_mlp(*tensors[:2], config, strided(tensors[2])), actual[0])


@pytest.mark.parametrize("activation", ["ReLU", "Tanh", "SiLU", "Sine", "Gaussian", "FINER"])
@pytest.mark.parametrize("n_neurons", [16, 48, 256])
def test_activations_and_widths(activation: str, n_neurons: int) -> None:
    config = MLPConfig(16, 20, n_neurons, 2, activation, "SiLU", normalizes=True)
    tensors = inputs(config, 101, 4)
    actual = results(ops.fused_mlp, config, tensors, torch.float32)
    expected = results(mlp_reference.fused_mlp, config, tensors, torch.float64)
    # FINER's slope |z| + 1, 2 and more here, enlarges errors in each of the two layers
    bound = 4 * GRADIENT if activation == "FINER" else GRADIENT
    for got, want in zip(actual, expected, strict=True):
        assert relative_norm(got, want) <= bound


def test_ones_and_zeros_change_nothing() -> None:
    config = MLPConfig(5, 3, 64, 2, "Softplus", "None", True)
    x, params, _ = inputs(config, 97, 4)
    plain = ops.fused_mlp(x, params, config, torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(97, 4))
    assert relative_norm(plain, ops.fused_mlp(x, params, config)) <= RELATIVE


def test_only_the_gradient_that_is_asked_for() -> None:
    config = MLPConfig(16, 3, 32, 2, normalizes=True)
    tensors = inputs(config, 50, 4)
    both = results(ops.fused_mlp, config, tensors, torch.float32)[1:]
    for i in range(3):
        leaves = [t.clone().requires_grad_(k == i) for k, t in enumerate(tensors)]
        y = ops.fused_mlp(leaves[0], leaves[1], config, leaves[2])
        y.backward(uniform(50, 3, low=-1, seed=4))
        assert torch.equal(leaves[i].grad, both[i])


def test_tiles_and_threads_do_not_change_numbers() -> None:
    config = MLPConfig(7, 3, 48, 2, normalizes=True)
    tensors = inputs(config, 1000, 4)
    before, all_results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        all_results.append(results(ops.fused_mlp, config, tensors, torch.float32))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*all_results, strict=True))
    parts = [
        ops.fused_mlp(x, tensors[1], config, m)
        for x, m in zip(tensors[0].split([1, 95, 904]), tensors[2].split([1, 95, 904]), strict=True)
    ]
    assert torch.equal(torch.cat(parts), all_results[0][0])


@pytest.mark.parametrize("normalizes", [False, True])
def test_gradcheck_and_gradgradcheck_of_the_network(normalizes: bool) -> None:
    config = MLPConfig(3, 2, 16, 2, "Softplus", "None", True, normalizes=normalizes)
    tensors = [t.requires_grad_() for t in inputs(config, 3, 4, torch.float64)]

    def run(x: Tensor, params: Tensor, modulation: Tensor) -> Tensor:
        return ops.fused_mlp(x, params, config, modulation)

    assert gradcheck(run, tensors, fast_mode=True)
    assert gradgradcheck(run, tensors, fast_mode=True)
    assert gradgradcheck(lambda *tensors: slopes(run, *tensors), tensors, fast_mode=True)


def test_opcheck_of_the_network() -> None:
    config = MLPConfig(5, 3, 16, 1, "SiLU", "Sine", True, normalizes=True)
    flat = (3, 16, 1, "SiLU", "Sine", True, 0.0, [1.0, 1.0, 1.0], True)
    x, params, modulation = (t.requires_grad_() for t in inputs(config, 7, 2))
    opcheck(torch.ops.neurfield.fused_mlp.default, (x, params, modulation, *flat, True))
    y, saved = torch.ops.neurfield.fused_mlp(x.detach(), params.detach(), modulation.detach(), *flat, True)
    opcheck(
        torch.ops.neurfield.fused_mlp_backward.default,
        (uniform(7, 3).requires_grad_(), x, params, modulation, y, saved, *flat, True, True, True),
    )


def test_errors_of_the_network() -> None:
    config = MLPConfig(5, 3, 16, 2, normalizes=True)
    x, params, modulation = inputs(config, 7, 4)
    with pytest.raises(ValueError, match=r"fused_mlp: config\.normalizes needs a modulation, got none"):
        ops.fused_mlp(x, params, config)
    with pytest.raises(ValueError, match=r"fused_mlp: modulation must be float32 \[7, 4\], got float32 \[7, 6\]"):
        ops.fused_mlp(x, params, config, torch.zeros(7, 6))
    with pytest.raises(ValueError, match=r"fused_mlp: modulation must be float32 \[7, 2\], got float32 \[6, 2\]"):
        ops.fused_mlp(x, params, config, torch.zeros(6, 2))
    with pytest.raises(TypeError, match=r"fused_mlp: modulation must be float32 \[7, 4\], got float64 \[7, 4\]"):
        ops.fused_mlp(x, params, config, modulation.double())
