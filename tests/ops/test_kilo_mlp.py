# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.ops import KiloConfig
from neurfield.reference import kilo_mlp as reference
from tests.cases import SIZES, generator, strided, uniform, unit_vectors
from tests.compare import relative_norm

# Relative to the norm of the result: four layers of at most 128 terms, 20 units of roundoff as in test_fused_mlp, and
# the encoding, whose entries of order one are off by 2^-17.
RELATIVE = 20 * 2.0**-24 + 2.0**-17
# Gradients pass the layers twice. A hidden value within that error of zero may be cut off on one side only, which shows
# in one sample of some hundred and one unit of 64.
GRADIENT = 2 * RELATIVE
SMALL = KiloConfig(16, 2, 1)


def parameters(config: KiloConfig, n_networks: int, dtype=torch.float32, seed: int = 1) -> Tensor:
    """Values that keep activations of order one; the idle end of each row is not a number."""
    params = uniform(n_networks, config.n_params, low=-1, dtype=dtype, seed=seed) * (3.0 / config.width) ** 0.5
    params[:, config.n_values :] = float("nan")
    return params


def samples(n: int, n_networks: int, dtype=torch.float32, seed: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    network = torch.randint(-1, n_networks, (n,), generator=generator(seed), dtype=torch.int32)
    return uniform(n, 3, low=-1, dtype=dtype, seed=seed + 1), unit_vectors(n, dtype, seed + 2), network


def gradients(run, x: Tensor, directions: Tensor | None, network: Tensor, params: Tensor, config: KiloConfig, grad_y):
    leaves = [t.clone().requires_grad_() for t in (x, directions, params) if t is not None]
    d = leaves[1] if directions is not None else None
    y = run(leaves[0], d, network, leaves[-1], config)
    y.backward(grad_y.to(y.dtype))
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def check_all(x: Tensor, directions: Tensor | None, network: Tensor, params: Tensor, config: KiloConfig) -> None:
    """Value and all gradients against float64."""
    grad_y = uniform(x.shape[0], 1 if directions is None else 4, low=-1, seed=2)
    wide = None if directions is None else directions.double()
    actual = gradients(ops.kilo_mlp, x, directions, network, params, config, grad_y)
    expected = gradients(reference.kilo_mlp, x.double(), wide, network, params.double(), config, grad_y)
    used = config.n_values
    assert not actual[-1][:, used:].any()
    actual[-1], expected[-1] = actual[-1][:, :used], expected[-1][:, :used]
    # a gradient with respect to an input is multiplied by the highest frequency, and so is the encoding's error in it
    bounds = [RELATIVE, *[4 * GRADIENT] * (len(actual) - 2), GRADIENT]
    for got, want, bound in zip(actual, expected, bounds, strict=True):
        assert got.shape == want.shape
        assert relative_norm(got, want) <= bound
    assert not actual[0][network < 0].any() and not actual[1][network < 0].any()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("has_color", [False, True])
def test_sizes(n: int, has_color: bool) -> None:
    config = KiloConfig()
    x, directions, network = samples(n, 7)
    params = parameters(config, 7)
    check_all(x, directions if has_color else None, network, params, config)
    plain = ops.kilo_mlp(x, directions, network, params, config)
    assert torch.equal(plain, ops.kilo_mlp(strided(x), strided(directions), network, strided(params), config))


@pytest.mark.parametrize("width", [16, 32, 48, 64])
@pytest.mark.parametrize(("position_frequencies", "direction_frequencies"), [(0, 0), (1, 4), (5, 3), (10, 4)])
def test_shapes(width: int, position_frequencies: int, direction_frequencies: int) -> None:
    config = KiloConfig(width, position_frequencies, direction_frequencies)
    check_all(*samples(301, 5), parameters(config, 5), config)


def test_counts_of_the_paper() -> None:
    config = KiloConfig()
    assert config.n_values == 6212 and config.n_params == 6224
    assert sum(part.numel() for part in config.parts(torch.empty(3, config.n_params)).values()) == 3 * 6212


def test_empty_cells_get_zero_gradients() -> None:
    params = parameters(SMALL, 9)
    x, directions, _ = samples(50, 9)
    network = torch.full((50,), 4, dtype=torch.int32)
    grad = gradients(ops.kilo_mlp, x, directions, network, params, SMALL, torch.ones(50, 4))[-1]
    assert grad[4].any() and not grad[torch.arange(9) != 4].any()


def test_one_huge_cell_is_cut_and_summed() -> None:
    n = 3 * 4096 + 77  # csrc/cpu/kilo_mlp.cpp cuts a network's samples into chunks of 4096
    x, directions, network = samples(n, 3)
    network[torch.arange(n) % 100 > 0] = 1
    check_all(x, directions, network, parameters(SMALL, 3), SMALL)


def test_all_samples_without_a_network() -> None:
    x, directions, network = samples(40, 3)
    results = gradients(ops.kilo_mlp, x, directions, network.fill_(-1), parameters(SMALL, 3), SMALL, torch.ones(40, 4))
    assert not any(result.any() for result in results)


def test_order_of_samples_does_not_change_numbers() -> None:
    x, directions, network = samples(2000, 11)
    params, config = parameters(KiloConfig(), 11), KiloConfig()
    grad_y = uniform(2000, 4, low=-1, seed=3)
    plain = gradients(ops.kilo_mlp, x, directions, network, params, config, grad_y)
    order = torch.randperm(2000, generator=generator(4))
    mixed = gradients(ops.kilo_mlp, x[order], directions[order], network[order], params, config, grad_y[order])
    for before, after in zip(plain[:3], mixed[:3], strict=True):
        assert torch.equal(before[order], after)
    # sums of some 200 terms in another order
    assert relative_norm(mixed[3][:, : config.n_values], plain[3][:, : config.n_values]) <= 200 * 2.0**-24


def test_thread_count_does_not_change_numbers() -> None:
    x, directions, network = samples(40000, 3)
    params, grad_y = parameters(SMALL, 3), uniform(40000, 4, seed=2)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(gradients(ops.kilo_mlp, x, directions, network, params, SMALL, grad_y))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_density_alone_is_that_of_the_whole() -> None:
    x, directions, network = samples(500, 4)
    params = parameters(KiloConfig(), 4)
    whole = ops.kilo_mlp(x, directions, network, params)
    assert torch.equal(ops.kilo_mlp(x, None, network, params), whole[:, :1])


def test_nan_stays_in_its_sample() -> None:
    x, directions, network = samples(100, 2)
    params = parameters(SMALL, 2)
    clean = ops.kilo_mlp(x, directions, network.fill_(1), params, SMALL)
    x[17, 1] = float("nan")
    y = ops.kilo_mlp(x, directions, network, params, SMALL)
    assert y[17].isnan().all()
    y[17] = clean[17]  # the others of its vector get libm's sines, which differ in the last bit
    assert relative_norm(y, clean) <= RELATIVE


@pytest.mark.parametrize("has_color", [False, True])
def test_gradcheck(has_color: bool) -> None:
    x, directions, network = samples(6, 3, torch.float64)
    params = parameters(SMALL, 3, torch.float64).nan_to_num(0.0)
    inputs = [x, directions, params] if has_color else [x, params]

    def run(x: Tensor, *rest: Tensor) -> Tensor:
        return ops.kilo_mlp(x, rest[0] if has_color else None, network, rest[-1], SMALL)

    assert gradcheck(run, [t.requires_grad_() for t in inputs], fast_mode=True)
    assert gradcheck(lambda x: run(x, *(t.detach() for t in inputs[1:])), x)


def test_only_the_gradient_that_is_asked_for() -> None:
    x, directions, network = samples(100, 3)
    params = parameters(SMALL, 3)
    _, grad_x, grad_d, grad_params = gradients(ops.kilo_mlp, x, directions, network, params, SMALL, torch.ones(100, 4))
    for index, want in enumerate((grad_x, grad_d, grad_params)):
        inputs = [x, directions, params]
        inputs[index] = inputs[index].clone().requires_grad_()
        ops.kilo_mlp(inputs[0], inputs[1], network, inputs[2], SMALL).sum().backward()
        assert torch.equal(inputs[index].grad, want)


def test_opcheck() -> None:
    x, directions, network = samples(7, 3)
    params = parameters(SMALL, 3).nan_to_num(0.0)
    for d in (directions, None):
        leaves = [t if t is None else t.clone().requires_grad_() for t in (x, d)]
        opcheck(torch.ops.neurfield.kilo_mlp.default, (*leaves, network, params.clone().requires_grad_(), 16, 2, 1))
        opcheck(
            torch.ops.neurfield.kilo_mlp_backward.default,
            (uniform(7, 1 if d is None else 4), x, d, network, params, 16, 2, 1, True, d is not None, True),
        )


def test_errors_say_expected_and_found() -> None:
    x, directions, network = samples(4, 3)
    params = parameters(SMALL, 3)
    with pytest.raises(TypeError, match=r"kilo_mlp: x must be float32/float64 \[n, 3\], got float16 \[4, 3\]"):
        ops.kilo_mlp(x.half(), directions, network, params, SMALL)
    with pytest.raises(ValueError, match=r"kilo_mlp: directions must be float32 \[4, 3\], got float32 \[3, 3\]"):
        ops.kilo_mlp(x, directions[1:], network, params, SMALL)
    with pytest.raises(TypeError, match=r"kilo_mlp: network must be int32 \[4\], got int64 \[4\]"):
        ops.kilo_mlp(x, directions, network.long(), params, SMALL)
    with pytest.raises(ValueError, match=rf"kilo_mlp: params must be float32 \[n_networks, {SMALL.n_params}\], got"):
        ops.kilo_mlp(x, directions, network, params[:, 1:], SMALL)
    with pytest.raises(ValueError, match="kilo_mlp: a sample names a network beyond those that params holds"):
        ops.kilo_mlp(x, directions, network.fill_(3), params, SMALL)
    for change, message in [
        ({"width": 24}, r"width must be one of \(16, 32, 48, 64\), got 24"),
        ({"position_frequencies": 21}, r"position_frequencies must be in 0 ... 20, got 21"),
        ({"direction_frequencies": -1}, r"direction_frequencies must be in 0 ... 20, got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SMALL, **change)
