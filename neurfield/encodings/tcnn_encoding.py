# SPDX-License-Identifier: Apache-2.0
"""An encoding that tiny-cuda-nn evaluates: a block with `backend: tcnn`."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neurfield import tiny_cuda_nn
from neurfield.config import to_dict
from neurfield.encodings.encoding import Encoding
from neurfield.errors import UserError


class TcnnEncoding(Encoding):
    """`tinycudann.Encoding` in float32 behind the interface of our encodings.

    Initial values are tiny-cuda-nn's, seeded from torch's generator. `params` is the flat float32 vector of the
    bindings; a grid's has the layout of Grid.params and its name in a state, so states can be exchanged with a Grid.

    Args:
        n_input_dims: columns of the input.
        block: `otype` and keys, without `backend`.
        create: builds our encoding of the same block, which knows what is allowed and how large it is.

    Raises:
        UserError: a block that ours refuses or that tiny-cuda-nn does not know; no bindings; outputs that tiny-cuda-nn
            pads in the middle, where parts of a Composite are aligned.
    """

    params: Tensor

    def __init__(
        self, n_input_dims: int, block: Mapping[str, Any], create: Callable[[int, Mapping[str, Any]], Encoding]
    ) -> None:
        kind = f"encoding {block.get('otype')}"
        with torch.device("meta"):
            ours = create(n_input_dims, block)
        tiny_cuda_nn.check_encoding(kind, block)
        bindings, seed = tiny_cuda_nn.bindings(kind), int(torch.randint(2**31, (), device="cpu"))
        theirs = tiny_cuda_nn.built(
            kind, lambda: bindings.Encoding(n_input_dims, to_dict(dict(block)), seed=seed, dtype=torch.float32)
        )
        n_params = sum(parameter.numel() for parameter in ours.parameters())
        if (theirs.n_output_dims, theirs.params.numel()) != (ours.n_output_dims, n_params):
            raise UserError(
                f"{kind}: backend tcnn gives {theirs.n_output_dims} outputs and {theirs.params.numel()} parameters, "
                f"expected {ours.n_output_dims} and {n_params}; make the outputs of a Composite's parts multiples of 8"
            )
        super().__init__(n_input_dims, ours.n_output_dims)
        self.padding, self._kind = ours.padding, kind
        self._home = theirs.params.device.type
        self._theirs: tuple[nn.Module] = (theirs,)  # a tuple, so that a state has `params` once
        if n_params:
            self.params = theirs.params
        else:  # a state of ours has no empty vector
            self.register_buffer("params", theirs.params.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return tiny_cuda_nn.evaluate(self._kind, self._theirs[0], self._home, self.params, x)
