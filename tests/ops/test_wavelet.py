# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import wavelet as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close, slopes

OMEGA, SCALE = 20.0, 10.0


def bound(u: Tensor) -> Tensor:
    """|h| times what rounds: the terms of exponent and angle (a square and a product each, 4 in all), e^x, a sine."""
    a, b = u.double().chunk(2, dim=1)
    squares = SCALE**2 * (a * a + b * b)
    terms = OMEGA * (a.abs() + b.abs()) + 4 * squares + 4
    return ((-OMEGA * b - squares).exp() * terms + 1e-30).repeat(1, 2)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("width", [1, 15, 16, 17, 212])
def test_forward_and_backward_match_reference(n: int, width: int) -> None:
    u, grad_h = uniform(n, 2 * width, low=-0.4, high=0.4), uniform(n, 2 * width, low=-1, seed=1)
    results = []
    for dtype, run in ((torch.float32, ops.wavelet), (torch.float64, reference.wavelet)):
        inputs = u.to(dtype, copy=True).requires_grad_()
        h = run(inputs, OMEGA, SCALE)
        results.append((h.detach(), *torch.autograd.grad(h, inputs, grad_h.to(dtype))))
    assert_close(results[0][0], results[1][0], 2, scale=bound(u))
    # twice a sum of two products with h, times slopes that round, too
    steepest = 4 * (OMEGA + 2 * SCALE**2 * u.double().abs())
    assert_close(results[0][1], results[1][1], 6, scale=bound(u) * steepest)
    assert torch.equal(ops.wavelet(strided(u), OMEGA, SCALE), results[0][0])


def test_golden_values() -> None:
    """exp(i 20 (0.1 - 0.05 i) - 100 (0.01 + 0.0025)) = exp(1 - 1.25) (cos 2 + i sin 2)"""
    h = ops.wavelet(torch.tensor([[0.1, -0.05]]), OMEGA, SCALE)
    torch.testing.assert_close(h, torch.tensor([[-0.324096, 0.708162]]), atol=1e-6, rtol=0)


def test_what_is_small_is_zero_and_nan_stays() -> None:
    u = torch.tensor([[2.0, 0.0, 0.0, 3.0], [float("nan"), 0.0, 0.0, 0.0]])
    h = ops.wavelet(u, OMEGA, SCALE)
    assert torch.equal(h[0], torch.tensor([0.0, 0.0, 0.0, 0.0]))
    assert h[1, ::2].isnan().all() and torch.equal(h[1, 1::2], torch.tensor([1.0, 0.0]))


def test_gradcheck() -> None:
    u = uniform(4, 6, low=-0.3, high=0.3, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda u: ops.wavelet(u, 7.0, 2.0), u)
    assert gradgradcheck(lambda u: ops.wavelet(u, 7.0, 2.0), u)
    assert gradgradcheck(lambda u: slopes(lambda u: ops.wavelet(u, 3.0, 2.0), u), u)


def test_opcheck() -> None:
    u, grad_h = uniform(7, 36).requires_grad_(), uniform(7, 36, seed=1).requires_grad_()
    opcheck(torch.ops.neurfield.wavelet.default, (u, OMEGA, SCALE))
    opcheck(torch.ops.neurfield.wavelet_backward.default, (u, u.detach(), grad_h, OMEGA, SCALE))


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    u, threads, results = uniform(1000, 40, low=-0.4, high=0.4), torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            results.append(ops.wavelet(u, OMEGA, SCALE))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_errors_say_expected_and_found() -> None:
    u = torch.zeros(3, 4)
    with pytest.raises(TypeError, match=r"wavelet: u must be float32/float64 \[n, 2 width\], got float16 \[3, 4\]"):
        ops.wavelet(u.half(), OMEGA, SCALE)
    with pytest.raises(ValueError, match=r"wavelet: u must be float32/float64 \[n, 2 width\], got float32 \[12\]"):
        ops.wavelet(u.flatten(), OMEGA, SCALE)
    with pytest.raises(ValueError, match="wavelet: u must have as many imaginary as real columns, got 3 in all"):
        ops.wavelet(u[:, :3], OMEGA, SCALE)
    with pytest.raises(ValueError, match="wavelet: omega must be a positive number, got 0"):
        ops.wavelet(u, 0, SCALE)
    with pytest.raises(ValueError, match="wavelet: scale must be a positive number, got nan"):
        ops.wavelet(u, OMEGA, float("nan"))
