# SPDX-License-Identifier: Apache-2.0
"""SAPE against plain Gaussian Fourier features of the same sigma: trained on a quarter of the pixels and on all.

    python -m benchmarks.signals.bench_sape [--side 128] [--steps 400]

PSNR is over all pixels, whatever was trained on.
"""

import argparse
from pathlib import Path

from benchmarks.signals.learning import drawn, learn, psnr, save, side_by_side, some_of
from benchmarks.signals.pictures import PICTURES, picture

SIGMAS = (5, 10, 25)
NAMES = ("kodim04", "fox", "door", "house")
SAMPLES, N_FREQUENCIES, WIDTH = 4096, 128, 128
FOURIER = f"{{otype: GaussianFourier, n_frequencies: {N_FREQUENCIES}, sigma: SIGMA}}"
ENCODINGS = {
    "plain": FOURIER,
    "SAPE": f"{{otype: SAPE, resolution: [64, 64], epsilon: 0.001, n_blocks: 32, nested: {FOURIER}}}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/sape"))
    options = parser.parse_args()
    results = []
    for name in NAMES:
        signal = picture(name, options.side)
        for part in (0.25, 1.0):
            known, pictures = some_of(signal, part), [PICTURES[name](options.side)]
            for sigma in SIGMAS:
                row: dict = {"picture": name, "part": part, "sigma": sigma}
                for kind, encoding in ENCODINGS.items():
                    overrides = (
                        f"field.encoding={encoding.replace('SIGMA', str(sigma))}",
                        f"field.network.n_neurons={WIDTH}",
                        f"training.n_samples={SAMPLES}",
                    )
                    field, _ = learn(signal, "image-sape", options.steps, overrides, known)
                    row[kind] = psnr(field, signal)
                    pictures.append(drawn(field, signal))
                results.append(row)
                print(row, flush=True)
            side_by_side(options.output / f"{name}_{part:g}.png", pictures)
    for part in (0.25, 1.0):
        rows = [row for row in results if row["part"] == part]
        gain = sum(row["SAPE"] - row["plain"] for row in rows) / len(rows)
        print(f"{part:.0%} of the pixels: mean gain {gain:+.2f} dB")
    protocol = (
        f"{options.side} x {options.side} pixels, {N_FREQUENCIES} frequencies, 3 hidden layers of {WIDTH}, "
        f"{options.steps} steps of {SAMPLES} samples, 32 blocks, epsilon 1e-3 of the mean over channels, 64 x 64 nodes"
    )
    save("signals_sape", "SAPE against plain Fourier features of equal sigma", protocol, results)


if __name__ == "__main__":
    main()
