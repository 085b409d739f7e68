# SPDX-License-Identifier: Apache-2.0
"""Fused training step and rendering, with their parts and the machine's limits beside them.

    python -m benchmarks.ops.bench_fused_radiance

The scene is a shell as thick and as opaque as a trained surface; rays come from 8 x 8 pixel blocks of 400^2 views
around it, about 2^17 samples in a step. Field: instant-ngp's, 16 x 2 features, 64-wide networks, harmonics of degree 4.
"""

import math
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor

from benchmarks.harness import Row, measure, report, throughput
from neurfield import ops
from neurfield._native import lib
from neurfield.ops.fused_mlp import MLPConfig
from neurfield.ops.fused_radiance import N_SLOTS
from neurfield.ops.hash_grid import GridConfig

FOCAL = 555.0  # pixels, of a 400^2 view
N_SAMPLES = 1 << 17
# multiply-adds per sample: both networks forward; backward twice as many, less what the harmonics' part of the first
# colour matrix saves (its products are formed once per ray)
FORWARD = 32 * 64 + 64 * 16 + 16 * 64 + 64 * 64 + 64 * 3
TRAINING = 3 * FORWARD


def field(log2_hashmap_size: int, half: bool, n_levels: int = 16, finest: int = 2048) -> ops.FusedField:
    """Random, but for one path that makes the whole volume as dense as a surface (sigma = e^6)."""
    g = torch.Generator().manual_seed(0)
    scale = math.exp(math.log(finest / 16) / (n_levels - 1))
    grid = GridConfig(3, n_levels, 2, log2_hashmap_size, 16, scale)
    density, color = MLPConfig(2 * n_levels, 16, 64, 1), MLPConfig(32, 3, 64, 2, output_activation="Sigmoid")
    table = torch.rand(grid.n_params, generator=g) * 0.1 - 0.05
    table[: grid.levels()[0].n_entries * 2 : 2] = 1
    params = [(torch.rand(c.n_params, generator=g) - 0.5) * 0.5 for c in (density, color)]
    first, last = (weights for weights, _ in density.matrices(params[0]))
    first[0], last[0] = 0, 0
    first[0, 0], last[0, 0] = 1, 6
    copy = table.half() if half else None
    return ops.FusedField(grid, table, density, params[0], color, params[1], 4, (0.0,) * 3, (1.0,) * 3, copy, half)


def shell(radius: float = 0.27, thickness: float = 0.03) -> tuple[Tensor, Tensor]:
    """Bits of the 128^3 cells within half the thickness of a sphere."""
    cells = torch.arange(128**3)
    axes = [sum(((cells >> (3 * bit + axis)) & 1) << bit for bit in range(7)) for axis in range(3)]
    distance = torch.stack([(a + 0.5) / 128 - 0.5 for a in axes]).norm(dim=0)
    return ops.occupancy_bits(((distance - radius).abs() < thickness / 2).float()[None], 0.5)


