# SPDX-License-Identifier: Apache-2.0
"""Code that was written for tiny-cuda-nn runs on a CPU with the module aliased, and learns.

NEURFIELD_PEERS names a folder with checkouts of public projects; there the radiance field of nerfacc's examples
(NEURFIELD_PEERS/nerfacc/examples/radiance_fields/ngp.py) is run as it is. `OwnField` is ours, in the same style.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neurfield.tcnn
from neurfield.rendering.volume import MarchOptions, composite_samples, march_rays, sample_functions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from tests.cases import uniform, unit_vectors

BOX = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
STEPS = 40


@pytest.fixture(autouse=True)
def alias(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", neurfield.tcnn)


def own_field() -> nn.Module:
    import tinycudann as tcnn

    class OwnField(nn.Module):
        """Density from a grid, colour from the direction and the features behind it."""

        def __init__(self) -> None:
            super().__init__()
            self.base = tcnn.NetworkWithInputEncoding(
                n_input_dims=3,
                n_output_dims=16,
                encoding_config={
                    "otype": "HashGrid", "n_levels": 8, "n_features_per_level": 2, "log2_hashmap_size": 14,
                    "base_resolution": 8, "per_level_scale": 1.5,
                },
                network_config={
                    "otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": 64,
                    "n_hidden_layers": 1,
                },
            )  # fmt: skip
            self.direction = tcnn.Encoding(n_input_dims=3, encoding_config={"otype": "SphericalHarmonics", "degree": 4})
            self.head = tcnn.Network(
                n_input_dims=self.direction.n_output_dims + 15,
                n_output_dims=3,
                network_config={
                    "otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "Sigmoid", "n_neurons": 64,
                    "n_hidden_layers": 2,
                },
            )  # fmt: skip

        def query_density(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.base(x.view(-1, 3)).to(x)
            return torch.exp(h[:, :1]), h[:, 1:]

        def forward(self, positions: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
            density, features = self.query_density(positions)
            encoded = self.direction((directions + 1) / 2)
            return self.head(torch.cat([encoded, features], dim=-1)).to(positions), density

    return OwnField()


def nerfacc_module() -> Any:
    root = os.environ.get("NEURFIELD_PEERS")
    if not root:
        pytest.skip("set NEURFIELD_PEERS to a folder with a checkout of nerfacc to run its example")
    path = Path(root) / "nerfacc/examples/radiance_fields/ngp.py"
    if not path.is_file():
        pytest.skip(f"no {path}")
    spec = importlib.util.spec_from_file_location("nerfacc_ngp", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nerfacc_field() -> nn.Module:
    # smaller than its defaults, by its own arguments
    return nerfacc_module().NGPRadianceField(aabb=BOX, n_levels=8, log2_hashmap_size=14, max_resolution=128)


class Ball(nn.Module):
    """What is to be learned: a ball in the unit cube, coloured by the place and, a little, by the direction."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 60 * torch.sigmoid((0.3 - (x - 0.5).norm(dim=1)) * 40), x

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(x)[0], (0.8 * x + 0.1 + 0.1 * directions).clamp(0, 1)


@pytest.mark.parametrize("make", [own_field, nerfacc_field], ids=["own", "nerfacc"])
def test_a_field_learns_from_rays_through_nerfaccs_contract(make) -> None:
    """Marched and composited by neurfield through an `rgb_sigma_fn` as nerfacc's examples write it."""
    torch.manual_seed(0)
    field, grid, options = make(), OccupancyGrid(1), MarchOptions(step_scale=4, near=0.0)
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15)
    losses = []
    for step in range(STEPS):
        origins = 0.5 + 1.2 * unit_vectors(128, seed=step)
        directions = torch.nn.functional.normalize(0.25 + 0.5 * uniform(128, 3, seed=step) - origins, dim=1)
        samples = march_rays(grid, origins, directions, options, jitter=(0, step))

        def rgb_sigma_fn(t_starts, t_ends, ray_indices, origins=origins, directions=directions):
            t_dirs = directions[ray_indices]
            positions = origins[ray_indices] + t_dirs * (t_starts + t_ends)[:, None] / 2.0
            rgbs, sigmas = field(positions, t_dirs)
            return rgbs, sigmas.squeeze(-1)

        target = composite_samples(sample_functions(Ball(), origins, directions)[1], samples).rgb
        found = composite_samples(rgb_sigma_fn, samples)
        loss = torch.nn.functional.smooth_l1_loss(found.rgb, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5]), losses


def test_the_public_density_field_and_unbounded_scenes() -> None:
    """The other class of that file, which proposes samples, and its contraction of unbounded space."""
    module = nerfacc_module()
    density = module.NGPDensityField(BOX)(uniform(4, 5, 3, low=0.1, high=0.9))
    assert density.shape == (4, 5, 1) and (density > 0).all()
    field = module.NGPRadianceField(aabb=BOX, unbounded=True, n_levels=4, log2_hashmap_size=12)
    rgb, sigma = field(uniform(6, 3, low=-40, high=40), unit_vectors(6))
    assert rgb.shape == (6, 3) and sigma.shape == (6, 1) and torch.isfinite(sigma).all()
    (rgb.sum() + sigma.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in field.parameters() if p.numel())


def test_a_distance_field_has_an_eikonal_loss() -> None:
    """In the way of surface reconstructions: an encoding and a torch network behind it, normals by autograd."""
    import tinycudann as tcnn

    torch.manual_seed(0)
    config = {"otype": "HashGrid", "n_levels": 6, "log2_hashmap_size": 14, "base_resolution": 8, "per_level_scale": 1.4}
    encoding = tcnn.Encoding(3, config, dtype=torch.float32)
    network = nn.Sequential(nn.Linear(encoding.n_output_dims + 3, 64), nn.Softplus(beta=100), nn.Linear(64, 1))
    optimizer = torch.optim.Adam([*encoding.parameters(), *network.parameters()], lr=1e-2)
    losses = []
    for step in range(60):
        points = uniform(512, 3, low=0.05, high=0.95, seed=step).requires_grad_()
        sdf = network(torch.cat([points * 2 - 1, encoding(points)], dim=-1))
        (normal,) = torch.autograd.grad(sdf, points, torch.ones_like(sdf), create_graph=True)
        eikonal = ((normal.norm(dim=-1) - 1) ** 2).mean()
        loss = (sdf[:, 0] - ((points - 0.5).norm(dim=-1) - 0.3)).abs().mean() + 0.1 * eikonal
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tcnn.free_temporary_memory()
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5]), losses
