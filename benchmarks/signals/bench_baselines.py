# SPDX-License-Identifier: Apache-2.0
"""Baselines for images under their published protocol: with our kernels, and written in plain torch from their papers.

    python -m benchmarks.signals.bench_baselines [--side 128] [--steps 100] [--seeds 1] [--seconds S]
    python -m benchmarks.signals.bench_baselines --side 512 --steps 5000 [--by ours] [--picture FILE]  # as published
    python -m benchmarks.signals.bench_baselines --time                                  # seconds of a step

SIREN, Gaussian activations, ReLU on 5 octaves, WIRE and FINER: all pixels in every step, values in -1 ... 1 at
coordinates in -1 ... 1 with the corner pixels at the corners, mean squared error, Adam (0.9, 0.999, 1e-8), a learning
rate that falls tenfold, exponentially, over the training. Both start from the same values, so that they differ by
rounding alone, which grows in chaotic trainings; how far two of one baseline are apart anyway is seen by their seeds.
PSNR is over the pixels that were trained on; on CUDA where it can be used. Trainings are kept in the result's file and
not repeated under the same protocol; one that --seconds, an interruption or the end of the machine cuts off goes on
from what --output keeps of it.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.peers import torch_baselines as plain
from benchmarks.signals.learning import Kept, save, side_by_side
from benchmarks.signals.pictures import ALL, name_or_file
from neurfield import encodings, networks
from neurfield.training.device import resolve_device

NAME = "signals_baselines"
PICTURE = "kodim04"
# pixels whose gradients are added before a step: on a CPU tensors stay small enough to be used again
CHUNKS = {"cpu": 1 << 13, "cuda": 1 << 18}
SIDE, STEPS = 128, 100  # what a CPU takes seconds for
SAVED_EVERY = 60.0  # seconds
TIMED_SIDE, TIMED_STEPS = 256, 3  # a quarter of the published pixels


class Baseline(NamedTuple):
    """What it is made of, its learning rate, and the same in plain torch.

    `n_params` is the published count, where a complex number counts once.
    """

    network: dict[str, Any]
    learning_rate: float
    n_params: int
    in_torch: Callable[[], nn.Module]
    encoding: dict[str, Any] = {"otype": "Identity"}  # noqa: RUF012  never changed


def _mlp(activation: str, **keys: Any) -> dict[str, Any]:
    return {"otype": "MLP", "activation": activation, "n_neurons": 256, "n_hidden_layers": 4, "bias": True, **keys}


_BOTH = {"n_dims_to_encode": 2, "dims_to_encode_begin": 0}
_OCTAVES = {
    "otype": "Composite",
    "nested": [{"otype": "Identity", **_BOTH}, {"otype": "Frequency", "n_frequencies": 5, **_BOTH}],
}
_WIRE = {"otype": "WIRE", "n_neurons": 300, "n_hidden_layers": 3, "omega": 20, "scale": 10}
BASELINES = {
    "SIREN": Baseline(_mlp("Sine", omega=30), 5e-4, 198_915, plain.siren),
    "Gauss": Baseline(_mlp("Gaussian", scale=30), 5e-3, 198_915, plain.gauss),
    "ReLU + PE": Baseline(_mlp("ReLU", init="FanIn"), 1e-3, 204_035, plain.relu_octaves, _OCTAVES),
    "WIRE": Baseline(_WIRE, 5e-3, 91_587, plain.wire),
    "FINER": Baseline(_mlp("FINER", omega=30), 5e-4, 198_915, plain.finer),
}


def ours(baseline: Baseline, seed: int) -> nn.Module:
    """Coordinates `[n, 2]` in -1 ... 1 to colours `[n, 3]`, by our encodings and networks."""
    encoding = encodings.create(2, baseline.encoding)
    return nn.Sequential(
        encoding, networks.create(encoding.n_output_dims, 3, baseline.network, seed, input_padding=0.0)
    )


@torch.no_grad()
def in_torch(baseline: Baseline, seed: int) -> nn.Module:
    """The same function in plain torch, with the same initial values."""
    net = baseline.in_torch()
    layers = (m for m in net.modules() if isinstance(m, nn.Linear))
    for layer, (weight, bias) in zip(layers, _layers(ours(baseline, seed)[1]), strict=True):
        n_out, n_in = layer.weight.shape
        layer.weight.copy_(weight[:n_out, :n_in])
        layer.bias.copy_(bias[:n_out])
    return net


def _layers(net: nn.Module) -> list[tuple[Tensor, Tensor]]:
    if isinstance(net, networks.MLP):
        return net.config.matrices(net.params)
    return [
        tuple(p[0] if len(p) == 1 else torch.complex(*p) for p in pair)
        for pair in zip(net.weights, net.biases, strict=True)
    ]


IMPLEMENTATIONS = {"ours": ours, "torch": in_torch}


def data(picture: str, side: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of the coordinates `[side^2, 2]`, x first, and colours `[side^2, 3]`, both in -1 ... 1."""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    colors = torch.from_numpy(np.asarray(ALL[picture](side)).astype(np.float32) / 127.5 - 1)
    both = torch.stack([x, y], dim=-1).view(-1, 2), colors.view(-1, 3)
    return zip(*(part.to(device).split(CHUNKS[device]) for part in both), strict=True)


