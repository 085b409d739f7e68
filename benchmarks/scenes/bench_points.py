# SPDX-License-Identifier: Apache-2.0
"""Points of structure from motion: what learning from their distances gives.

    python -m benchmarks.scenes.bench_points DATA [--views 0] [--steps 500] [--downscale-factor K] [--test-every N]

DATA is a folder with a sparse model of COLMAP, as `neurfield process` makes of photos. `ngp-fast` is trained on all
training views, or on so many of them, evenly chosen, without points and with them. Results of other data and arguments
are kept in the result's file.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import neurfield
from benchmarks.harness import RESULTS, Row, report

NAME = "points"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--views", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--downscale-factor", type=int)
    parser.add_argument("--test-every", type=int)
    options = parser.parse_args(argv)
    scene = neurfield.load_scene(
        options.data, downscale_factor=options.downscale_factor, test_every=options.test_every, splits=("train", "test")
    )
    train, n = scene.splits["train"], options.views or len(scene.splits["train"])
    chosen = [train[i * (len(train) - 1) // max(n - 1, 1)] for i in range(n)]
    scene = dataclasses.replace(scene, splits=scene.splits | {"train": chosen})
    assert scene.points is not None, "the data have no points"
    rows = kept()
    for name, overrides in (("without", ("loss.points=0",)), ("with", ())):
        with tempfile.TemporaryDirectory() as folder:
            run = neurfield.train(
                scene,
                "ngp-fast",
                overrides=overrides,
                max_num_iterations=options.steps,
                output_dir=folder,
                device="cpu",
            )
        found = run.evaluate("test")
        size = " x ".join(map(str, scene.cameras.sizes[chosen[0]].tolist()))
        what = f"{scene.name}, {size}, {n} views, {options.steps} steps, {name} points"
        rows = [row for row in rows if row.name != what]
        rows.append(Row(what, found["psnr"], "dB", note=f"SSIM {found['ssim']:.3f}"))
        print(rows[-1], flush=True)
    report(NAME, "points of structure from motion", rows)
    return 0


def kept() -> list[Row]:
    """Rows of earlier calls."""
    file = RESULTS / f"{NAME}.json"
    return [Row(**row) for row in json.loads(file.read_text())["rows"]] if file.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
