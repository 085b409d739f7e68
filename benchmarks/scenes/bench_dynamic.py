# SPDX-License-Identifier: Apache-2.0
"""Fields that move, with and without grids of time in their networks, and a still field on the same views.

    python -m benchmarks.scenes.bench_dynamic DATA [--split val] [--steps 3000] [--downscale-factor 2]

DATA is a data set of D-NeRF's layout; of its own lego, `val` is the split to trust: the bucket of `test`
stands elsewhere.
"""

import argparse
import json
import time
from pathlib import Path

import neurfield
from benchmarks.harness import RESULTS, machine

METHODS = ("ngp-dynamic", "ngp-dynamic-cam", "ngp-fast")


def measure(scene: neurfield.Scene, method: str, steps: int, split: str) -> dict:
    start = time.monotonic()
    run = neurfield.train(scene, method, max_num_iterations=steps)
    seconds = time.monotonic() - start
    result = run.evaluate(split)
    return {
        "method": method, "n_params": sum(p.numel() for p in run.field.parameters()), "psnr": result["psnr"],
        "ssim": result["ssim"], "seconds_per_view": round(result["seconds_per_view"], 3),
        "training_seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--downscale-factor", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    options = parser.parse_args()
    scene = neurfield.load_scene(
        options.data, splits=("train", options.split), downscale_factor=options.downscale_factor
    )
    rows = []
    for method in options.methods:
        rows.append(measure(scene, method, options.steps, options.split))
        print(rows[-1], flush=True)
    protocol = (
        f"{options.steps} steps, images {options.downscale_factor} times smaller, {options.split} views; seconds of a "
        "shared machine"
    )
    content = {"title": "fields that move", "machine": machine(), "protocol": protocol, "results": rows}
    (RESULTS / f"dynamic_{options.data.name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
