# SPDX-License-Identifier: Apache-2.0
"""The operators of a training step on a CUDA device, one by one, against what its memory copies; nerfacc beside them.

nerfacc's sampling tells the host how many samples there are; ours has buffers that hold them all, as in training.

2^20 samples on rays of 1 ... 64 samples; a grid of one cascade with 128^3 cells, one in ten occupied; 2^24 parameters;
2^20 points near a ball of triangles, in million points per second.
Each row is the median of many calls between two events of the stream, allocations included.
"""

from collections.abc import Callable

import torch

from benchmarks.harness import Row, report
from benchmarks.ops.cuda_card import copy_row, milliseconds
from benchmarks.peers.cuda_peer import found
from benchmarks.peers.nerfacc_step import STEP
from neurfield import ops
from neurfield.training.device import why_not_cuda
from tests.cases import generator, packed_samples, uniform, unit_vectors
from tests.meshes import icosphere

N_SAMPLES = 2**20
N_RAYS = 2**16
N_PARAMS = 2**24


def row(name: str, fn: Callable[[], object], n_bytes: float, bandwidth: float, note: str = "") -> Row:
    """GB/s of the bytes that must move."""
    median, spread = milliseconds(fn)
    return Row(name, n_bytes / median / 1e6, "GB/s", spread, bandwidth, note or f"{median:.3f} ms")


