# SPDX-License-Identifier: Apache-2.0
"""Size against quality of small radiance fields in 8 bits: hash grids of several sizes, with and without modulation.

    python -m benchmarks.scenes.bench_small DATA [--steps 600] [--downscale-factor 2] [--tables 11 13 15] [--add]

Every field is trained for the same number of steps, written by `convert --to int8` and measured from that file. All are
trained operator by operator, with `weight_bits`, so that they differ in nothing but the grids. A file also holds
occupancy, cameras and a header; `other` are the bytes of all these. --add keeps the other sizes of the last result, if
it has the same protocol: a curve may be measured in pieces. The output folder gets the curve.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import neurfield
from benchmarks.harness import RESULTS, machine
from neurfield.convert.request import Request
from neurfield.convert.small import to_int8
from neurfield.data.options import LoadOptions
from neurfield.training import checkpoint

PLAIN = ("field.density_network.modulation=null", "field.color_network.modulation=null")
VARIANTS = {"hash": PLAIN, "hash and CAM": ()}


def measure(scene: neurfield.Scene, name: str, table: int, steps: int, folder: Path) -> dict:
    start = time.monotonic()
    overrides = (*VARIANTS[name], f"field.encoding.log2_hashmap_size={table}")
    run = neurfield.train(scene, "ngp-cam", max_num_iterations=steps, overrides=overrides, output_dir=folder / name)
    seconds = time.monotonic() - start
    path = folder / f"{name.replace(' ', '_')}_{table}.safetensors"
    small = to_int8(run, Request(path))
    tensors = checkpoint.load(path)[0]
    field = sum(t.numel() for key, t in tensors.items() if key.startswith(("packed.enc", "packed.den", "packed.col")))
    return {
        "field": name, "log2_hashmap_size": table, "n_params": sum(p.numel() for p in run.field.parameters()),
        "psnr": run.evaluate()["psnr"], "psnr_8_bits": small.evaluate()["psnr"], "bytes": path.stat().st_size,
        "other": path.stat().st_size - field, "training_seconds": round(seconds, 1),
    }  # fmt: skip


def plot(rows: list[dict], path: Path) -> None:
    """PSNR of the files over their size, a curve for each kind of field."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name in VARIANTS:
        curve = sorted((row["bytes"] / 1e3, row["psnr_8_bits"]) for row in rows if row["field"] == name)
        axes.plot(*zip(*curve, strict=True), marker="o", label=name)
    axes.set(xscale="log", xlabel="file [kB]", ylabel="test PSNR [dB]")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--downscale-factor", type=int, default=2)
    parser.add_argument("--tables", type=int, nargs="+", default=[11, 13, 15])
    parser.add_argument("--add", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/small"))
    options = parser.parse_args()
    scene = neurfield.load_scene(options.data, LoadOptions(downscale_factor=options.downscale_factor))
    protocol = (
        f"{options.steps} steps, images {options.downscale_factor} times smaller, test views, PSNR of the int8 file"
    )
    name = f"{options.data.name}_{options.downscale_factor}"
    path = RESULTS / f"small_{name}.json"
    kept = json.loads(path.read_text()) if options.add and path.exists() else {}
    rows = kept["results"] if kept.get("protocol") == protocol else []
    rows = [row for row in rows if row["log2_hashmap_size"] not in options.tables]
    with tempfile.TemporaryDirectory() as folder:
        for table in options.tables:
            for variant in VARIANTS:
                rows.append(measure(scene, variant, table, options.steps, Path(folder)))
                print(rows[-1], flush=True)
    rows.sort(key=lambda row: (row["log2_hashmap_size"], row["field"]))
    content = {"title": "small radiance fields", "machine": machine(), "protocol": protocol, "results": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")
    options.output.mkdir(parents=True, exist_ok=True)
    plot(rows, options.output / f"{name}.png")


if __name__ == "__main__":
    main()
