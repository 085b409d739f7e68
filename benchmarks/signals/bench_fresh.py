# SPDX-License-Identifier: Apache-2.0
"""FreSh: the choice before training against trainings with every value of the sweep.

    python -m benchmarks.signals.bench_fresh [--side 128] [--steps 200] [--pictures NAME ...] [--models NAME ...]

Ten pictures (benchmarks/signals/pictures.py), three models: Gaussian Fourier features, SIREN, FINER. `loss` is how far
the training with the chosen value is below the best of the sweep, in dB; it should be at most 0.3 for 8 of 10 pictures.
`share` is the seconds of the choice over those of one training, both on a machine that others may use, too.
"""

import argparse
from pathlib import Path

from benchmarks.signals.learning import learn, psnr, save
from benchmarks.signals.pictures import PICTURES, picture
from neurfield import auto_frequency, fresh
from neurfield.training.signal_method import load_signal_method

MODELS = {
    "image-fourier": range(1, 21, 2),
    "image-siren": range(10, 201, 20),
    "image-finer": [k / 5 for k in range(0, 16, 2)],
}
SAMPLES = 4096
NETWORK = ("field.network.n_neurons=64", "field.network.n_hidden_layers=4", f"training.n_samples={SAMPLES}")
GOAL = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pictures", nargs="+", default=list(PICTURES), choices=list(PICTURES))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/fresh"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    results = []
    for model in options.models:
        values = list(MODELS[model])
        for name in options.pictures:
            signal = picture(name, options.side)
            method = load_signal_method(model, "image", NETWORK)
            found, choice = auto_frequency.for_signal(method, signal)
            fresh.draw(choice).save(options.output / f"{model}_{name.replace(' ', '_')}.png")
            field, seconds = learn(signal, found, options.steps)
            chosen = psnr(field, signal)
            sweep = {
                v: psnr(learn(signal, method, options.steps, (f"field.{choice.key}={v}",))[0], signal) for v in values
            }
            best = max(sweep, key=lambda v: sweep[v])
            row = {
                "model": model,
                "picture": name,
                "key": choice.key,
                "chosen": choice.value,
                "psnr": chosen,
                "best": best,
                "loss": max(sweep[best], chosen) - chosen,
                "psnr_of_preset": psnr(learn(signal, method, options.steps)[0], signal),
                "sweep": sweep,
                "seconds": choice.seconds,
                "share": choice.seconds / seconds,
            }
            results.append(row)
            print({key: row[key] for key in row if key != "sweep"}, flush=True)
    for model in options.models:
        losses = [row["loss"] for row in results if row["model"] == model]
        print(f"{model}: within {GOAL} dB for {sum(loss <= GOAL for loss in losses)} of {len(losses)}")
    protocol = (
        f"{options.side} x {options.side} pixels, 4 hidden layers of 64, {options.steps} steps of {SAMPLES} samples; "
        "sweeps of every second value of the candidates"
    )
    save("signals_fresh", "choice of frequencies before training against the sweep", protocol, results)


if __name__ == "__main__":
    main()
