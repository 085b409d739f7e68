# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import frequency as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close, slopes

# sin or cos of an angle below 2 pi: reduction is exact, the product with pi rounds at 2 pi (7 units), libm adds 1
ROUNDINGS = 10


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("n_frequencies", [1, 4, 12])
def test_forward_matches_reference(n: int, n_frequencies: int) -> None:
    x = uniform(n, 3, low=-1)
    expected = reference.frequency(x.double(), n_frequencies)
    assert_close(ops.frequency(x, n_frequencies), expected, ROUNDINGS)
    assert_close(ops.frequency(strided(x), n_frequencies), expected, ROUNDINGS)


def test_golden_values() -> None:
    y = ops.frequency(torch.tensor([[0.3]]), 3)
    expected = [0.809017, 0.587785, 0.951057, -0.309017, -0.587785, -0.809017]
    torch.testing.assert_close(y, torch.tensor([expected]), atol=1e-6, rtol=0)


def test_backward_matches_reference() -> None:
    x = uniform(257, 2, low=-1)
    grad_y = uniform(257, 2 * 2 * 6, low=-1, seed=1)
    grads = []
    for inputs, encode in ((x, ops.frequency), (x.double(), reference.frequency)):
        inputs = inputs.clone().requires_grad_()
        encode(inputs, 6).backward(grad_y.to(inputs.dtype))
        grads.append(inputs.grad)
    assert_close(grads[0], grads[1], ROUNDINGS + 6, scale=2 * torch.pi * 2**6)


def test_gradcheck() -> None:
    x = uniform(5, 3, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: ops.frequency(x, 4), x)
    assert gradgradcheck(lambda x: ops.frequency(x, 4), x)
    assert gradgradcheck(lambda x: slopes(lambda x: ops.frequency(x, 2), x), x)


def test_second_derivative_of_high_frequencies_matches_reference() -> None:
    """Angles are reduced before they round: plain cosines of up to 2^11 pi x would be off by 2^-13."""
    grads = []
    for dtype, run in ((torch.float32, ops.frequency), (torch.float64, reference.frequency)):
        x, grad_y = (t.to(dtype).requires_grad_() for t in (uniform(257, 2, low=-1), uniform(257, 48, low=-1, seed=1)))
        (slope,) = torch.autograd.grad(run(x, 12), x, grad_y, create_graph=True)
        grads.append(torch.autograd.grad(slope.sum(), (x, grad_y)))
    size = torch.pi * 2**11  # of a slope; of the second derivative squared
    for found, expected, scale in zip(*grads, (2 * size**2, size), strict=True):
        assert_close(found, expected, ROUNDINGS + 12, scale=scale)


def test_opcheck() -> None:
    opcheck(torch.ops.neurfield.frequency.default, (uniform(7).requires_grad_(), 3))
    opcheck(torch.ops.neurfield.frequency_backward.default, (uniform(7), uniform(7, 6)))


def test_errors_say_expected_and_found() -> None:
    with pytest.raises(TypeError, match=r"frequency: x must be float32/float64 \[n, n_dims\], got int64 \[4, 1\]"):
        ops.frequency(torch.zeros(4, 1, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match=r"frequency: x must be float32/float64 \[n, n_dims\], got float32 \[4\]"):
        ops.frequency(torch.zeros(4), 2)
    with pytest.raises(ValueError, match=r"frequency: n_frequencies must be at least 1, got 0"):
        ops.frequency(torch.zeros(4, 1), 0)
