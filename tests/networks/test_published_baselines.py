# SPDX-License-Identifier: Apache-2.0
"""Baselines for images have as many parameters as their papers' tables say, padding not counted."""

from typing import Any

import pytest
import torch

from neurfield import encodings, networks
from neurfield.training.signal_method import load_signal_method
from tests.cases import uniform

BOTH = {"n_dims_to_encode": 2, "dims_to_encode_begin": 0}
OCTAVES = {
    "otype": "Composite",
    "nested": [{"otype": "Identity", **BOTH}, {"otype": "Frequency", "n_frequencies": 5, **BOTH}],
}


def n_used(encoding: dict[str, Any], network: dict[str, Any]) -> int:
    """Parameters that a gradient reaches, which padding does not have. Real and imaginary parts count once.

    All are small and positive, so that no unit is dead, and no bump is so narrow that it is zero.
    """
    encoder = encodings.create(2, encoding)
    net = networks.create(encoder.n_output_dims, 3, network, input_padding=0.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(1e-5, 1e-4, generator=generator)
    net(encoder(uniform(1024, 2, low=-1))).square().sum().backward()
    gradients = [p.grad for p in net.parameters()]
    if network["otype"] == "WIRE":
        gradients = [g[0] for g in gradients]
    return sum(int(g.count_nonzero()) for g in gradients)


@pytest.mark.parametrize("name", ["image-siren", "image-gauss", "image-finer"])
def test_presets_of_coordinate_networks(name: str) -> None:
    """Two inputs, a layer and three more of 256, three outputs."""
    field = load_signal_method(name, "image").field
    assert n_used({"otype": "Identity"}, dict(field.network)) == 198_915


def test_relu_on_octaves() -> None:
    """22 inputs: the point itself, and sines and cosines of five octaves."""
    relu = {"otype": "MLP", "activation": "ReLU", "n_neurons": 256, "n_hidden_layers": 4, "bias": True}
    assert encodings.create(2, OCTAVES).n_output_dims == 22
    assert n_used(OCTAVES, relu) == 204_035


def test_wire() -> None:
    """300 / sqrt(2) = 212 complex numbers a layer: a real layer and two complex ones."""
    wire = {"otype": "WIRE", "n_neurons": 300, "n_hidden_layers": 3, "omega": 20, "scale": 10}
    assert n_used({"otype": "Identity"}, wire) == 91_587
