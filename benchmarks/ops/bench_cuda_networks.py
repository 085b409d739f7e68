# SPDX-License-Identifier: Apache-2.0
"""Grid encoding and networks on a CUDA device at 2^18 and 2^22 samples, tiny-cuda-nn beside them where it is installed;
frames of a KiloNeRF.

Grid: 16 levels of 2 features, 2^19 entries, 16 to 2048, its table read in float16; networks: 64 wide with one and two
hidden layers, float16 inputs and outputs. Rows are million samples per second, medians between events of the stream;
their roof is what the card's copies and matrix products allow for the bytes of inputs, outputs, their gradients and
tables, each moved once, and for the products. What a grid gathers, 512 bytes a sample, is not in it.
KiloNeRF: 16^3 cells, each with a network, 800 x 800 rays through a ball of occupied cells; dense: they end in its
shell, thin: they cross it.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import Module

from benchmarks.harness import Row, report
from benchmarks.ops.cuda_card import Card, milliseconds
from benchmarks.peers import tcnn_parts
from benchmarks.peers.cuda_peer import found
from neurfield import ops
from neurfield.ops import GridConfig, MLPConfig
from neurfield.training.device import why_not_cuda
from tests.cases import uniform

GRID = GridConfig(3, 16, 2, 19, 16, 1.381912879967776)
NETWORKS = {"32-64-16": MLPConfig(32, 16, 64, 1), "32-64-64-16": MLPConfig(32, 16, 64, 2)}


@dataclass(frozen=True)
class Work:
    """Of one sample: bytes that must move, and FLOP of the products."""

    n_bytes: float
    flops: float = 0


@dataclass(frozen=True)
class Bench:
    """What is timed on `n` samples, forward and with backward, on which card."""

    card: Card
    n: int
    forward: Work
    both: Work

    def rate(self, name: str, fn: Callable[[], object], work: Work) -> Row:
        median, spread = milliseconds(fn)
        roof, note = self.card.roof(work.n_bytes, work.flops)
        return Row(f"{name}, {self.n} samples", self.n / median / 1e3, "Ms/s", spread, roof, note)

    def pair(self, name: str, fn: Callable[[], Tensor], leaves: list[Tensor], grad: Tensor) -> list[Row]:
        """Inference, and forward + backward to all leaves."""
        with torch.no_grad():
            forward = self.rate(f"{name}, forward", fn, self.forward)
        both = self.rate(f"{name}, forward + backward", lambda: torch.autograd.grad(fn(), leaves, grad), self.both)
        return [forward, both]

    def peer_rows(self, name: str, made: Callable[[ModuleType], Module], x: Tensor, grad: Tensor) -> list[Row]:
        """tiny-cuda-nn, as its bindings run by default and with the kernels that it fuses at run time."""
        rows: list[Row] = []
        if tcnn := found("tinycudann"):
            for kind in ("", " fused at run time"):
                peer = made(tcnn).to(x.device)
                peer.jit_fusion = bool(kind)
                leaves = [*([x] if x.requires_grad else []), peer.params]
                measured = self.pair(f"tiny-cuda-nn{kind}, {name}", partial(peer, x), leaves, grad)
                if peer.jit_fusion == bool(kind):  # it falls back where it cannot compile
                    rows += measured
        return rows


def grid_rows(device: torch.device, card: Card, n: int) -> list[Row]:
    x = uniform(n, 3).to(device)
    params = uniform(GRID.n_params, low=-1e-4, high=1e-4).to(device).requires_grad_()
    half = params.detach().half()
    grad = uniform(n, GRID.n_output_dims, low=-1, seed=1).to(device)
    moved, table = 12 + 2 * GRID.n_output_dims, 2 * GRID.n_params / n  # in float16, as tiny-cuda-nn has it
    bench = Bench(card, n, Work(moved + table), Work(2 * moved + 3 * table))  # gradients in float32
    own = bench.pair("grid", lambda: ops.hash_grid(x, params, GRID, half_copy=half), [params], grad)
    return own + bench.peer_rows("grid", partial(tcnn_parts.encoding, config=GRID), x, grad.half())


def network_rows(device: torch.device, card: Card, n: int, name: str, config: MLPConfig) -> list[Row]:
    x = uniform(n, config.n_input_dims, low=-1).half().to(device).requires_grad_()
    params = uniform(config.n_params, low=-0.2, high=0.2, seed=1).to(device).requires_grad_()
    grad = uniform(n, config.n_output_dims, low=-1, seed=2).half().to(device)
    name, moved = f"network {name}", 2 * (config.n_input_dims + config.n_output_dims)
    # backward reads inputs again, and has a product for either factor of one forward
    both = Work(2 * moved + 2 * config.n_input_dims, 6 * config.n_params)
    bench = Bench(card, n, Work(moved, 2 * config.n_params), both)
    own = bench.pair(name, lambda: ops.fused_mlp(x, params, config, half_products=True), [x, params], grad)
    return own + bench.peer_rows(name, partial(tcnn_parts.network, config=config), x, grad)


def kilo_rows(device: torch.device) -> list[Row]:
    config, size = ops.KiloConfig(), 800
    params = uniform(16**3, config.n_params, low=-0.3, high=0.3, seed=1)
    config.parts(params)["b_sigma"].fill_(1.0)
    params = params.to(device)
    cells = ops.KiloCells(torch.arange(16**3, dtype=torch.int32).view(16, 16, 16).to(device), (0.0,) * 3, (16.0,) * 3)
    _, places = ops.occupancy_draw(torch.arange(64**3, dtype=torch.int32), 64**3, 64, 0, 0)  # one in each cell
    bits = ops.occupancy_bits(((places - 0.5).norm(dim=1) < 0.45).float()[None].to(device), 0.5)
    at = (torch.arange(size, device=device) + 0.5) / size - 0.5
    plane = torch.cartesian_prod(at, at)
    origins = torch.tensor([0.5, 0.5, -1.0], device=device).expand(size * size, 3).contiguous()
    through = torch.nn.functional.pad(plane, (0, 1), value=1.2)
    directions, march = torch.nn.functional.normalize(through, dim=1), ops.FusedMarch()
    rows = []
    for name, scale in (("dense", 150.0), ("thin", 1.0)):
        frame = partial(ops.kilo_render, params, cells, config, scale, *bits, origins, directions, march)
        median, spread = milliseconds(frame)
        rows.append(Row(f"KiloNeRF, {name}, frames of 800 x 800", 1e3 / median, "1/s", spread))
    return rows


def main() -> None:
    reason = why_not_cuda()
    if reason:
        print(f"cuda_networks: not measured: {reason}")
        return
    device = torch.device("cuda", torch.cuda.current_device())
    card = Card.measured(device)
    rows = card.rows
    for n, (name, config) in itertools.product((2**18, 2**22), NETWORKS.items()):
        rows += network_rows(device, card, n, name, config)
    for n in (2**18, 2**22):
        rows += grid_rows(device, card, n)
    rows += kilo_rows(device)
    report("cuda_networks", f"grid and networks on {torch.cuda.get_device_name()}", rows)


if __name__ == "__main__":
    main()
