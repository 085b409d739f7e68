# SPDX-License-Identifier: Apache-2.0
"""Parameters of our encodings and networks as the flat vector `params` of tiny-cuda-nn's modules, and back.

Both store matrices `[out, in]` row by row in the same order, and grids level by level. What may differ is the order of
the first matrix's columns, where tiny-cuda-nn does not pad at the end (see neurfield.tcnn.columns).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurfield.encodings import Encoding
from neurfield.networks import MLP
from neurfield.tcnn.columns import network_columns


def ordered_parameters(encoding: Encoding | None, network: MLP | None) -> list[Tensor]:
    """The parameters that a flat vector holds, in its order: the network first."""
    return [*([] if network is None else [network.params]), *([] if encoding is None else encoding.parameters())]


def joined(parameters: Sequence[Tensor]) -> Tensor:
    """Their values in one vector, a copy."""
    return torch.cat([parameter.detach().flatten() for parameter in parameters] or [torch.empty(0)])


def flat_params(encoding: Encoding | None, network: MLP | None = None) -> Tensor:
    """What `params` of a tiny-cuda-nn module holds that computes `network(encoding(x))`.

    Args:
        encoding: None for a `Network`.
        network: None for an `Encoding`.

    Returns:
        float32 `[n_params]`, a copy.

    Raises:
        ValueError: a network that tiny-cuda-nn does not have: biases, modulation, other padding; parts that do not fit.
    """
    values = joined(ordered_parameters(encoding, network))
    if network is not None:
        first = network.config.matrices(values[: network.config.n_params])[0][0]
        first[:, _column_order(encoding, network)] = first.clone()
    return values


@torch.no_grad()
def load_flat_params(params: Tensor, encoding: Encoding | None, network: MLP | None = None) -> None:
    """Copies `params` of a tiny-cuda-nn module, float32 or float16, into modules of the same shape.

    Args:
        params: `[n_params]`.
        encoding, network: as for flat_params.

    Raises:
        ValueError: as flat_params; another number of parameters.
    """
    order = None if network is None else _column_order(encoding, network)
    targets = ordered_parameters(encoding, network)
    n_params = sum(target.numel() for target in targets)
    if params.shape != (n_params,):
        raise ValueError(f"load_flat_params: expected [{n_params}] parameters, got {list(params.shape)}")
    for target, values in zip(targets, params.split([target.numel() for target in targets]), strict=True):
        target.copy_(values.view_as(target))
    if network is not None:
        first = network.config.matrices(network.params)[0][0]
        first.copy_(first[:, order])


def _column_order(encoding: Encoding | None, network: MLP) -> list[int]:
    """For each column of our first matrix, the column of tiny-cuda-nn's."""
    config, n_columns = network.config, network.config.matrix_shapes[0][1]
    if config.bias or network.modulation is not None or network.is_coordinate_network:
        raise ValueError("tiny-cuda-nn has no networks with biases, modulation, omega or scale")
    if encoding is None:
        columns = [*range(config.n_input_dims), *[1.0] * (n_columns - config.n_input_dims)]
    else:
        if encoding.n_output_dims != config.n_input_dims:
            raise ValueError(
                f"expected an encoding and a network that fit, got {encoding.n_output_dims} outputs and "
                f"{config.n_input_dims} inputs"
            )
        columns = network_columns(encoding)
    constants = [place for place, column in enumerate(columns) if isinstance(column, float)]
    if len(columns) != n_columns or any(columns[place] != config.input_padding for place in constants):
        raise ValueError(
            f"tiny-cuda-nn pads this encoding with {[columns[place] for place in constants]}, the network expects "
            f"{n_columns - config.n_input_dims} columns of {config.input_padding:g}; build it with that input_padding"
        )
    places = {column: place for place, column in enumerate(columns) if isinstance(column, int)}
    return [places[output] for output in range(config.n_input_dims)] + constants
