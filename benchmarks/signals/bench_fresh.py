# SPDX-License-Identifier: Apache-2.0
"""FreSh: the choice before training against trainings with every second value of the candidates.

    python -m benchmarks.signals.bench_fresh [--side 128] [--steps 1000] [--seconds S] [--pictures ...] [--models ...]

Ten pictures (benchmarks/signals/pictures.py), three models: Gaussian Fourier features, SIREN, FINER. As published, a
tenth of the pixels is held out of the trainings, and PSNR is over these; trials do not see them either. `loss` is how
far the training with the chosen value is below the best of the sweep, in dB; it should be at most 0.3 for 8 of 10
pictures. `nearest` and its loss are of the spectra alone. Two trainings with the same value and other seeds differ by
some tenths of a dB, and the best of ten by chance: what comes near the best is trained with two more seeds, and the
mean of the three counts.
--crops: five crops of finer copies of the pictures in place of the ten.

Trainings are kept in the result's file and not repeated under the same protocol: with --seconds the sweep is measured
in pieces, by calling it until it says that nothing is missing.
"""

import argparse
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.signals.learning import Kept, learn, psnr_at, some_of
from benchmarks.signals.pictures import PICTURES, cropped, picture
from neurfield import auto_frequency, fresh
from neurfield.data.signals.grid import GridSignal
from neurfield.training.device import resolve_device
from neurfield.training.schedule import Budget
from neurfield.training.signal_method import SignalRunConfig, load_signal_method

MODELS = {
    "image-fourier": range(1, 21, 2),
    "image-siren": range(10, 201, 20),
    "image-finer": [k / 5 for k in range(0, 16, 2)],
}
SAMPLES, TRAINED_ON = 4096, 0.9
NETWORK = ("field.network.n_neurons=64", "field.network.n_hidden_layers=4", f"training.n_samples={SAMPLES}")
# of a picture 384 pixels wide: the part from the left and from the top
CROPS = {"albert": (0.5, 0.3), "kodim04": (0.6, 0.4), "fox": (0.4, 0.5), "house": (0.3, 0.6), "door": (0.7, 0.5)}
GOAL = 0.3
SEEDS, NEAR = range(SignalRunConfig.seed, SignalRunConfig.seed + 3), 1.0  # trained again within so many dB of the best
NAME = "signals_fresh"


