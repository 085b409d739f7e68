# SPDX-License-Identifier: Apache-2.0
"""The radiance field is the composition its file head states, with the sizes of instant-ngp."""

import dataclasses
import math

import pytest
import torch

from neurfield import config as configuration
from neurfield.config import Block
from neurfield.errors import UserError
from neurfield.fields.radiance_field import FieldConfig, RadianceField, with_per_level_scale
from neurfield.training.method import MethodConfig, load_method, presets
from tests.cases import uniform

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


def test_what_is_for_signals_is_refused():
    sape = "encoding: {otype: SAPE, resolution: [8, 8, 8], nested: {otype: Frequency}}"
    modulated = "color_network: {otype: MLP, modulation: {resolution: [4, 4]}}"
    for block, message in ((sape, "opens by the losses of samples"), (modulated, "have no modulation")):
        config = configuration.loads(FieldConfig, block, "my.yaml")
        with pytest.raises(UserError, match=rf"my.yaml:1: \w+: .*{message}"):
            RadianceField.from_config(config, (0, 0, 0, 1, 1, 1))


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
