# SPDX-License-Identifier: Apache-2.0
"""Coordinate-aware modulation: the same network with and without it, at the same number of steps.

    python -m benchmarks.signals.bench_cam [--protocol published] [--side 128] [--parts all half] [--seconds S] ...
    python -m benchmarks.signals.bench_cam --protocol preset [--side 256] [--steps 500]

`published` (Lee et al. 2024): pictures of 512 x 512 pixels, 256 Fourier features of sigma 10, 3 x 256 ReLU, sigmoid,
32 x 32 nodes per layer, 2000 full batches, Adam 1e-3 (grids 1e-2), a tenth of that after 1000 and 1500 of them. --side
512 is that. A smaller side is a crop of the same picture (not a smaller picture): width, features, sigma and grids
shrink with it, so that pixels per parameter, the frequencies and the pixels per node of a grid stay those of the whole.
Seven fields learn it, with the initial values of the published code (torch's): FFN, the published baseline; the same
with features 5 times as large, as published for CAM; CAM without that; CAM with tiny-cuda-nn's initial values; CAM; and
FFN and CAM with the cross-entropy, the loss of the preset, where the others have the published squared error.
`half` trains on every second pixel of every second row and measures all pixels ("generalisation"), `all` trains on what
it measures ("regression"). --batches parts every pass, for the same arithmetic in more steps. --scaled-rate gives the
narrower networks of crops a rate as much larger, all but their grids: a step of Adam moves every weight by the rate,
and an output by the sum over its inputs. Of the pictures of strings, largely empty, the crop is the fullest of those
that part the picture.

`preset`: a photo and text, averaged to the side, learned by `image-cam` with and without `modulation`, by either loss;
and what each loses in 8 bits.

Trainings are kept in the result's file and not repeated under the same protocol; with --seconds call it until it says
that nothing is missing: a training that was cut off continues where it was.
"""

import argparse
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.signals.learning import Kept, drawn, learn_until, psnr
from benchmarks.signals.pictures import STRINGS, cropped, fullest, name_or_file, picture
from neurfield import quantization
from neurfield.data.signals.grid import GridSignal

WHOLE, SAMPLES = 512, 16384
PLACES = {"middle": (0.5, 0.5), "upper left": (0.2, 0.2)}
FULLEST = "fullest"
PHOTOS = ("kodim04", "albert", "fox", "door", "house")
UNMODULATED, UNSCALED = "field.network.modulation=null", "field.encoding.scale=1"
L2, ENTROPY = "loss={otype: L2}", "loss={otype: CrossEntropy}"


@dataclass(frozen=True)
class Protocol:
    """What is learned how.

    Attributes:
        side, steps: where the user names none.
        variants: by name, as changes of the settings.
        compared: variants, and what each is compared with.
    """

    name: str
    side: int
    steps: int
    pictures: tuple[str, ...]
    places: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]]
    compared: tuple[tuple[str, str], ...]


PUBLISHED = Protocol(
    "published", 128, 2000, (*PHOTOS, "text", *STRINGS), (*PLACES, FULLEST),
    {
        "FFN": (UNMODULATED, UNSCALED, L2), "FFN x 5": (UNMODULATED, L2), "CAM x 1": (UNSCALED, L2),
        "CAM Xavier": ("field.network.init=Xavier", L2), "CAM": (L2,),
        "FFN entropy": (UNMODULATED, UNSCALED, ENTROPY), "CAM entropy": (ENTROPY,),
    },
    (("CAM", "FFN"), ("CAM", "FFN x 5"), ("CAM entropy", "FFN entropy")),
)  # fmt: skip
PRESET = Protocol(
    "preset", 256, 500, ("kodim04", "text"), ("whole",),
    {
        "without": (UNMODULATED, L2), "with": (L2,),
        "entropy without": (UNMODULATED, ENTROPY), "entropy with": (ENTROPY,),
    },
    (("with", "without"), ("entropy with", "entropy without")),
)  # fmt: skip
PROTOCOLS = {protocol.name: protocol for protocol in (PUBLISHED, PRESET)}


def published_settings(side: int, batches: int = 1, scaled_rate: bool = False) -> tuple[str, ...]:
    """The published protocol for a crop, as changes of the preset `image-cam`."""
    shrunk = WHOLE // side
    faster = shrunk if scaled_rate else 1
    return (
        f"field.encoding.n_frequencies={256 // shrunk}", f"field.encoding.sigma={10 / shrunk}",
        "field.encoding.scale=5", f"field.network.n_neurons={256 // shrunk}", "field.network.init=FanIn",
        f"field.network.modulation.resolution=[{32 // shrunk}, {32 // shrunk}]", "field.network.weight_bits=null",
        f"optimizer.learning_rate={0.001 * faster}", f"optimizer.modulation_rate={10 / faster:g}",
        "optimizer.decay_start=0.5", "optimizer.final_fraction=0.01", "optimizer.decay_stages=2",
        f"training.n_samples={side * side // batches}",
    )  # fmt: skip


def every_second(side: int) -> torch.Tensor:
    """Flat indices of every second pixel of every second row."""
    return torch.arange(side * side).view(side, side)[::2, ::2].flatten()