def composite_rows(device: torch.device, bandwidth: float) -> list[Row]:
    counts = torch.randint(1, 65, (2 * N_SAMPLES // 65,), generator=generator()).tolist()
    samples = {name: value.to(device) for name, value in packed_samples(counts).items()}
    samples["sigmas"] *= 0.5
    leaves = [samples["sigmas"].requires_grad_(), samples["rgbs"].requires_grad_()]
    n = len(samples["sigmas"])

    def forward() -> torch.Tensor:
        result = ops.composite(**samples)
        return result.rgb.sum() + result.acc.sum()

    with torch.no_grad():
        rows = [row("composite, forward", lambda: ops.composite(**samples), 32 * n, bandwidth)]
    both = row("composite, forward + backward", lambda: torch.autograd.grad(forward(), leaves), 88 * n, bandwidth)
    rows.append(both)
    if nerfacc := found("nerfacc"):
        rays = torch.repeat_interleave(
            torch.arange(len(counts), device=device), samples["packed_info"][:, 1], output_size=n
        )

        def peer() -> torch.Tensor:
            weights, _, _ = nerfacc.render_weight_from_density(
                samples["t_starts"], samples["t_ends"], leaves[0], ray_indices=rays, n_rays=len(counts)
            )
            rgb = nerfacc.accumulate_along_rays(weights, leaves[1], rays, len(counts))
            return rgb.sum() + nerfacc.accumulate_along_rays(weights, None, rays, len(counts)).sum()

        rows.append(
            row(
                "nerfacc, composite, forward + backward", lambda: torch.autograd.grad(peer(), leaves), 88 * n, bandwidth
            )
        )
    return rows


def march_rows(device: torch.device, bandwidth: float) -> list[Row]:
    density = uniform(1, 128**3)
    bitfield, coarse = ops.occupancy_bits(density.to(device), 0.9)
    origins = (0.5 + 1.5 * unit_vectors(N_RAYS)).to(device)
    directions = torch.nn.functional.normalize(uniform(N_RAYS, 3, seed=1).to(device) - origins, dim=1)
    settings = (1.0, 0.0, 0.0, float("inf"), 1024, 2**23, False, True, 0, 0)  # a fixed capacity: nothing waits

    def march() -> tuple[torch.Tensor, ...]:
        return torch.ops.neurfield.march(origins, directions, bitfield, coarse, *settings)

    marched = ops.PackedSamples(*march())
    n_samples, n_dropped, _ = marched.counts.tolist()
    rows = [row("march", march, 16 * n_samples, bandwidth, f"{n_samples} samples, {n_dropped} rays dropped")]
    sigmas, room = uniform(len(marched.t_starts), high=100, seed=2).to(device), 2**20

    def visible() -> ops.PackedSamples:
        return ops.visible_samples(marched, sigmas, 1e-4, room)

    n_visible, n_dropped, _ = visible().counts.tolist()
    n_bytes = 12 * n_samples + 8 * n_visible + 16 * room
    rows.append(row("visible samples", visible, n_bytes, bandwidth, f"{n_visible} of them, {n_dropped} rays dropped"))
    if nerfacc := found("nerfacc"):
        estimator = nerfacc.OccGridEstimator([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], resolution=128, levels=1).to(device)
        estimator.binaries.copy_((density > 0.9).view(1, 128, 128, 128))

        def peer() -> tuple[torch.Tensor, ...]:
            return estimator.sampling(origins, directions, render_step_size=STEP)

        n_samples = peer()[0].shape[0]
        rows.append(row("nerfacc, march", peer, 16 * n_samples, bandwidth, f"{n_samples} samples"))
    return rows


def ratio_row(rows: list[Row]) -> list[Row]:
    """Marching and compositing together against nerfacc, as seconds of a sample."""
    by_name = {row.name: row.value for row in rows}
    if "nerfacc, march" not in by_name:
        return []
    own, peer = (
        16 / by_name[f"{who}march"] + 88 / by_name[f"{who}composite, forward + backward"] for who in ("", "nerfacc, ")
    )
    return [Row("march and composite against nerfacc", peer / own, "times", note="per sample")]


def other_rows(device: torch.device, bandwidth: float) -> list[Row]:
    state = [uniform(N_PARAMS, seed=s).to(device) for s in range(4)]
    grid = torch.zeros(1, 128**3, device=device)
    cells = torch.arange(128**3, device=device)
    values = uniform(128**3).to(device)
    directions = unit_vectors(N_SAMPLES).to(device)
    return [
        row("adam", lambda: ops.adam_step(*state, step=3, learning_rate=0.01), 28 * N_PARAMS, bandwidth),
        row("occupancy update", lambda: ops.occupancy_update(grid, cells, values, 0.95), 28 * 128**3, bandwidth),
        row("occupancy bits", lambda: ops.occupancy_bits(grid, 0.5), 4 * 128**3, bandwidth),
        row("harmonics of degree 4", lambda: ops.spherical_harmonics(directions, 4), 76 * N_SAMPLES, bandwidth),
        row("trunc_exp", lambda: ops.trunc_exp(values), 8 * 128**3, bandwidth),
    ]


def mesh_rows(device: torch.device) -> list[Row]:
    vertices, faces = icosphere(7)
    tree = ops.mesh_tree(vertices.to(device), faces.to(device))
    points = (unit_vectors(N_SAMPLES) * uniform(N_SAMPLES, 1, low=0.99, high=1.01, seed=1)).to(device)
    rows = []
    for name, fn in (
        ("distance", lambda: ops.mesh_distance(tree, points)),
        ("inside, 3 rays", lambda: ops.mesh_inside(tree, points, True)),
    ):
        median, spread = milliseconds(fn)
        rows.append(Row(f"mesh, {name}", N_SAMPLES / median / 1e3, "Mp/s", spread, note=f"{len(faces)} triangles"))
    return rows


def main() -> None:
    reason = why_not_cuda()
    if reason:
        print(f"cuda: not measured: {reason}")
        return
    device = torch.device("cuda", torch.cuda.current_device())
    copy = copy_row(device)
    bandwidth = copy.value
    rows = [copy, *composite_rows(device, bandwidth), *march_rows(device, bandwidth)]
    rows += [*ratio_row(rows), *other_rows(device, bandwidth), *mesh_rows(device)]
    report("cuda", f"operators on {torch.cuda.get_device_name()}", rows)


if __name__ == "__main__":
    main()
