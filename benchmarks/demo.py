# SPDX-License-Identifier: Apache-2.0
"""`make demo`: makes the project's own scene, fits it for a minute, measures, renders and exports it (mesh, web page).

Everything runs through the commands that a user types; they are printed as they run. Results lie in outputs/demo.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

OUTPUT = Path("outputs/demo")
SCENE = "lighthouse"
SECONDS = 60


def neurfield(*words: object) -> None:
    text = " ".join(map(str, words))
    print(f"\n$ neurfield {text}", flush=True)
    done = subprocess.run([sys.executable, "-m", "neurfield.cli.main", *map(str, words)])
    if done.returncode:
        raise SystemExit(f"demo: `neurfield {text}` ended with exit code {done.returncode}")


def main() -> None:
    start = time.monotonic()
    data = OUTPUT / SCENE
    if not (data / "transforms_train.json").exists():
        neurfield("data", "make", SCENE, "--output", data)
    stamp = time.strftime("%Y-%m-%d_%H%M%S")
    run = OUTPUT / "runs" / SCENE / "ngp-fast" / stamp
    training = ["--method", "ngp-fast", "--max-seconds", SECONDS, "--eval-split", "none"]
    naming = ["--output-dir", OUTPUT / "runs", "--experiment-name", SCENE, "--timestamp", stamp]
    neurfield("train", data, *training, *naming)
    neurfield("eval", run, "--split", "test", "--output", run / "metrics.json")
    neurfield("render", run, "--split", "test", "--output", run / "test", "--outputs", "rgb", "depth")
    neurfield("render", run, "--orbit", 90, "--output", run / "orbit.mp4")
    neurfield("export", "mesh", run, "--output", run / "mesh.glb", "--resolution", 256)
    neurfield("export", "web", run, "--output", run / f"{SCENE}.html")

    metrics = json.loads((run / "metrics.json").read_text())
    rows = {
        "test PSNR": f"{metrics['psnr']:.2f} dB over {len(metrics['per_image'])} views",
        "test SSIM": f"{metrics['ssim']:.4f}",
        "whole demo": f"{time.monotonic() - start:.0f} s, of which {SECONDS} s training",
        "data": data,
        "run": run,
        "test views": run / "test",
        "video": run / "orbit.mp4",
        "mesh": run / "mesh.glb",
        "web page": run / f"{SCENE}.html",
    }
    print()
    for name, value in rows.items():
        print(f"{name:12}{value}")


if __name__ == "__main__":
    main()
