# SPDX-License-Identifier: Apache-2.0
"""Models that differ in one frequency parameter: which, and with which values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurfield import encodings, networks
from neurfield.encodings import Grid
from neurfield.errors import UserError

Block = Mapping[str, Any]
Model = Callable[[Tensor], Tensor]

# Where a model's frequencies come from, low to high: by otype of the encoding, else by activation of the network.
# Values: those of Kania et al. 2025 (section 5 of its appendix), and resolutions of hash grids by octaves.
OF_ENCODINGS: dict[str, tuple[str, Sequence[float]]] = {
    "GaussianFourier": ("encoding.sigma", tuple(range(1, 21))),
    "Frequency": ("encoding.n_frequencies", tuple(range(2, 13))),
    "Grid": ("encoding.max_resolution", (32, 64, 128, 256, 512, 1024, 2048, 4096)),
}
OF_ACTIVATIONS: dict[str, tuple[str, Sequence[float]]] = {
    "sine": ("network.first_omega", tuple(range(10, 201, 10))),
    "finer": ("network.first_bias", tuple(k / 5 for k in range(16))),
    "gabor": ("network.first_omega", tuple(range(5, 61, 5))),
    "gaussian": ("network.scale", tuple(range(5, 61, 5))),
}
GRID_INIT_RANGE = 1e-2  # at 1e-4 the output is all but constant, and its spectrum noise


@dataclass(frozen=True)
class Candidates:
    """Values of one parameter, low to high frequency.

    Attributes:
        key: `encoding.KEY` or `network.KEY` of the blocks; for grids also `encoding.max_resolution`.
        values: what is tried.
        build: a freshly initialised model for `(value, seed)`: positions `[n, n_dims]` in [0, 1] to `[n, n_channels]`.
        blocks: the encoding and network block for a value.
    """

    key: str
    values: tuple[float, ...]
    build: Callable[[float, int], Model]
    blocks: Callable[[float], tuple[dict[str, Any], dict[str, Any]]]


def sweep(
    encoding: Block,
    network: Block,
    n_dims: int,
    n_channels: int,
    key: str | None = None,
    values: Sequence[float] | None = None,
) -> Candidates:
    """Candidates that are an encoding of positions in [0, 1] and a network.

    Networks that take points themselves have the encoding `{"otype": "Identity", "scale": 2, "offset": -1}`.

    Args:
        encoding, network: blocks as their registries take them.
        n_dims, n_channels: of the signal.
        key, values: what is swept; by default what OF_ENCODINGS and OF_ACTIVATIONS say.

    Raises:
        UserError: nothing to sweep in these blocks, or a value that a registry refuses.
    """
    default = _default(encoding, network)
    if key is None or values is None:
        if default is None or key not in (None, default[0]):
            raise UserError(
                f"fresh: {'no default' if key is None else f'no default values for {key}'} with encoding "
                f"{encoding.get('otype')} and activation {network.get('activation', 'ReLU')}; give key and values"
            )
        key, values = default[0], default[1] if values is None else values
    part, _, name = key.partition(".")
    if part not in ("encoding", "network") or not name or not values:
        raise UserError(f"fresh: expected encoding.KEY or network.KEY and some values, got {key!r} and {list(values)}")

    def blocks(value: float) -> tuple[dict[str, Any], dict[str, Any]]:
        changed = {"encoding": dict(encoding), "network": dict(network)}
        changed[part] |= _per_level_scale(encoding, value) if key == "encoding.max_resolution" else {name: value}
        return changed["encoding"], changed["network"]

    def build(value: float, seed: int) -> Model:
        return _model(*blocks(value), n_dims, n_channels, seed)

    return Candidates(key, tuple(values), build, blocks)


def _default(encoding: Block, network: Block) -> tuple[str, Sequence[float]] | None:
    otype = str(encoding.get("otype", ""))
    kind = "Grid" if otype.endswith("Grid") else otype
    return OF_ENCODINGS.get(kind) or OF_ACTIVATIONS.get(str(network.get("activation", "")).lower())


def _per_level_scale(encoding: Block, max_resolution: float) -> dict[str, Any]:
    """The key that makes the finest level of a grid so fine."""
    n_levels, base = int(encoding.get("n_levels", 16)), float(encoding.get("base_resolution", 16))
    return {"per_level_scale": max(1.0, (max_resolution / base) ** (1 / max(n_levels - 1, 1)))}


def _model(encoding: Block, network: Block, n_dims: int, n_channels: int, seed: int) -> Model:
    keys = dict(encoding)
    if keys.get("otype") == "GaussianFourier":
        keys["seed"] = seed
    encoder = encodings.create(n_dims, keys)
    generator = torch.Generator().manual_seed(seed)
    for module in encoder.modules():
        if isinstance(module, Grid):
            with torch.no_grad():
                module.params.uniform_(-GRID_INIT_RANGE, GRID_INIT_RANGE, generator=generator)
    net = networks.create(encoder.n_output_dims, n_channels, network, seed)
    return lambda x: net(encoder(x))
