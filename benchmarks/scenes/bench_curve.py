# SPDX-License-Identifier: Apache-2.0
"""Quality over the time of training alone: images are in memory and the device is awake when the clock starts.

    python -m benchmarks.scenes.bench_curve DATA [--budgets 5 15 60 300] [--method M] [--set K=V ...] [--device D]
                                                 [--name NAME]

This is how published figures count; bench_scene.py counts what a user waits for. For every budget a fresh field is
trained in this process, with the preset that `train` takes for the device and the budget unless one is
named, and measured on the test views. results/curve_NAME.json holds the figures, the output folder
(not part of the repository) the curve and the first test view after each budget.
"""

import argparse
import json
from pathlib import Path

import neurfield
from benchmarks.harness import RESULTS, Row, machine, measure, print_table
from benchmarks.scenes.bench_scene import plot
from neurfield.data.scene import Scene
from neurfield.training.device import resolve_device
from neurfield.training.method import MethodConfig, default_preset, load_method


def run_budget(scene: Scene, method: MethodConfig, device: str, seconds: float, folder: Path) -> dict:
    """Trains for `seconds`, measures, keeps a picture; returns the figures of this budget.

    Views are measured with as many rays a pixel as the method says, frames timed with one.
    """
    run = neurfield.train(scene, method, max_seconds=seconds, device=device)
    figures = run.evaluate("test")
    camera = scene.cameras[scene.views("test")[:1]]
    run.export_views(folder / f"after_{seconds:g}s", camera, overwrite=True)
    rays_per_pixel, run.renderer.rays_per_pixel = run.renderer.rays_per_pixel, 1
    frame = measure(lambda: run.renderer.render(camera, ("rgb",)), seconds=1.0)
    return {
        "seconds": seconds,
        "method": method.name,
        "rays_per_pixel": rays_per_pixel,
        "steps": run.step,
        "psnr": figures["psnr"],
        "ssim": figures["ssim"],
        "seconds_per_view": figures["seconds_per_view"],
        "frames_per_second": 1 / frame.median,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budgets", type=float, nargs="+", default=[5, 15, 60, 300])
    parser.add_argument("--method", help="default: what `train` takes for device and budget")
    parser.add_argument("--set", nargs="+", default=[], metavar="K=V", help="overrides of the method")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--name", help="of the result (default: the data folder and the method)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"))
    options = parser.parse_args()
    device = resolve_device(options.device)
    methods = {
        seconds: load_method(options.method or default_preset(device, seconds), tuple(options.set))
        for seconds in options.budgets
    }
    name = options.name or f"{options.data.name}_{options.method or device}"
    folder = options.output / name
    folder.mkdir(parents=True, exist_ok=True)
    scene = neurfield.load_scene(options.data, splits=("train", "test"))
    neurfield.train(scene, methods[options.budgets[0]], max_num_iterations=8, device=device)
    runs = [run_budget(scene, method, device, seconds, folder) for seconds, method in methods.items()]
    plot(name, runs, folder / "psnr.png", "training [s]")
    rows = []
    for run in runs:
        note = f"{run['method']}, {run['steps']} steps, SSIM {run['ssim']:.4f}, {run['frames_per_second']:.1f} frames/s"
        rows.append(Row(f"{run['seconds']:g} s", run["psnr"], "dB", note=note))
    print_table(f"{name}: test PSNR by seconds of training", rows)
    result = {"title": name, "machine": machine(), "overrides": options.set, "device": device, "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"curve_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"\ncurve and pictures: {folder}")


if __name__ == "__main__":
    main()
