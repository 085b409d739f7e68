# SPDX-License-Identifier: Apache-2.0
"""An encoding, a network or both as one function of inputs and a flat parameter vector."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from neurfield import encodings, networks
from neurfield.encodings import Composite, Encoding
from neurfield.errors import UserError
from neurfield.networks import MLP
from neurfield.ops._common import empty
from neurfield.tcnn.blocks import encoding_block, network_block
from neurfield.tcnn.columns import NETWORK_MULTIPLE, arrange, natural_columns, network_columns
from neurfield.tcnn.weights import joined, ordered_parameters
from neurfield.tiny_cuda_nn import NETWORK_KEYS


class Native:
    """What `native_tcnn_module` is to tiny-cuda-nn's modules; calling it evaluates.

    The modules that it is made of hold no values: they are on torch's meta device, and the parameters are handed in.

    Args:
        n_input_dims: columns of the input, at least 1.
        encoding: a `tinycudann` block.
        network: another one.
        n_network_outputs: of the network, before padding; 0 and no network for an encoding alone.

    Raises:
        UserError: a number of columns or a block that does not fit.
    """

    def __init__(
        self,
        n_input_dims: int,
        encoding: Mapping[str, Any],
        network: Mapping[str, Any] | None = None,
        n_network_outputs: int = 0,
    ) -> None:
        if n_input_dims < 1:
            raise UserError(f"tcnn: n_input_dims: expected at least 1, got {n_input_dims}")
        self._n_input_dims, self._n_network_outputs = n_input_dims, n_network_outputs
        self._encoding_block = encoding_block(encoding)
        is_encoding = network is None and not n_network_outputs
        self._network_block = None if is_encoding else network_block(network)
        with torch.device("meta"):
            self.encoding, self.network = self._build(seed=0)
        # those that pad the end alike are the network's own affair
        columns = natural_columns(self.encoding) if self.network is None else network_columns(self.encoding)
        self.columns = columns if self.network is None else columns[: self.network.n_input_dims]
        self._parts = ordered_parameters(self.encoding, self.network)

    def _build(self, seed: int) -> tuple[Encoding, MLP | None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoding = encodings.create(self._n_input_dims, self._encoding_block)
        if self._network_block is None:
            return encoding, None
        columns, n = network_columns(encoding), encoding.n_output_dims
        rest = columns[n:]
        if columns[:n] == list(range(n)) and len(set(rest)) <= 1:
            n_columns, padding = n, float(rest[0]) if rest else 0.0
        else:
            n_columns, padding = len(columns), 0.0
        network = networks.create(n_columns, self._n_network_outputs, self._network_block, seed, padding)
        assert isinstance(network, MLP)  # network_block names no backend and nothing that is ours alone
        network.half_products = True
        return encoding, network

    def __call__(self, x: Tensor, params: Tensor) -> Tensor:
        """`[n, n_outputs]` for x `[n, n_input_dims]` and params `[n_params]` of the same dtype."""
        sizes = [part.numel() for part in self._parts]
        # transformations of torch.func need torch's own, and compilers cannot trace ours
        is_transformed = torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling()
        split = torch.split if is_transformed else _Split.apply
        parts: tuple[Tensor, ...] = split(params, sizes) if sizes else ()
        names = [name for name, _ in self.encoding.named_parameters()]
        named = dict(zip(names, parts[len(parts) - len(names) :], strict=True))
        columns = arrange(functional_call(self.encoding, named, (x,)), self.columns)
        return columns if self.network is None else functional_call(self.network, {"params": parts[0]}, (columns,))

    def initial_params(self, seed: int) -> Tensor:
        """float32 `[n_params]`, network first; the same for the same seed, but not tiny-cuda-nn's own numbers."""
        with torch.device("cpu"):
            values = joined(ordered_parameters(*self._build(seed)))
        return values.to(torch.empty(0).device, torch.float32)

    def n_input_dims(self) -> int:
        return self._n_input_dims

    def n_output_dims(self) -> int:
        """Columns as tiny-cuda-nn pads them: a multiple of 16 behind a network."""
        if self.network is None:
            return len(self.columns)
        return -(-self._n_network_outputs // NETWORK_MULTIPLE) * NETWORK_MULTIPLE

    def n_params(self) -> int:
        return sum(part.numel() for part in self._parts)

    def name(self) -> str:
        return str(self.hyperparams()["otype"])

    def hyperparams(self) -> dict[str, Any]:
        """The resolved blocks."""
        encoding = _resolved(self.encoding)
        if self.network is None or self._network_block is None:
            return encoding
        config = self.network.config
        network = {"otype": self._network_block["otype"], **{key: getattr(config, key) for key in NETWORK_KEYS}}
        return {"otype": "NetworkWithInputEncoding", "encoding": encoding, "network": network}


class _Split(torch.autograd.Function):
    """`params.split(sizes)`, with gradients joined in memory of the native pool: on the CPU, the page faults of a fresh
    vector with the size of a grid take longer than copying it."""

    @staticmethod
    def forward(ctx: Any, params: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
        ctx.sizes, ctx.like = sizes, params[:0]
        ctx.set_materialize_grads(False)
        return params.split(sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        whole = empty(ctx.like, sum(ctx.sizes))
        for part, grad in zip(whole.split(ctx.sizes), grads, strict=True):
            part.zero_() if grad is None else part.copy_(grad)
        return whole, None


def _resolved(encoding: Any) -> dict[str, Any]:
    otype = type(encoding).__name__
    if isinstance(encoding, Composite):
        return {
            "otype": otype,
            "nested": [_resolved(part) for part in encoding.nested],
            "reduction": encoding.reduction,
        }
    return {"otype": otype, **{key: value for key, value in asdict(encoding.config).items() if key != "n_input_dims"}}
