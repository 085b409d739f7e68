# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch

from neurfield import config as configuration
from neurfield.errors import UserError
from neurfield.fields import FIELDS
from neurfield.fields.nerf import NerfConfig, encode
from neurfield.fields.radiance_field import FieldConfig
from neurfield.reference.kilo_mlp import encode as reference_encode
from neurfield.training.method import MethodConfig, load_method
from tests.cases import uniform, unit_vectors

UNIT = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)


def test_has_the_parameters_of_the_paper() -> None:
    field = NerfConfig().build(UNIT)
    n_used = 0  # matrices are padded to multiples of 16
    for network in (field.start, field.trunk, field.color):
        inner = [network.config.n_neurons] * network.config.n_hidden_layers
        widths = [network.config.n_input_dims, *inner, network.config.n_output_dims]
        n_used += sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(widths))
    assert n_used == 595_844
    sigma, rgb = field(uniform(7, 3), unit_vectors(7))
    assert sigma.shape == (7,) and rgb.shape == (7, 3)
    assert (sigma >= 0).all() and (rgb > 0).all() and (rgb < 1).all()


def test_skip_reads_the_position_again_in_front_of_the_hidden_layer() -> None:
    field = NerfConfig(n_layers=3, skip=2, width=16).build(UNIT)
    assert (field.start.config.n_input_dims, field.start.config.n_hidden_layers) == (63, 1)
    assert (field.trunk.config.n_input_dims, field.trunk.config.n_hidden_layers) == (63 + 16, 1)
    first = field.trunk.config.matrices(field.trunk.params)[0][0]
    with torch.no_grad():
        first[:, 63:] = 0  # what is left depends on the position alone
        before = field.density(uniform(5, 3))[0]
        field.start.params.zero_()
        assert torch.equal(before, field.density(uniform(5, 3))[0])
        first[:, :63] = 0  # and now on nothing
        assert field.density(uniform(5, 3))[0].unique().numel() == 1


@pytest.mark.parametrize("skip", [0, 3, 7])
def test_without_a_skip_there_is_one_trunk(skip: int) -> None:
    field = NerfConfig(n_layers=3, skip=skip, width=16).build(UNIT)
    assert field.start is None and field.trunk.config.n_hidden_layers == 3
    assert field(uniform(5, 3), unit_vectors(5))[1].shape == (5, 3)


def test_width_is_a_multiple_of_16() -> None:
    with pytest.raises(UserError, match=r"field.width must be a multiple of 16, got 100"):
        NerfConfig(width=100)


def test_chunks_do_not_show() -> None:
    field = NerfConfig(width=16, n_layers=2).build(UNIT)
    x, directions = uniform(16384 + 100, 3), unit_vectors(16384 + 100)
    whole = field(x, directions)
    with torch.no_grad():
        for ours, theirs in zip(whole, field(x, directions), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)  # a product may be summed in another order


def test_encoding_is_that_of_the_paper() -> None:
    v = uniform(50, 3, low=-3, high=3)
    # v / pi is rounded once (2^-24 relative) and multiplied by 2^9 pi; two roundings more in the reduction
    exact = reference_encode(v.double(), 10)
    by_axis = exact[:, 3:].view(50, 10, 2, 3).permute(0, 3, 1, 2).reshape(50, 60)
    error = encode(v, 10).double() - torch.cat([v.double(), by_axis], dim=1)
    assert error.abs().max() < 3 * 3 * 2**9 * 2.0**-24


def test_registry_reads_the_kind_and_its_keys() -> None:
    assert isinstance(configuration.loads(MethodConfig, "name: x", "f").field, FieldConfig)
    assert isinstance(configuration.loads(MethodConfig, "field: {n_geo_features: 8}", "f").field, FieldConfig)
    method = configuration.loads(MethodConfig, "field: {otype: nerf, width: 64}", "f")
    assert method.field == NerfConfig(width=64)
    assert configuration.from_dict(MethodConfig, configuration.to_dict(method), "f") == method
    assert load_method("nerf", ("field.width=32",)).field == NerfConfig(width=32, coarse=True)
    assert {name: kind.otype for name, kind in FIELDS.items()} == {name: name for name in FIELDS}
    with pytest.raises(UserError, match=r"f:2: field.otype: expected one of grid, nerf, kilonerf.*, got 'nerv'"):
        configuration.loads(MethodConfig, "field:\n  otype: nerv", "f")
    with pytest.raises(UserError, match=r"f:1: unknown key 'field.n_geo_features'"):
        configuration.loads(MethodConfig, "field: {otype: nerf, n_geo_features: 8}", "f")
