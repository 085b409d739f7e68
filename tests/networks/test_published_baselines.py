# SPDX-License-Identifier: Apache-2.0
"""Baselines for images have as many parameters as published, padding not counted, and compute what plain torch does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.signals.bench_baselines import BASELINES, Baseline, in_torch, ours
from neurfield import encodings, networks
from neurfield.training.signal_method import load_signal_method
from tests.cases import uniform


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


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=list(BASELINES))
def test_sizes_are_the_published_ones(baseline: Baseline) -> None:
    """A layer of 256 and three more; ReLU on the point and five octaves, 22 inputs; WIRE with 300 / sqrt(2) = 212
    complex numbers a layer, a real layer and two complex ones."""
    assert n_used(baseline.encoding, baseline.network) == baseline.n_params


@pytest.mark.parametrize("name", ["image-siren", "image-gauss", "image-finer"])
def test_presets_of_coordinate_networks_have_that_size(name: str) -> None:
    field = load_signal_method(name, "image").field
    assert n_used({"otype": "Identity"}, dict(field.network)) == BASELINES["SIREN"].n_params


def in_float64(net: nn.Module) -> nn.Module:
    """Its parameters in twice the precision, complex ones too (`Module.double` takes their imaginary parts away)."""
    for parameter in net.parameters():
        parameter.data = parameter.data.to(torch.complex128 if parameter.is_complex() else torch.float64)
    return net


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=list(BASELINES))
def test_both_forms_are_one_function(baseline: Baseline) -> None:
    """Values, and gradients down to the coordinates. Sums of at most 256 terms round to about 256 x 1.1e-16 of their
    size; bumps of 30 z and four layers amplify that by less than a thousand, and a wrong formula is off by far more."""
    x, target = uniform(64, 2, low=-1, dtype=torch.float64), uniform(64, 3, seed=1, dtype=torch.float64)

    def results(build: Callable[[Baseline, int], nn.Module]) -> tuple[Tensor, Tensor]:
        at = x.clone().requires_grad_()
        values = in_float64(build(baseline, 1))(at)
        return values.detach(), torch.autograd.grad((values - target).square().mean(), at)[0]

    for own, plain in zip(results(ours), results(in_torch), strict=True):
        torch.testing.assert_close(own, plain, rtol=0, atol=3e-11 * float(plain.abs().max()))
