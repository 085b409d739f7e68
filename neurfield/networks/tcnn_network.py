# SPDX-License-Identifier: Apache-2.0
"""A network that tiny-cuda-nn evaluates: a block with `backend: tcnn`."""

from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from neurfield import tiny_cuda_nn
from neurfield.errors import UserError
from neurfield.networks.mlp import MLP, NetworkConfig


class TcnnNetwork(nn.Module):
    """`tinycudann.Network` behind the interface of MLP; it computes in half precision where tiny-cuda-nn prefers that.

    `params` has the layout of MLP.params and the same name in a state, so states can be exchanged with an MLP.

    Args:
        n_input_dims, n_output_dims, seed, input_padding: see MLP.
        otype: a name of tiny-cuda-nn's.
        config: keys of the block; those that are ours alone must have their defaults.

    Raises:
        UserError: keys or activations that tiny-cuda-nn does not have; no bindings.
    """

    modulation = None

    def __init__(
        self, n_input_dims: int, n_output_dims: int, otype: str, config: NetworkConfig, seed: int, input_padding: float
    ) -> None:
        super().__init__()
        self._kind = f"network {otype}"
        for key in fields(config):
            if key.name not in tiny_cuda_nn.NETWORK_KEYS and getattr(config, key.name) != key.default:
                raise UserError(f"{self._kind}: backend tcnn takes no {key.name}; leave one of them out")
        tiny_cuda_nn.check_activations(self._kind, config.activation, config.output_activation)
        with torch.device("meta"):
            ours = MLP(n_input_dims, n_output_dims, config, seed, input_padding)
        self.n_input_dims, self.n_output_dims, self.seed = n_input_dims, n_output_dims, seed
        self._padding, self._n_columns = input_padding, ours.config.matrix_shapes[0][1]
        block = {"otype": otype, **{key: getattr(config, key) for key in tiny_cuda_nn.NETWORK_KEYS}}
        bindings = tiny_cuda_nn.bindings(self._kind)
        theirs = tiny_cuda_nn.built(
            self._kind, lambda: bindings.Network(self._n_columns, n_output_dims, block, seed=seed)
        )
        if theirs.params.numel() != ours.config.n_params:
            raise UserError(
                f"{self._kind}: backend tcnn has {theirs.params.numel()} parameters, expected {ours.config.n_params}"
            )
        self._home = theirs.params.device.type
        self._theirs: tuple[nn.Module] = (theirs,)  # a tuple, so that a state has `params` once
        self.params = theirs.params

    def forward(self, x: Tensor) -> Tensor:
        columns = pad(x, (0, self._n_columns - self.n_input_dims), value=self._padding)
        return tiny_cuda_nn.evaluate(self._kind, self._theirs[0], self._home, self.params, columns)
