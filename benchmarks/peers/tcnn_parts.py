# SPDX-License-Identifier: Apache-2.0
"""tiny-cuda-nn's grid encoding and fully fused networks."""

from types import ModuleType

from torch import nn

from neurfield.ops import GridConfig, MLPConfig


def encoding(tinycudann: ModuleType, config: GridConfig) -> nn.Module:
    """float32 positions to float16 features, as it runs by default."""
    return tinycudann.Encoding(
        config.n_input_dims,
        {
            "otype": "Grid",
            "type": config.type,
            "n_levels": config.n_levels,
            "n_features_per_level": config.n_features_per_level,
            "log2_hashmap_size": config.log2_hashmap_size,
            "base_resolution": config.base_resolution,
            "per_level_scale": config.per_level_scale,
            "interpolation": config.interpolation,
        },
    )


def network(tinycudann: ModuleType, config: MLPConfig) -> nn.Module:
    return tinycudann.Network(
        config.n_input_dims,
        config.n_output_dims,
        {
            "otype": "FullyFusedMLP",
            "activation": config.activation,
            "output_activation": config.output_activation,
            "n_neurons": config.n_neurons,
            "n_hidden_layers": config.n_hidden_layers,
        },
    )
