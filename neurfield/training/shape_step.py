# SPDX-License-Identifier: Apache-2.0
"""What makes the distances of a surface field distances: its shape loss, added to a fused step on rays."""

import torch
from torch import Tensor

from neurfield import ops
from neurfield.fields.surface import SurfaceField
from neurfield.training.step_random import step_generator

_FREE_SHARE = 1 / 3  # of the places: anywhere within reach, the others where rays had samples
_SPREAD = 0.01  # of half of those, standard deviation in unit space


class ShapeStep:
    """Adds the loss at random places; the places of one (seed, number) are always the same.

    The encoding is read, not differentiated: its gradients go to the table as those of rays do, by the workspace.
    """

    def __init__(self, field: SurfaceField, workspace: ops.FusedWorkspace, seed: int):
        self._field, self._workspace, self._seed = field, workspace, seed

    def add(self, number: int) -> float:
        """After fused_gradients: adds gradients to the workspace and returns the loss; NaN where one is not finite."""
        field, workspace = self._field, self._workspace
        points = field.shape_points(self._places(number))
        leaves: list[Tensor] = []

        def encode(position: Tensor) -> Tensor:
            with torch.no_grad():
                leaves.extend([position, field.encoding(position).requires_grad_()])
            return leaves[1]

        with torch.enable_grad():
            loss = field.shape_loss(points, encode)
        grad_encoding, grad_density = torch.autograd.grad(loss, [leaves[1], field.density_network.params])
        workspace.grad_density.add_(grad_density)
        workspace.append(leaves[0], grad_encoding)
        checked = loss.detach() + 0 * (grad_encoding.sum() + grad_density.sum())
        return checked.item()

    def _places(self, number: int) -> Tensor:
        field, random = self._field, step_generator(self._seed, number)
        n_free = round(field.config.n_shape_points * _FREE_SHARE)
        seen = self._workspace.sampled(field.config.n_shape_points - n_free, random)
        x = torch.cat([seen, torch.rand(n_free, 3, generator=random)]) / field.inverse_size + field.low
        some = slice(0, len(seen), 2)
        x[some] += _SPREAD * torch.randn(x[some].shape, generator=random)
        x = torch.clamp(x, field.low, field.low + 1 / field.inverse_size)
        if field.reach is None:
            return x
        away = torch.nn.functional.normalize(torch.randn(x.shape, generator=random), dim=1)
        free = field.middle + field.reach * torch.rand(len(x), 1, generator=random) ** (1 / 3) * away
        is_far = ((x - field.middle).norm(dim=1) > field.reach) | (torch.arange(len(x)) >= len(seen))
        return torch.where(is_far[:, None], free, x)
