# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import fourier_features as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close, slopes


def frequencies(m: int, n_dims: int, dtype=torch.float32, sigma: float = 10.0) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return (sigma * torch.randn(m, n_dims, dtype=torch.float64, generator=generator)).to(dtype)


def phase(x: Tensor, b: Tensor) -> Tensor:
    """Size [n, 2 m] at which the phase rounds: 2 pi sum |b_j x_j|, and 1 for the functions themselves."""
    return (1 + 2 * math.pi * (x.double().abs() @ b.double().abs().T)).repeat_interleave(2, dim=1)


# one rounding per dimension (3 of them), one of the angle, half a unit of the fraction; sine or cosine 2; the gate 1
ROUNDINGS = 8


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", [1, 15, 16, 37, 64])
def test_forward_matches_reference(n: int, m: int) -> None:
    x, b = uniform(n, 3, low=-1), frequencies(m, 3)
    gates = uniform(n, min(m, 5), seed=7)
    for g in (None, gates):
        expected = reference.fourier_features(x.double(), b.double(), None if g is None else g.double())
        assert_close(ops.fourier_features(x, b, g), expected, ROUNDINGS, phase(x, b))
        other = None if g is None else strided(g)
        assert torch.equal(ops.fourier_features(strided(x), strided(b), other), ops.fourier_features(x, b, g))


@pytest.mark.parametrize("n_dims", range(1, 9))
def test_backward_matches_reference(n_dims: int) -> None:
    x, b = uniform(257, n_dims, low=-1), frequencies(37, n_dims)
    grad_y, gates = uniform(257, 74, low=-1, seed=1), uniform(257, 6, seed=2)
    grads = []
    for encode, dtype in ((ops.fourier_features, torch.float32), (reference.fourier_features, torch.float64)):
        inputs = x.clone().to(dtype).requires_grad_()
        encode(inputs, b.to(dtype), gates.to(dtype)).backward(grad_y.to(dtype))
        grads.append(inputs.grad)
    # each of the 37 terms is off by the error of its phase; they add up at most
    size = (2 * math.pi * b.double().abs().T[None] * (phase(x, b)[:, ::2] + 37)[:, None]).sum(2)
    assert_close(grads[0], grads[1], n_dims + 8, size)


def test_golden_values() -> None:
    """An eighth and a quarter of a turn."""
    y = ops.fourier_features(torch.tensor([[0.5, 0.25]]), torch.tensor([[0.25, 0.0], [0.0, 1.0]]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(y, torch.tensor([[half, half, 1.0, 0.0]]), atol=2e-7, rtol=0)


def test_whole_turns_cost_nothing() -> None:
    """Phases that float32 holds exactly are reduced exactly, however many turns they are."""
    x = uniform(100, 1) * 2**-2
    many = ops.fourier_features(x.round(decimals=2).mul(2**10).floor().div(2**10) + 1000, torch.ones(1, 1))
    few = ops.fourier_features(x.round(decimals=2).mul(2**10).floor().div(2**10), torch.ones(1, 1))
    assert torch.equal(many, few)


def test_non_finite_positions_give_nan() -> None:
    y = ops.fourier_features(torch.tensor([[math.nan], [math.inf], [0.5]]), torch.ones(20, 1))
    assert y[:2].isnan().all() and y[2].isfinite().all()


def test_gradcheck() -> None:
    x, b, gates = (
        uniform(5, 3, low=-1, dtype=torch.float64).requires_grad_(),
        frequencies(7, 3, torch.float64, 1.0),
        uniform(5, 2, dtype=torch.float64),
    )
    for g in (None, gates):
        assert gradcheck(lambda x, g=g: ops.fourier_features(x, b, g), x)
        assert gradgradcheck(lambda x, g=g: ops.fourier_features(x, b, g), x)
        assert gradgradcheck(lambda x, g=g: slopes(lambda x: ops.fourier_features(x, b, g), x), x)


def test_opcheck() -> None:
    x, b = uniform(7, 2).requires_grad_(), frequencies(5, 2)
    for gates in (None, uniform(7, 3)):
        opcheck(torch.ops.neurfield.fourier_features.default, (x, b, gates))
        grad_y = uniform(7, 10).requires_grad_()
        opcheck(torch.ops.neurfield.fourier_features_backward.default, (grad_y, x, b, gates))


def test_errors_say_expected_and_found() -> None:
    x, b = torch.zeros(4, 2), torch.zeros(6, 2)
    with pytest.raises(TypeError, match=r"fourier_features: x must be float32/float64 \[n, n_dims\], got int64 \[4\]"):
        ops.fourier_features(torch.zeros(4, dtype=torch.int64), b)
    with pytest.raises(ValueError, match=r"frequencies must be float32 \[n, 2\], got float32 \[6, 3\]"):
        ops.fourier_features(x, torch.zeros(6, 3))
    with pytest.raises(ValueError, match=r"gates must be float32 \[4, n_gates\], got float32 \[3, 2\]"):
        ops.fourier_features(x, b, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"expected 1 ... 6 gates, got 7"):
        ops.fourier_features(x, b, torch.zeros(4, 7))
    with pytest.raises(ValueError, match=r"expected 1 ... 8 dimensions and at least 1 frequency, got 9 and 6"):
        ops.fourier_features(torch.zeros(4, 9), torch.zeros(6, 9))
    with pytest.raises(ValueError, match=r"frequencies and gates are constants; detach them"):
        ops.fourier_features(x, b.requires_grad_())
