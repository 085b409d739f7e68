# SPDX-License-Identifier: Apache-2.0
"""SAPE against plain Gaussian Fourier features on a shape: all samples, and few that are drawn once.

python -m benchmarks.signals.bench_sdf MESH [--steps 400] [--sparse 20000]
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.signals.learning import save
from neurfield.data import signals
from neurfield.data.signals.mesh import MeshSignal
from neurfield.fields.signal_field import SignalField
from neurfield.metrics.shape import iou
from neurfield.training.sdf_task import SdfTask, SurfaceSampler
from neurfield.training.signal_method import SignalRunConfig, load_signal_method
from neurfield.training.trainer import Trainer

SAMPLES, FREQUENCIES, WIDTH, POINTS = 4096, 128, 128, 1 << 18
FOURIER = f"{{otype: GaussianFourier, n_frequencies: {FREQUENCIES}, sigma: SIGMA}}"
ENCODINGS = {
    "plain": FOURIER,
    "SAPE": f"{{otype: SAPE, resolution: [32, 32, 32], epsilon: 0.02, n_blocks: 16, nested: {FOURIER}}}",
}


class SparseTask(SdfTask):
    """The same, but every step draws from the samples of a few steps."""

    def __init__(self, signal: MeshSignal, config: SignalRunConfig, n: int):
        super().__init__(signal, config)
        batches = [super(SparseTask, self)._batch(step) for step in range(-(-n // config.method.training.n_samples))]
        self.x, self.target = (torch.cat(parts)[:n] for parts in zip(*batches, strict=True))

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        pick = torch.randint(len(self.x), (self.config.method.training.n_samples,), generator=generator)
        return self.x[pick], self.target[pick]


@torch.no_grad()
def measure(field: SignalField, signal: MeshSignal) -> dict[str, float]:
    """IoU at uniform points in the mesh's box, and the mean |distance| of the field on its surface, in box units."""
    generator = torch.Generator().manual_seed(1)
    low, high = signal.vertices.amin(0), signal.vertices.amax(0)
    x = low + (high - low) * torch.rand(POINTS, 3, generator=generator)
    on_surface = SurfaceSampler(signal.vertices, signal.faces).sample(POINTS, generator)
    overlap = iou(torch.cat([field(part)[:, 0] for part in x.split(1 << 16)]) < 0, signal.inside(x))
    return {"iou": overlap, "error": float(field(on_surface).abs().mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--sparse", type=int, default=20000)
    parser.add_argument("--sigmas", type=float, nargs="+", default=[5, 10])
    options = parser.parse_args()
    signal, results = signals.read(options.data, "sdf"), []
    for is_sparse in (True, False):
        for sigma in options.sigmas:
            row: dict = {"samples": options.sparse if is_sparse else "all", "sigma": sigma}
            for kind, encoding in ENCODINGS.items():
                overrides = (
                    f"field.encoding={encoding.replace('SIGMA', str(sigma))}",
                    f"field.network.n_neurons={WIDTH}",
                    f"training.n_samples={SAMPLES}",
                )
                config = SignalRunConfig(
                    kind="sdf",
                    method=load_signal_method("sdf-sape", "sdf", overrides),
                    max_num_iterations=options.steps,
                )
                task = SparseTask(signal, config, options.sparse) if is_sparse else SdfTask(signal, config)
                Trainer(task, config).train()
                row[kind] = measure(task.field, signal)
            results.append(row)
            print(row, flush=True)
    protocol = (
        f"{options.data.stem}, {options.steps} steps of {SAMPLES} samples, {FREQUENCIES} frequencies, 4 hidden layers "
        f"of {WIDTH}, 16 blocks, epsilon 0.02 of the relative error, 32^3 nodes"
    )
    save("signals_sdf", "SAPE against plain Fourier features on a shape", protocol, results)


if __name__ == "__main__":
    main()
