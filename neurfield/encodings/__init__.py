# SPDX-License-Identifier: Apache-2.0
"""Encodings of positions and directions, built from blocks with the names and defaults of tiny-cuda-nn;
`GaussianFourier` and `SAPE` are ours.

encodings.create(3, {"otype": "SphericalHarmonics", "degree": 4})
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from neurfield import tiny_cuda_nn
from neurfield.config import read_block
from neurfield.encodings.composite import Composite, CompositeConfig, create_composite
from neurfield.encodings.encoding import Encoding
from neurfield.encodings.frequency import Frequency, FrequencyConfig
from neurfield.encodings.gaussian_fourier import GaussianFourier, GaussianFourierConfig
from neurfield.encodings.hash_grid import (
    DenseGridBlock,
    Grid,
    GridBlock,
    HashGridBlock,
    TiledGridBlock,
    create_grid,
)
from neurfield.encodings.identity import Identity, IdentityConfig
from neurfield.encodings.one_blob import OneBlob, OneBlobConfig
from neurfield.encodings.sape import Sape, SapeConfig, create_sape
from neurfield.encodings.spherical_harmonics import SphericalHarmonics, SphericalHarmonicsConfig
from neurfield.encodings.tcnn_encoding import TcnnEncoding
from neurfield.encodings.triangle_wave import TriangleWave, TriangleWaveConfig

__all__ = [
    "ENCODINGS",
    "Composite",
    "Encoding",
    "Frequency",
    "GaussianFourier",
    "Grid",
    "Identity",
    "OneBlob",
    "Sape",
    "SphericalHarmonics",
    "TriangleWave",
    "create",
]


class Entry(NamedTuple):
    """The keys of a block as a frozen dataclass, and what builds the module from `n_input_dims` and those keys."""

    config: type
    build: Callable[[int, Any], Encoding]


def create(n_input_dims: int, config: Mapping[str, Any]) -> Encoding:
    """Builds the encoding that a block describes.

    Args:
        n_input_dims: columns of its input.
        config: `otype` (a name in ENCODINGS) and the keys of that type; absent keys have tiny-cuda-nn's defaults.
            `backend: tcnn` builds it from tiny-cuda-nn's bindings, see TcnnEncoding.

    Raises:
        UserError: no or unknown otype, unknown key, wrong type, value out of range, unfit n_input_dims.
    """
    keys = dict(config)
    if tiny_cuda_nn.take_backend(keys, "encoding"):
        return TcnnEncoding(n_input_dims, keys, create)
    entry, block = read_block(ENCODINGS, keys, "encoding")
    return entry.build(n_input_dims, block)


ENCODINGS: dict[str, Entry] = {
    "Identity": Entry(IdentityConfig, Identity),
    "Frequency": Entry(FrequencyConfig, Frequency),
    "GaussianFourier": Entry(GaussianFourierConfig, GaussianFourier),
    "SphericalHarmonics": Entry(SphericalHarmonicsConfig, SphericalHarmonics),
    "OneBlob": Entry(OneBlobConfig, OneBlob),
    "TriangleWave": Entry(TriangleWaveConfig, TriangleWave),
    "Grid": Entry(GridBlock, create_grid),
    "HashGrid": Entry(HashGridBlock, create_grid),
    "DenseGrid": Entry(DenseGridBlock, create_grid),
    "TiledGrid": Entry(TiledGridBlock, create_grid),
    "Composite": Entry(CompositeConfig, lambda n, config: create_composite(n, config, create)),
    "SAPE": Entry(SapeConfig, lambda n, config: create_sape(n, config, create)),
}
