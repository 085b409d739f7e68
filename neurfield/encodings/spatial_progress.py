# SPDX-License-Identifier: Apache-2.0
"""Which blocks of features are open where: the feedback controller of SAPE (Hertz et al. 2021, and its released code).

Blocks open one after the other during the first half of training. A grid records the loss of the samples around each of
its nodes; when a block is due it opens only at nodes where the loss is still above `epsilon`, and a node that was left
out once stays out. Between nodes, and over a box of nodes, the mask is smoothed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.errors import UserError
from neurfield.ops.modulation import MAX_DIMS

Ramp = Literal["Soft", "Hard"]
MAX_TABLE = 2**30  # bytes of counts


class SpatialProgress(nn.Module):
    """Feedback grid over [0, 1]^d; everything that it knows is in buffers, so a checkpoint holds it.

    Args:
        n_blocks: blocks of features, low to high frequency; the first is open everywhere at once.
        resolution: nodes per axis, at least 3 each, 1 ... 4 axes.
        epsilon: a block opens where the mean loss per sample is above it. In units of that loss.
        ramp: "Hard", a block is closed or open (released code), or "Soft", it fades in during the first half of its
            time (the paper's ramp in time).

    Attributes:
        open_blocks: int32 `[n_nodes]`, how many blocks each node has opened.
        counts: uint8 `[n_nodes, n_blocks]`, how many nodes of the box around it have.
        done: float64, the part of the training that is over.
        n_due: int64, how many blocks have been due. This and `done` stay on the CPU: every step asks for them.

    Raises:
        UserError: sizes out of range.
    """

    open_blocks: Tensor
    counts: Tensor
    growing: Tensor
    feedback: Tensor
    done: Tensor
    n_due: Tensor
    sizes: Tensor

    def __init__(self, n_blocks: int, resolution: Sequence[int], epsilon: float, ramp: Ramp = "Hard") -> None:
        super().__init__()
        n_nodes = math.prod(resolution)
        if not 1 <= len(resolution) <= MAX_DIMS or min(resolution) < 3 or n_nodes * n_blocks > MAX_TABLE:
            raise UserError(
                f"SAPE: resolution: expected 1 ... {MAX_DIMS} numbers of at least 3 with at most "
                f"{MAX_TABLE // max(n_blocks, 1)} nodes for {n_blocks} blocks, got {list(resolution)}"
            )
        self.n_blocks, self.resolution, self.epsilon, self.ramp = n_blocks, tuple(resolution), epsilon, ramp
        # a box of 5 holds too many nodes for a byte in 4 dimensions
        self.radius = 1 if n_nodes < 100 or len(resolution) == 4 else 2
        self.box = (2 * self.radius + 1) ** len(resolution)
        self.register_buffer("open_blocks", torch.ones(n_nodes, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(n_nodes, n_blocks, dtype=torch.uint8))
        self.register_buffer("growing", torch.ones(n_nodes, dtype=torch.bool))
        self.register_buffer("feedback", torch.zeros(n_nodes, 2))  # sums of weight * loss and of weight
        self.register_buffer("done", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("n_due", torch.tensor(1))
        self.register_buffer("sizes", torch.tensor(self.resolution), persistent=False)
        self.counts[:, 0] = self.box

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SpatialProgress":
        done, n_due = self.done, self.n_due
        super()._apply(fn, recurse)
        self.done, self.n_due = done, n_due
        return self

    def gates(self, x: Tensor) -> Tensor:
        """Factors `[n, n_blocks]` in [0, 1] for samples at `x` [n, d] in [0, 1]; constants."""
        # of tensors alone, so that it can be compiled and exported
        block = torch.arange(self.n_blocks, device=x.device)
        factors = (block < self.n_due).to(x.dtype) * (1 / self.box)
        if self.ramp == "Soft":
            since = self.done * 2 * self.n_blocks - (self.n_due - 1)  # in the times of a block
            is_newest = (block == self.n_due - 1) & (block > 0)
            factors = torch.where(is_newest, factors * (2 * since).clamp(max=1), factors)
        return ops.gates(self._grid_coordinates(x), self.counts, factors, self.resolution)

    @torch.no_grad()
    def after_step(self, x: Tensor, loss: Tensor, progress: float) -> None:
        """Call once per training step.

        Args:
            x: its samples `[n, d]` in [0, 1].
            loss: of each of them, `[n]`. Those that are not finite are left out.
            progress: the part of the training that is over, 0 ... 1; block k of n is due at k / (2 n). Where
                steps are so long that several are due at once, they open by the same losses. It never goes back: a
                resumed training with a larger budget waits until it has caught up.
        """
        self.done.fill_(max(min(progress, 1.0), float(self.done)))
        n_due = int(self.n_due)
        if n_due == self.n_blocks:
            return
        self._record(x, loss)
        due_now = min(self.n_blocks, 1 + int(float(self.done) * 2 * self.n_blocks))
        if due_now > n_due:
            self._open(range(n_due, due_now))

    @property
    def is_finished(self) -> bool:
        """Whether every block has been due."""
        return int(self.n_due) == self.n_blocks

    def picture(self) -> Tensor:
        """Share of the blocks that each node has opened, float32 `resolution`: an image of the mask."""
        return (self.open_blocks.float() / self.n_blocks).view(self.resolution)

    def _grid_coordinates(self, x: Tensor) -> Tensor:
        """The domain ends half a node inside of the grid (released code), which spans [0, 1] for the operators."""
        resolution = self.sizes.to(x.dtype)
        return (x.detach().clamp(0, 1) * (resolution - 2) + 0.5) / (resolution - 1)

    def _record(self, x: Tensor, loss: Tensor) -> None:
        at = self._grid_coordinates(x.float())
        rows = torch.stack([loss.detach().float().reshape(-1), torch.ones_like(at[:, 0])], dim=1)
        rows = torch.where(rows.isfinite().all(dim=1, keepdim=True), rows, 0.0)
        self.feedback += ops.modulation_gradient(at, rows, self.resolution)

    def _open(self, blocks: range) -> None:
        loss = self._box_sum(self._mean_losses()) / self.box
        # without any loss, after steps that were not finite, nothing is known
        self.growing &= (loss > self.epsilon) | (self.feedback[:, 1].sum() == 0)
        self.open_blocks += self.growing * len(blocks)
        self.counts[:, blocks.start : blocks.stop] = self._box_sum(self.growing.float()).to(torch.uint8)[:, None]
        self.feedback.zero_()
        self.n_due.fill_(blocks.stop)

    def _mean_losses(self) -> Tensor:
        """Mean loss [n_nodes]; where there were no samples, that of the neighbours, else that of all."""
        total, weight = self.feedback.unbind(1)
        seen = weight > 0
        mean = torch.where(seen, total / weight.clamp_min(1e-30), torch.zeros_like(total))
        around = self._box_sum(mean, 1) / self._box_sum(seen.to(mean.dtype), 1)  # 0 / 0 where no neighbour was seen
        overall = total.sum() / weight.sum().clamp_min(1e-30)
        return torch.where(seen, mean, torch.where(around.isnan(), overall, around))

    def _box_sum(self, nodes: Tensor, radius: int | None = None) -> Tensor:
        """Sums over the box around each node, the border repeated; [n_nodes] to [n_nodes]."""
        grid, radius = nodes.view(self.resolution), self.radius if radius is None else radius
        for axis, r in enumerate(self.resolution):
            index = torch.arange(r, device=nodes.device)
            shifts = range(-radius, radius + 1)
            grid = sum((grid.index_select(axis, (index + s).clamp(0, r - 1)) for s in shifts), torch.zeros_like(grid))
        return grid.flatten()

    def extra_repr(self) -> str:
        size = " x ".join(map(str, self.resolution))
        return f"{self.n_blocks} blocks, {size} nodes, epsilon={self.epsilon:g}, {self.ramp}"
