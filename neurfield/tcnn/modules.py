# SPDX-License-Identifier: Apache-2.0
"""The three modules of tiny-cuda-nn's torch bindings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neurfield.tcnn.native import Native

LOSS_SCALES = {torch.float16: 128.0, torch.float32: 1.0}


class Module(nn.Module):
    """One flat float32 parameter `params` and the function that it parametrises: matrices first, then grids.

    `forward` takes `[n, n_input_dims]` of any floating dtype on the device of `params` and gives `[n, n_output_dims]`
    in `dtype`. It is differentiable in input and parameters, twice through the gradient of the input (normals, eikonal
    terms). Arithmetic is float32, float64 where the module was made `double`; on CUDA, networks multiply halves where
    tensor cores take their shape.

    Attributes:
        params: on torch's default device at first.
        seed: of the initial values.
        loss_scale: kept for code that reads it; gradients are float32 inside and need none.
        jit_fusion: kept for code that sets it; it changes nothing.
        native_tcnn_module: n_params(), hyperparams() and the like, see Native.
    """

    def __init__(self, native: Native, n_input_dims: int, n_output_dims: int, seed: int, dtype: torch.dtype | None):
        super().__init__()
        self.native_tcnn_module = native
        self.n_input_dims, self.n_output_dims, self.seed = n_input_dims, n_output_dims, seed
        self._dtype = dtype
        self.params = nn.Parameter(native.initial_params(seed))
        self.loss_scale = LOSS_SCALES[self.dtype]
        self.jit_fusion = False

    @property
    def dtype(self) -> torch.dtype:
        """Of the output: what was asked for; else float16 on CUDA, as tiny-cuda-nn, and float32 on the CPU, where half
        precision is slower."""
        if self._dtype is not None:
            return self._dtype
        return torch.float16 if self.params.is_cuda else self._work_dtype

    @property
    def _work_dtype(self) -> torch.dtype:
        return torch.promote_types(self.params.dtype, torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """See the class.

        Raises:
            ValueError: wrong shape or device; nothing is moved.
        """
        name = type(self).__name__
        if x.dim() != 2 or x.shape[1] != self.n_input_dims:
            raise ValueError(f"{name}: expected an input [n, {self.n_input_dims}], got {list(x.shape)}")
        if x.device != self.params.device:
            raise ValueError(
                f"{name}: expected an input on {self.params.device}, where the parameters are, got {x.device}; "
                "move one of them with .to()"
            )
        work = self._work_dtype
        return self.native_tcnn_module(x.to(work), self.params.to(work)).to(self.dtype)

    def extra_repr(self) -> str:
        return (
            f"n_input_dims={self.n_input_dims}, n_output_dims={self.n_output_dims}, seed={self.seed}, "
            f"dtype={self.dtype}, hyperparams={self.native_tcnn_module.hyperparams()}"
        )


class NetworkWithInputEncoding(Module):
    """An encoding and a network behind it.

    Args:
        n_input_dims, n_output_dims: columns.
        encoding_config, network_config: blocks with tiny-cuda-nn's keys and defaults.
        seed: of the initial values.

    Raises:
        UserError: a block that does not fit.
    """

    def __init__(
        self,
        n_input_dims: int,
        n_output_dims: int,
        encoding_config: Mapping[str, Any],
        network_config: Mapping[str, Any],
        seed: int = 1337,
    ):
        native = Native(n_input_dims, encoding_config, network_config, n_output_dims)
        super().__init__(native, n_input_dims, n_output_dims, seed, None)
        self.encoding_config, self.network_config = encoding_config, network_config


class Network(Module):
    """A network; input columns past n_input_dims, up to a multiple of 16, are 1.

    Args:
        n_input_dims, n_output_dims: columns.
        network_config: block with tiny-cuda-nn's keys and defaults.
        seed: of the initial values.

    Raises:
        UserError: a block that does not fit.
    """

    def __init__(self, n_input_dims: int, n_output_dims: int, network_config: Mapping[str, Any], seed: int = 1337):
        native = Native(n_input_dims, {"otype": "Identity"}, network_config, n_output_dims)
        super().__init__(native, n_input_dims, n_output_dims, seed, None)
        self.network_config = network_config


class Encoding(Module):
    """An encoding; `n_output_dims` follows from its block.

    Args:
        n_input_dims: columns.
        encoding_config: block with tiny-cuda-nn's keys and defaults.
        seed: of the initial values.
        dtype: of the output, torch.float16, torch.float32 or None, see Module.dtype.

    Raises:
        UserError: a block that does not fit.
        ValueError: another dtype.
    """

    def __init__(
        self,
        n_input_dims: int,
        encoding_config: Mapping[str, Any],
        seed: int = 1337,
        dtype: torch.dtype | None = None,
    ):
        if dtype not in (None, *LOSS_SCALES):
            raise ValueError(f"Encoding: dtype: expected torch.float16, torch.float32 or None, got {dtype}")
        native = Native(n_input_dims, encoding_config)
        super().__init__(native, n_input_dims, native.n_output_dims(), seed, dtype)
        self.encoding_config = encoding_config
