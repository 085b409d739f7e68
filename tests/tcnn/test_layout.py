# SPDX-License-Identifier: Apache-2.0
"""Where tiny-cuda-nn puts every parameter and every padding column, written out by hand; conversion both ways."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neurfield import encodings, networks, tcnn
from neurfield.errors import UserError
from neurfield.reference import hash_grid as grid_reference
from neurfield.reference.frequency import frequency
from neurfield.reference.spherical_harmonics import spherical_harmonics
from neurfield.tcnn.columns import natural_columns, network_columns
from tests.cases import uniform
from tests.compare import relative_norm

GRID = {"otype": "HashGrid", "n_levels": 3, "log2_hashmap_size": 8, "base_resolution": 4, "per_level_scale": 1.5}
MLP = {"otype": "FullyFusedMLP", "n_neurons": 32, "n_hidden_layers": 2}
SH3 = {"otype": "SphericalHarmonics", "degree": 3}


def grid(x: Tensor, table: Tensor, n_features: int) -> Tensor:
    levels = grid_reference.levels(3, 3, 8, 4, 1.5, "Hash")
    return grid_reference.hash_grid(x, table.view(-1, n_features), levels, "Linear", None)


def composite(*nested: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"otype": "Composite", "nested": list(nested), **keys}


def ones(x: Tensor, n: int) -> Tensor:
    return x.new_ones(len(x), n)


# block, input dimensions, the 16 k columns that the network reads
CASES: dict[str, tuple[dict[str, Any], int, Any]] = {
    "zeros behind a grid": (GRID, 3, lambda x, table: torch.cat([grid(x, table, 2), 0 * ones(x, 10)], 1)),
    "ones behind frequencies": (
        {"otype": "Frequency", "n_frequencies": 4}, 3, lambda x, _: torch.cat([frequency(x, 4), ones(x, 8)], 1)
    ),
    "ones in front of harmonics": (
        SH3, 3, lambda x, _: torch.cat([ones(x, 7), spherical_harmonics(2 * x - 1, 3)], 1)
    ),
    "a grid begins at a multiple of its features": (
        composite({"otype": "Identity", "n_dims_to_encode": 2}, {**GRID, "n_features_per_level": 4}),
        5,
        lambda x, table: torch.cat([x[:, :2], ones(x, 2), grid(x[:, 2:], table, 4)], 1),
    ),
    "harmonics at the end of a composite": (
        composite({**GRID, "n_dims_to_encode": 3}, SH3),
        6,
        lambda x, table: torch.cat(
            [grid(x[:, :3], table, 2), ones(x, 1), spherical_harmonics(2 * x[:, 3:] - 1, 3)], 1
        ),
    ),
    "a sum adds up its padding": (
        composite(
            {"otype": "Identity", "n_dims_to_encode": 3}, {"otype": "Identity", "scale": 2.0}, reduction="Sum"
        ),
        6,
        lambda x, _: torch.cat([x[:, :3] + 2 * x[:, 3:], 2 * ones(x, 13)], 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_matrices_come_first_and_read_these_columns(name: str) -> None:
    block, n_dims, columns = CASES[name]
    module = tcnn.NetworkWithInputEncoding(n_dims, 5, block, MLP).double()
    with torch.no_grad():
        module.params[-64:] += 0.3  # so that a table counts
    x, rest = uniform(9, n_dims, dtype=torch.float64), module.params.detach()
    matrices, n_columns = [], 32 if "frequencies" in name else 16
    for n_out, n_in in ((32, n_columns), (32, 32), (16, 32)):
        matrices.append(rest[: n_out * n_in].view(n_out, n_in))
        rest = rest[n_out * n_in :]
    h = columns(x, rest)
    assert h.shape == (9, n_columns)
    for matrix in matrices[:-1]:
        h = torch.relu(h @ matrix.T)
    with torch.no_grad():
        assert relative_norm(module(x), (h @ matrices[-1].T)[:, :5]) < 1e-13


def test_networks_read_ones_behind_their_inputs() -> None:
    module = tcnn.Network(3, 2, {"otype": "CutlassMLP", "n_neurons": 16, "n_hidden_layers": 1}).double()
    x = uniform(9, 3, dtype=torch.float64)
    first, last = module.params.detach().view(2, 16, 16)
    expected = torch.relu(x @ first[:, :3].T + first[:, 3:].sum(1)) @ last[:2].T
    assert relative_norm(module(x).detach(), expected) < 1e-13


def test_encodings_alone_are_padded_between_their_parts_only() -> None:
    assert natural_columns(encodings.create(3, SH3)) == list(range(9))
    block, n_dims, columns = CASES["a grid begins at a multiple of its features"]
    module, x = tcnn.Encoding(n_dims, block).double(), uniform(4, n_dims, dtype=torch.float64)
    assert module.n_output_dims == 16 and encodings.create(n_dims, block).n_output_dims == 14
    with torch.no_grad():
        assert torch.allclose(module(x), columns(x, module.params), rtol=1e-12, atol=1e-16)


def test_padding_that_would_change_a_sum_is_refused() -> None:
    block = composite({**SH3, "n_dims_to_encode": 3}, {"otype": "Identity", "n_dims_to_encode": 9}, reduction="Product")
    assert tcnn.Encoding(12, block).n_output_dims == 9
    with pytest.raises(UserError, match="would combine outputs with padding in a Product"):
        tcnn.NetworkWithInputEncoding(12, 5, block, MLP)


PAIRS = {
    "grid": (GRID, 3, 0.0),
    "frequency": ({"otype": "Frequency", "n_frequencies": 4}, 3, 1.0),
    "harmonics": (SH3, 3, 1.0),
    "composite": (composite({**GRID, "n_dims_to_encode": 3}, SH3), 6, 1.0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_weights_convert_both_ways(name: str) -> None:
    """To the same function, and back to the same bits; in float64, so that the order of sums hides nothing."""
    block, n_dims, padding = PAIRS[name]
    encoding = encodings.create(n_dims, block).double()
    network = networks.create(encoding.n_output_dims, 5, MLP, seed=3, input_padding=padding).double()
    theirs = tcnn.NetworkWithInputEncoding(n_dims, 5, block, MLP).double()
    x, values = uniform(17, n_dims, dtype=torch.float64), torch.arange(theirs.params.numel(), dtype=torch.float64)
    with torch.no_grad():
        theirs.params.copy_(tcnn.flat_params(encoding, network))
        assert relative_norm(theirs(x), network(encoding(x))) <= 1e-12
        tcnn.load_flat_params(values, encoding, network)
        assert torch.equal(tcnn.flat_params(encoding, network), values)
        theirs.params.copy_(uniform(len(values), low=-0.3, high=0.3, dtype=torch.float64))
        tcnn.load_flat_params(theirs.params, encoding, network)
        assert relative_norm(theirs(x), network(encoding(x))) <= 1e-12
        assert theirs(x).abs().max() > 1e-2


def test_parts_convert_alone() -> None:
    encoding, network = encodings.create(3, GRID), networks.create(21, 5, MLP)
    assert torch.equal(tcnn.flat_params(encoding), encoding.params)
    assert torch.equal(tcnn.flat_params(None, network), network.params)
    theirs = tcnn.Network(21, 5, MLP)
    tcnn.load_flat_params(theirs.params.half(), None, network)  # as a checkpoint in half precision has them
    assert torch.equal(network.params, theirs.params.half().float())
    assert tcnn.flat_params(encodings.create(3, SH3)).shape == (0,)


def test_what_cannot_be_converted() -> None:
    encoding = encodings.create(3, GRID)
    network = networks.create(6, 5, MLP)
    with pytest.raises(ValueError, match=r"pads this encoding with \[0.0, .*the network expects 10 columns of 1"):
        tcnn.flat_params(encoding, network)
    with pytest.raises(ValueError, match="an encoding and a network that fit, got 6 outputs and 7 inputs"):
        tcnn.flat_params(encoding, networks.create(7, 5, MLP))
    with pytest.raises(ValueError, match="no networks with biases"):
        tcnn.flat_params(None, networks.create(6, 5, {**MLP, "bias": True}))
    with pytest.raises(ValueError, match=r"expected \[\d+\] parameters, got \[3\]"):
        tcnn.load_flat_params(torch.zeros(3), encoding)


def test_columns_of_nested_composites() -> None:
    one = {"otype": "Identity", "n_dims_to_encode": 1}
    inner = composite(one, {**GRID, "n_dims_to_encode": 3})
    block = composite(one, {**inner, "n_dims_to_encode": 4})
    columns = network_columns(encodings.create(5, block))
    assert columns == [0, 1.0, 1, 1.0, 2, 3, 4, 5, 6, 7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
