# SPDX-License-Identifier: Apache-2.0
"""Every preset for images on one photo, at the same number of steps.

python -m benchmarks.signals.bench_presets [--side 256] [--steps 300]
"""

import argparse
from pathlib import Path

from benchmarks.signals.learning import drawn, learn, psnr, save, side_by_side
from benchmarks.signals.pictures import PICTURES, picture
from neurfield.training.signal_method import signal_presets

SAMPLES = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/presets"))
    options = parser.parse_args()
    signal, results = picture("kodim04", options.side), []
    pictures = [PICTURES["kodim04"](options.side)]
    for name in signal_presets():
        if name.startswith("image"):
            field, seconds = learn(signal, name, options.steps, (f"training.n_samples={SAMPLES}",))
            row = {
                "preset": name,
                "psnr": psnr(field, signal),
                "n_params": field.n_params,
                "seconds": round(seconds, 1),
            }
            results.append(row)
            pictures.append(drawn(field, signal))
            print(row, flush=True)
    side_by_side(options.output / "presets.png", pictures)
    protocol = f"kodim04, {options.side} x {options.side} pixels, {options.steps} steps of {SAMPLES} samples"
    save("signals_presets", "presets for images on one photo", protocol, results)


if __name__ == "__main__":
    main()
