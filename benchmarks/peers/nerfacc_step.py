# SPDX-License-Identifier: Apache-2.0
"""A training step in torch of nerfacc's sampler and compositing and tiny-cuda-nn's encodings and networks.

The field of instant-ngp as preset `ngp` has it, in the unit cube, written in the way these libraries are meant to be
used: a grid of 128^3 cells, updated every 16 steps; samples in occupied cells, those behind surfaces left out by their
density; float16 features and networks, the loss scaled by a constant; torch's fused Adam. Rays are drawn in torch, as
many as should give the samples that are asked for. The sampler tells the host how many samples there are, so every step
waits for the device.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.peers.field import BETAS, EPSILON
from neurfield.data.scene import Scene
from neurfield.rendering.volume import sample_functions

LEARNING_RATE = 0.01
STEP = math.sqrt(3) / 1024  # length of an interval
LOSS_SCALE = 2.0**10  # of float16 gradients; Adam's steps do not depend on it
FIRST_RAYS, MOST_RAYS = 4096, 1 << 18


class PeerField(nn.Module):
    """Positions and directions `[n, 3]` to density `[n]` and colour `[n, 3]`, as neurfield.rendering wants it."""

    def __init__(self, tcnn: Any) -> None:
        super().__init__()
        growth = (2048 / 16) ** (1 / 15)
        grid = {
            "otype": "HashGrid", "n_levels": 16, "n_features_per_level": 2, "log2_hashmap_size": 19,
            "base_resolution": 16, "per_level_scale": growth,
        }  # fmt: skip
        network = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": 64}
        self.base = tcnn.NetworkWithInputEncoding(3, 16, grid, {**network, "n_hidden_layers": 1})
        self.encoding = tcnn.Encoding(3, {"otype": "SphericalHarmonics", "degree": 4})
        head = {**network, "n_hidden_layers": 2, "output_activation": "Sigmoid"}
        self.head = tcnn.Network(16 + self.encoding.n_output_dims, 3, head)

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.base(x)
        return torch.exp(latent[:, 0].float().clamp(max=15)), latent

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        sigma, latent = self.density(x)
        encoded = self.encoding((directions + 1) / 2)
        return sigma, self.head(torch.cat([encoded, latent], dim=1)).float()


class PeerStep(NamedTuple):
    loss: Tensor  # on the device
    n_rays: int
    n_samples: int


class PeerTrainer:
    """Learns the `train` views of a scene in the unit cube.

    Args:
        nerfacc, tcnn: the modules, or stand-ins with the same functions.
        scene: pinhole cameras and RGBA images of one size.
        n_samples: that a step should have.
    """

    def __init__(self, nerfacc: Any, tcnn: Any, scene: Scene, n_samples: int, device: torch.device) -> None:
        cameras, views = scene.unit_cameras("train"), scene.views("train")
        self._images = torch.stack([scene.images[view] for view in views]).to(device)  # uint8 [n, h, w, 4]
        self._c2w, self._intrinsics = cameras.c2w.to(device), cameras.intrinsics.to(device)
        self._render, self._n_wanted, self._device = nerfacc.rendering, n_samples, device
        self._field = PeerField(tcnn).to(device)
        self._estimator = nerfacc.OccGridEstimator([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], resolution=128, levels=1).to(device)
        self._adam = torch.optim.Adam(self._field.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True)
        self._number, self._n_rays = 0, FIRST_RAYS

    def train_step(self) -> PeerStep:
        origins, directions, rgba = self._drawn()
        n_rays, background = len(origins), torch.rand(len(origins), 3, device=self._device)
        target = rgba[:, :3] * rgba[:, 3:] + background * (1 - rgba[:, 3:])
        self._estimator.update_every_n_steps(
            step=self._number, occ_eval_fn=lambda x: self._field.density(x)[0][:, None] * STEP
        )
        self._number += 1
        sigma_fn, rgb_sigma_fn = sample_functions(self._field, origins, directions)
        ray_indices, t_starts, t_ends = self._estimator.sampling(
            origins, directions, sigma_fn=sigma_fn, render_step_size=STEP, stratified=True
        )
        n_samples = len(t_starts)
        self._n_rays = min(max(n_rays * self._n_wanted // max(n_samples, 1), 64), 2 * n_rays, MOST_RAYS)
        if not n_samples:  # the networks want some
            return PeerStep(torch.full((), math.nan), n_rays, 0)
        rgb, _, _, _ = self._render(
            t_starts, t_ends, ray_indices, n_rays=n_rays, rgb_sigma_fn=rgb_sigma_fn, render_bkgd=background
        )
        loss = nn.functional.smooth_l1_loss(rgb, target)
        self._adam.zero_grad()
        (loss * LOSS_SCALE).backward()
        self._adam.step()
        return PeerStep(loss.detach(), n_rays, n_samples)

    def _drawn(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rays through the middles of pixels, `[n, 3]`, and their colours, `[n, 4]`."""
        n_views, height, width, _ = self._images.shape
        view, y, x = (torch.randint(n, (self._n_rays,), device=self._device) for n in (n_views, height, width))
        fl_x, fl_y, cx, cy = self._intrinsics[view].unbind(1)
        local = torch.stack([(x + 0.5 - cx) / fl_x, -(y + 0.5 - cy) / fl_y, -torch.ones_like(fl_x)], dim=1)
        c2w = self._c2w[view]
        directions = nn.functional.normalize((c2w[:, :, :3] @ local[:, :, None])[:, :, 0], dim=1)
        return c2w[:, :, 3].contiguous(), directions, self._images[view, y, x].float() / 255
