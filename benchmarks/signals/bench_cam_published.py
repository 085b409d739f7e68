# SPDX-License-Identifier: Apache-2.0
"""Coordinate-aware modulation under the published protocol for images (Lee et al. 2024), whole or as a crop.

    python -m benchmarks.signals.bench_cam_published [--side 128] [--pictures ...] [--parts all half] [--seconds S]

Published are pictures of 512 x 512 pixels: 256 Fourier features of sigma 10, 3 x 256 ReLU, sigmoid, 32 x 32 nodes per
layer, 2000 full batches, Adam 1e-3 (grids 1e-2), a tenth of that after 1000 and 1500 of them. --side 512 is that. A
smaller side is a crop of the same picture (not a smaller picture): width, features, sigma and grids shrink with it, so
that pixels per parameter, the frequencies and the pixels per node of a grid stay those of the whole.

Four fields learn each crop, with the initial values of the published code (torch's): FFN, the published baseline; the
same with features 5 times as large, as published for CAM; CAM without that; and CAM. `half` trains on every second row
and column and measures all pixels ("generalisation"), `all` trains on what it measures ("regression").

Trainings are kept in results/signals_cam_published_SIDE.json and not repeated under the same protocol; with --seconds
call it until it says that nothing is missing: a training that was cut off continues where it was.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from benchmarks.harness import RESULTS
from benchmarks.signals.learning import drawn, learn_until, psnr, save
from benchmarks.signals.pictures import PICTURES, cropped

WHOLE = 512
PLACES = {"middle": (0.5, 0.5), "upper left": (0.2, 0.2)}
UNMODULATED, UNSCALED = "field.network.modulation=null", "field.encoding.scale=1"
VARIANTS = {"FFN": (UNMODULATED, UNSCALED), "FFN x 5": (UNMODULATED,), "CAM x 1": (UNSCALED,), "CAM": ()}


def settings(side: int) -> tuple[str, ...]:
    """The published protocol for a crop, as changes of the preset `image-cam`."""
    shrunk = WHOLE // side
    return (
        f"field.encoding.n_frequencies={256 // shrunk}", f"field.encoding.sigma={10 / shrunk}",
        "field.encoding.scale=5", f"field.network.n_neurons={256 // shrunk}", "field.network.init=FanIn",
        f"field.network.modulation.resolution=[{32 // shrunk}, {32 // shrunk}]", "field.network.weight_bits=null",
        "optimizer.learning_rate=0.001", "optimizer.modulation_rate=10", "optimizer.decay_start=0.5",
        "optimizer.final_fraction=0.01", "optimizer.decay_stages=2", f"training.n_samples={side * side}",
    )  # fmt: skip


def every_second(side: int) -> torch.Tensor:
    """Flat indices of every second pixel of every second row."""
    return torch.arange(side * side).view(side, side)[::2, ::2].flatten()


def gains(results: dict[str, dict]) -> None:
    """Prints what modulation adds to each baseline, picture by picture and in the mean of the photos."""
    for base in ("FFN", "FFN x 5"):
        for part in ("all", "half"):
            gain = {
                key: row["psnr"] - results[key.replace("CAM", base)]["psnr"]
                for key, row in results.items()
                if (row["variant"], row["trained_on"]) == ("CAM", part) and key.replace("CAM", base) in results
            }
            photos = [value for key, value in gain.items() if not key.startswith("text")]
            for key, value in gain.items():
                print(f"{key} over {base}: {value:+.2f} dB")
            if photos:
                print(f"mean of {len(photos)} crops of photos over {base}, {part}: {sum(photos) / len(photos):+.2f} dB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128, choices=[64, 128, 256, 512])
    parser.add_argument("--steps", type=int, default=2000)
    names = ["kodim04", "albert", "fox", "door", "house", "text"]
    parser.add_argument("--pictures", nargs="+", default=names, choices=list(PICTURES))
    parser.add_argument("--places", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--parts", nargs="+", default=["all"], choices=["all", "half"])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/cam_published"))
    options = parser.parse_args()
    end, name = time.monotonic() + options.seconds, f"signals_cam_published_{options.side}"
    protocol = (
        f"crops of {options.side} x {options.side} pixels of pictures of {WHOLE} x {WHOLE}, {options.steps} full "
        f"batches, preset image-cam with {' '.join(settings(options.side))}; PSNR of all pixels, clamped"
    )
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    results = before["results"] if before.get("protocol") == protocol else {}
    n_missing = 0
    for picture in options.pictures:
        for place in options.places if options.side < WHOLE else ["middle"]:
            signal = cropped(picture, options.side, WHOLE, *PLACES[place])
            for part in options.parts:
                for variant in options.variants:
                    key = f"{picture}, {place}, {part}, {variant}"
                    if key in results:
                        continue
                    file = options.output / f"{options.side}_{options.steps}" / key.replace(", ", "_").replace(" ", "_")
                    known = every_second(options.side) if part == "half" else None
                    overrides = (*settings(options.side), *VARIANTS[variant])
                    field = None
                    if time.monotonic() < end:
                        state = file.with_suffix(".safetensors")
                        field = learn_until(end, state, signal, "image-cam", options.steps, overrides, known)
                    if field is None:
                        n_missing += 1
                        continue
                    row = {"picture": picture, "place": place, "trained_on": part, "variant": variant}
                    results[key] = row | {"n_params": field.n_params, "psnr": psnr(field, signal)}
                    print(f"{key}: {results[key]['psnr']:.2f} dB, {field.n_params} parameters", flush=True)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    drawn(field, signal).save(file.with_suffix(".png"))
                    save(name, "coordinate-aware modulation, published protocol", protocol, results)
    gains(results)
    print(f"{n_missing} trainings are missing" if n_missing else "nothing is missing")


if __name__ == "__main__":
    main()
