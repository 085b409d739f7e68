# SPDX-License-Identifier: Apache-2.0
"""SAPE against plain Gaussian Fourier features of the same sigma: occupancy of a mesh from few labelled points.

    python -m benchmarks.signals.bench_sape_shapes [--steps 1000] [--points 20000] [--meshes bunny armadillo]

Points as OccupancyTask draws them, a third of each; IoU on points of the mesh's box that were not trained on.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from benchmarks.signals.learning import save, side_by_side
from benchmarks.signals.pictures import DATA
from neurfield import config as configuration
from neurfield.data import signals
from neurfield.data.signals.mesh import MeshSignal
from neurfield.export.density_mesh import evaluate
from neurfield.fields.signal_field import SignalField
from neurfield.metrics.shape import iou
from neurfield.training.device import resolve_device
from neurfield.training.occupancy_task import OccupancyTask
from neurfield.training.signal_method import SignalRunConfig, load_signal_method
from neurfield.training.trainer import Trainer

SIGMAS = (5, 10, 25)
SAMPLES, N_FREQUENCIES, WIDTH, LAYERS = 4096, 128, 128, 4
FOURIER = f"{{otype: GaussianFourier, n_frequencies: {N_FREQUENCIES}, sigma: SIGMA, normal: NORMAL}}"
ENCODINGS = {
    "plain": FOURIER,
    "SAPE": f"{{otype: SAPE, resolution: [64, 64, 64], epsilon: EPSILON, n_blocks: 32, nested: {FOURIER}}}",
}
IOU_POINTS, SLICE = 1 << 18, 160


def learn(signal: MeshSignal, encoding: str, steps: int, n_points: int) -> SignalField:
    overrides = (
        f"field.encoding={encoding}",
        f"field.network.n_neurons={WIDTH}",
        f"field.network.n_hidden_layers={LAYERS}",
        f"training.n_samples={SAMPLES}",
    )
    method = configuration.override(load_signal_method("occupancy-sape", "occupancy"), overrides)
    config = SignalRunConfig(kind="occupancy", method=method, max_num_iterations=steps, device=resolve_device("auto"))
    task = OccupancyTask(signal, config, n_points=n_points)
    Trainer(task, config).train()
    return task.field


def overlap(field: SignalField, signal: MeshSignal) -> float:
    low, high = signal.vertices.amin(0), signal.vertices.amax(0)
    x = low + (high - low) * torch.rand(IOU_POINTS, 3, generator=torch.Generator().manual_seed(7))
    return iou(evaluate(lambda x: field(x)[:, 0], x) > 0, signal.inside(x))


def section(inside: torch.Tensor) -> Image.Image:
    """A picture of a bool `[SLICE, SLICE]`, the first axis upwards."""
    return Image.fromarray(((~inside.flip(0)).byte() * 255).numpy())


def slice_points() -> torch.Tensor:
    """Points of the plane through the middle across z, y upwards."""
    axis = (torch.arange(SLICE) + 0.5) / SLICE
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 0.5)], dim=-1).view(-1, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--points", type=int, default=20000)
    parser.add_argument("--sigmas", type=float, nargs="+", default=SIGMAS)
    parser.add_argument("--epsilon", type=float, default=0.1, help="published for occupancy: 0.1")
    parser.add_argument("--normal", default="Radius", choices=["Radius", "Components"], help="published: Radius")
    parser.add_argument("--meshes", nargs="+", default=["bunny", "armadillo"])
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/sape_shapes"))
    options = parser.parse_args()
    results = []
    for name in options.meshes:
        signal = signals.read(DATA / f"meshes/{name}.obj", "occupancy")
        points = slice_points()
        for sigma in options.sigmas:
            pictures = [section(signal.inside(points).view(SLICE, SLICE))]
            row: dict = {"mesh": name, "sigma": sigma}
            for kind, encoding in ENCODINGS.items():
                words = {"SIGMA": f"{sigma:g}", "EPSILON": f"{options.epsilon:g}", "NORMAL": options.normal}
                for word, value in words.items():
                    encoding = encoding.replace(word, value)
                field = learn(signal, encoding, options.steps, options.points)
                row[kind] = overlap(field, signal)
                pictures.append(section((evaluate(lambda x, f=field: f(x)[:, 0], points) > 0).view(SLICE, SLICE)))
            results.append(row)
            print(row, flush=True)
            side_by_side(options.output / f"{name}_{sigma:g}.png", pictures)
    gain = sum(row["SAPE"] - row["plain"] for row in results) / len(results)
    print(f"mean gain in IoU {gain:+.4f}")
    protocol = (
        f"{options.points} labelled points, {N_FREQUENCIES} frequencies ({options.normal}), {LAYERS} hidden layers of "
        f"{WIDTH}, {options.steps} steps of {SAMPLES} samples, 32 blocks, epsilon {options.epsilon:g} of the cross "
        f"entropy, 64^3 nodes; IoU of {IOU_POINTS} uniform points of the mesh's box"
    )
    save("signals_sape_shapes", "SAPE against plain Fourier features of equal sigma, occupancy", protocol, results)


if __name__ == "__main__":
    main()
