# SPDX-License-Identifier: Apache-2.0
"""Packed compositing, forward and forward + backward, against vectorised torch and the machine's memory bandwidth.

2^18 samples on rays of 1 ... 64 samples, thin enough that no ray is cut: every sample is computed.
"""

import torch
from torch import Tensor

from benchmarks.harness import Row, report, throughput
from neurfield import ops
from tests.cases import generator, packed_samples

N_SAMPLES = 2**18
# forward: sigma, colour, both ends read, weight written; backward: the same five read, sigma and colour gradients
# zeroed, then written; what belongs to rays is a 30th of that
BYTES_FORWARD = 4 * (1 + 3 + 2 + 2)
BYTES_BACKWARD = 4 * (1 + 3 + 2 + 1 + 2 * 4)


def composite_torch(sigmas: Tensor, rgbs: Tensor, t_starts: Tensor, t_ends: Tensor, rays: Tensor, starts: Tensor):
    """The same sums by one cumulative sum over all rays; `rays [n_samples]`, `starts [n_rays]`."""
    tau = sigmas * (t_ends - t_starts)
    before = torch.cumsum(tau, 0) - tau
    weights = torch.exp(before[starts][rays] - before) * -torch.expm1(-tau)
    values = torch.cat([rgbs, t_starts[:, None], torch.ones_like(t_starts)[:, None]], dim=1) * weights[:, None]
    return values.new_zeros(len(starts), 5).index_add(0, rays, values)


def bandwidth() -> float:
    """Bytes per second of a copy that fits no cache (read and write)."""
    source = torch.zeros(2**26)
    target = torch.empty_like(source)
    row = throughput("copy", source.numel(), lambda: target.copy_(source), seconds=1)
    return row.value * 1e6 * 8


def main() -> None:
    counts = torch.randint(1, 65, (2 * N_SAMPLES // 65,), generator=generator()).tolist()
    inputs = packed_samples(counts)
    inputs["sigmas"] *= 0.5
    n = inputs["sigmas"].shape[0]
    starts, lengths = inputs["packed_info"].unbind(1)
    rays = torch.repeat_interleave(torch.arange(len(counts)), lengths)
    leaves = [inputs["sigmas"].requires_grad_(), inputs["rgbs"].requires_grad_()]
    ends = (inputs["t_starts"], inputs["t_ends"])

    def native() -> Tensor:
        result = ops.composite(*leaves, *ends, inputs["packed_info"])
        return result.rgb.sum() + result.depth.sum() + result.acc.sum()

    def torch_sum() -> Tensor:
        return composite_torch(*leaves, *ends, rays, starts).sum()

    def gradients(fn) -> None:
        torch.autograd.grad(fn(), leaves)

    roof = bandwidth() / 1e6
    rows: list[Row] = []
    with torch.no_grad():
        rows.append(throughput("forward", n, native, roof=roof / BYTES_FORWARD, note="roof: copy bandwidth"))
        rows.append(throughput("forward, torch", n, torch_sum))
    both = BYTES_FORWARD + BYTES_BACKWARD
    rows.append(throughput("forward + backward", n, lambda: gradients(native), roof=roof / both))
    rows.append(throughput("forward + backward, torch", n, lambda: gradients(torch_sum)))
    report("composite", f"packed compositing, {n} samples on {len(counts)} rays", rows)


if __name__ == "__main__":
    main()