def pixel_rays(views: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Rays of cameras at `views` `[n, 3]` (unit vectors, 1.33 from the middle) through offsets `xy` `[n, k, 2]`."""
    right = torch.nn.functional.normalize(torch.linalg.cross(-views, torch.tensor([[0.0, 0.0, 1.0]]).expand_as(views)))
    up = torch.linalg.cross(right, -views)
    xy = xy / FOCAL
    directions = -views[:, None] + xy[..., :1] * right[:, None] + xy[..., 1:] * up[:, None]
    origins = (0.5 + 1.33 * views)[:, None].expand_as(directions)
    return origins.reshape(-1, 3).contiguous(), torch.nn.functional.normalize(directions.reshape(-1, 3))


def pixels(side: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(1, -1, 2).float()


def training_rays(n_blocks: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    views = torch.nn.functional.normalize(torch.randn(n_blocks, 3, generator=g))
    corners = torch.rand(n_blocks, 1, 2, generator=g) * 240 - 120
    return pixel_rays(views, corners + pixels(8))


class Step:
    """One training step on rays that give about N_SAMPLES samples."""

    def __init__(self, fused: ops.FusedField, bits: tuple[Tensor, Tensor]):
        self.field, self.bits = fused, bits
        self.workspace = ops.FusedWorkspace(fused, 4 * N_SAMPLES)
        self.march, self.loss = ops.FusedMarch(near=0.05, jitter=(0, 0)), ops.FusedLoss()
        self.state = [torch.zeros_like(fused.table) for _ in range(2)]
        self.steps = torch.zeros(fused.table.shape, dtype=torch.int16)
        self.samples_per_ray, self.n = 16.0, 0
        self.set_rays(40)
        self.set_rays(round(40 * N_SAMPLES / self.gradients().n_samples))
        self.report = self.gradients()

    def set_rays(self, n_blocks: int) -> None:
        self.rays = training_rays(n_blocks)
        n = self.rays[0].shape[0]
        g = torch.Generator().manual_seed(2)
        self.target, self.background = torch.rand(n, 3, generator=g), torch.rand(n, 3, generator=g)

    def gradients(self) -> ops.FusedReport:
        result = ops.fused_gradients(
            self.workspace, *self.bits, *self.rays, self.target, self.background, self.march, self.loss,
            self.samples_per_ray,
        )  # fmt: skip
        self.samples_per_ray = result.n_samples / self.rays[0].shape[0]
        return result

    def table(self) -> None:
        self.n += 1
        ops.fused_table_adam(self.workspace, *self.state, self.steps, step=self.n, learning_rate=1e-6)

    def __call__(self) -> None:
        self.gradients()
        self.table()


def step_rows(title: str, step: Step, peak: float) -> list[Row]:
    """A training step and its parts; the roof is that of the networks alone at `peak` operations per second."""
    n, n_rays, fused = step.report.n_samples, step.rays[0].shape[0], step.field
    x = step.workspace.positions[:, : step.workspace.slot_counts[0]].T.repeat(N_SLOTS, 1)
    table = fused.table if fused.half_table is None else fused.half_table
    samples = ops.march(*step.rays, *step.bits, near=0.05)
    evaluated = f"{n / n_rays:.1f} samples a ray, {step.report.n_evaluated / n:.2f} densities each"

    def row(name: str, count: int, fn: Callable[[], object], flop: float = 0.0, note: str = "") -> Row:
        roof = peak / (2 * flop) / 1e6 if flop else None
        return throughput(f"{title}: {name}", count, fn, roof=roof, note=note, seconds=1.0)

    rows = {
        "step": row("training step", n, step, TRAINING, evaluated),
        "gradients": row("  march to gradients of the encoding", n, step.gradients, TRAINING),
        "table": row("  scatter and Adam of the table", n, step.table),
        "march": row(
            "  march alone, whole rays", len(samples.t_starts), lambda: ops.march(*step.rays, *step.bits, near=0.05)
        ),
        "encoding": row("  encoding alone", len(x), lambda: ops.hash_grid(x, table, fused.grid)),
        "density": row("  density alone", len(x), lambda: ops.fused_density(fused, x), 33 * 64),
    }
    others = step.report.n_evaluated / n / rows["encoding"].value + 1 / rows["march"].value
    rest = 1 / (1 / rows["gradients"].value - others)
    name = f"{title}:   networks, harmonics, compositing"
    derived = "march to gradients, less marching and encoding"
    rows["rest"] = Row(name, rest, "Ms/s", roof=rows["gradients"].roof, note=derived)
    return list(rows.values())


def image_rows(title: str, step: Step) -> list[Row]:
    """A whole view, with the colour of every sample and without that of faint ones."""
    view = torch.nn.functional.normalize(torch.tensor([[0.6, 0.5, 0.62]]))
    rays, march = pixel_rays(view, pixels(400) - 200), ops.FusedMarch(near=0.05)
    rows = []
    for skip_weight in (0.0, 1e-3):
        timing = measure(partial(ops.fused_render, step.field, *step.bits, *rays, march, skip_weight), seconds=2.0)
        note = f"no colour below weight {skip_weight}" if skip_weight else "every colour"
        rows.append(Row(f"{title}: 400^2 view", timing.median, "s", timing.spread, note=note))
    return rows


def main() -> None:
    bits = shell()
    peak = median(lib.measure_fma_peak(0.2) for _ in range(3))
    bf16_peak = median(lib.measure_bf16_peak(0.2) for _ in range(3)) or peak
    rows = [
        Row("FMA peak", peak, "GFLOP/s", note="registers only, all threads; roof of 32-bit"),
        Row("bfloat16 peak", bf16_peak, "GFLOP/s", note="the same; roof of 16-bit"),
    ]
    for title, log2_size, half, n_levels, finest in (
        ("16 x 2, T 2^19, 16-bit", 19, True, 16, 2048),
        ("16 x 2, T 2^19, 32-bit", 19, False, 16, 2048),
        ("12 x 2, T 2^17, 16-bit", 17, True, 12, 512),
    ):
        step = Step(field(log2_size, half, n_levels, finest), bits)
        rows += step_rows(title, step, 1e9 * (bf16_peak if half else peak)) + image_rows(title, step)
    report("fused_radiance", "Fused radiance field (roofs: the networks alone at the peak of their products)", rows)


if __name__ == "__main__":
    main()
