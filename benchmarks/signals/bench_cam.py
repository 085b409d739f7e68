# SPDX-License-Identifier: Apache-2.0
"""Coordinate-aware modulation: the same network with and without it, at the same number of steps.

    python -m benchmarks.signals.bench_cam [--side 256] [--steps 600] [--name signals_cam] [--set key=value ...]

A photo and rendered text, learned by the preset `image-cam` and by the same without `modulation`; and what each loses
in 8 bits. The published protocol has 512 x 512 pixels and 2000 passes over them.
"""

import argparse
from pathlib import Path

from benchmarks.signals.learning import drawn, learn, psnr, save, side_by_side
from benchmarks.signals.pictures import PICTURES, picture
from neurfield import quantization

VARIANTS = {"without": ("field.network.modulation=null",), "with": ()}
SAMPLES = 16384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--name", default="signals_cam", help="of the result")
    parser.add_argument("--set", nargs="+", default=[], help="of the preset, for both")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/cam"))
    options = parser.parse_args()
    results = []
    for name in ("kodim04", "text"):
        signal, pictures = picture(name, options.side), [PICTURES[name](options.side)]
        for variant, overrides in VARIANTS.items():
            overrides = (
                *options.set, *overrides, f"training.n_samples={SAMPLES}", "field.network.weight_bits=null",
            )  # fmt: skip
            field, seconds = learn(signal, "image-cam", options.steps, overrides)
            row = {
                "picture": name, "modulation": variant, "n_params": field.n_params, "psnr": psnr(field, signal),
                "seconds": round(seconds, 1),
            }  # fmt: skip
            pictures.append(drawn(field, signal))
            packed = quantization.pack(field)
            quantization.unpack(field, packed)
            row |= {"psnr_8_bits": psnr(field, signal), "bytes_8_bits": quantization.n_bytes(packed)}
            results.append(row)
            print(row, flush=True)
        side_by_side(options.output / f"{name}.png", pictures)
    protocol = (
        f"{options.side} x {options.side} pixels, {options.steps} steps of {SAMPLES} samples, preset image-cam with "
        f"and without `modulation` {' '.join(options.set)}; 8 bits: rounded after training without `weight_bits`"
    )
    save(options.name, "coordinate-aware modulation", protocol, results)


if __name__ == "__main__":
    main()
