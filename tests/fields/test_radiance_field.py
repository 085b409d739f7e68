# SPDX-License-Identifier: Apache-2.0
"""The radiance field is the composition its file head states, with the sizes of instant-ngp."""

import dataclasses
import math

import pytest
import torch

from neurfield import config as configuration
from neurfield import ops
from neurfield.config import Block
from neurfield.errors import UserError
from neurfield.fields.radiance_field import FieldConfig, RadianceField, with_per_level_scale
from neurfield.training.method import MethodConfig, load_method, presets
from tests.cases import uniform, unit_vectors

UNIT = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
SMALL = FieldConfig(
    encoding=Block(otype="HashGrid", n_levels=4, log2_hashmap_size=10, base_resolution=4), max_resolution=32
)


def test_sizes_are_those_of_instant_ngp():
    sizes = {name: p.numel() for name, p in RadianceField.from_config(FieldConfig(), UNIT).named_parameters()}
    # 12 196 240 table values; 3 072 + 7 168 weights with the padded output rows (Mueller et al. 2022)
    assert sizes == {
        "encoding.params": 12196240,
        "density_network.params": 3072,
        "color_network.params": 7168,
    }


@torch.no_grad()
def test_forward_is_the_stated_composition():
    field = RadianceField.from_config(SMALL, (-1.5, -1.5, -1.5, 2.5, 2.5, 2.5))
    x, d = uniform(33, 3, low=-1, high=2), torch.nn.functional.normalize(uniform(33, 3, low=-1, seed=1), dim=1)

    sigma, rgb = field(x, d)
    h = field.density_network(field.encoding((x + 1.5) / 4))
    assert torch.allclose(sigma, h[:, 0].exp(), rtol=1e-5)
    expected = field.color_network(torch.cat([h, field.direction_encoding((d + 1) / 2)], dim=1))
    assert torch.equal(rgb, expected) and 0 <= float(rgb.min()) <= float(rgb.max()) <= 1
    assert torch.equal(field.density(x)[0], sigma)


def test_tables_are_read_in_a_float16_copy_unless_they_are_precise():
    for precision in ("fp16", "fp32"):
        field = RadianceField.from_config(dataclasses.replace(SMALL, table_precision=precision), UNIT)
        table = field.encoding.params
        with torch.no_grad():
            table.copy_(uniform(len(table), low=-1, seed=4))
        x = uniform(50, 3)
        y = field.encoding(x)
        read = table.detach().half().float() if precision == "fp16" else table.detach()
        assert torch.equal(y, ops.hash_grid(x, read, field.encoding.config))
        y.sum().backward()
        assert table.grad.dtype == torch.float32 and table.grad.abs().sum() > 0
        with torch.no_grad():
            table.mul_(2.0)
        assert torch.equal(field.encoding(x), 2 * y)
        assert field.double().encoding(x.double()).dtype == torch.float64


def test_gradients_reach_every_parameter_and_the_positions():
    field = RadianceField.from_config(SMALL, UNIT)
    x = uniform(64, 3).requires_grad_(True)
    sigma, rgb = field(x, torch.tensor([[0.0, 0, 1]]).expand(64, 3))
    (sigma.sum() + rgb.sum()).backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in field.parameters())


def test_no_positions_give_no_values():
    sigma, rgb = RadianceField.from_config(SMALL, UNIT)(torch.empty(0, 3), torch.empty(0, 3))
    assert sigma.shape == (0,) and rgb.shape == (0, 3)


def test_the_finest_level_follows_the_box():
    block = Block(otype="HashGrid", n_levels=16, base_resolution=16)
    assert math.isclose(with_per_level_scale(block, 2048)["per_level_scale"], 1.381912879967776, rel_tol=1e-12)
    assert math.isclose(with_per_level_scale(block, 4096)["per_level_scale"], 1.4472692012786865, rel_tol=1e-7)  # fp32
    given = Block(block, per_level_scale=2.0)
    assert with_per_level_scale(given, 4096) is given
    assert with_per_level_scale(Block(otype="Frequency"), 4096) == {"otype": "Frequency"}


def test_an_unknown_key_names_its_place_in_the_file():
    text = "field:\n  encoding: {otype: HashGrid, n_levls: 4}\n"
    method = configuration.loads(MethodConfig, text, "my.yaml")
    with pytest.raises(UserError, match=r"my.yaml:2: field.encoding: .*'n_levls', did you mean 'n_levels'"):
        RadianceField.from_config(method.field, UNIT)


def test_modulated_networks_read_positions_and_directions():
    density = Block(SMALL.density_network, modulation={"resolution": [4, 4, 4], "init_range": 0.5})
    color = Block(
        SMALL.color_network, modulation={"resolution": [10, 5], "coordinates": "Direction", "init_range": 0.5}
    )
    config = dataclasses.replace(SMALL, density_network=density, color_network=color)
    field = RadianceField.from_config(config, (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0))
    assert field.fused() is None and "modulated" in ops.fused_reason(field)
    x, directions = uniform(20, 3, low=-1), unit_vectors(20)
    sigma, rgb = field(x, directions)
    position = (x + 1) / 2
    features = field.density_network(field.encoding(position), position)
    assert torch.equal(sigma, ops.trunc_exp(features[:, 0]))
    encoded = field.direction_encoding((directions + 1) / 2)
    assert torch.equal(rgb, field.color_network(torch.cat([features, encoded], dim=1), directions))
    with pytest.raises(UserError, match=r"modulation: expected Position in 3 dimensions, got Direction in 3"):
        RadianceField.from_config(dataclasses.replace(SMALL, density_network=color), UNIT)
    flat = Block(SMALL.color_network, modulation={"resolution": [4, 4]})
    with pytest.raises(
        UserError, match=r"modulation: expected Position or Direction in 3 dimensions, got Position in 2"
    ):
        RadianceField.from_config(dataclasses.replace(SMALL, color_network=flat), UNIT)


def test_rounded_weights_are_not_fused():
    config = dataclasses.replace(SMALL, color_network=Block(SMALL.color_network, weight_bits=8))
    assert "rounded weights" in ops.fused_reason(RadianceField.from_config(config, UNIT))


def test_what_is_for_signals_is_refused():
    block = "encoding: {otype: SAPE, resolution: [8, 8, 8], nested: {otype: Frequency}}"
    config = configuration.loads(FieldConfig, block, "my.yaml")
    with pytest.raises(UserError, match=r"my.yaml:1: \w+: .*opens by the losses of samples"):
        RadianceField.from_config(config, UNIT)


def test_a_resolution_below_the_base_is_refused():
    with pytest.raises(UserError, match="per_level_scale"):
        RadianceField.from_config(dataclasses.replace(SMALL, max_resolution=2), UNIT)


@pytest.mark.parametrize("name", presets())
def test_every_preset_reads_and_is_named_like_its_file(name):
    method = load_method(name)
    assert method.name == name
    assert configuration.loads(MethodConfig, configuration.dumps(method), "again") == method


def test_presets_are_there():
    assert {"ngp", "ngp-fast", "ngp-medium", "ngp-big"} <= presets().keys()
    with pytest.raises(UserError, match="unknown method 'npg', did you mean 'ngp'"):
        load_method("npg")
