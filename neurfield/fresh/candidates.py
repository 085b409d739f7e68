# SPDX-License-Identifier: Apache-2.0
"""Models that differ in one frequency parameter: which, and with which values."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurfield import encodings, networks
from neurfield.errors import UserError
from neurfield.networks.mlp import OMEGA, SCALE

Block = Mapping[str, Any]
Model = Callable[[Tensor], Tensor]

GRID_INIT_RANGE = 1e-2  # at 1e-4 the output is all but constant, and its spectrum noise
HARMONICS = 3  # times the frequencies of a network's first layer: what its further layers add that matters


class Parameter(NamedTuple):
    """Where a kind of model has its frequencies from.

    Attributes:
        key: of the block, `encoding.KEY` or `network.KEY`.
        values: low to high frequency; those of Kania et al. 2025 (section 5 of its appendix), grids by octaves.
        n_bins: L1 frequencies that are compared; the released code recommends 64 for SIREN, 128 for others.
        highest: of a value, the two blocks and the number of dimensions: the frequency in cycles per side above which
            the model has little.
    """

    key: str
    values: Sequence[float]
    n_bins: int
    highest: Callable[[float, Block, Block, int], float]


def _of_first_layer(slope: float, first_weight: float, encoding: Block) -> float:
    """Cycles per side of sines of `slope * (w x)`, |w| <= first_weight, of points as Identity gives them."""
    return HARMONICS * slope * first_weight * float(encoding.get("scale", 1.0)) / (2 * math.pi)


def _omega(network: Block, otype: str) -> float:
    return float(network.get("first_omega") or network.get("omega") or OMEGA[otype])


# By otype of the encoding, else by activation (or otype) of the network. The first weights of networks are those of
# networks.initial_values: 1 / d for sines, d^-1/2 for the others, whose bumps of width 1 / s have 4 s at e^-4.
# The last octave has 2^(L - 2) cycles, and networks add sums of octaves: twice as many.
OF_ENCODINGS: dict[str, Parameter] = {
    "GaussianFourier": Parameter("encoding.sigma", range(1, 21), 128, lambda v, e, n, d: 4 * v),
    "Frequency": Parameter("encoding.n_frequencies", range(2, 13), 128, lambda v, e, n, d: 2 ** (v - 1)),
    "Grid": Parameter("encoding.max_resolution", (32, 64, 128, 256, 512, 1024, 2048, 4096), 128, lambda v, e, n, d: v),
}
GABOR = Parameter(
    "network.first_omega",
    range(5, 61, 5),
    128,
    lambda v, e, n, d: _of_first_layer(v + 4 * float(n.get("scale") or SCALE["Gabor"]), d**-0.5, e),
)
OF_ACTIVATIONS: dict[str, Parameter] = {
    "sine": Parameter("network.first_omega", range(10, 201, 10), 64, lambda v, e, n, d: _of_first_layer(v, 1 / d, e)),
    "finer": Parameter(
        "network.first_bias",
        tuple(k / 5 for k in range(16)),
        128,
        lambda v, e, n, d: _of_first_layer(_omega(n, "FINER") * (2 * (1 + v) + 1), 1 / d, e),
    ),
    "gabor": GABOR,
    "wire": GABOR,
    "gaussian": Parameter("network.scale", range(5, 61, 5), 128, lambda v, e, n, d: _of_first_layer(4 * v, d**-0.5, e)),
}


@dataclass(frozen=True)
class Candidates:
    """Values of one parameter, low to high frequency.

    Attributes:
        key: `encoding.KEY` or `network.KEY` of the blocks; for grids also `encoding.max_resolution`.
        values: what is tried.
        build: a freshly initialised model for `(value, seed)`: positions `[n, n_dims]` in [0, 1] to `[n, n_channels]`.
        blocks: the encoding and network block for a value.
        n_bins: L1 frequencies that are compared.
        highest: frequency of a value, in cycles per side, above which the model has little; None: not known, so that it
            is sampled as finely as the signal.
    """

    key: str
    values: tuple[float, ...]
    build: Callable[[float, int], Model]
    blocks: Callable[[float], tuple[dict[str, Any], dict[str, Any]]]
    n_bins: int = 64
    highest: Callable[[float], float] | None = None


def sweep(
    encoding: Block,
    network: Block,
    n_dims: int,
    n_channels: int,
    key: str | None = None,
    values: Sequence[float] | None = None,
    build: Callable[[Block, Block, int], Model] | None = None,
) -> Candidates:
    """Candidates that are an encoding of positions in [0, 1] and a network.

    Networks that take points themselves have the encoding `{"otype": "Identity", "scale": 2, "offset": -1}`.

    Args:
        encoding, network: blocks as their registries take them.
        n_dims, n_channels: of the signal.
        key, values: what is swept; by default what OF_ENCODINGS and OF_ACTIVATIONS say.
        build: makes a model of both blocks and a seed; default: the network on the encoding, modulated by position.

    Raises:
        UserError: nothing to sweep in these blocks, or a value in them that a registry refuses.
    """
    default = default_parameter(encoding, network)
    if key is None or values is None:
        if default is None or key not in (None, default.key):
            raise UserError(
                f"fresh: {'no default' if key is None else f'no default values for {key}'} with encoding "
                f"{encoding.get('otype')} and activation {network.get('activation', 'ReLU')}; give key and values"
            )
        key, values = default.key, default.values if values is None else values
    part, _, name = key.partition(".")
    build = build or _builder(n_dims, n_channels)
    if part not in ("encoding", "network") or not name or not values:
        raise UserError(f"fresh: expected encoding.KEY or network.KEY and some values, got {key!r} and {list(values)}")

    def blocks(value: float) -> tuple[dict[str, Any], dict[str, Any]]:
        changed = {"encoding": dict(encoding), "network": dict(network)}
        if key == "encoding.max_resolution":
            changed[part] = {"init_range": GRID_INIT_RANGE} | changed[part] | _per_level_scale(encoding, value)
        else:
            changed[part][name] = value
        return changed["encoding"], changed["network"]

    def model(value: float, seed: int) -> Model:
        of_encoding, of_network = blocks(value)
        if of_encoding.get("otype") == "GaussianFourier":
            of_encoding["seed"] = seed
        return build(of_encoding, of_network, seed)

    build(encoding, network, 0)  # registries check the values that `highest` and grids compute with

    highest = None
    if default is not None and key == default.key:
        highest = lambda value: default.highest(value, encoding, network, n_dims)  # noqa: E731
    return Candidates(key, tuple(values), model, blocks, default.n_bins if default else Candidates.n_bins, highest)


def default_parameter(encoding: Block, network: Block) -> Parameter | None:
    """What decides the frequencies of an encoding and a network; None: nothing that is known here."""
    otype = str(encoding.get("otype", ""))
    kind = "Grid" if otype.endswith("Grid") else otype
    activation = network.get("activation") or network.get("otype", "")
    return OF_ENCODINGS.get(kind) or OF_ACTIVATIONS.get(str(activation).lower())


def own_value(key: str, encoding: Block, network: Block) -> float | None:
    """What the blocks have of a key, None where they do not say."""
    part, _, name = key.partition(".")
    block = encoding if part == "encoding" else network
    value = block.get(name, block.get("omega") if name == "first_omega" else None)
    return None if value is None else float(value)


def _per_level_scale(encoding: Block, max_resolution: float) -> dict[str, Any]:
    """The key that makes the finest level of a grid so fine."""
    n_levels, base = int(encoding.get("n_levels", 16)), float(encoding.get("base_resolution", 16))
    return {"per_level_scale": max(1.0, (max_resolution / base) ** (1 / max(n_levels - 1, 1)))}


def _builder(n_dims: int, n_channels: int) -> Callable[[Block, Block, int], Model]:
    def build(encoding: Block, network: Block, seed: int) -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = encodings.create(n_dims, encoding)
        net = networks.create(encoder.n_output_dims, n_channels, network, seed)
        return lambda x: net(encoder(x)) if net.modulation is None else net(encoder(x), x)

    return build
