# SPDX-License-Identifier: Apache-2.0
"""Modulated networks and what they are stored as."""

import math

import pytest
import torch
from torch import Tensor, nn

from neurfield import networks, quantization
from neurfield.errors import UserError
from neurfield.networks import MLP
from neurfield.networks.modulation import Modulation, ModulationConfig, sphere_coordinates
from neurfield.reference import fused_mlp, modulation
from tests.cases import uniform, unit_vectors
from tests.compare import relative_norm


def create(modulation: dict, **keys: object) -> MLP:
    block = {"otype": "MLP", "n_neurons": 32, "n_hidden_layers": 2, "modulation": modulation, **keys}
    return networks.create(5, 3, block)


@pytest.mark.parametrize("per_layer", [False, True])
def test_matches_the_reference(per_layer: bool) -> None:
    net = create({"resolution": [6, 4], "per_layer": per_layer, "init_range": 0.7})
    assert net.modulation.values.shape == (24, 4 if per_layer else 2)
    x, at = uniform(50, 5), uniform(50, 2)
    identity = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(net.modulation.n_grids)
    with torch.no_grad():
        rows = modulation.modulation(at.double(), net.modulation.values.double() + identity, (6, 4), (False, False))
        expected = fused_mlp.fused_mlp(x.double(), net.params.double(), net.config, rows)
        assert relative_norm(net(x, at), expected) <= 30 * 2.0**-24  # as in tests/ops/test_modulation.py


def test_starts_as_the_plain_network() -> None:
    plain = networks.create(5, 3, {"otype": "MLP", "n_neurons": 32, "n_hidden_layers": 2})
    modulated = create({"resolution": [8, 8], "normalization": "None"})
    assert not modulated.modulation.values.any() and torch.equal(plain.params, modulated.params)
    x = uniform(50, 5)
    assert relative_norm(modulated(x, uniform(50, 2)).detach(), plain(x).detach()) <= 20 * 2.0**-24
    assert dict(modulated.named_parameters()).keys() == {"params", "modulation.values"}


def test_gradients_reach_the_grids() -> None:
    net = create({"resolution": [3]}, activation="Sine", omega=10.0)
    net(uniform(50, 5), uniform(50, 1)).square().sum().backward()
    assert (net.modulation.values.grad != 0).any(0).all() and net.params.grad.any()


def test_directions_cover_the_sphere_once() -> None:
    axes = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, -1e-9, 0], [0, 0, 1], [0, 0, -1], [0, 0, 0]])
    expected = torch.tensor([[0.5, 0.5], [0.75, 0.5], [0.0, 0.5], [0.5, 1.0], [0.5, 0.0], [0.5, 0.5]])
    torch.testing.assert_close(sphere_coordinates(axes), expected, atol=1e-6, rtol=0)
    at = sphere_coordinates(unit_vectors(10000))
    assert (at >= 0).all() and (at <= 1).all()
    # sin(elevation) of even directions is uniform: mean 0 within 4 standard errors
    assert abs(float(torch.sin((at[:, 1] - 0.5) * math.pi).mean())) <= 4 * (1 / 3 / 10000) ** 0.5
    net = Modulation(ModulationConfig((10, 5), coordinates="Direction", init_range=0.5), 1)
    assert net.wraps == (True, False) and net.n_coordinates == 3
    east, west = (torch.tensor([[-1.0, s * 1e-6, 0.0]]) for s in (1, -1))
    torch.testing.assert_close(net(east), net(west), atol=1e-5, rtol=0)  # the azimuth is periodic


def test_errors_are_one_line() -> None:
    for message, keys in {
        r"modulation.resolution: expected 1 ... 4 positive numbers .*, got \[0, 3\]": {"resolution": [0, 3]},
        r"modulation.resolution: expected 1 ... 4 positive numbers .*, got \[9999, 9999\]": {
            "resolution": [9999, 9999]
        },
        r"modulation.wraps: expected 2 of them, got \[True\]": {"resolution": [3, 3], "wraps": [True]},
        r"expected azimuth and elevation, got 1 axes": {"resolution": [3], "coordinates": "Direction"},
        r"unknown key 'modulation.resolutions', did you mean 'resolution'": {"resolutions": [3]},
        r"modulation.normalization: expected one of Features, None": {"resolution": [3], "normalization": "Ray"},
    }.items():
        with pytest.raises(UserError, match="network.*" + message):
            create(keys)
    with pytest.raises(UserError, match="network: modulation needs at least 1 hidden layer"):
        create({"resolution": [3]}, n_hidden_layers=0)
    with pytest.raises(ValueError, match="network: expected the coordinates of its modulation, got none"):
        create({"resolution": [3]})(uniform(2, 5))
    with pytest.raises(ValueError, match="network: expected no coordinates, got some"):
        networks.create(5, 3, {"otype": "MLP"})(uniform(2, 5), uniform(2, 1))


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_quantisation_is_within_half_a_step(bits: int) -> None:
    values = torch.cat([uniform(100, 3, low=-2, high=0.5), torch.zeros(100, 1)], dim=1)
    for per_column in (False, True):
        codes, step = quantization.quantize(values, bits, per_column)
        assert codes.abs().max() == 2 ** (bits - 1) - 1
        error = (quantization.dequantize(codes, step) - values).abs()
        assert (error <= step * (0.5 + 2.0**-20)).all()  # the quotient rounds
    leaf = values.clone().requires_grad_()
    quantization.fake_quantize(leaf, bits).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(values))


def test_pack_and_unpack() -> None:
    class Field(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            block = {"otype": "MLP", "n_neurons": 32, "n_hidden_layers": 2, "bias": True, "weight_bits": 8}
            self.net = networks.create(5, 3, block | {"modulation": {"resolution": [8, 8], "init_range": 0.5}}, seed)
            self.offset = nn.Parameter(uniform(4, seed=seed))
            self.register_buffer("frequencies", uniform(3, seed=seed))

        def forward(self, x: Tensor, at: Tensor) -> Tensor:
            return self.net(x, at)

    field, other = Field(1), Field(2)
    packed = quantization.pack(field)
    matrices = 16 * 32 + 32 * 32 + 32 * 16
    assert quantization.n_bytes(packed) == matrices + 4 * 3 + 2 * (32 + 32 + 16) + 64 * 4 + 4 * 4 + 2 * 4 + 4 * 3
    quantization.unpack(other, packed)
    x, at = uniform(50, 5), uniform(50, 2)
    # training saw the same rounding; what is left is that of the biases to float16
    with torch.no_grad():
        assert relative_norm(other(x, at), field(x, at)) <= 2.0**-11
    assert torch.equal(other.frequencies, field.frequencies)
    with pytest.raises(UserError, match="packed field: unknown entries"):
        quantization.unpack(other, packed | {"more": torch.zeros(1)})
    with pytest.raises(UserError, match="packed field: expected what pack"):
        quantization.unpack(other, {key: value for key, value in packed.items() if key != "net.params.step"})