class Measured:
    """Choices and trainings by name, kept between calls under one protocol."""

    def __init__(self, name: str, protocol: str, seconds: float) -> None:
        self.kept = Kept(name, "choice of frequencies before training against the sweep", protocol)
        self.choices, self.psnr = self.kept.results.get("choices", {}), self.kept.results.get("psnr", {})
        self.end, self.n_missing = time.monotonic() + seconds, 0

    def choice(self, model: str, signal: GridSignal, steps: int, folder: Path) -> dict:
        """What is chosen: the report of the choice, less its spectra."""
        name = f"{model}, {signal.info.name}"
        if name not in self.choices:
            method, budget = load_signal_method(model, "image", NETWORK), Budget(max_num_iterations=steps)
            known = some_of(signal, TRAINED_ON)
            found = auto_frequency.for_signal(
                method, signal, seed=SignalRunConfig.seed, budget=budget, known=known, device=resolve_device("auto")
            )[1]
            fresh.draw(found).save(folder / f"{name.replace(', ', '_').replace(' ', '_')}.png")
            kept = ("key", "value", "nearest", "trials", "seconds")
            self.choices[name] = {key: value for key, value in found.report().items() if key in kept}
            self.kept.measured(name)
        return self.choices[name]

    def train(
        self, model: str, signal: GridSignal, steps: int, key: str, value: float | None, seed: int
    ) -> float | None:
        """PSNR of held-out pixels after a training with a value, None for that of the preset; None: no time is left."""
        name = f"{model}, {signal.info.name}, {value}" + f", seed {seed}" * (seed != SEEDS[0])
        if name not in self.psnr and time.monotonic() < self.end:
            known = some_of(signal, TRAINED_ON)
            held_out = torch.ones(signal.info.n_samples, dtype=torch.bool)
            held_out[known] = False
            changed = () if value is None else (f"field.{key}={value}",)
            field, seconds = learn(signal, load_signal_method(model, "image", NETWORK), steps, changed, known, seed)
            self.psnr[name] = psnr_at(field, signal, held_out.nonzero()[:, 0])
            self.kept.measured(name)
            print(f"{name}: {self.psnr[name]:.2f} dB, {seconds:.1f} s", flush=True)
        self.n_missing += name not in self.psnr
        return self.psnr.get(name)

    def save(self, rows: list[dict]) -> None:
        self.kept.save({"rows": rows, "choices": self.choices, "psnr": self.psnr})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no training is begun later")
    parser.add_argument("--pictures", nargs="+", default=list(PICTURES), choices=list(PICTURES))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/fresh"))
    parser.add_argument("--crops", action="store_true")
    parser.add_argument("--lowest", type=int, help="only so many values of the sweep, from the lowest on")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    protocol = (
        f"{options.side} x {options.side} pixels, of which {TRAINED_ON:.0%} are trained on and the others measured, "
        f"4 hidden layers of 64, {options.steps} steps of {SAMPLES} samples; sweeps of every second value; mean of "
        f"{len(SEEDS)} seeds of what is chosen and of what comes within {NEAR:g} dB of the best"
    )
    measured = Measured(NAME + "_crops" * options.crops, protocol, options.seconds)
    rows = []
    for model in options.models:
        for name in CROPS if options.crops else options.pictures:
            whole = (3 * options.side, *CROPS[name]) if options.crops else None
            signal = cropped(name, options.side, *whole) if whole else picture(name, options.side)
            rows += row(measured, model, signal, options)
    measured.save(rows)
    for model in options.models:
        losses = [row["loss"] for row in rows if row["model"] == model]
        print(f"{model}: within {GOAL} dB for {sum(loss <= GOAL for loss in losses)} of {len(losses)}")
    print(f"{measured.n_missing} trainings are missing")


def row(measured: Measured, model: str, signal: GridSignal, options: argparse.Namespace) -> list[dict]:
    """Of one picture; nothing while trainings are missing."""
    choice = measured.choice(model, signal, options.steps, options.output)
    values = list(map(float, MODELS[model]))
    values = values[: options.lowest]
    chosen, nearest = (None if v is None else float(v) for v in (choice["value"], choice["nearest"]))

    def trained(values: Iterable[float | None], seed: int) -> dict[float | None, float]:
        found = {v: measured.train(model, signal, options.steps, choice["key"], v, seed) for v in values}
        return {value: psnr for value, psnr in found.items() if psnr is not None}

    wanted = dict.fromkeys((*values, chosen, nearest, None))
    once = trained(wanted, SEEDS[0])
    if len(once) < len(wanted):
        return []
    again = {v for v in wanted if v in (chosen, nearest, None) or once[v] >= max(once.values()) - NEAR}
    others = [trained(again, seed) for seed in SEEDS[1:]]
    if any(len(other) < len(again) for other in others):
        return []
    psnr = {v: statistics.mean([once[v], *(other[v] for other in others)]) if v in again else once[v] for v in wanted}
    best = max((v for v in wanted if v is not None), key=lambda v: psnr[v])
    return [
        {
            "model": model,
            "picture": signal.info.name,
            "chosen": chosen,
            "psnr": psnr[chosen],
            "best": best,
            "loss": psnr[best] - psnr[chosen],
            "nearest": nearest,
            "loss_of_nearest": psnr[best] - psnr[nearest],
            "range": psnr[best] - min(psnr[v] for v in values),
            "psnr_of_preset": psnr[None],
        }
    ]


if __name__ == "__main__":
    main()
