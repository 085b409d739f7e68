# SPDX-License-Identifier: Apache-2.0
"""Where proposals put samples, by hand and by loops; that they learn to bound the weights of a field."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from neurfield.nerfacc import PropNetEstimator, get_proposal_requires_grad_fn
from neurfield.nerfacc.prop_net import importance_sampling
from tests.cases import uniform


def by_loops(edges: Tensor, hidden: Tensor, n: int) -> Tensor:
    result = []
    for t, u in zip(edges.double().tolist(), hidden.double().tolist(), strict=True):
        step, places = (u[-1] - u[0]) / n, []
        for i in range(n):
            at = u[0] + (i + 0.5) * step
            k = max(j for j in range(len(t) - 1) if u[j] <= at)
            places.append(t[k] + (at - u[k]) / (u[k + 1] - u[k]) * (t[k + 1] - t[k]))
        middles = [(a + b) / 2 for a, b in itertools.pairwise(places)]
        first = max(places[0] - (places[1] - places[0]) / 2, t[0])
        result.append([first, *middles, min(places[-1] + (places[-1] - places[-2]) / 2, t[-1])])
    return torch.tensor(result)


def test_edges_by_loops_and_by_hand() -> None:
    edges, weights = uniform(20, 9, seed=1).cumsum(1), uniform(20, 8, low=0.1, seed=2)
    hidden = torch.cat([torch.zeros(20, 1), weights.cumsum(1)], dim=1)
    for n in (2, 5, 33):
        # a handful of roundings at 5, divided by a weight of at least a hundredth of the whole
        torch.testing.assert_close(importance_sampling(edges, hidden, n), by_loops(edges, hidden, n), rtol=0, atol=1e-4)
    # all weight in the second half: samples at 1.25 and 1.75
    found = importance_sampling(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.0, 1.0]]), 2)
    assert found.tolist() == [[1.0, 1.5, 2.0]]
    # no weight at all: the middle of the last interval
    found = importance_sampling(torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(1, 3), 2)
    assert found.tolist() == [[1.5, 1.5, 1.5]]
    with pytest.raises(ValueError, match="expected at least 2 samples of a ray, got 1"):
        importance_sampling(edges, hidden, 1)


@pytest.mark.parametrize("kind", ["uniform", "lindisp"])
def test_intervals_cover_the_ray_where_nothing_is_seen(kind: str) -> None:
    starts, ends = PropNetEstimator().sampling([], [], 8, 3, 0.5, 4.0, kind)
    assert torch.equal(starts[:, 1:], ends[:, :-1]) and starts[0, 0] == 0.5 and ends[0, -1] == 4.0
    length = ends - starts if kind == "uniform" else 1 / starts - 1 / ends
    torch.testing.assert_close(length, length[:1, :1].expand_as(length), rtol=1e-5, atol=1e-6)


def test_samples_go_where_a_proposal_is_dense() -> None:
    def wall(t_starts: Tensor, t_ends: Tensor) -> Tensor:
        return 50.0 * ((t_starts + t_ends) / 2 > 2.0)

    starts, ends = PropNetEstimator().sampling([wall, wall], [64, 64], 16, 2, 0.1, 4.0, "uniform")
    middle = (starts + ends) / 2
    assert ((middle > 1.9) & (middle < 2.3)).float().mean() > 0.8
    torch.manual_seed(0)
    moved, _ = PropNetEstimator().sampling([wall], [64], 16, 2, 0.1, 4.0, "uniform", stratified=True)
    assert not torch.equal(moved[0], moved[1])


class Proposal(nn.Module):
    """A density on 32 bins of 0 ... 4."""

    def __init__(self) -> None:
        super().__init__()
        self.bins = nn.Parameter(torch.full((32,), -2.0))

    def forward(self, t_starts: Tensor, t_ends: Tensor) -> Tensor:
        at = ((t_starts + t_ends) / 2 * 8).long().clamp(0, 31)
        return nn.functional.softplus(self.bins[at])


def field_trans(starts: Tensor, ends: Tensor) -> Tensor:
    """What is left in front of each sample behind a wall at 3."""
    thickness = 40.0 * ((starts + ends) / 2 > 3.0) * (ends - starts)
    return torch.exp(-(thickness.cumsum(1) - thickness))


def test_a_proposal_learns_to_bound_the_weights() -> None:
    proposal = Proposal()
    made = PropNetEstimator(torch.optim.Adam(proposal.parameters(), 0.1))
    losses = []
    for _ in range(150):
        intervals = made.sampling([proposal], [64], 32, 4, 0.01, 4.0, "uniform", stratified=True, requires_grad=True)
        assert not any(t.requires_grad for t in intervals)
        losses.append(made.update_every_n_steps(field_trans(*intervals), requires_grad=True))
        assert not made.prop_cache
    assert losses[-1] < 0.1 * losses[0]
    starts, _ = made.sampling([proposal], [64], 32, 1, 0.01, 4.0, "uniform")
    assert (starts > 2.9).float().mean() > 0.6


def test_the_loss_by_hand() -> None:
    """One interval bounds nothing: of two halves, the first has weight 0.5, the proposal hides a quarter of it."""
    made = PropNetEstimator()
    proposed, hidden = torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[0.0, 0.25, 1.0]], requires_grad=True)
    made.prop_cache += [(proposed, hidden), (torch.tensor([[0.0, 0.4, 1.0]]), None)]
    loss = made.compute_loss(torch.tensor([[1.0, 0.5]]), loss_scaler=3.0)
    # weights 0.5, 0.5; bounds: [0, 0.4] lies in the first interval, 0.25; [0.4, 1] in both, 1
    assert float(loss.detach()) == pytest.approx(3 * (0.25**2 / 0.5) / 2, rel=1e-5)
    (grad,) = torch.autograd.grad(loss, hidden)
    assert grad[0, 1] < 0 and made.compute_loss(torch.ones(1, 2)) == 0


def test_proposals_learn_less_often_later() -> None:
    learns = get_proposal_requires_grad_fn(target=5.0, num_steps=100)
    flags = [learns(step) for step in range(400)]
    assert sum(flags[:20]) > 8 and sum(flags[200:]) == pytest.approx(200 / 6, abs=2)


def test_errors_say_expected_and_found() -> None:
    made = PropNetEstimator()
    with pytest.raises(ValueError, match="a number of samples for each of 0 proposals, got 1"):
        made.sampling([], [3], 4, 1, 0.1, 1.0)
    with pytest.raises(ValueError, match="sampling_type must be uniform or lindisp, got 'log'"):
        made.sampling([], [], 4, 1, 0.1, 1.0, "log")
    with pytest.raises(ValueError, match=r"expected densities \[2, 8\], got \[2, 8, 1\]"):
        made.sampling([lambda a, b: a[..., None]], [8], 4, 2, 0.1, 1.0)
    with pytest.raises(RuntimeError, match="update_every_n_steps needs an optimizer"):
        made.update_every_n_steps(torch.ones(1, 2), requires_grad=True)
    assert made.update_every_n_steps(torch.ones(1, 2)) == 0.0
