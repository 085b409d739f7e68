# SPDX-License-Identifier: Apache-2.0
"""Baselines for images under their published protocol: with our kernels, and written in plain torch from their papers.

    python -m benchmarks.signals.bench_baselines [--side 128] [--passes 100] [--seeds 1] [--seconds S]
    python -m benchmarks.signals.bench_baselines --side 512 --passes 501 --by ours --pictures FILE...  # as published
    python -m benchmarks.signals.bench_baselines --time                                     # seconds of a pass

SIREN, Gaussian activations, ReLU on 5 octaves, WIRE and FINER, as trained for the table of SL2A-INR (arXiv 2409.10836:
means over 16 pictures of DIV2K, 512 x 512) by the program published with it (Iceage7/SL2A-INR, train.py; of WIRE the
width and the layers that the published number of parameters tells, 300 / sqrt(2) and two complex ones): passes over
all pixels in random order, a step per so many of them; how many is each baseline's own, like its learning rate. Values
in 0 ... 1 at coordinates in -1 ... 1 with the corner pixels at the corners, mean squared error, Adam (0.9, 0.999,
1e-8), a rate that falls tenfold, exponentially, over the passes.

Ours and torch's start from the same values and see the same pixels, so that they differ by rounding alone, which grows
in chaotic trainings; how far two of one baseline are apart anyway is seen by their seeds. PSNR is over the pixels that
were trained on, after the last pass (published: after the best one); on CUDA where it can be used. Trainings are kept
in the result's file and not repeated under the same protocol; one that --seconds, an interruption or the end of the
machine cuts off goes on from what --output keeps of it.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
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
SIDE, PASSES = 128, 100  # what a CPU takes seconds for
PUBLISHED = 512, 501
# pixels whose gradients are added before a step: on a CPU tensors stay small enough to be used again
CHUNKS = {"cpu": 1 << 13, "cuda": 1 << 18}
SAVED_EVERY = 60.0  # seconds
TIMED_SIDE, TIMED_PASSES = 256, 7  # a quarter of the published pixels


class Baseline(NamedTuple):
    """What it is made of, how it is trained, what it reached, and the same in plain torch.

    `n_pixels` are those of a step, `psnr` is the published mean in dB, and `n_params` the published count, where a
    complex number counts once.
    """

    network: dict[str, Any]
    learning_rate: float
    n_pixels: int
    psnr: float
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
_WIRE = {"otype": "WIRE", "n_neurons": 300, "n_hidden_layers": 3, "omega": 30, "scale": 30}
BASELINES = {
    "SIREN": Baseline(_mlp("Sine", omega=30), 1e-3, 65536, 33.47, 198_915, plain.siren),
    "Gauss": Baseline(_mlp("Gaussian", scale=30), 1e-4, 1024, 34.96, 198_915, plain.gauss),
    "ReLU + PE": Baseline(_mlp("ReLU", init="FanIn"), 1e-3, 1024, 35.27, 204_035, plain.relu_octaves, _OCTAVES),
    "WIRE": Baseline(_WIRE, 1e-3, 65536, 30.63, 91_587, plain.wire),
    "FINER": Baseline(_mlp("FINER", omega=30, first_bias=20), 1e-4, 16384, 36.35, 198_915, plain.finer),
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


def data(picture: str, side: int, device: str) -> tuple[Tensor, Tensor]:
    """Coordinates `[side^2, 2]`, x first, in -1 ... 1, and colours `[side^2, 3]`, spread over 0 ... 1."""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    colors = torch.from_numpy(np.asarray(ALL[picture](side)).astype(np.float32)).view(-1, 3)
    colors = (colors - colors.min()) / (colors.max() - colors.min())
    return torch.stack([x, y], dim=-1).view(-1, 2).to(device), colors.to(device)


class Training:
    """`passes` passes over the pixels of a picture, which may be taken in pieces."""

    def __init__(self, net: nn.Module, baseline: Baseline, picture: str, side: int, passes: int, seed: int) -> None:
        self.net, self.baseline, self.passes, self.seed, self.passed = net, baseline, passes, seed, 0
        self.device = resolve_device("auto")
        net.to(self.device)
        self.at, self.colors = data(picture, side, self.device)
        self.optimizer = torch.optim.Adam(net.parameters(), baseline.learning_rate)
        self.settings = repr((baseline[:3], picture, side, passes, seed))

    def advance(self) -> float:
        """One pass; its seconds."""
        start = time.perf_counter()
        self.optimizer.param_groups[0]["lr"] = self.baseline.learning_rate * 0.1 ** (self.passed / self.passes)
        # a pass has its own order, so that a training that goes on sees what it would have seen
        drawn = torch.Generator().manual_seed(self.seed * self.passes + self.passed)
        order = torch.randperm(len(self.at), generator=drawn).to(self.device)
        for pixels in order.split(self.baseline.n_pixels):
            self.optimizer.zero_grad()
            for part in pixels.split(CHUNKS[self.device]):
                ((self.net(self.at[part]) - self.colors[part]).square().sum() / (3 * len(pixels))).backward()
            self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.passed += 1
        return time.perf_counter() - start

    def run(self, end: float, file: Path) -> bool:
        """Takes the passes that are left until time.monotonic() reaches `end`; whether none is left."""
        if file.exists():
            state = torch.load(file, self.device, weights_only=True)
            if state.get("settings") != self.settings:
                raise SystemExit(f"{file} is of a training with other settings; remove it, or name another --output")
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.passed = state["passed"]
        saved = time.monotonic()
        while self.passed < self.passes and (now := time.monotonic()) < end:
            self.advance()
            if now - saved > SAVED_EVERY:
                self._save(file)
                saved = now
        if self.passed < self.passes:
            self._save(file)
            return False
        file.unlink(missing_ok=True)
        return True

    def _save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "passed": self.passed,
            "settings": self.settings,
        }
        torch.save(state, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)


@torch.no_grad()
def drawn(net: nn.Module, picture: str, side: int) -> tuple[float, Image.Image]:
    """PSNR over all pixels, and the picture."""
    device = next(net.parameters()).device.type
    at, colors = data(picture, side, device)
    values = torch.cat([net(part) for part in at.split(CHUNKS[device])])
    psnr = -10 * math.log10(float((values - colors).double().square().mean()))
    eight_bit = (values.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return psnr, Image.fromarray(eight_bit.view(side, side, 3).numpy())


def time_passes() -> None:
    """Writes the seconds of a pass over TIMED_SIDE^2 pixels, per baseline and implementation."""
    seconds: dict[str, dict[str, float]] = {}
    for name, baseline in BASELINES.items():
        for by, build in IMPLEMENTATIONS.items():
            training = Training(build(baseline, 1), baseline, PICTURE, TIMED_SIDE, PUBLISHED[1], seed=1)
            passes = [training.advance() for _ in range(1 + TIMED_PASSES)]
            found = {"median": median(passes[1:]), "least": min(passes[1:]), "most": max(passes[1:])}
            seconds[f"{name}, {by}"] = {what: round(value, 3) for what, value in found.items()}
            print(f"{name}, {by}: {seconds[f'{name}, {by}']} s a pass", flush=True)
    protocol = f"{PICTURE}, passes over {TIMED_SIDE} x {TIMED_SIDE} pixels; median of {TIMED_PASSES}"
    save(f"{NAME}_time", "seconds of a pass of the baselines for images, ours and in plain torch", protocol, seconds)


def _key(picture: str, name: str, by: str, seed: int) -> str:
    return f"{picture}: {name}, {by}, {seed}"


def rows(psnr: dict[str, float], pictures: Sequence[str], seeds: range, is_published: bool) -> list[dict[str, Any]]:
    """Per baseline and implementation the mean over the pictures, where all of them have been learned, and each."""
    found = []
    for name, baseline in BASELINES.items():
        row: dict[str, Any] = {"baseline": name, "n_params": baseline.n_params}
        if is_published:
            row["published"] = baseline.psnr
        by: dict[str, dict[str, list[float]]] = {}
        for i in IMPLEMENTATIONS:
            of = {p: [psnr[key] for key in (_key(p, name, i, s) for s in seeds) if key in psnr] for p in pictures}
            by[i] = {p: values for p, values in of.items() if values}
            if all(len(values) == len(seeds) for values in of.values()):
                row[i] = mean(mean(values) for values in of.values())
        if all(i in row for i in IMPLEMENTATIONS):
            row["difference"] = row["ours"] - row["torch"]
        if any(by.values()):
            found.append(row | {"by_picture_and_seed": {i: pictures for i, pictures in by.items() if pictures}})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", type=name_or_file, help=f"files, or names (default: {PICTURE})")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so many; the same call goes on")
    parser.add_argument("--baselines", nargs="+", default=list(BASELINES), choices=list(BASELINES))
    parser.add_argument("--by", nargs="+", default=list(IMPLEMENTATIONS), choices=list(IMPLEMENTATIONS))
    parser.add_argument("--time", action="store_true", help="measure the seconds of a pass, and train nothing")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/signals/baselines"))
    options = parser.parse_args()
    if options.time:
        time_passes()
        return
    side, passes, pictures = options.side, options.passes, options.pictures or [PICTURE]
    recipes = ", ".join(f"{name} {b.learning_rate:g} and {b.n_pixels}" for name, b in BASELINES.items())
    protocol = f"{side} x {side} pixels, {passes} passes; rate and pixels of a step: {recipes}"
    file = NAME if (side, passes) == (SIDE, PASSES) else f"{NAME}_{side}_{passes}"
    if options.pictures:  # other pictures have other means
        file = f"{file}_pictures"
    kept = Kept(file, "baselines for images, ours and in plain torch", protocol)
    psnr = kept.results.get("psnr", {})
    end = time.monotonic() + options.seconds

    def results() -> dict[str, Any]:
        names = sorted({key.split(": ")[0] for key in psnr})
        is_published = (side, passes) == PUBLISHED and bool(options.pictures)
        return {"rows": rows(psnr, names, range(1, options.seeds + 1), is_published), "psnr": psnr}

    for seed, picture, name, by in itertools.product(
        range(1, options.seeds + 1), pictures, options.baselines, options.by
    ):
        key, folder = _key(picture, name, by, seed), options.output / f"{picture}_{side}_{passes}"
        if key in psnr or time.monotonic() >= end:
            continue
        training = Training(IMPLEMENTATIONS[by](BASELINES[name], seed), BASELINES[name], picture, side, passes, seed)
        if not training.run(end, folder / f"{name}, {by}, {seed}.pt"):
            print(f"{key}: {training.passed} of {passes} passes")
            continue
        psnr[key], image = drawn(training.net, picture, side)
        kept.measured(key)
        side_by_side(folder / f"{name}, {by}, {seed}.png", [ALL[picture](side), image])
        print(f"{key}: {psnr[key]:.2f} dB", flush=True)
        kept.save(results())
    for row in results()["rows"]:
        print(
            row["baseline"],
            *(f"{by} {row[by]:.2f} dB" for by in (*IMPLEMENTATIONS, "published") if by in row),
            sep=", ",
        )


if __name__ == "__main__":
    main()
