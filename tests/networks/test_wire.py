# SPDX-License-Identifier: Apache-2.0
"""The real form of WIRE against its complex definition."""

import pytest
import torch
from torch import Tensor

from neurfield import networks
from neurfield.errors import UserError
from neurfield.networks import Wire, WireConfig
from tests.cases import uniform

CONFIG = WireConfig(n_neurons=24, n_hidden_layers=3, omega=7.0, first_omega=9.0, scale=2.0)


def by_definition(net: Wire, x: Tensor) -> Tensor:
    """With complex numbers, in float64: exp(i omega u - |s u|^2), and the real part of the last layer."""
    weights = [w.double() for w in net.weights]
    u = (x.double() @ weights[0][0].T + net.biases[0][0].double()).to(torch.complex128)
    h = torch.exp(1j * 9.0 * u - (2.0 * u).abs() ** 2)
    for weight, bias in zip(weights[1:-1], net.biases[1:-1], strict=True):
        u = h @ torch.complex(*weight).T + torch.complex(*bias.double())
        h = torch.exp(1j * 7.0 * u - (2.0 * u).abs() ** 2)
    return (h @ torch.complex(*weights[-1]).T).real + net.biases[-1][0].double()


def test_matches_the_complex_definition() -> None:
    net, x = Wire(2, 3, CONFIG).double(), uniform(100, 2, low=-1).double()
    with torch.no_grad():
        torch.testing.assert_close(net(x), by_definition(net, x), atol=1e-12, rtol=0)


def test_gradients_are_those_of_its_values() -> None:
    net, x = Wire(2, 2, WireConfig(16, 2, 5.0, None, 1.5)).double(), uniform(4, 2, low=-1).double().requires_grad_()
    parameters = list(net.parameters())

    def evaluate(x: Tensor, *values: Tensor) -> Tensor:
        names = [name for name, _ in net.named_parameters()]
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(evaluate, (x, *parameters))


def test_compiles_without_graph_breaks() -> None:
    net, x = Wire(2, 3, CONFIG), uniform(9, 2).requires_grad_()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    leaves = [x, *net.parameters()]
    grads = [torch.autograd.grad(run(x).sum(), leaves) for run in (compiled, net)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_has_as_many_parameters_as_a_real_network() -> None:
    wire = networks.create(2, 3, {"otype": "WIRE", "n_neurons": 256, "n_hidden_layers": 4})
    real = 2 * 256 + 3 * 256**2 + 3 * 256 + 4 * 256 + 3
    assert sum(p.numel() for p in wire.parameters()) == pytest.approx(real, rel=0.01)
    again = networks.create(2, 3, {"otype": "WIRE", "n_neurons": 256, "n_hidden_layers": 4})
    assert all(torch.equal(a, b) for a, b in zip(wire.parameters(), again.parameters(), strict=True))


def test_errors_are_one_line() -> None:
    with pytest.raises(UserError, match=r"network WIRE.*unknown key 'activation'"):
        networks.create(2, 3, {"otype": "WIRE", "activation": "ReLU"})
    with pytest.raises(UserError, match="network WIRE: expected inputs and outputs, got 0 and 3"):
        networks.create(0, 3, {"otype": "WIRE"})


def test_another_shape_of_input_is_refused() -> None:
    net = networks.create(3, 1, {"otype": "WIRE", "n_neurons": 16})
    with pytest.raises(ValueError, match=r"network WIRE: expected an input \[n, 3\], got \[2, 4, 3\]"):
        net(torch.rand(2, 4, 3))
