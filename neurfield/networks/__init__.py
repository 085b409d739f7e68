# SPDX-License-Identifier: Apache-2.0
"""Networks, built from blocks with the names and defaults of tiny-cuda-nn.

networks.create(32, 16, {"otype": "FullyFusedMLP", "n_neurons": 64, "n_hidden_layers": 1})
"""

from collections.abc import Callable, Mapping
from typing import Any

from neurfield import tiny_cuda_nn
from neurfield.config import from_dict
from neurfield.errors import UserError
from neurfield.networks.mlp import MLP, NetworkConfig
from neurfield.networks.modulation import Modulation, ModulationConfig
from neurfield.networks.tcnn_network import TcnnNetwork
from neurfield.registry import lookup

__all__ = ["MLP", "NETWORKS", "Modulation", "ModulationConfig", "NetworkConfig", "create"]

# All names of tiny-cuda-nn mean the one fused implementation here, which has every width and activation of both.
NETWORKS: dict[str, Callable[..., MLP]] = {
    "FullyFusedMLP": MLP,
    "MegakernelMLP": MLP,
    "CutlassMLP": MLP,
    "MLP": MLP,
}


def create(
    n_input_dims: int, n_output_dims: int, config: Mapping[str, Any], seed: int = 1337, input_padding: float = 1.0
) -> MLP | TcnnNetwork:
    """Builds the network that a block describes.

    Args:
        n_input_dims, n_output_dims: its columns.
        config: `otype` (a name in NETWORKS) and the keys of NetworkConfig; absent keys have their defaults.
            `backend: tcnn` builds it from tiny-cuda-nn's bindings, see TcnnNetwork.
        seed, input_padding: see MLP.

    Raises:
        UserError: no or unknown otype, unknown key, wrong type, value out of range.
    """
    keys = dict(config)
    from_bindings = tiny_cuda_nn.take_backend(keys, "network")
    otype = keys.pop("otype", None)
    if not isinstance(otype, str):
        raise UserError(f"network: expected a key 'otype' with a name, got {otype!r} (valid: {', '.join(NETWORKS)})")
    build = lookup(NETWORKS, otype, "network")
    block = from_dict(NetworkConfig, keys, f"network {otype}")
    if from_bindings:
        return TcnnNetwork(n_input_dims, n_output_dims, otype, block, seed, input_padding)
    return build(n_input_dims, n_output_dims, block, seed, input_padding)
