# SPDX-License-Identifier: Apache-2.0
"""Samples where proposal networks see weight (Barron et al. 2022, mip-NeRF 360, section 3; Li et al. 2023, nerfacc).

Each proposal gives a density on some intervals; what it hides, as a distribution along the ray, decides where the next,
finer ones lie. A proposal learns to bound the weights that the field itself finds from above.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

_NO_WEIGHT = 1e-10  # of an interval in which a sample lies in the middle
_EPS = 1e-7

# t_starts, t_ends [n_rays, n_samples] -> density [n_rays, n_samples]
ProposalFn = Callable[[Tensor, Tensor], Tensor]


class PropNetEstimator(nn.Module):
    """Proposal networks, evaluated and learned.

    Args:
        optimizer: of the parameters of the proposals; may be None where `compute_loss` is added to another loss.
        scheduler: of its learning rate, told of every step.
    """

    _anywhere: Tensor

    def __init__(self, optimizer: torch.optim.Optimizer | None = None, scheduler: Any = None) -> None:
        super().__init__()
        self.optimizer, self.scheduler = optimizer, scheduler
        self.prop_cache: list[tuple[Tensor, Tensor | None]] = []  # edges 0 ... 1 and what is hidden in front of them
        self.register_buffer("_anywhere", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        return self._anywhere.device

    @torch.no_grad()
    def sampling(
        self,
        prop_sigma_fns: Sequence[ProposalFn],
        prop_samples: Sequence[int],
        num_samples: int,
        n_rays: int,
        near_plane: float,
        far_plane: float,
        sampling_type: Literal["uniform", "lindisp"] = "lindisp",
        stratified: bool = False,
        requires_grad: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Intervals of rays, the same number of each.

        Args:
            prop_sigma_fns, prop_samples: density of each proposal, and on how many intervals; coarse to fine.
            num_samples: intervals in the end.
            sampling_type: what the first proposal's intervals are equal in: the distance, or its inverse.
            stratified: shifts the samples of each ray by a random part of their distance (torch's generator).
            requires_grad: the proposals will be learned from in `update_every_n_steps` or `compute_loss`.

        Returns:
            t_starts, t_ends `[n_rays, num_samples]`.

        Raises:
            ValueError: not as many proposals as numbers, an unknown sampling_type, or densities of another shape.
        """
        if len(prop_sigma_fns) != len(prop_samples):
            raise ValueError(
                f"PropNetEstimator: expected a number of samples for each of {len(prop_sigma_fns)} proposals, "
                f"got {len(prop_samples)}"
            )
        edges = hidden = torch.tensor([0.0, 1.0], device=self.device).expand(n_rays, 2)
        for sigma_fn, n in zip(prop_sigma_fns, prop_samples, strict=True):
            edges = importance_sampling(edges, hidden, n, stratified)
            t = _distances(sampling_type, edges, near_plane, far_plane)
            with torch.set_grad_enabled(requires_grad):
                sigmas = sigma_fn(t[:, :-1], t[:, 1:])
                if sigmas.shape != t[:, 1:].shape:
                    raise ValueError(
                        f"PropNetEstimator: expected densities {list(t[:, 1:].shape)}, got {list(sigmas.shape)}"
                    )
                thickness = (sigmas * t.diff(dim=1))[:, :-1].cumsum(dim=1)
                hidden = _hidden(torch.exp(-torch.nn.functional.pad(thickness, (1, 0))))
                if requires_grad:
                    self.prop_cache.append((edges, hidden))
        edges = importance_sampling(edges, hidden, num_samples, stratified)
        if requires_grad:
            self.prop_cache.append((edges, None))
        t = _distances(sampling_type, edges, near_plane, far_plane)
        return t[:, :-1], t[:, 1:]

    @torch.enable_grad()
    def compute_loss(self, trans: Tensor, loss_scaler: float = 1.0) -> Tensor:
        """How much weight of the field the proposals of the last `sampling` fail to bound; zero without one.

        Args:
            trans: what is left of the light in front of each sample, `[n_rays, num_samples]`; without gradient here.
        """
        if not self.prop_cache:
            return torch.zeros((), device=self.device)
        edges, _ = self.prop_cache.pop()
        weights = _hidden(trans).detach().diff(dim=1)
        loss = torch.zeros((), device=trans.device)
        while self.prop_cache:
            proposed, hidden = self.prop_cache.pop()
            assert hidden is not None
            above = torch.searchsorted(proposed[:, :-1].contiguous(), edges.contiguous(), right=True)
            left, right = (above[:, :-1] - 1).clamp_min(0), above[:, 1:]
            bound = hidden.gather(1, right) - hidden.gather(1, left)
            loss = loss + ((weights - bound).clamp_min(0).square() / (weights + _EPS)).mean()
        return loss * loss_scaler

    def update_every_n_steps(self, trans: Tensor, requires_grad: bool = False, loss_scaler: float = 1.0) -> float:
        """A step of the optimizer, if `requires_grad`, and of the scheduler; returns the loss, else 0.

        Raises:
            RuntimeError: no optimizer, or no `sampling` with requires_grad before.
        """
        loss = 0.0
        if requires_grad:
            if self.optimizer is None or not self.prop_cache:
                missing = "an optimizer" if self.optimizer is None else "sampling(..., requires_grad=True) before"
                raise RuntimeError(f"PropNetEstimator: update_every_n_steps needs {missing}")
            value = self.compute_loss(trans, loss_scaler)
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()
            loss = value.item()
        if self.scheduler is not None:
            self.scheduler.step()
        return loss


