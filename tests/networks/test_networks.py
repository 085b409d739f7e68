# SPDX-License-Identifier: Apache-2.0
import copy
import pickle

import pytest
import torch

from neurfield import networks, ops
from neurfield.errors import UserError
from neurfield.networks import MLP, NETWORKS, NetworkConfig
from neurfield.ops.fused_mlp import ACTIVATIONS
from neurfield.reference import fused_mlp as reference
from tests.cases import uniform
from tests.compare import relative_norm


@pytest.mark.parametrize("otype", [name for name, entry in NETWORKS.items() if entry.build is MLP])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_entry_matches_the_reference(otype: str, activation: str) -> None:
    block = {"otype": otype, "activation": activation, "output_activation": activation, "n_neurons": 32}
    net = networks.create(5, 3, block | {"n_hidden_layers": 1})
    x = uniform(40, 5)
    with torch.no_grad():
        actual, expected = net(x), reference.fused_mlp(x.double(), net.params.double(), net.config)
    assert relative_norm(actual, expected) <= 20 * 2.0**-24  # as in tests/ops/test_fused_mlp.py


def test_defaults_of_tiny_cuda_nn() -> None:
    net = networks.create(32, 16, {"otype": "FullyFusedMLP"})
    assert (net.config.n_neurons, net.config.n_hidden_layers) == (128, 5)
    assert (net.config.activation, net.config.output_activation, net.config.bias) == ("ReLU", "None", False)
    assert net.config.input_padding == 1.0
    assert net.params.dtype == torch.float32 and list(net.state_dict()) == ["params"]


def test_activation_names_in_any_case() -> None:
    net = networks.create(3, 1, {"otype": "MLP", "activation": "softplus", "output_activation": "TANH"})
    assert (net.config.activation, net.config.output_activation) == ("Softplus", "Tanh")


def test_initial_values_are_xavier_uniform() -> None:
    net = MLP(32, 16, NetworkConfig(n_neurons=64, n_hidden_layers=2, bias=True))
    for weights, bias in net.config.matrices(net.params.detach()):
        bound = (6 / sum(weights.shape)) ** 0.5
        n = weights.numel()
        assert float(weights.abs().max()) <= bound
        assert float(weights.abs().max()) >= bound * (1 - 10 / n)  # probability of less: e^-10
        assert abs(float(weights.mean())) <= 4 * bound / (3 * n) ** 0.5  # 4 standard errors
        assert abs(float((weights**2).mean()) / (bound**2 / 3) - 1) <= 4 * (4 / 5 / n) ** 0.5
        assert not bias.any()


def test_initial_values_of_siren() -> None:
    net = MLP(16, 16, NetworkConfig(activation="Sine", n_neurons=64, n_hidden_layers=2))
    bounds = [30 / 16, (6 / 64) ** 0.5, (6 / 64) ** 0.5]
    for (weights, _), bound in zip(net.config.matrices(net.params.detach()), bounds, strict=True):
        assert bound * (1 - 10 / weights.numel()) <= float(weights.abs().max()) <= bound


def matrices(net: MLP) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    return net.config.matrices(net.params.detach())


def fills(values: torch.Tensor, bound: float) -> bool:
    """Whether the largest of uniform values is where it should be: less has a probability of e^-10."""
    return bound * (1 - 10 / values.numel()) <= float(values.abs().max()) <= bound * (1 + 1e-6)


def test_initial_values_of_coordinate_networks() -> None:
    """SIREN and FINER: 1 / d first, sqrt(6 / 64) / omega after; Gaussian and Gabor: 1 / sqrt(fan_in); padding is 0."""
    hidden = 64**-0.5
    for keys, bounds, first_bias in (
        ({"activation": "Sine", "omega": 20}, (1 / 3, (6 / 64) ** 0.5 / 20), 3**-0.5),
        ({"activation": "FINER", "first_bias": 2.5}, (1 / 3, (6 / 64) ** 0.5 / 30), 2.5),
        ({"activation": "Gaussian"}, (3**-0.5, hidden), 3**-0.5),
        ({"activation": "Gabor", "omega": 7, "scale": 3}, (3**-0.5, hidden), 3**-0.5),
    ):
        net = networks.create(3, 16, {"otype": "MLP", "n_neurons": 64, "n_hidden_layers": 2, **keys})
        assert net.config.bias and net.config.input_padding == 0
        (first, bias), *others = matrices(net)
        assert fills(first[:, :3], bounds[0]) and not first[:, 3:].any() and fills(bias, first_bias)
        for weights, bias in others:
            assert fills(weights, bounds[1]) and fills(bias, hidden)


def test_initial_values_by_fan_in_are_those_of_torch() -> None:
    net = MLP(20, 3, NetworkConfig(n_neurons=64, n_hidden_layers=2, bias=True, init="FanIn"))
    for (weights, bias), n_in in zip(matrices(net), (20, 64, 64), strict=True):
        assert fills(weights[:, :n_in], n_in**-0.5) and fills(bias, n_in**-0.5)
        assert not weights[:, n_in:].any()
    without = MLP(20, 3, NetworkConfig(n_neurons=64, init="FanIn"))
    assert not without.config.bias and not without.is_coordinate_network
    explicit, default = (MLP(20, 3, NetworkConfig(n_neurons=64, init=init)) for init in ("Xavier", None))
    assert torch.equal(explicit.params, default.params)


