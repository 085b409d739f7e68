# SPDX-License-Identifier: Apache-2.0
"""From what public code hands to tiny-cuda-nn to blocks of our registries.

tiny-cuda-nn takes names in any case, numbers of NumPy, a block without `otype`, and reads only the keys that it knows.
So does this, but it warns of keys that nobody reads.
"""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from neurfield import encodings, tiny_cuda_nn
from neurfield.config import to_dict
from neurfield.encodings.composite import Columns
from neurfield.errors import UserError
from neurfield.ops.hash_grid import INTERPOLATIONS, TYPES
from neurfield.registry import lookup

_NAMED_KEYS = ("type", "interpolation", "hash", "reduction")
_CACHING = ("OneBlobFrequency", "NRC")  # two names of one
_NAMES = (*TYPES, *INTERPOLATIONS, "CoherentPrime", "Concatenation", "Sum", "Product")


def encoding_block(config: Any, also: Collection[str] = ()) -> dict[str, Any]:
    """The block of encodings.create for a `tinycudann` one; `also` names keys that the block around it reads.

    Raises:
        UserError: no mapping, or an otype that tiny-cuda-nn or we do not have.
    """
    keys = _keys(config, "tcnn encoding")
    otype = _otype(keys.pop("otype", "OneBlob"), (*tiny_cuda_nn.ENCODINGS, *_CACHING), "tcnn encoding")
    if otype in _CACHING:
        otype, keys["nested"] = "Composite", _caching(keys.pop("n_frequencies", 12), keys.pop("n_bins", 4))
    if "type" in keys and "Grid" in otype:
        otype = "Grid"  # the key counts for more than the name
    ours = [field.name for field in fields(encodings.ENCODINGS[otype].config)]
    known = [name for name in ours if name not in tiny_cuda_nn.OUR_ENCODING_KEYS]
    block = {"otype": otype, **_known(f"encoding {otype}", keys, [*known, *also])}
    if isinstance(block.get("nested"), list):
        columns = [field.name for field in fields(Columns)]
        block["nested"] = [encoding_block(nested, columns) for nested in block["nested"]]
    return block


def _caching(n_frequencies: Any, n_bins: Any) -> list[dict[str, Any]]:
    """The parts of the encoding for neural radiance caching (Müller et al. 2021)."""
    return [
        {"otype": "TriangleWave", "n_frequencies": n_frequencies, "n_dims_to_encode": 3},
        {"otype": "OneBlob", "n_bins": n_bins, "n_dims_to_encode": 5},
        {"otype": "Identity"},
    ]


def network_block(config: Any) -> dict[str, Any]:
    """The block of networks.create for a `tinycudann` one.

    Raises:
        UserError: no mapping, or an otype or activation that tiny-cuda-nn does not have.
    """
    keys = _keys(config, "tcnn network")
    otype = _otype(keys.pop("otype", "MLP"), tiny_cuda_nn.NETWORKS, "tcnn network")
    block = _known(f"network {otype}", keys, tiny_cuda_nn.NETWORK_KEYS)
    activations = [str(value) for key, value in block.items() if key.endswith("activation")]
    tiny_cuda_nn.check_activations(f"network {otype}", *activations)
    return {"otype": otype, **block}


def _keys(config: Any, kind: str) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        raise UserError(f"{kind}: expected a mapping of keys to values, got {config!r}")
    return {str(key): value for key, value in to_dict(config).items()}


def _otype(name: Any, names: Collection[str], kind: str) -> str:
    if not isinstance(name, str):
        raise UserError(f"{kind}: otype: expected a name, got {name!r} (valid: {', '.join(names)})")
    by_lower_name = {known.lower(): known for known in names}
    return by_lower_name.get(name.lower()) or lookup(dict.fromkeys(names, ""), name, kind)


def _known(kind: str, keys: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    unread = [key for key in keys if key not in names]
    if unread:
        warnings.warn(f"{kind}: tiny-cuda-nn does not read {', '.join(unread)}, nor does neurfield.tcnn", stacklevel=2)
    by_lower_name = {name.lower(): name for name in _NAMES}
    return {
        key: by_lower_name.get(str(value).lower(), value) if key in _NAMED_KEYS else value
        for key, value in keys.items()
        if key in names
    }
