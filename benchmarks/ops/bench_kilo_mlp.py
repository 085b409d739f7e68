# SPDX-License-Identifier: Apache-2.0
"""Thousands of tiny networks beside the multiply-add peak, batched matrix products and the usual unsorted formulation.

A sample counts 2 * 6080 floating-point operations (the five matrices); sorting and the encodings count as nothing, and
are part of kilo_mlp's time only: the peers get encoded input, torch.bmm also sorted and in equal shares.
"""

import statistics

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


def main() -> None:
    params = parameters()
    p = {name: part.contiguous() for name, part in CONFIG.parts(params).items()}
    p["w_rgb_in"] = p["w_rgb"].transpose(1, 2).contiguous()
    peaks, rows = [lib.measure_fma_peak(0.2)], []

    def add(name: str, n: int, fn, factor: int = 1, note: str = "", **kwargs) -> float:
        timing = measure(fn, **kwargs)
        peaks.append(lib.measure_fma_peak(0.1))
        rate = n / timing.median
        rows.append((name, rate * 1e-6, timing.spread, rate * factor * FLOP * 1e-9, note))
        return rate

    for m in PER_NETWORK:
        n = m * N_NETWORKS
        x, d, network = uniform(n, 3, low=-1), unit_vectors(n), along_rays(n)
        with torch.no_grad():
            add(f"forward, {m} samples per network", n, lambda: kilo_mlp(x, d, network, params), seconds=1.5)
        if m == 256:
            leaf, grad_y = params.clone().requires_grad_(), uniform(n, 4, low=-1)

            def both(x=x, d=d, network=network, grad_y=grad_y, leaf=leaf) -> None:
                torch.autograd.grad(kilo_mlp(x, d, network, leaf), leaf, grad_y)

            add("forward+backward, 256", n, both, 3, "three times the forward's operations", seconds=1.5)
            e_x, e_d = encode(x, 10).view(N_NETWORKS, m, -1), encode(d, 4).view(N_NETWORKS, m, -1)
            with torch.no_grad():
                rates = {}
                for chunk in (4, 16, 64, 512):
                    timing = measure(lambda c=chunk: bmm(e_x, e_d, p, c), seconds=1)
                    rates[chunk] = n / timing.median
                chunk = max(rates, key=rates.get)
                add(
                    "torch.bmm, sorted, 256", n, lambda: bmm(e_x, e_d, p, chunk), 1, f"best of chunks, {chunk} networks"
                )
                few = 4096
                flat_x, flat_d = e_x.reshape(n, -1)[:few], e_d.reshape(n, -1)[:few]
                add(
                    "torch, unsorted", few, lambda: gathered(flat_x, flat_d, network[:few], p, 256), 1,
                    "weights gathered per sample, 256 at a time",
                )  # fmt: skip
    peak = statistics.median(peaks)
    table = [Row("FMA peak", peak, "GFLOP/s", (max(peaks) - min(peaks)) / peak, note="registers only")]
    own = next(row for row in rows if row[0].startswith("forward, 256"))[1]
    for name, rate, spread, gflops, note in rows:
        ratio = f"; kilo_mlp is {own / rate:.1f} times as fast" if name.startswith("torch") else ""
        table.append(Row(name, gflops, "GFLOP/s", spread, peak, f"{rate:.2f} Ms/s{ratio}{'; ' + note if note else ''}"))
    report("kilo_mlp", f"Tiny networks, {N_NETWORKS} of 6212 parameters", table)


if __name__ == "__main__":
    main()