class Bench:
    """Trainings under one protocol, by name, and the file that keeps their figures between calls."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.protocol = PROTOCOLS[options.protocol]
        self.side, self.steps = options.side or self.protocol.side, options.steps or self.protocol.steps
        self.end, self.n_missing, parts = time.monotonic() + options.seconds, 0, options.batches
        if self.protocol is PUBLISHED:
            self.settings = published_settings(self.side, parts, options.scaled_rate)
            self.file = f"signals_cam_published_{self.side}" + "_scaled_rate" * options.scaled_rate
            budget = f"{self.steps} full batches"
            if parts > 1:
                self.file, budget = f"{self.file}_in_{parts}", f"{self.steps} passes in {parts} batches each"
                self.steps *= parts
            self.text = (
                f"crops of {self.side} x {self.side} pixels of pictures of {WHOLE} x {WHOLE}, {budget}, "
                f"preset image-cam with {' '.join(self.settings)}; PSNR of all pixels, clamped"
            )
        else:
            self.settings = (f"training.n_samples={SAMPLES}", "field.network.weight_bits=null")
            self.file = "signals_cam_preset"
            self.text = (
                f"{self.side} x {self.side} pixels, {self.steps} steps, preset image-cam with "
                f"{' '.join(self.settings)}, with and without `modulation`; 8 bits: rounded after that"
            )
        self.kept = Kept(self.file, "coordinate-aware modulation", self.text)
        self.results: dict[str, dict] = self.kept.results
        self.folder = options.output / f"{self.file}_{self.steps}"

    def places(self, name: str) -> tuple[str, ...]:
        """Which parts of a picture are learned where the user names none."""
        if self.protocol is PRESET or self.side == WHOLE:
            return self.protocol.places[:1]
        return (FULLEST,) if name in STRINGS else tuple(PLACES)

    def signal(self, name: str, place: str) -> GridSignal:
        if place == "whole":
            return picture(name, self.side)
        if place == FULLEST:
            return fullest(name, self.side, WHOLE)
        return cropped(name, self.side, WHOLE, *PLACES[place])

    def train(self, name: str, place: str, part: str, variant: str) -> None:
        """One training, unless its figures are known; what time leaves undone is counted."""
        key = f"{name}, {place}, {part}, {variant}"
        if key in self.results:
            return
        self.n_missing += 1
        if time.monotonic() >= self.end:
            return
        signal, file = self.signal(name, place), self.folder / key.replace(", ", "_").replace(" ", "_")
        known = every_second(self.side) if part == "half" else None
        overrides = (*self.settings, *self.protocol.variants[variant])
        state = file.with_suffix(".safetensors")
        field = learn_until(self.end, state, signal, "image-cam", self.steps, overrides, known)
        if field is None:
            return
        self.n_missing -= 1
        row = {"picture": name, "place": place, "trained_on": part, "variant": variant, "n_params": field.n_params}
        row["psnr"] = psnr(field, signal)
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn(field, signal).save(file.with_suffix(".png"))
        if self.protocol is PRESET:
            packed = quantization.pack(field)
            quantization.unpack(field, packed)
            row |= {"psnr_8_bits": psnr(field, signal), "bytes_8_bits": quantization.n_bytes(packed)}
        self.results[key] = row
        print(f"{key}: {row['psnr']:.2f} dB, {row['n_params']} parameters", flush=True)
        self.kept.measured(key)
        self.kept.save(self.results)

    def print_gains(self) -> None:
        """What modulation adds to each baseline, picture by picture and in the means of photos and of strings."""
        for (best, base), part in itertools.product(self.protocol.compared, ("all", "half")):
            gains = {}
            for key, row in self.results.items():
                plain = self.results.get(f"{row['picture']}, {row['place']}, {part}, {base}")
                if (row["variant"], row["trained_on"]) == (best, part) and plain:
                    gains[key] = row["psnr"] - plain["psnr"]
                    print(f"{key} over {base}: {gains[key]:+.2f} dB")
            for kind, names in (("photos", PHOTOS), ("pictures of strings", STRINGS)):
                some = [gain for key, gain in gains.items() if key.split(",")[0] in names]
                if some:
                    print(f"mean of {len(some)} {kind}, {part}, over {base}: {sum(some) / len(some):+.2f} dB")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses what the protocol does not have."""
    protocol = PROTOCOLS[options.protocol]
    if options.batches > 1 and options.parts != ["all"]:
        parser.error("--batches parts passes over all pixels, not --parts half")
    if protocol is not PUBLISHED and (options.batches > 1 or options.parts != ["all"] or options.scaled_rate):
        parser.error("--batches, --scaled-rate and --parts half belong to the published protocol")
    if protocol is PUBLISHED and options.side not in (None, 64, 128, 256, WHOLE):
        parser.error(f"--side: expected 64, 128, 256 or 512, got {options.side}")
    for key in ("variants", "places"):
        valid = list(getattr(protocol, key))
        for value in getattr(options, key) or ():
            if value not in valid:
                parser.error(f"--{key}: the protocol {protocol.name} has {', '.join(valid)}, got {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", default="published", choices=list(PROTOCOLS))
    parser.add_argument("--side", type=int, help="published: 64, 128, 256 or 512")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batches", type=int, default=1, help="of a pass; published: 1")
    parser.add_argument("--scaled-rate", action="store_true", help="published: larger for narrower networks")
    parser.add_argument("--pictures", nargs="+", type=name_or_file, help="names or files; default: the protocol's")
    parser.add_argument("--places", nargs="+", help="of crops; published: middle, 'upper left', fullest")
    parser.add_argument("--variants", nargs="+", help="of the protocol")
    parser.add_argument("--parts", nargs="+", default=["all"], choices=["all", "half"])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/cam"))
    options = parser.parse_args()
    check(parser, options)
    bench = Bench(options)
    for name in options.pictures or bench.protocol.pictures:
        places = options.places or bench.places(name)
        for training in itertools.product(places, options.parts, options.variants or bench.protocol.variants):
            bench.train(name, *training)
    bench.print_gains()
    print(f"{bench.n_missing} trainings are missing" if bench.n_missing else "nothing is missing")


if __name__ == "__main__":
    main()