def test_arguments_of_coordinate_networks() -> None:
    def arguments(**keys: object) -> tuple[float, ...]:
        return networks.create(2, 1, {"otype": "MLP", "n_neurons": 16, **keys}).config.arguments

    assert arguments(activation="Sine") == (1, 1, 1)  # tiny-cuda-nn's
    assert arguments(activation="sine", omega=25.0) == (25, 25, 1)
    assert arguments(activation="Sine", first_omega=90) == (90, 30, 1)
    assert arguments(activation="Gaussian") == (1, 1, 30)
    assert arguments(activation="Gabor") == (20, 20, 10)
    assert arguments(activation="finer", omega=1) == (1, 1, 1)
    assert not networks.create(2, 1, {"otype": "MLP", "activation": "FINER", "bias": False}).config.bias
    assert "FINER(first_omega=30, omega=30)" in repr(networks.create(2, 1, {"otype": "MLP", "activation": "FINER"}))
    for message, keys in {
        "network: omega belongs to the activations Sine, Gabor, FINER, got ReLU": {"omega": 30.0},
        "network: first_omega belongs to .*, got Gaussian": {"activation": "Gaussian", "first_omega": 2},
        "network: scale belongs to the activations Gaussian, Gabor, got Sine": {"activation": "Sine", "scale": 2},
        "network: first_bias belongs to FINER with biases, got Sine with bias=None": {
            "activation": "Sine",
            "first_bias": 1,
        },
        "network: first_bias belongs to FINER with biases, got FINER with bias=False": {
            "activation": "FINER",
            "first_bias": 1,
            "bias": False,
        },
        "omega: expected 0.001 ... 100000, got '0'": {"activation": "Sine", "omega": 0},
        "network: init FanIn does not fit FINER, which starts as published; leave it out": {
            "activation": "FINER",
            "init": "FanIn",
        },
        "network: init FanIn does not fit Sine, which starts as published": {"activation": "Sine", "init": "FanIn"},
        "network: init Xavier does not fit Sine, which starts as published": {"activation": "Sine", "init": "Xavier"},
    }.items():
        with pytest.raises(UserError, match=message):
            arguments(**keys)


@pytest.mark.parametrize("activation", ["Sine", "Gaussian", "Gabor", "FINER"])
def test_coordinate_networks_learn_a_wave(activation: str) -> None:
    """256 points of a wave of 8 periods: a ReLU network of this size learns nothing of it in so few steps."""
    keys = {"omega": 30.0} if activation == "Sine" else {}
    net = networks.create(
        1, 1, {"otype": "MLP", "activation": activation, "n_neurons": 64, "n_hidden_layers": 2, **keys}
    )
    x = torch.linspace(-1, 1, 256)[:, None]
    target = torch.sin(8 * torch.pi * x)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(150):
        loss = ((net(x) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02


def test_seed_decides_the_initial_values() -> None:
    a, b, c = (MLP(3, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.params, b.params) and not torch.equal(a.params, c.params)
    torch.rand(1)
    with torch.no_grad():
        a.params.zero_()
    a.reset_parameters()
    assert torch.equal(a.params, b.params)


def test_a_padded_input_acts_as_a_bias_unless_idle() -> None:
    x = torch.zeros(2, 3)
    assert MLP(3, 1, input_padding=1.0)(x).abs().min() > 0
    assert not MLP(3, 1, input_padding=0.0)(x).any()


def test_trains_and_copies() -> None:
    net = MLP(2, 1, NetworkConfig(n_neurons=32, n_hidden_layers=2))
    x = uniform(512, 2, low=-1)
    target = (x[:, :1] * x[:, 1:]).sin()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        loss = ((net(x) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.05 * losses[0]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))
    assert "2 -> 2 x 32 ReLU -> 1 None" in repr(net)


def test_compiles_without_graph_breaks() -> None:
    net = MLP(4, 2, NetworkConfig(n_neurons=16, n_hidden_layers=1))
    compiled = torch.compile(
        lambda x, params: ops.fused_mlp(x, params, net.config), fullgraph=True, backend="aot_eager"
    )
    x = uniform(9, 4)
    grads = []
    for run in (compiled, lambda x, params: ops.fused_mlp(x, params, net.config)):
        (grad,) = torch.autograd.grad(run(x, net.params).sum(), net.params)
        grads.append(grad)
    assert torch.equal(*grads)


def test_errors_name_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown network 'FullyFusedMlp', did you mean 'FullyFusedMLP'"):
        networks.create(3, 1, {"otype": "FullyFusedMlp"})
    with pytest.raises(UserError, match=r"expected a key 'otype' with a name, got None"):
        networks.create(3, 1, {})
    with pytest.raises(UserError, match=r"n_neuron.*did you mean 'n_neurons'"):
        networks.create(3, 1, {"otype": "MLP", "n_neuron": 64})
    with pytest.raises(UserError, match=r"unknown activation 'rellu', did you mean 'relu'"):
        networks.create(3, 1, {"otype": "MLP", "activation": "ReLLU"})
    with pytest.raises(UserError, match=r"network: n_neurons must be a multiple of 16 in 16 ... 512, got 40"):
        networks.create(3, 1, {"otype": "MLP", "n_neurons": 40})
    with pytest.raises(UserError, match=r"n_neurons"):
        networks.create(3, 1, {"otype": "MLP", "n_neurons": 528})
