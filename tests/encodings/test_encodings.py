# SPDX-License-Identifier: Apache-2.0
"""Every entry of the registry: shape, dtype, values against a float64 reference, gradients, round trip of its block."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from neurfield import encodings
from neurfield.encodings import ENCODINGS
from neurfield.errors import UserError
from neurfield.reference.frequency import frequency
from neurfield.reference.spherical_harmonics import spherical_harmonics
from tests.cases import uniform, unit_vectors
from tests.compare import assert_close


class Case(NamedTuple):
    block: dict[str, Any]
    n_input_dims: int
    n_output_dims: int
    expected: Callable[[Tensor], Tensor]  # float64 input -> output
    scale: float = 1.0  # size at which float32 rounds
    directions: bool = False  # the input is (unit vector + 1) / 2


NESTED = [
    {"otype": "Frequency", "n_frequencies": 3, "n_dims_to_encode": 2},
    {"otype": "SphericalHarmonics", "degree": 3, "n_dims_to_encode": 3},
    {"otype": "Identity"},
]
IDENTITIES = [{"otype": "Identity", "scale": s, "n_dims_to_encode": 2, "dims_to_encode_begin": s - 1} for s in (1, 2)]

CASES = {
    "Identity": Case({"scale": 2.0, "offset": -1}, 4, 4, lambda x: 2 * x - 1, 2),
    "Identity-defaults": Case({}, 2, 2, lambda x: x),
    "Frequency": Case({"n_frequencies": 5}, 3, 30, lambda x: frequency(x, 5)),
    "Frequency-defaults": Case({}, 1, 24, lambda x: frequency(x, 12)),
    "SphericalHarmonics": Case({"degree": 8}, 3, 64, lambda x: spherical_harmonics(2 * x - 1, 8), 60, True),
    "SphericalHarmonics-defaults": Case({}, 3, 16, lambda x: spherical_harmonics(2 * x - 1, 4), 20, True),
    "Composite": Case(
        {"nested": NESTED},
        7,
        2 * 6 + 9 + 2,
        lambda x: torch.cat([frequency(x[:, :2], 3), spherical_harmonics(2 * x[:, 2:5] - 1, 3), x[:, 5:]], dim=1),
        20,
    ),
    "Composite-sum": Case({"nested": IDENTITIES, "reduction": "Sum"}, 3, 2, lambda x: x[:, :2] + 2 * x[:, 1:3], 3),
    "Composite-product": Case(
        {"nested": IDENTITIES, "reduction": "Product"}, 3, 2, lambda x: x[:, :2] * 2 * x[:, 1:3], 2
    ),
}
# 2 x - 1 rounds twice before the functions, whose slope is in `scale`; the functions' own bounds are in tests/ops
ROUNDINGS = 60


def create(name: str) -> encodings.Encoding:
    case = CASES[name]
    return encodings.create(case.n_input_dims, {"otype": name.partition("-")[0], **case.block})


def inputs(case: Case, n: int) -> Tensor:
    return unit_vectors(n) * 0.5 + 0.5 if case.directions else uniform(n, case.n_input_dims)


def test_every_encoding_has_a_case() -> None:
    assert {name.partition("-")[0] for name in CASES} == ENCODINGS.keys()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [0, 1, 33])
def test_shape_dtype_and_values(name: str, n: int) -> None:
    case, encoding = CASES[name], create(name)
    assert (encoding.n_input_dims, encoding.n_output_dims) == (case.n_input_dims, case.n_output_dims)
    x = inputs(case, n)
    y = encoding(x)
    assert y.shape == (n, case.n_output_dims) and y.dtype == x.dtype
    assert_close(y, case.expected(x.double()), ROUNDINGS, case.scale)


@pytest.mark.parametrize("name", CASES)
def test_gradient_reaches_the_input(name: str) -> None:
    case, encoding = CASES[name], create(name)
    x = inputs(case, 5).double().requires_grad_()
    grads = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (encoding, case.expected)]
    assert (grads[0] != 0).any(0).all()
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-9, atol=1e-9)


def test_errors_name_the_nearest_key() -> None:
    wrong = {
        r"unknown encoding 'Frequenzy', did you mean 'Frequency'\? \(valid: Identity": {"otype": "Frequenzy"},
        r"encoding Frequency: unknown key 'n_frequency', did you mean 'n_frequencies'\?": {
            "otype": "Frequency",
            "n_frequency": 4,
        },
        r"encoding Frequency: n_frequencies: expected 1 ... 64, got '0'": {"otype": "Frequency", "n_frequencies": 0},
        r"encoding SphericalHarmonics: degree: expected an integer, got '4.5'": {
            "otype": "SphericalHarmonics",
            "degree": 4.5,
        },
        r"encoding SphericalHarmonics: expected 3 input dimensions, got 7": {"otype": "SphericalHarmonics"},
        r"encoding: expected a key 'otype' with a name, got None": {"degree": 4},
        r"encoding Composite: missing key 'nested'": {"otype": "Composite"},
    }
    for message, block in wrong.items():
        with pytest.raises(UserError, match=message):
            encodings.create(7, block)


def test_errors_of_composites() -> None:
    def composite(*nested: dict[str, Any], **keys: Any) -> encodings.Encoding:
        blocks = [{"otype": "Identity", **block} for block in nested]
        return encodings.create(4, {"otype": "Composite", "nested": blocks, **keys})

    wrong = {
        r"only one nested block may leave out n_dims_to_encode": ({}, {}),
        r"n_dims_to_encode \[5\] do not fit 4 input dimensions": ({"n_dims_to_encode": 5}, {}),
        r"a nested block reads dimensions 3 ... 4 of 4": (
            {"n_dims_to_encode": 3},
            {"n_dims_to_encode": 2},
        ),
        r"no nested block reads dimensions \[2, 3\] of 4": ({"n_dims_to_encode": 2},),
        r"nested\[0\]: dims_to_encode_begin: expected an integer, got 'x'": ({"dims_to_encode_begin": "x"},),
        r"unknown key 'n_dim_to_encode'": ({"n_dim_to_encode": 3},),
    }
    for message, nested in wrong.items():
        with pytest.raises(UserError, match="encoding .*" + message):
            composite(*nested)
    with pytest.raises(UserError, match=r"reduction Sum needs equal output dimensions, got \[1, 3\]"):
        composite({"n_dims_to_encode": 1}, {}, reduction="Sum")
    with pytest.raises(UserError, match="reduction: expected one of Concatenation, Sum, Product, did you mean 'Sum'"):
        composite({}, reduction="Summ")


def test_rest_may_be_empty() -> None:
    """Configurations of instant-ngp carry an Identity for columns that may not be there."""
    nested = [{"otype": "Frequency", "n_dims_to_encode": 2}, {"otype": "Identity"}]
    assert encodings.create(2, {"otype": "Composite", "nested": nested})(uniform(3, 2)).shape == (3, 48)
