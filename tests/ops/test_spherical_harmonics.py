# SPDX-License-Identifier: Apache-2.0
import math

import numpy
import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import spherical_harmonics as reference
from tests.cases import SIZES, strided, unit_vectors
from tests.compare import assert_close

# One step of the recurrence (two products each side, one difference) rounds 5 times at the magnitude of its terms, and
# passes earlier errors on as it passes the values on. Degree 8 takes 7 steps in l and 7 complex products (3 roundings
# each) for (x + iy)^m. The largest term a z q or b q over all l, m < 8 and the sphere is 2.03.
ROUNDINGS = 7 * 5 + 7 * 3
SCALE = 2.03
# A derivative of a band-l function is at most l (l + 1) / 2 times its bound (Markov); values in between likewise.
GRADIENT_SCALE = SCALE * 28


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("degree", range(1, 9))
def test_forward_matches_reference(n: int, degree: int) -> None:
    directions = unit_vectors(n)
    expected = reference.spherical_harmonics(directions.double(), degree)
    assert_close(ops.spherical_harmonics(directions, degree), expected, ROUNDINGS, SCALE)
    assert_close(ops.spherical_harmonics(strided(directions), degree), expected, ROUNDINGS, SCALE)


def test_golden_values_of_degree_4() -> None:
    direction = torch.tensor([[1.0, 2.0, 3.0]]) / math.sqrt(14)
    expected = [
        0.282095, -0.261169, 0.391754, -0.130585, 0.156078, -0.468235, 0.292864, -0.234118,
        -0.117059, 0.022528, 0.331092, -0.540953, 0.064116, -0.270476, -0.248319, 0.123904,
    ]  # fmt: skip
    y = ops.spherical_harmonics(direction, 4)
    torch.testing.assert_close(y, torch.tensor([expected]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("degree", range(1, 9))
def test_squares_sum_to_a_constant(degree: int) -> None:
    """Addition theorem; also at the poles and on the axes, where angles degenerate."""
    axes = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    directions = torch.cat([unit_vectors(100, dtype=torch.float64), axes])
    squares = ops.spherical_harmonics(directions, degree).square().sum(1)
    expected = torch.full_like(squares, degree**2 / (4 * math.pi))
    assert_close(squares, expected, degree**2 * ROUNDINGS, scale=2 * SCALE)


def test_bands_are_orthonormal() -> None:
    """Integrates all products over the sphere: exact in z by Gauss-Legendre (degree 14), in phi by 16 points."""
    nodes, node_weights = (torch.from_numpy(v) for v in numpy.polynomial.legendre.leggauss(8))
    phi = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    radius = (1 - nodes**2).sqrt()
    grid = [radius[:, None] * phi.cos(), radius[:, None] * phi.sin(), nodes[:, None].expand(-1, 16)]
    y = ops.spherical_harmonics(torch.stack(grid, dim=-1).reshape(-1, 3), 8)
    area = (node_weights[:, None] * (2 * math.pi / 16)).expand(-1, 16).reshape(-1, 1)
    torch.testing.assert_close(y.T @ (area * y), torch.eye(64, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("degree", [1, 2, 4, 8])
def test_backward_matches_reference(degree: int) -> None:
    directions = unit_vectors(257)
    grad_y = torch.ones(257, degree**2) - 0.01 * torch.arange(degree**2)
    grads = []
    for inputs, encode in ((directions, ops.spherical_harmonics), (directions.double(), reference.spherical_harmonics)):
        inputs = inputs.clone().requires_grad_()
        encode(inputs, degree).backward(grad_y.to(inputs.dtype))
        grads.append(inputs.grad)
    assert_close(grads[0], grads[1], 2 * ROUNDINGS + degree**2, GRADIENT_SCALE)


@pytest.mark.parametrize("degree", range(1, 9))
def test_gradcheck(degree: int) -> None:
    directions = 0.9 * unit_vectors(3, dtype=torch.float64)
    assert gradcheck(lambda d: ops.spherical_harmonics(d, degree), directions.requires_grad_())


def test_opcheck() -> None:
    opcheck(torch.ops.neurfield.spherical_harmonics.default, (unit_vectors(7).requires_grad_(), 3))
    opcheck(torch.ops.neurfield.spherical_harmonics_backward.default, (unit_vectors(7), torch.ones(7, 9), 3))


def test_errors_say_expected_and_found() -> None:
    message = r"spherical_harmonics: directions must be float32/float64 \[n, 3\], got "
    with pytest.raises(TypeError, match=message + r"float16 \[4, 3\]"):
        ops.spherical_harmonics(torch.zeros(4, 3, dtype=torch.float16), 2)
    with pytest.raises(ValueError, match=message + r"float32 \[4, 2\]"):
        ops.spherical_harmonics(torch.zeros(4, 2), 2)
    for degree in (0, 9):
        with pytest.raises(ValueError, match=rf"spherical_harmonics: degree must be 1 ... 8, got {degree}"):
            ops.spherical_harmonics(torch.zeros(4, 3), degree)
