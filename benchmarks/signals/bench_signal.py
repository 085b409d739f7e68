# SPDX-License-Identifier: Apache-2.0
"""Quality of one file after a budget, through the commands a user types.

    python -m benchmarks.signals.bench_signal FILE [--budgets 20 | --steps 1000] [--methods METHOD ...] [--name NAME]

For every method and budget a fresh `neurfield train` is started; its seconds count from the start of that process. With
--steps the figures do not depend on what else the machine does, and the seconds say little. Then
`eval` measures the field and `render` draws it. results/signal_NAME.json holds the figures; the pictures lie in the
output folder, which is not part of the repository.
"""

import argparse
import json
import resource
import shutil
from pathlib import Path

from benchmarks.harness import RESULTS, Row, machine, print_table
from benchmarks.scenes.bench_scene import neurfield

DRAWN_AS = {"image": ".png", "sdf": ".png", "occupancy": ".png", "video": ".mp4", "volume": ".nii.gz"}
FLAGS = {"s": "max-seconds", "steps": "max-num-iterations"}
FIGURES = ("psnr", "ssim", "bits_per_sample", "iou", "chamfer", "chamfer_percent", "mean_error", "n_params")


def run_budget(data: Path, method: str | None, limit: float, unit: str, folder: Path, is_drawn: bool) -> dict:
    """Trains for `limit` seconds or steps, evaluates and draws; returns the figures."""
    stamp = f"{limit:g}{unit}"
    words = ["train", data, f"--{FLAGS[unit]}", limit, "--output-dir", folder, "--timestamp", stamp]
    words += ["--eval-split", "none", *(["--method", method] if method else [])]
    train_seconds = neurfield(*words)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    (run,) = folder.glob(f"*/{method or '*'}/{stamp}")
    measured = folder / "measured.json"
    neurfield("eval", run, "--output", measured)
    figures = json.loads(measured.read_text())
    method = figures["method_name"]
    kind = method.partition("-")[0]
    if is_drawn:
        neurfield("render", run, "--output", folder / f"{method}_{stamp}{DRAWN_AS[kind]}")
    frames = figures.get("per_frame")
    return {
        **({"seconds": limit} if unit == "s" else {}),
        "method": method,
        "steps": figures["step"],
        "train_process_seconds": round(train_seconds, 2),
        "peak_rss_gib": round(peak, 2),
        **{name: figures[name] for name in FIGURES if figures.get(name) is not None},
        **({"worst_frame": min(frames), "best_frame": max(frames)} if frames else {}),
        "protocol": figures["protocol"],
    }


def row(run: dict) -> Row:
    name = f"{run['method']}, {run['steps']} steps in {run['train_process_seconds']:.0f} s"
    if "iou" in run:
        return Row(
            name, run["iou"], "IoU", note=f"Chamfer {run.get('chamfer_percent', float('nan')):.4f} % of diagonal"
        )
    ssim = f"SSIM {run['ssim']:.4f}, " if "ssim" in run else ""
    return Row(name, run["psnr"], "dB", note=f"{ssim}{run['bits_per_sample']:.2f} bits a sample")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--budgets", type=float, nargs="+", default=[20], help="seconds")
    limits.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--methods", nargs="+", default=[None], help="default: the one of the kind")
    parser.add_argument("--name", help="of the result (default: that of the file)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals"))
    parser.add_argument("--no-render", action="store_true")
    options = parser.parse_args()
    name = options.name or options.data.name.partition(".")[0]
    folder = options.output / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    unit = "steps" if options.steps else "s"
    runs = [
        run_budget(options.data, method, limit, unit, folder, not options.no_render)
        for method in options.methods
        for limit in options.steps or options.budgets
    ]
    print_table(name, [row(run) for run in runs])
    RESULTS.mkdir(exist_ok=True)
    content = {"title": name, "machine": machine(), "runs": runs}
    (RESULTS / f"signal_{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"\npictures: {folder}")


if __name__ == "__main__":
    main()
