# SPDX-License-Identifier: Apache-2.0
"""Thousands of tiny networks beside the multiply-add peak, batched matrix products and the usual unsorted formulation.

A sample counts 2 * 6080 floating-point operations (the five matrices); sorting and the encodings count as nothing, and
are part of kilo_mlp's time only: the peers get encoded input, torch.bmm also sorted and in equal shares.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import Row, measure, report
from neurfield._native import lib
from neurfield.ops import KiloConfig, kilo_mlp
from neurfield.reference.kilo_mlp import encode
from tests.cases import generator, uniform, unit_vectors

CONFIG = KiloConfig()
N_NETWORKS = 512
PER_NETWORK = (25, 100, 256, 1024)
BMM_CHUNKS = (4, 16, 64, 512)
FLOP = 2 * (63 * 32 + 32 * 32 + 32 * 33 + 59 * 32 + 32 * 3)


def parameters() -> Tensor:
    return uniform(N_NETWORKS, CONFIG.n_params, low=-0.3, high=0.3, seed=1)


def along_rays(n: int) -> Tensor:
    """Networks in runs of 1 to 16 samples, as rays cross cells."""
    lengths = torch.randint(1, 17, (n,), generator=generator(3))
    runs = torch.randint(0, N_NETWORKS, (n,), generator=generator(4), dtype=torch.int32)
    return torch.repeat_interleave(runs, lengths)[:n].contiguous()


def batched(e_x: Tensor, e_d: Tensor, p: dict[str, Tensor], product) -> Tensor:
    """The networks as batched products; `product(h, name of bias, name of matrix)`."""
    h = torch.relu(product(e_x, "b0", "w0"))
    h = torch.relu(product(h, "b1", "w1"))
    sigma, feature = product(h, "b_sigma", "w_sigma"), product(h, "b2", "w2")
    h = torch.relu(product(torch.cat([feature, e_d], dim=-1), "b3", "w3"))
    return torch.cat([sigma, torch.sigmoid(product(h, "b_rgb", "w_rgb_in"))], dim=-1)


def bmm(e_x: Tensor, e_d: Tensor, p: dict[str, Tensor], chunk: int) -> None:
    """Sorted input in equal shares [n_networks, m, ...]; `chunk` networks at a time, which suits the caches."""
    for i in range(0, N_NETWORKS, chunk):
        part = slice(i, i + chunk)
        batched(e_x[part], e_d[part], p, lambda h, b, w, part=part: torch.baddbmm(p[b][part][:, None], h, p[w][part]))


def gathered(e_x: Tensor, e_d: Tensor, network: Tensor, p: dict[str, Tensor], chunk: int) -> None:
    """Unsorted input [n, ...]: every sample multiplies with a copy of its own network's matrices."""
    for i in range(0, e_x.shape[0], chunk):
        part = slice(i, i + chunk)
        ids = network[part].long()

        def product(h: Tensor, b: str, w: str, ids: Tensor = ids) -> Tensor:
            return torch.bmm(h[:, None], p[w][ids])[:, 0] + p[b][ids]

        batched(e_x[part], e_d[part], p, product)


class Table:
    """Timings, each beside the peak measured around it."""

    def __init__(self) -> None:
        self.peaks = [lib.measure_fma_peak(0.2)]
        self.timings: list[tuple[str, float, float, int, str]] = []  # name, samples per second, spread, passes, note

    def add(self, name: str, n: int, fn: Callable[[], object], passes: int = 1, note: str = "") -> None:
        timing = measure(fn, seconds=1.5)
        self.peaks.append(lib.measure_fma_peak(0.1))
        self.timings.append((name, n / timing.median, timing.spread, passes, note))

    def rows(self) -> list[Row]:
        peak = statistics.median(self.peaks)
        rows = [Row("FMA peak", peak, "GFLOP/s", (max(self.peaks) - min(self.peaks)) / peak, note="registers only")]
        own = next(rate for name, rate, *_ in self.timings if name == "forward, 256 samples per network")
        for name, rate, spread, passes, note in self.timings:
            ratio = f"; kilo_mlp is {own / rate:.1f} times as fast" if name.startswith("torch") else ""
            text = f"{rate / 1e6:.2f} Ms/s{ratio}{'; ' + note if note else ''}"
            rows.append(Row(name, 1e-9 * passes * FLOP * rate, "GFLOP/s", spread, peak, text))
        return rows


def add_forward(table: Table, params: Tensor, m: int) -> None:
    n = m * N_NETWORKS
    x, d, network = uniform(n, 3, low=-1), unit_vectors(n), along_rays(n)
    with torch.no_grad():
        table.add(f"forward, {m} samples per network", n, lambda: kilo_mlp(x, d, network, params))


def add_training(table: Table, params: Tensor, m: int) -> None:
    n = m * N_NETWORKS
    x, d, network = uniform(n, 3, low=-1), unit_vectors(n), along_rays(n)
    leaf, grad_y = params.clone().requires_grad_(), uniform(n, 4, low=-1)

    def both() -> None:
        torch.autograd.grad(kilo_mlp(x, d, network, leaf), leaf, grad_y)

    table.add(f"forward and backward, {m}", n, both, 3, "three times the forward's operations")


def add_peers(table: Table, params: Tensor, m: int) -> None:
    p = {name: part.contiguous() for name, part in CONFIG.parts(params).items()}
    p["w_rgb_in"] = p["w_rgb"].transpose(1, 2).contiguous()
    n = m * N_NETWORKS
    e_x = encode(uniform(n, 3, low=-1), 10).view(N_NETWORKS, m, -1)
    e_d = encode(unit_vectors(n), 4).view(N_NETWORKS, m, -1)
    with torch.no_grad():
        seconds = {chunk: measure(partial(bmm, e_x, e_d, p, chunk), seconds=1).median for chunk in BMM_CHUNKS}
        chunk = min(seconds, key=seconds.__getitem__)
        note = f"the best of chunks of {', '.join(map(str, BMM_CHUNKS))} networks: {chunk}"
        table.add(f"torch.bmm, sorted, {m}", n, partial(bmm, e_x, e_d, p, chunk), 1, note)
        few, network = 4096, along_rays(n)
        flat = e_x.view(n, -1)[:few], e_d.view(n, -1)[:few], network[:few]
        table.add(
            "torch, unsorted", few, partial(gathered, *flat, p, 256), 1, "weights gathered per sample, 256 at once"
        )


def main() -> None:
    params, table = parameters(), Table()
    for m in PER_NETWORK:
        add_forward(table, params, m)
    add_training(table, params, 256)
    add_peers(table, params, 256)
    report("kilo_mlp", f"Tiny networks, {N_NETWORKS} of 6212 parameters", table.rows())


if __name__ == "__main__":
    main()
