# SPDX-License-Identifier: Apache-2.0
"""Comparisons with known numbers, a moment each, that show whether the native core computes what it should here.

A test gives the largest error in units of the allowed one.
"""

import math
from collections.abc import Callable

import torch

from neurfield import ops
from neurfield.config import Block
from neurfield.fields.radiance_field import FieldConfig, RadianceField
from neurfield.rendering.volume import MarchOptions, composite_rays


def _excess(actual: torch.Tensor, expected: list[float], bound: float) -> float:
    return float((actual.double().flatten() - torch.tensor(expected, dtype=torch.float64)).abs().max()) / bound


def _frequency() -> float:
    expected = [0.809017, 0.587785, 0.951057, -0.309017, -0.587785, -0.809017]
    return _excess(ops.frequency(torch.tensor([[0.3]]), 3), expected, 1e-6)


def _harmonics() -> float:
    expected = [0.282095, -0.261169, 0.391754, -0.130585, 0.156078, -0.468235, 0.292864, -0.234118, -0.117059]
    direction = torch.tensor([[1.0, 2.0, 3.0]]) / math.sqrt(14)
    return _excess(ops.spherical_harmonics(direction, 3), expected, 1e-6)


def _composite() -> float:
    sigmas, t = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, 0.1, 0.3, 0.6])
    result = ops.composite(sigmas, torch.ones(3, 3), t[:-1], t[1:], torch.tensor([[0, 3]]), early_stop_eps=0)
    return _excess(result.weights, [0.095163, 0.298307, 0.471195], 1e-6)


def _hash_grid() -> float:
    """Levels of the instant-ngp grid exactly, and a table of ones, which any interpolation must give back."""
    config = ops.GridConfig(log2_hashmap_size=14, per_level_scale=1.381912879967776)
    resolutions = [16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1483, 2048]
    if [level.resolution for level in config.levels()] != resolutions:
        return math.inf
    x = torch.rand(4096, 3, generator=torch.Generator().manual_seed(0))
    return _excess(ops.hash_grid(x, torch.ones(config.n_params), config) - 1, [0.0], 1e-6)


def _mlp() -> float:
    """Forward and backward of a fused network against plain torch."""
    config = ops.MLPConfig(n_input_dims=32, n_output_dims=16, n_neurons=64, n_hidden_layers=1, activation="ReLU")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 32, generator=generator)
    params = (torch.randn(64 * 32 + 16 * 64, generator=generator) / 8).requires_grad_(True)
    expected = torch.relu(x @ params[: 64 * 32].view(64, 32).T) @ params[64 * 32 :].view(16, 64).T
    (expected_grad,) = torch.autograd.grad(expected.square().mean(), params)
    actual = ops.fused_mlp(x, params, config)
    (grad,) = torch.autograd.grad(actual.square().mean(), params)
    error = max(float((actual.detach() - expected.detach()).abs().max()), float((grad - expected_grad).abs().max()))
    return error / 1e-3 / max(1.0, float(expected.detach().abs().max()))


def _march() -> float:
    """A ray through one occupied cell, [0, 1/8]^3, which it enters after 1 and leaves after 1.125."""
    density = torch.zeros(1, 8**3)
    density[0, 0] = 1
    origin, direction = torch.tensor([[-1.0, 1 / 16, 1 / 16]]), torch.tensor([[1.0, 0.0, 0.0]])
    samples = ops.march(origin, direction, *ops.occupancy_bits(density, 0.5))
    step = math.sqrt(3) / 1024
    expected = [1 + k * step for k in range(math.ceil(0.125 / step))]
    if len(expected) != len(samples.t_starts):
        return math.inf
    return _excess(samples.t_starts, expected, 1e-6)


def _fused() -> float:
    """Colours and gradients of the fused training step against operator by operator; 32-bit tables and products."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoding = Block(otype="HashGrid", n_levels=8, n_features_per_level=2, log2_hashmap_size=14)
        field = RadianceField.from_config(
            FieldConfig(encoding, table_precision="fp32", network_precision="fp32"), (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
        )
        origins = torch.nn.functional.normalize(torch.randn(64, 3)) + 0.5
        directions = torch.nn.functional.normalize(0.25 + 0.5 * torch.rand(64, 3) - origins)
    black, options = torch.zeros(64, 3), MarchOptions(step_scale=8)
    grid = ops.occupancy_bits(torch.ones(1, 8**3), 0.5)
    samples = ops.march(origins, directions, *grid, step_scale=options.step_scale, near=options.near)
    expected = composite_rays(field, samples, origins, directions, options)
    networks = [field.density_network.params, field.color_network.params]
    expected_grads = torch.autograd.grad(expected.rgb.square().mean(), networks)

    workspace = ops.FusedWorkspace(ops.FusedField.of(field, half=False), 1 << 14)
    image = ops.FusedImage(*(torch.empty(64, *shape) for shape in ((3,), (), (), ())))
    ops.fused_gradients(
        workspace, *grid, origins, directions, black, black, options.fused(), ops.FusedLoss(None), rays=image
    )
    grads = (workspace.grad_density, workspace.grad_color)
    errors = [(grad - want).norm() / want.norm() for grad, want in zip(grads, expected_grads, strict=True)]
    return float(torch.stack([(image.rgb - expected.rgb.detach()).abs().max(), *errors]).max()) / 1e-5


SELF_TESTS: dict[str, Callable[[], float]] = {
    "frequency encoding": _frequency,
    "spherical harmonics": _harmonics,
    "hash grid": _hash_grid,
    "fused network": _mlp,
    "marching": _march,
    "compositing": _composite,
    "fused training step": _fused,
}
