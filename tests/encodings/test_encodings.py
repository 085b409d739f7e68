# SPDX-License-Identifier: Apache-2.0
"""Every entry of the registry: shape, dtype, values against a float64 reference, gradients, round trip of its block."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from neurfield import encodings
from neurfield.encodings import ENCODINGS
from neurfield.encodings.gaussian_fourier import GaussianFourier, GaussianFourierConfig
from neurfield.errors import UserError
from neurfield.ops import GridConfig
from neurfield.reference import hash_grid as grid_reference
from neurfield.reference.fourier_features import fourier_features
from neurfield.reference.frequency import frequency
from neurfield.reference.spherical_harmonics import spherical_harmonics
from tests.cases import uniform, unit_vectors
from tests.compare import assert_close


class Case(NamedTuple):
    block: dict[str, Any]
    n_input_dims: int
    n_output_dims: int
    expected: Callable[[Tensor, Any], Tensor]  # float64 input, encoding -> output
    scale: float = 1.0  # size at which float32 rounds
    directions: bool = False  # the input is (unit vector + 1) / 2


def grid(x: Tensor, encoding: Any) -> Tensor:
    c = encoding.config
    levels = grid_reference.levels(
        c.n_input_dims, c.n_levels, c.log2_hashmap_size, c.base_resolution, c.per_level_scale, c.type
    )
    table = encoding.params.double().view(-1, c.n_features_per_level)
    return grid_reference.hash_grid(x, table, levels, c.interpolation, None)


def gaussian_fourier(x: Tensor, encoding: Any) -> Tensor:
    return encoding.config.scale * fourier_features(x, encoding.frequencies.double())


def triangle_wave(x: Tensor, n_frequencies: int) -> Tensor:
    """By the distance of v to the nearest integer, which arccos cos finds."""
    k = torch.arange(n_frequencies, dtype=torch.float64)
    v = x.double()[:, :, None] * 2 ** (k - 1) + k / 4
    return (1 - 2 / math.pi * torch.acos(torch.cos(2 * math.pi * v))).flatten(1)


def one_blob(x: Tensor, n_bins: int) -> Tensor:
    """The kernel 15/16 (1 - u^2)^2 / r integrated by three points over what each bin has of it, exact at its degree."""
    x, left, radius = x.double()[:, :, None], torch.arange(n_bins, dtype=torch.float64) / n_bins, 1 / n_bins
    total = torch.zeros_like(x) + torch.zeros_like(left)
    for middle in (x - 1, x, x + 1):
        low = torch.maximum(middle - radius, left)
        high = torch.maximum(torch.minimum(middle + radius, left + 1 / n_bins), low)
        for node, weight in ((-((3 / 5) ** 0.5), 5 / 18), (0.0, 8 / 18), ((3 / 5) ** 0.5, 5 / 18)):
            u = ((low + high) / 2 + node * (high - low) / 2 - middle) / radius
            total = total + weight * (high - low) * 15 / 16 * (1 - u * u) ** 2 / radius
    return total.flatten(1)


SMALL = {"n_levels": 4, "log2_hashmap_size": 8, "base_resolution": 4, "per_level_scale": 1.5}
# features of 1e-4 move by twice that per cell, at most 14 cells per axis, in 3 dimensions; positions round once
GRID_SCALE = 1e-4 * 2 * 14 * 3 / 20
NESTED = [
    {"otype": "Frequency", "n_frequencies": 3, "n_dims_to_encode": 2},
    {"otype": "SphericalHarmonics", "degree": 3, "n_dims_to_encode": 3},
    {"otype": "Identity"},
]
IDENTITIES = [{"otype": "Identity", "scale": s, "n_dims_to_encode": 2, "dims_to_encode_begin": s - 1} for s in (1, 2)]

CASES = {
    "Identity": Case({"scale": 2.0, "offset": -1}, 4, 4, lambda x, _: 2 * x - 1, 2),
    "Identity-defaults": Case({}, 2, 2, lambda x, _: x),
    "Frequency": Case({"n_frequencies": 5}, 3, 30, lambda x, _: frequency(x, 5)),
    "Frequency-defaults": Case({}, 1, 24, lambda x, _: frequency(x, 12)),
    # sizes: 2 pi times the largest |b| |x| of so many normal numbers, 5 sigma sqrt(n_input_dims)
    "GaussianFourier": Case({"n_frequencies": 20, "sigma": 1.5, "seed": 3}, 3, 40, gaussian_fourier, 6.3 * 13),
    "GaussianFourier-radius": Case({"normal": "Radius"}, 3, 512, gaussian_fourier, 6.3 * 87),
    "GaussianFourier-scaled": Case({"n_frequencies": 20, "scale": 5}, 3, 40, gaussian_fourier, 5 * 6.3 * 87),
    "GaussianFourier-defaults": Case({}, 2, 512, gaussian_fourier, 6.3 * 71),
    "SphericalHarmonics": Case({"degree": 8}, 3, 64, lambda x, _: spherical_harmonics(2 * x - 1, 8), 60, True),
    "SphericalHarmonics-defaults": Case({}, 3, 16, lambda x, _: spherical_harmonics(2 * x - 1, 4), 20, True),
    # x moves by 2^(k - 1) and comes out times 4
    "TriangleWave": Case({"n_frequencies": 5}, 3, 15, lambda x, _: triangle_wave(x, 5), 4 * 8),
    "TriangleWave-defaults": Case({}, 2, 24, lambda x, _: triangle_wave(x, 12), 4 * 1024),
    # positions are counted in bins, of which the density at the middle is 15/16
    "OneBlob": Case({"n_bins": 4}, 3, 12, lambda x, _: one_blob(x, 4), 4),
    "OneBlob-defaults": Case({}, 2, 32, lambda x, _: one_blob(x, 16), 16),
    "Grid": Case({**SMALL, "type": "Dense", "interpolation": "Smoothstep"}, 2, 8, grid, GRID_SCALE),
    "HashGrid": Case(SMALL, 3, 8, grid, GRID_SCALE),
    "DenseGrid": Case({**SMALL, "n_features_per_level": 4}, 3, 16, grid, GRID_SCALE),
    "TiledGrid": Case({**SMALL, "n_features_per_level": 1}, 4, 4, grid, GRID_SCALE),
    "Composite": Case(
        {"nested": NESTED},
        7,
        2 * 6 + 9 + 2,
        lambda x, _: torch.cat([frequency(x[:, :2], 3), spherical_harmonics(2 * x[:, 2:5] - 1, 3), x[:, 5:]], dim=1),
        20,
    ),
    "Composite-sum": Case({"nested": IDENTITIES, "reduction": "Sum"}, 3, 2, lambda x, _: x[:, :2] + 2 * x[:, 1:3], 3),
    "Composite-product": Case(
        {"nested": IDENTITIES, "reduction": "Product"}, 3, 2, lambda x, _: x[:, :2] * 2 * x[:, 1:3], 2
    ),
}
CASES["SAPE"] = Case(
    {
        "nested": {"otype": "GaussianFourier", "n_frequencies": 12, "sigma": 0.5},
        "resolution": [5, 4],
        "n_blocks": 1,
    },
    2,
    26,
    lambda x, encoding: torch.cat([x, gaussian_fourier(x, encoding.nested)], dim=1),
    6.3 * 4,
)
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
    assert_close(y.detach(), case.expected(x.double(), encoding).detach(), ROUNDINGS, case.scale)


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_input_and_parameters(name: str) -> None:
    case, encoding = CASES[name], create(name).double()
    x = inputs(case, 33).double().requires_grad_()  # enough for every bin of a blob
    leaves = [x, *encoding.parameters()]
    outputs = (encoding(x), case.expected(x, encoding))
    weights = 1 + 0.1 * torch.arange(case.n_output_dims, dtype=torch.float64)
    for actual, expected in zip(*(torch.autograd.grad((y @ weights).sum(), leaves) for y in outputs), strict=True):
        assert (expected != 0).any()
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))
    assert (outputs[0] != 0).any(0).all()


@pytest.mark.parametrize("name", CASES)
def test_other_numbers_of_columns_are_refused(name: str) -> None:
    """A part of a composite would not read what is too much, and others would have another number of outputs."""
    encoding = create(name)
    n = encoding.n_input_dims
    for shape in ((4, n + 1), (4, n - 1), (n,), (2, 3, n)):
        with pytest.raises(ValueError, match=rf"\[n, {n}\], got .*{re.escape(str(list(shape)))}"):
            encoding(torch.rand(shape))


@pytest.mark.parametrize("name", CASES)
def test_arrays_and_mixed_precisions_are_refused(name: str) -> None:
    case, encoding = CASES[name], create(name)
    x = inputs(case, 4)
    with pytest.raises(TypeError, match=r"(must be|expected) a torch.Tensor, got ndarray"):
        encoding(x.numpy())
    if encoding.state_dict() and name != "SAPE":  # whose mask has any precision
        with pytest.raises(TypeError, match=r"float64.*got float32.* use \.float\(\) of those, or \.double\(\) of"):
            encoding(x.double())


@pytest.mark.parametrize("name", CASES)
def test_compiles_and_exports_whole_for_any_number_of_rows(name: str) -> None:
    """No graph breaks, which `fullgraph` would refuse."""
    encoding, xs = create(name), [inputs(CASES[name], n).requires_grad_() for n in (33, 40, 2)]
    compiled = torch.compile(encoding, fullgraph=True, backend="aot_eager")
    rows = ({0: torch.export.Dim("n")},)
    exported = torch.export.export(encoding, (xs[0],), dynamic_shapes=rows).module()
    for x in xs:
        y, leaves = encoding(x), [x, *encoding.parameters()]
        for other in (compiled, exported):
            assert torch.equal(other(x), y)
        for a, b in zip(*(torch.autograd.grad(out.sum(), leaves) for out in (compiled(x), y)), strict=True):
            torch.testing.assert_close(a, b)  # a traced product has another order


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
        r"encoding GaussianFourier: sigma: expected 0 ... 1e\+06, got '-1'": {"otype": "GaussianFourier", "sigma": -1},
        r"encoding Composite: missing key 'nested'": {"otype": "Composite"},
    }
    for message, block in wrong.items():
        with pytest.raises(UserError, match=message):
            encodings.create(7, block)
    with pytest.raises(UserError, match=r"encoding GaussianFourier: expected 1 ... 8 input dimensions, got 9"):
        encodings.create(9, {"otype": "GaussianFourier"})


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


def test_blobs_are_shares_of_one_and_wrap_around() -> None:
    encoding = encodings.create(1, {"otype": "OneBlob", "n_bins": 8})
    y = encoding(torch.linspace(0, 1, 33, dtype=torch.float64)[:, None])
    assert (y >= -1e-15).all() and torch.allclose(y.sum(1), torch.ones_like(y[:, 0]), rtol=1e-14)
    assert torch.allclose(y[0], y[-1], atol=1e-15) and torch.allclose(y[0, [0, -1]], torch.tensor(0.5).double())
    # in the middle of a bin: cdf(1/2) - cdf(-1/2) = 15/16 (1 - 1/6 + 1/80) of it
    assert float(encoding(torch.tensor([[1 / 16]]).double())[0, 0]) == pytest.approx(15 / 16 * (1 - 1 / 6 + 1 / 80))
    with pytest.raises(UserError, match="encoding OneBlob: n_bins: expected a power of two, got 12"):
        encodings.create(1, {"otype": "OneBlob", "n_bins": 12})


def test_defaults_of_grids() -> None:
    """As in tiny-cuda-nn: 16 x 2 features, 2^19 entries, 16 vertices, scale 2; a dense grid ends at 256."""
    hashed = encodings.create(2, {"otype": "HashGrid", "n_levels": 3}).config
    assert hashed == GridConfig(2, 3, 2, 19, 16, 2.0, "Hash", "Linear")
    dense = encodings.create(2, {"otype": "DenseGrid", "n_levels": 3}).config
    assert dense.type == "Dense" and dense.per_level_scale == pytest.approx(4)
    by_features = encodings.create(2, {"otype": "Grid", "n_features": 12, "n_features_per_level": 4}).config
    assert (by_features.n_levels, by_features.type) == (3, "Hash")
    params = encodings.create(3, {"otype": "HashGrid", **SMALL}).params
    assert 0.9e-4 < params.max() <= 1e-4 and -1e-4 <= params.min() < -0.9e-4


def test_gaussian_frequencies_have_their_spread_and_order() -> None:
    encoding = encodings.create(2, {"otype": "GaussianFourier", "n_frequencies": 4096, "sigma": 5})
    b = encoding.frequencies
    assert abs(float(b.mean())) <= 4 * 5 / 8192**0.5  # 4 standard errors
    assert abs(float(b.std()) / 5 - 1) <= 4 / (2 * 8192) ** 0.5
    assert (b.norm(dim=1).diff() >= 0).all()
    again, other = (GaussianFourier(2, GaussianFourierConfig(4096, 5.0, seed)) for seed in (1337, 1))
    assert torch.equal(again.frequencies, b) and not torch.equal(other.frequencies, b)
    assert list(encoding.state_dict()) == ["frequencies"] and not list(encoding.parameters())


def test_scaled_features_take_gates() -> None:
    plain, scaled = (GaussianFourier(2, GaussianFourierConfig(8, scale=s)) for s in (1, 4))
    x, gates = uniform(5, 2), uniform(5, 3, seed=1)
    assert torch.equal(scaled(x, gates), 4 * plain(x, gates))  # a power of two: the same roundings


def test_errors_of_grids() -> None:
    wrong = {
        r"n_levels must be in \[1, 128\], got 0": {"n_levels": 0},
        r"n_levels: expected an integer, got '2.5'": {"n_levels": 2.5},
        r"n_features_per_level must be 1, 2, 4 or 8, got 3": {"n_features_per_level": 3},
        r"per_level_scale: expected at least 1, got '0.5'": {"per_level_scale": 0.5},
        r"type: expected one of Hash": {"type": "Dense"},
        r"n_features and n_levels say the same": {"n_features": 8, "n_levels": 4},
        r"n_features must be a multiple of n_features_per_level = 2, got 7": {"n_features": 7},
        r"fixed_point_pos is not supported": {"fixed_point_pos": True},
        r"unknown key 'n_level', did you mean 'n_levels'": {"n_level": 4},
    }
    for message, keys in wrong.items():
        with pytest.raises(UserError, match="encoding .*Grid: " + message):
            encodings.create(3, {"otype": "HashGrid", **keys})


@pytest.mark.parametrize("n_dims", [1, 2, 3, 8])
def test_magnitudes_are_half_normal_in_any_number_of_dimensions(n_dims: int) -> None:
    """|N(0, 1)| has the mean (2 / pi)^0.5, and 0.0797 of it below 0.1; directions have no preference."""
    encoding = encodings.create(
        n_dims, {"otype": "GaussianFourier", "n_frequencies": 40000, "sigma": 2.0, "normal": "Radius"}
    )
    radius = encoding.frequencies.norm(dim=1) / 2.0
    n = len(radius)
    error = (1 - 2 / math.pi) ** 0.5 / n**0.5
    assert float(radius.mean()) == pytest.approx((2 / math.pi) ** 0.5, abs=4 * error)
    assert float((radius < 0.1).double().mean()) == pytest.approx(0.0797, abs=4 * (0.0797 / n) ** 0.5)
    assert bool((radius.diff() >= 0).all())
    means = (encoding.frequencies / encoding.frequencies.norm(dim=1, keepdim=True)).mean(0)
    assert float(means.abs().max()) < 4 * (1 / n_dims / n) ** 0.5
