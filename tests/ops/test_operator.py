# SPDX-License-Identifier: Apache-2.0
"""What registering an operator brings: no compiler at the first call, versions of what changes, transformations of
torch.func, an error for a missing derivative.
"""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap

from neurfield import networks, ops
from tests.cases import packed_samples, uniform
from tests.compare import EPS, relative_norm

START = """
import sys
import torch
from neurfield import ops
from neurfield.fields.radiance_field import FieldConfig
from neurfield.fields.dynamic import DynamicConfig
from neurfield.training.method import OptimizerConfig
from neurfield.training.optimizer import Adam

x = torch.rand(5, 3, requires_grad=True)
ops.frequency(x, 4).sum().backward()
ops.adam_step(*torch.zeros(4, 8), step=1, learning_rate=0.1)
with torch.device("meta"):
    for config in FieldConfig(), DynamicConfig():
        Adam(config.build([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3), OptimizerConfig())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


@pytest.mark.skipif(torch.__version__ < (2, 11), reason="this torch itself imports sympy for tensors without values")
def test_first_calls_and_plans_of_memory_import_no_compiler() -> None:
    run = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[]\n"


def test_changed_arguments_get_a_new_version() -> None:
    params, grad, exp_avg, exp_avg_sq = (torch.ones(8) for _ in range(4))
    copy = params.half()
    before = [t._version for t in (params, grad, exp_avg, exp_avg_sq, copy)]
    ops.adam_step(params, grad, exp_avg, exp_avg_sq, step=1, learning_rate=0.1, copy=copy)
    changed = [t._version - v for t, v in zip((params, grad, exp_avg, exp_avg_sq, copy), before, strict=True)]
    assert [n > 0 for n in changed] == [True, False, True, True, True]


def test_tensors_without_versions_can_be_changed() -> None:
    with torch.inference_mode():
        state = torch.ones(4, 8)
        ops.adam_step(*state, step=1, learning_rate=0.1)
    assert not state[0].eq(1).any()


def test_operator_without_derivative_says_so() -> None:
    x = torch.rand(5, 3, requires_grad=True)
    (grad_x,) = torch.autograd.grad(ops.spherical_harmonics(x, 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="neurfield::spherical_harmonics has no second derivative"):
        grad_x.sum().backward()


def test_eager_calls_are_differentiated_as_by_the_dispatcher() -> None:
    x = torch.rand(5, 3, requires_grad=True)
    ours, dispatched = ops.trunc_exp(x), torch.ops.neurfield.trunc_exp(x)
    assert ours.grad_fn.name() == "neurfield_trunc_expBackward" and torch.equal(ours, dispatched)
    upstream = torch.rand_like(ours)
    assert torch.equal(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, dispatched)))


def test_nothing_is_kept_where_nothing_is_differentiated() -> None:
    x = torch.rand(5, 3, requires_grad=True)
    assert ops.frequency(x.detach(), 4).grad_fn is None
    with torch.no_grad():
        assert ops.frequency(x, 4).grad_fn is None


GRID = ops.GridConfig(n_levels=4, log2_hashmap_size=8, base_resolution=4)
NETWORK = ops.MLPConfig(3, 2, 16, 2, "Softplus")
TABLE, WEIGHTS = uniform(GRID.n_params, low=-1), uniform(NETWORK.n_params, low=-0.5, high=0.5)
FREQUENCIES, NODES = uniform(5, 3, low=-1), uniform(27, 2)
# positions [n, 3] to [n, m]
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "frequency": lambda x: ops.frequency(x, 3),
    "spherical_harmonics": lambda x: ops.spherical_harmonics(x, 3),
    "trunc_exp": ops.trunc_exp,
    "fourier_features": lambda x: ops.fourier_features(x, FREQUENCIES),
    "modulation": lambda x: ops.modulation(x, NODES, (3, 3, 3)),
    "hash_grid": lambda x: ops.hash_grid(x, TABLE, GRID),
    "fused_mlp": lambda x: ops.fused_mlp(x, WEIGHTS, NETWORK),
}
NO_VMAP = pytest.mark.skipif(torch.__version__ < (2, 7), reason="no gradients through a vmap of it in this torch")
SAME = 64 * EPS[torch.float32]  # of a row alone, which may be evaluated with other lanes, and of sums in another order


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", [pytest.param(n, marks=NO_VMAP) if n == "fused_mlp" else n for n in FUNCTIONS])
def test_transformations_of_torch_func(name: str) -> None:
    function, x = FUNCTIONS[name], uniform(9, 3, low=0.1, high=0.9)

    def loss(x: Tensor) -> Tensor:
        return function(x).exp().sum()

    def of_rows(x: Tensor) -> Tensor:
        return vmap(lambda row: function(row[None])[0])(x).exp().sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    assert expected.abs().min() > 0
    assert torch.equal(grad(loss)(x), expected)
    for found in (
        vmap(grad(lambda row: loss(row[None])))(x),
        grad(of_rows)(x),
        torch.autograd.grad(of_rows(leaf), leaf)[0],
        (function(x).exp()[..., None] * vmap(jacrev(lambda row: function(row[None])[0]))(x)).sum(1),
    ):
        assert relative_norm(found, expected) <= SAME


def test_a_transformed_composite() -> None:
    samples = packed_samples([3, 0, 5])

    def loss(sigmas: Tensor, rgbs: Tensor) -> Tensor:
        rays = ops.composite(**(samples | {"sigmas": sigmas, "rgbs": rgbs}))
        return rays.rgb.square().sum() + rays.depth.sum() + rays.distortion.sum()

    leaves = [samples[name].clone().requires_grad_() for name in ("sigmas", "rgbs")]
    expected = torch.autograd.grad(loss(*leaves), leaves)
    found = grad(loss, argnums=(0, 1))(samples["sigmas"], samples["rgbs"])
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@NO_VMAP
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_an_ensemble_of_networks() -> None:
    """Parameters that vmap has stacked do not say that they need a gradient."""
    x = uniform(9, 3)
    nets = [networks.create(3, 2, {"otype": "MLP", "n_neurons": 16}, seed=seed) for seed in range(3)]
    stacked, buffers = stack_module_state(nets)
    y = vmap(lambda params, buffers: functional_call(nets[0], (params, buffers), (x,)))(stacked, buffers)
    y.square().sum().backward()
    for i, net in enumerate(nets):
        expected = net(x)
        (grad_params,) = torch.autograd.grad(expected.square().sum(), net.params)
        assert torch.equal(y[i], expected) and torch.equal(stacked["params"].grad[i], grad_params)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_of_each_sample() -> None:
    x = uniform(5, 3)

    def loss(table: Tensor, weights: Tensor, row: Tensor) -> Tensor:
        features = ops.hash_grid(row[None], table, GRID)[:, :3]
        return ops.fused_mlp(features, weights, NETWORK).square().sum()

    found = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, None, 0))(TABLE, WEIGHTS, x)
    for i, row in enumerate(x):
        leaves = [t.clone().requires_grad_() for t in (TABLE, WEIGHTS)]
        expected = torch.autograd.grad(loss(*leaves, row), leaves)
        assert all(torch.equal(batched[i], one) for batched, one in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_mode_is_refused(name: str) -> None:
    """A result without a tangent would be a derivative of zero."""
    function, x = FUNCTIONS[name], uniform(4, 3)
    message = f"neurfield::{name} has no derivative in forward mode"
    with pytest.raises(RuntimeError, match=message):
        jvp(function, (x,), (torch.ones_like(x),))
    with pytest.raises(RuntimeError, match=message):
        jacfwd(lambda row: function(row[None])[0])(x[0])
    with forward_ad.dual_level():
        assert torch.equal(function(x), function(x.clone()))
        with pytest.raises(RuntimeError, match=message):
            function(forward_ad.make_dual(x, torch.ones_like(x)))
