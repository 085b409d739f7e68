# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import trunc_exp as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import EPS, assert_close, slopes

ROUNDINGS = 4  # the exponential is within 2 ulp, an ulp is at most two units of roundoff


@pytest.mark.parametrize("n", SIZES)
def test_forward_and_backward_match_reference(n: int) -> None:
    x = uniform(n, 3, low=-40, high=40)
    grad_y = uniform(n, 3, low=-1, seed=1)
    wide = x.double().requires_grad_()
    expected = reference.trunc_exp(wide)
    expected.backward(grad_y.double())
    for inputs in (x.clone(), strided(x)):
        inputs.requires_grad_()
        y = ops.trunc_exp(inputs)
        y.backward(grad_y)
        assert_close(y.detach(), expected.detach(), ROUNDINGS, scale=expected.detach())
        assert_close(inputs.grad, wide.grad, ROUNDINGS + 1, scale=wide.grad.abs())


def test_gradient_is_truncated_outside_15() -> None:
    x = torch.tensor([-80.0, -15.0, 0.0, 15.0, 80.0], requires_grad=True)
    ops.trunc_exp(x).sum().backward()
    expected = torch.tensor([-15.0, -15.0, 0.0, 15.0, 15.0], dtype=torch.float64).exp()
    assert_close(x.grad, expected, ROUNDINGS, scale=expected)


@pytest.mark.parametrize("n", [1, 64])
def test_edges(n: int) -> None:
    """Scalar tail and SIMD body alike."""
    y = ops.trunc_exp(torch.tensor([-torch.inf, -88.0, torch.inf, torch.nan]).repeat_interleave(n))
    y = y.view(4, n)
    assert (y[:2] == 0).all()
    assert torch.isfinite(y[2]).all() and (y[2] > 3e38).all()
    assert y[3].isnan().all()


def test_gradcheck() -> None:
    x = uniform(3, 4, low=-3, high=3, dtype=torch.float64).requires_grad_()
    assert gradcheck(ops.trunc_exp, x)
    assert gradgradcheck(ops.trunc_exp, x)
    assert gradgradcheck(lambda x: slopes(ops.trunc_exp, x), x)


def test_double_is_the_libm_exponential() -> None:
    x = uniform(100, low=-700, high=700, dtype=torch.float64)
    assert ((ops.trunc_exp(x) - x.exp()).abs() <= 4 * EPS[torch.float64] * x.exp()).all()


def test_opcheck() -> None:
    opcheck(torch.ops.neurfield.trunc_exp.default, (uniform(7).requires_grad_(),))
    opcheck(torch.ops.neurfield.trunc_exp_backward.default, (uniform(7), uniform(7)))


def test_error_says_expected_and_found() -> None:
    with pytest.raises(TypeError, match=r"trunc_exp: x must be float32/float64 \[4\], got int64 \[4\]"):
        ops.trunc_exp(torch.zeros(4, dtype=torch.int64))