class Training:
    """`steps` steps on a picture of `side`^2 pixels, which may be taken in pieces."""

    def __init__(self, net: nn.Module, learning_rate: float, picture: str, side: int, steps: int) -> None:
        self.net, self.learning_rate, self.side, self.steps, self.step = net, learning_rate, side, steps, 0
        self.device = resolve_device("auto")
        net.to(self.device)
        self.parts = list(data(picture, side, self.device))
        self.optimizer = torch.optim.Adam(net.parameters(), learning_rate)

    def advance(self) -> float:
        """One step; its seconds."""
        start = time.perf_counter()
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * 0.1 ** (self.step / self.steps)
        self.optimizer.zero_grad()
        for at, target in self.parts:
            ((self.net(at) - target).square().sum() / (3 * self.side * self.side)).backward()
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.step += 1
        return time.perf_counter() - start

    def run(self, end: float, file: Path) -> bool:
        """Takes the steps that are left until time.monotonic() reaches `end`; whether none is left."""
        if file.exists():
            state = torch.load(file, self.device, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
        saved = time.monotonic()
        while self.step < self.steps and (now := time.monotonic()) < end:
            self.advance()
            if now - saved > SAVED_EVERY:
                self._save(file)
                saved = now
        if self.step < self.steps:
            self._save(file)
            return False
        file.unlink(missing_ok=True)
        return True

    def _save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save(state, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)


@torch.no_grad()
def drawn(net: nn.Module, picture: str, side: int) -> tuple[float, Image.Image]:
    """PSNR over all pixels, and the picture."""
    parts = list(data(picture, side, next(net.parameters()).device.type))
    values, colors = torch.cat([net(at) for at, _ in parts]).cpu(), torch.cat([target for _, target in parts]).cpu()
    psnr = -10 * math.log10(float((values - colors).double().square().mean()) / 4)  # values span 2
    eight_bit = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return psnr, Image.fromarray(eight_bit.view(side, side, 3).numpy())


def time_steps() -> None:
    """Writes the median seconds of a step per baseline and implementation, with TIMED_SIDE^2 pixels."""
    seconds = {}
    for name, baseline in BASELINES.items():
        for by, build in IMPLEMENTATIONS.items():
            training = Training(build(baseline, 1), baseline.learning_rate, PICTURE, TIMED_SIDE, 5000)
            steps = [training.advance() for _ in range(1 + TIMED_STEPS)]
            seconds[f"{name}, {by}"] = round(median(steps[1:]), 3)
            print(f"{name}, {by}: {seconds[f'{name}, {by}']} s a step", flush=True)
    protocol = f"{PICTURE}, {TIMED_SIDE} x {TIMED_SIDE} pixels, all of them in a step; median of {TIMED_STEPS} steps"
    save(f"{NAME}_time", "seconds of a step of the baselines for images, ours and in plain torch", protocol, seconds)


def rows(psnr: dict[str, float], seeds: range) -> list[dict[str, Any]]:
    """Per baseline, by the implementations whose trainings are there."""
    found = []
    for name, baseline in BASELINES.items():
        by = {i: [psnr.get(f"{name}, {i}, {seed}") for seed in seeds] for i in IMPLEMENTATIONS}
        by = {i: values for i, values in by.items() if None not in values}
        means = {i: mean(values) for i, values in by.items()}
        row = {"baseline": name, "n_params": baseline.n_params, **means, "by_seed": by}
        if len(by) == len(IMPLEMENTATIONS):
            row["difference"] = means["ours"] - means["torch"]
        if by:
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=name_or_file, default=PICTURE, help="a name, or a file (default: kodim04)")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many; the same call goes on")
    parser.add_argument("--baselines", nargs="+", default=list(BASELINES), choices=list(BASELINES))
    parser.add_argument("--by", nargs="+", default=list(IMPLEMENTATIONS), choices=list(IMPLEMENTATIONS))
    parser.add_argument("--time", action="store_true", help="measure the seconds of a step, and train nothing")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/baselines"))
    options = parser.parse_args()
    if options.time:
        time_steps()
        return
    picture = options.picture
    protocol = f"{picture}, {options.side} x {options.side} pixels, all of them in each of {options.steps} steps"
    name = NAME if (options.side, options.steps) == (SIDE, STEPS) else f"{NAME}_{options.side}_{options.steps}"
    if picture != PICTURE:
        name = f"{name}_{picture}"
    kept = Kept(name, "baselines for images, ours and in plain torch", protocol)
    psnr = kept.results.get("psnr", {})
    end, folder = time.monotonic() + options.seconds, options.output / f"{picture}_{options.side}_{options.steps}"

    def results() -> dict[str, Any]:
        return {"rows": rows(psnr, range(1, options.seeds + 1)), "psnr": psnr}

    for seed in range(1, options.seeds + 1):
        for name in options.baselines:
            for by in options.by:
                key, baseline = f"{name}, {by}, {seed}", BASELINES[name]
                if key not in psnr and time.monotonic() < end:
                    net = IMPLEMENTATIONS[by](baseline, seed)
                    training = Training(net, baseline.learning_rate, picture, options.side, options.steps)
                    if not training.run(end, folder / f"{key}.pt"):
                        print(f"{key}: {training.step} of {training.steps} steps")
                        continue
                    psnr[key], image = drawn(net, picture, options.side)
                    kept.measured(key)
                    side_by_side(folder / f"{key}.png", [ALL[picture](options.side), image])
                    print(f"{key}: {psnr[key]:.2f} dB", flush=True)
                    kept.save(results())
    for row in results()["rows"]:
        print(row["baseline"], *(f"{by} {row[by]:.2f} dB" for by in IMPLEMENTATIONS if by in row), sep=", ")


if __name__ == "__main__":
    main()
