# SPDX-License-Identifier: Apache-2.0
"""Networks, built from blocks with the names and defaults of tiny-cuda-nn.

networks.create(32, 16, {"otype": "FullyFusedMLP", "n_neurons": 64, "n_hidden_layers": 1})
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from neurfield import tiny_cuda_nn
from neurfield.config import read_block
from neurfield.errors import UserError
from neurfield.networks.mlp import MLP, NetworkConfig
from neurfield.networks.modulation import Modulation, ModulationConfig
from neurfield.networks.tcnn_network import TcnnNetwork
from neurfield.networks.wire import Wire, WireConfig

__all__ = ["MLP", "NETWORKS", "Modulation", "ModulationConfig", "NetworkConfig", "Wire", "WireConfig", "create"]


class Entry(NamedTuple):
    """The keys of a block as a frozen dataclass, and what builds the module from `n_input_dims`, `n_output_dims`, those
    keys, a seed and the padding of the input."""

    config: type
    build: Callable[[int, int, Any, int, float], Any]


# All names of tiny-cuda-nn mean the one fused implementation here, which has every width and activation of both.
NETWORKS: dict[str, Entry] = {
    "FullyFusedMLP": Entry(NetworkConfig, MLP),
    "MegakernelMLP": Entry(NetworkConfig, MLP),
    "CutlassMLP": Entry(NetworkConfig, MLP),
    "MLP": Entry(NetworkConfig, MLP),
    "WIRE": Entry(WireConfig, Wire),
}


def create(
    n_input_dims: int, n_output_dims: int, config: Mapping[str, Any], seed: int = 1337, input_padding: float = 1.0
) -> Any:
    """Builds the network that a block describes.

    Args:
        n_input_dims, n_output_dims: its columns.
        config: `otype` (a name in NETWORKS) and the keys of that type; absent keys have their defaults.
            `backend: tcnn` builds it from tiny-cuda-nn's bindings, see TcnnNetwork.
        seed, input_padding: see MLP.

    Raises:
        UserError: no or unknown otype, unknown key, wrong type, value out of range.
    """
    keys = dict(config)
    from_bindings = tiny_cuda_nn.take_backend(keys, "network")
    entry, block = read_block(NETWORKS, keys, "network")
    if from_bindings:
        otype = keys["otype"]
        if otype not in tiny_cuda_nn.NETWORKS:
            raise UserError(f"network {otype}: tiny-cuda-nn has no such network; leave backend tcnn out")
        return TcnnNetwork(n_input_dims, n_output_dims, otype, block, seed, input_padding)
    return entry.build(n_input_dims, n_output_dims, block, seed, input_padding)
