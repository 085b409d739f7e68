# SPDX-License-Identifier: Apache-2.0
"""Quality over time on one scene, through the commands a user types.

    python -m benchmarks.scenes.bench_scene DATA [--budgets 15 60 180 600] [--method METHOD] [--device D] [--name NAME]

For every budget a fresh `neurfield train` is started; its seconds count from the start of that process. Without METHOD
it takes the preset of device and budget. Then `eval` measures the test views and `render` writes them.
results/scene_NAME.json holds the figures; the curve (PNG) and the renders lie in the output folder, which is not part
of the repository.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import RESULTS, Row, machine, print_table
from neurfield.training.device import resolve_device
from neurfield.training.method import default_preset


def neurfield(*words: object) -> float:
    """Runs a command, shows its output when it fails, and returns the seconds it took."""
    command = [sys.executable, "-m", "neurfield.cli.main", *map(str, words)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - start


def run_budget(data: Path, method: str, device: str, seconds: float, folder: Path) -> dict:
    """Trains for `seconds`, evaluates and renders; returns the figures of this budget."""
    name = f"{seconds:g}s"
    words = ["train", data, "--method", method, "--device", device, "--max-seconds", seconds, "--output-dir", folder]
    train_seconds = neurfield(*words, "--experiment-name", data.name, "--timestamp", name)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    run = folder / data.name / method / name
    metrics = folder / f"metrics_{name}.json"
    neurfield("eval", run, "--split", "test", "--device", device, "--output", metrics)
    figures = json.loads(metrics.read_text())
    pictures = folder / f"test_{name}"
    neurfield("render", run, "--split", "test", "--device", device, "--output", pictures)
    return {
        "seconds": seconds,
        "method": method,
        "train_process_seconds": round(train_seconds, 2),
        "psnr": figures["psnr"],
        "ssim": figures["ssim"],
        "seconds_per_view": figures.get("seconds_per_view"),
        "peak_rss_gib": round(peak, 2),
        "psnr_per_image": [round(image["psnr"], 3) for image in figures["per_image"]],
    }


def plot(
    name: str, runs: list[dict], path: Path, axis: str = "training budget [s], from the start of the process"
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.plot([run["seconds"] for run in runs], [run["psnr"] for run in runs], marker="o")
    axes.set(xscale="log", xlabel=axis, ylabel="test PSNR [dB]", title=name)
    seconds = [run["seconds"] for run in runs]
    axes.set_xticks(seconds, [f"{s:g}" for s in seconds])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budgets", type=float, nargs="+", default=[15, 60, 180, 600])
    parser.add_argument("--method")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--name", help="of the result (default: the data folder, and the method if one is given)")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks"))
    options = parser.parse_args()
    name = options.name or "_".join(filter(None, (options.data.name, options.method)))
    folder = options.output / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    device = resolve_device(options.device)
    runs = [
        run_budget(options.data, options.method or default_preset(device, seconds), device, seconds, folder)
        for seconds in options.budgets
    ]
    plot(name, runs, folder / "psnr.png")
    rows = [
        Row(
            f"{run['seconds']:g} s, {run['method']}",
            run["psnr"],
            "dB",
            note=f"SSIM {run['ssim']:.4f}, peak {run['peak_rss_gib']} GiB",
        )
        for run in runs
    ]
    print_table(f"{name}: test PSNR by training budget", rows)
    result = {"title": name, "machine": machine(), "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"scene_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"\ncurve and renders: {folder}")


if __name__ == "__main__":
    main()
