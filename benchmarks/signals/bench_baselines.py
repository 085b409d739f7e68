# SPDX-License-Identifier: Apache-2.0
"""Baselines for images under their published protocol: with our kernels, and written in plain torch from their papers.

    python -m benchmarks.signals.bench_baselines [--side 128] [--steps 100] [--seeds 1] [--seconds S]
    python -m benchmarks.signals.bench_baselines --side 512 --steps 5000 [--by ours]     # as published
    python -m benchmarks.signals.bench_baselines --time                                  # seconds of a step

SIREN, Gaussian activations, ReLU on 5 octaves, WIRE and FINER: all pixels in every step, values in -1 ... 1 at
coordinates in -1 ... 1 with the corner pixels at the corners, mean squared error, Adam (0.9, 0.999, 1e-8), a learning
rate that falls tenfold, exponentially, over the training. Both start from the same values, so that they differ by
rounding alone, which grows in chaotic trainings; how far two of one baseline are apart anyway is seen by their seeds.
PSNR is over the pixels that were trained on; on CUDA where it can be used. Trainings are kept in the result's file and
not repeated under the same protocol: with --seconds they are measured in pieces.
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
from benchmarks.signals.pictures import PICTURES
from neurfield import encodings, networks
from neurfield.training.device import resolve_device

NAME = "signals_baselines"
PICTURE = "kodim04"
# pixels whose gradients are added before a step: on a CPU tensors stay small enough to be used again
CHUNKS = {"cpu": 1 << 13, "cuda": 1 << 18}
SIDE, STEPS = 128, 100  # what a CPU takes seconds for
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


def data(side: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of the coordinates `[side^2, 2]`, x first, and colours `[side^2, 3]`, both in -1 ... 1."""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    colors = torch.from_numpy(np.asarray(PICTURES[PICTURE](side)).astype(np.float32) / 127.5 - 1)
    both = torch.stack([x, y], dim=-1).view(-1, 2), colors.view(-1, 3)
    return zip(*(part.to(device).split(CHUNKS[device]) for part in both), strict=True)


def train(net: nn.Module, learning_rate: float, side: int, steps: int, run: int | None = None) -> list[float]:
    """Takes `run` (default: all) of `steps` steps; the seconds of each."""
    device = resolve_device("auto")
    net.to(device)
    parts = list(data(side, device))
    optimizer, seconds = torch.optim.Adam(net.parameters(), learning_rate), []
    for step in range(steps if run is None else run):
        start = time.perf_counter()
        optimizer.param_groups[0]["lr"] = learning_rate * 0.1 ** (step / steps)
        optimizer.zero_grad()
        for at, target in parts:
            ((net(at) - target).square().sum() / (3 * side * side)).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


@torch.no_grad()
def drawn(net: nn.Module, side: int) -> tuple[float, Image.Image]:
    """PSNR over all pixels, and the picture."""
    parts = list(data(side, next(net.parameters()).device.type))
    values, colors = torch.cat([net(at) for at, _ in parts]).cpu(), torch.cat([target for _, target in parts]).cpu()
    psnr = -10 * math.log10(float((values - colors).double().square().mean()) / 4)  # values span 2
    eight_bit = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return psnr, Image.fromarray(eight_bit.view(side, side, 3).numpy())


def time_steps() -> None:
    """Writes the median seconds of a step per baseline and implementation, with TIMED_SIDE^2 pixels."""
    seconds = {}
    for name, baseline in BASELINES.items():
        for by, build in IMPLEMENTATIONS.items():
            steps = train(build(baseline, 1), baseline.learning_rate, TIMED_SIDE, 5000, 1 + TIMED_STEPS)
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
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="no training is begun later")
    parser.add_argument("--baselines", nargs="+", default=list(BASELINES), choices=list(BASELINES))
    parser.add_argument("--by", nargs="+", default=list(IMPLEMENTATIONS), choices=list(IMPLEMENTATIONS))
    parser.add_argument("--time", action="store_true", help="measure the seconds of a step, and train nothing")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/baselines"))
    options = parser.parse_args()
    if options.time:
        time_steps()
        return
    protocol = f"{PICTURE}, {options.side} x {options.side} pixels, all of them in each of {options.steps} steps"
    name = NAME if (options.side, options.steps) == (SIDE, STEPS) else f"{NAME}_{options.side}_{options.steps}"
    kept = Kept(name, "baselines for images, ours and in plain torch", protocol)
    psnr = kept.results.get("psnr", {})
    end, n_missing = time.monotonic() + options.seconds, 0
    for seed in range(1, options.seeds + 1):
        for name in options.baselines:
            for by in options.by:
                key, baseline = f"{name}, {by}, {seed}", BASELINES[name]
                if key not in psnr and time.monotonic() < end:
                    net = IMPLEMENTATIONS[by](baseline, seed)
                    train(net, baseline.learning_rate, options.side, options.steps)
                    psnr[key], image = drawn(net, options.side)
                    kept.measured(key)
                    side_by_side(options.output / f"{key}.png", [PICTURES[PICTURE](options.side), image])
                    print(f"{key}: {psnr[key]:.2f} dB", flush=True)
                n_missing += key not in psnr
    results = {"rows": rows(psnr, range(1, options.seeds + 1)), "psnr": psnr}
    kept.save(results)
    for row in results["rows"]:
        print(row["baseline"], *(f"{by} {row[by]:.2f} dB" for by in IMPLEMENTATIONS if by in row), sep=", ")
    print(f"{n_missing} trainings are missing")


if __name__ == "__main__":
    main()
