# SPDX-License-Identifier: Apache-2.0
"""Every preset for images on one photo, at the same number of steps.

    python -m benchmarks.signals.bench_presets [--side 256] [--steps 150] [--presets image-cam ...]

With --presets the others keep the figures that they have under the same protocol.
"""

import argparse
from pathlib import Path

from benchmarks.signals.learning import Kept, drawn, learn, psnr, side_by_side
from benchmarks.signals.pictures import PICTURES, picture
from neurfield.training.method import signal_presets

SAMPLES, NAME = 8192, "signals_presets"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=150)
    images = [name for name in signal_presets() if name.startswith("image")]
    parser.add_argument("--presets", nargs="+", default=images, choices=images)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/presets"))
    options = parser.parse_args()
    protocol = f"kodim04, {options.side} x {options.side} pixels, {options.steps} steps of {SAMPLES} samples"
    kept = Kept(NAME, "presets for images on one photo", protocol)
    rows = {row["preset"]: row for row in kept.results}
    signal, pictures = picture("kodim04", options.side), [PICTURES["kodim04"](options.side)]
    for name in options.presets:
        field, seconds = learn(signal, name, options.steps, (f"training.n_samples={SAMPLES}",))
        row = {"preset": name, "psnr": psnr(field, signal), "n_params": field.n_params, "seconds": round(seconds, 1)}
        rows[name] = row
        kept.measured(name)
        pictures.append(drawn(field, signal))
        print(row, flush=True)
    side_by_side(options.output / "presets.png", pictures)
    kept.save([rows[name] for name in images if name in rows])


if __name__ == "__main__":
    main()