def get_proposal_requires_grad_fn(target: float = 5.0, num_steps: int = 1000) -> Callable[[int], bool]:
    """Whether the proposals learn in a step: in nearly every one at first, in the end in every `target`-th or so."""
    since = 0

    def requires_grad(step: int) -> bool:
        nonlocal since
        now = since > min(step / num_steps, 1.0) * target
        since = 1 if now else since + 1
        return now

    return requires_grad


@torch.no_grad()
def importance_sampling(edges: Tensor, hidden: Tensor, n: int, stratified: bool = False) -> Tensor:
    """New edges `[n_rays, n + 1]` half-way between n samples of a piecewise uniform distribution.

    Args:
        edges: `[n_rays, m]`, ascending.
        hidden: its cumulated weight at each of them, `[n_rays, m]`.
        n: at least 2. The samples lie at equal steps of the weight, the first half a step from its begin; the outermost
            edges lie as far from their samples as the next ones, within the old edges.
        stratified: instead of half, a random part of a step (torch's generator), one for each ray.

    Raises:
        ValueError: n below 2.
    """
    if n < 2:
        raise ValueError(f"PropNetEstimator: expected at least 2 samples of a ray, got {n}")
    first, last = hidden[:, :1], hidden[:, -1:]
    shift = torch.rand_like(first) if stratified else torch.full_like(first, 0.5)
    u = first + (torch.arange(n, device=edges.device) + shift) * ((last - first) / n)
    above = torch.searchsorted(hidden[:, :-1].contiguous(), u.contiguous(), right=True)
    below = (above - 1).clamp_min(0)
    (u0, u1), (t0, t1) = ((x.gather(1, below), x.gather(1, above)) for x in (hidden, edges))
    weight = u1 - u0
    part = torch.where(weight < _NO_WEIGHT, 0.5, (u - u0) / weight)
    t = t0 + part * (t1 - t0)
    between = (t[:, 1:] + t[:, :-1]) / 2
    before = torch.maximum(2 * t[:, :1] - between[:, :1], edges[:, :1])
    behind = torch.minimum(2 * t[:, -1:] - between[:, -1:], edges[:, -1:])
    return torch.cat([before, between, behind], dim=1)


def _hidden(trans: Tensor) -> Tensor:
    """Light that is hidden in front of each edge `[n, m + 1]`, all of it at the last, from what is left `[n, m]`."""
    return torch.cat([1 - trans, torch.ones_like(trans[:, :1])], dim=1)


def _distances(sampling_type: str, s: Tensor, near: float, far: float) -> Tensor:
    """Distances of s in 0 ... 1 between near and far."""
    if sampling_type == "uniform":
        return near + s * (far - near)
    if sampling_type == "lindisp":
        return 1 / (s / far + (1 - s) / near)
    raise ValueError(f"PropNetEstimator: sampling_type must be uniform or lindisp, got {sampling_type!r}")
