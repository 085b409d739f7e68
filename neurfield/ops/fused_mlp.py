# SPDX-License-Identifier: Apache-2.0
"""Fused multi-layer perceptron (csrc/ops/fused_mlp.h, csrc/math/activation.h)."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from neurfield.ops._common import DEVICES, NATIVE_FLOATS, aligned, check_tensor, empty, native

# in the order of nf::Activation; the torch form is differentiated for second derivatives
_TORCH_ACTIVATIONS = {
    "None": lambda z: z,
    "ReLU": torch.relu,
    "LeakyReLU": lambda z: functional.leaky_relu(z, 0.01),
    "SiLU": functional.silu,
    "Exponential": torch.exp,
    "Sine": torch.sin,
    "Sigmoid": torch.sigmoid,
    "Squareplus": lambda z: 0.5 * z + 0.1 * torch.sqrt(25 * z * z + 1),
    "Softplus": lambda z: functional.softplus(z, beta=10, threshold=40),
    "Tanh": torch.tanh,
}
ACTIVATIONS = tuple(_TORCH_ACTIVATIONS)
_STORES_INPUT = ("SiLU", "Sine")  # their derivative needs the input, the others' the output (nf::stores_input)

COLUMN_MULTIPLE = 16
MAX_NEURONS = 128


def _padded(n: int) -> int:
    return -(-n // COLUMN_MULTIPLE) * COLUMN_MULTIPLE


@dataclass(frozen=True)
class MLPConfig:
    """Shape of a multi-layer perceptron.

    `y = a_out(W_n a(... a(W_0 x)))` with `n = n_hidden_layers`, so `n + 1` matrices, every one of them row-major
    `[out, in]` in one flat parameter vector, first to last, dimensions rounded up to multiples of 16: exactly the
    layout of tiny-cuda-nn. With `bias`, each matrix is followed by its bias `[out]`.

    Attributes:
        n_input_dims, n_output_dims: at least 1. Rows of the last matrix past n_output_dims exist and are ignored.
        n_neurons: width of the hidden layers, a multiple of 16 in 16 ... 128.
        n_hidden_layers: at least 0; 0 is one matrix and the output activation.
        activation, output_activation: one of ACTIVATIONS.
        input_padding: the constant in the input columns past n_input_dims: 1 acts as a bias (tiny-cuda-nn pads every
            encoding but grids so), 0 makes them idle.
    """

    n_input_dims: int
    n_output_dims: int
    n_neurons: int = 64
    n_hidden_layers: int = 1
    activation: str = "ReLU"
    output_activation: str = "None"
    bias: bool = False
    input_padding: float = 0.0

    def __post_init__(self) -> None:
        if self.n_input_dims < 1 or self.n_output_dims < 1:
            raise ValueError(
                f"fused_mlp: n_input_dims and n_output_dims must be at least 1, "
                f"got {self.n_input_dims} and {self.n_output_dims}"
            )
        if self.n_neurons % COLUMN_MULTIPLE or not 0 < self.n_neurons <= MAX_NEURONS:
            raise ValueError(f"fused_mlp: n_neurons must be a multiple of 16 in 16 ... 128, got {self.n_neurons}")
        if self.n_hidden_layers < 0:
            raise ValueError(f"fused_mlp: n_hidden_layers must be at least 0, got {self.n_hidden_layers}")
        for key in ("activation", "output_activation"):
            if getattr(self, key) not in ACTIVATIONS:
                raise ValueError(
                    f"fused_mlp: {key} must be one of {', '.join(ACTIVATIONS)}, got {getattr(self, key)!r}"
                )

    @property
    def matrix_shapes(self) -> list[tuple[int, int]]:
        """Padded `(out, in)` of every matrix, first to last."""
        hidden = [self.n_neurons] * self.n_hidden_layers
        widths = [_padded(self.n_input_dims), *hidden, _padded(self.n_output_dims)]
        return [(n_out, n_in) for n_in, n_out in itertools.pairwise(widths)]

    @property
    def n_params(self) -> int:
        return sum(n_out * (n_in + self.bias) for n_out, n_in in self.matrix_shapes)

    def matrices(self, params: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Views of the flat `params` [n_params]: `(weights [out, in], bias [out] or None)` of every layer."""
        views, start = [], 0
        for n_out, n_in in self.matrix_shapes:
            weights = params[start : start + n_out * n_in].view(n_out, n_in)
            start += n_out * n_in
            views.append((weights, params[start : start + n_out] if self.bias else None))
            start += n_out * self.bias
        return views


def fused_mlp(x: Tensor, params: Tensor, config: MLPConfig, half_products: bool = False) -> Tensor:
    """Evaluates a small multi-layer perceptron in one pass over the samples (Mueller et al. 2021).

    Tiles of samples go through all layers inside the first caches. When a gradient will be needed, the stored value of
    every hidden layer is kept: `n * n_hidden_layers * n_neurons` values; otherwise nothing is.

    Args:
        x: float32 or float64 `[n, n_input_dims]`; strided tensors are copied.
        params: same dtype `[config.n_params]`, layout in MLPConfig.
        config: shape and activations.
        half_products: on CUDA and with float32 params, round what is multiplied to float16 and sum in float32, on
            tensor cores, where they have the shape (`half_reason`); x may then be float16, too. Hidden values beyond
            65504 become infinite. Elsewhere it means nothing.

    Returns:
        `[n, n_output_dims]`, same dtype as x. Differentiable twice in `x` and `params` (the second time through plain
        torch operations). The same numbers for every thread count. NaN and infinity propagate as in the formulas,
        except that Exponential saturates at the largest finite float.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device.
    """
    use_half = half_products and x.is_cuda and x.dtype != torch.float64
    check_tensor("fused_mlp", "x", x, ("n", config.n_input_dims), _HALF_DTYPES if use_half else NATIVE_FLOATS)
    dtype = torch.float32 if use_half else x.dtype
    check_tensor("fused_mlp", "params", params, (config.n_params,), (dtype,), x.device)
    keep = torch.is_grad_enabled() and (x.requires_grad or params.requires_grad)
    if use_half and half_reason(config) is None:
        return _half_forward(x, params, *_flatten(config), keep)[0]
    if x.dtype == torch.float16:
        return _forward(x.float(), params, *_flatten(config), keep)[0].half()
    return _forward(x, params, *_flatten(config), keep)[0]


def _flatten(config: MLPConfig) -> tuple[int, int, int, str, str, bool, float]:
    """The configuration as arguments of an operator schema; n_input_dims is x.shape[1]."""
    return (
        config.n_output_dims, config.n_neurons, config.n_hidden_layers, config.activation, config.output_activation,
        config.bias, config.input_padding,
    )  # fmt: skip


def _shape(n_input_dims, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding):
    return (
        n_input_dims, n_output_dims, n_neurons, n_hidden_layers, ACTIVATIONS.index(activation),
        ACTIVATIONS.index(output_activation), bias, input_padding,
    )  # fmt: skip


@torch.library.custom_op("neurfield::fused_mlp", mutates_args=(), device_types=DEVICES)
def _forward(
    x: Tensor, params: Tensor, n_output_dims: int, n_neurons: int, n_hidden_layers: int, activation: str,
    output_activation: str, bias: bool, input_padding: float, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding
    )
    y = empty(x, x.shape[0], n_output_dims)
    n_saved, n_scratch, _ = lib.fused_mlp_sizes(shape, x.shape[0])
    saved, scratch = empty(x, n_saved if keep else 0), x.new_empty(n_scratch)
    lib.fused_mlp_forward(shape, x.contiguous(), params.contiguous(), y, saved, scratch)
    return y, saved


@_forward.register_fake
def _(
    x, params, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding, keep
):  # fmt: skip
    per_sample = n_hidden_layers * n_neurons + (n_output_dims if output_activation in _STORES_INPUT else 0)
    return x.new_empty(x.shape[0], n_output_dims), x.new_empty(x.shape[0] * per_sample if keep else 0)


@torch.library.custom_op("neurfield::fused_mlp_backward", mutates_args=(), device_types=DEVICES)
def _backward(
    grad_y: Tensor, x: Tensor, params: Tensor, y: Tensor, saved: Tensor, n_output_dims: int, n_neurons: int,
    n_hidden_layers: int, activation: str, output_activation: str, bias: bool, input_padding: float, needs_x: bool,
    needs_params: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding
    )
    grad_x = empty(x, x.shape[0] if needs_x else 0, x.shape[1])
    grad_params = x.new_empty(params.numel() * needs_params)
    scratch = empty(x, lib.fused_mlp_sizes(shape, x.shape[0])[2] if needs_params else 0)
    x, params, grad_y = x.contiguous(), params.contiguous(), grad_y.contiguous()
    lib.fused_mlp_backward(shape, x, params, y, saved, grad_y, grad_x, grad_params, scratch, needs_x, needs_params)
    return grad_x, grad_params


@_backward.register_fake
def _(
    grad_y, x, params, y, saved, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias,
    input_padding, needs_x, needs_params,
):  # fmt: skip
    return x.new_empty(x.shape if needs_x else (0, x.shape[1])), x.new_empty(params.numel() * needs_params)


def _setup_context(ctx, inputs, output) -> None:
    x, params, *ctx.shape, _keep = inputs
    ctx.set_materialize_grads(False)  # that of `saved` would be as large as it
    ctx.save_for_backward(x, params, *output)


def _autograd(ctx, grad_y: Tensor | None, grad_saved: Tensor | None):
    x, params, y, saved = ctx.saved_tensors
    needs_x, needs_params, *_ = ctx.needs_input_grad
    unused = (None,) * (len(ctx.shape) + 1)
    if grad_y is None:
        return None, None, *unused
    grad_x, grad_params = _backward(grad_y, x, params, y, saved, *ctx.shape, needs_x, needs_params)
    return grad_x if needs_x else None, grad_params if needs_params else None, *unused


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _setup_double_context(ctx, inputs, output) -> None:
    grad_y, x, params, _y, _saved, *ctx.shape, ctx.needs_x, ctx.needs_params = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad_y, x, params)


def _double_autograd(ctx, grad_grad_x: Tensor | None, grad_grad_params: Tensor | None):
    """Gradients of `<grad_grad_x, grad_x> + <grad_grad_params, grad_params>` in grad_y, x and params.

    y and saved are functions of x and params: their part is in those of x and params. In the dtype of params.
    """
    dtype = ctx.saved_tensors[2].dtype
    with torch.enable_grad():
        grad_y, x, params = (t.detach().to(dtype).requires_grad_() for t in ctx.saved_tensors)
        y = _composed(x, params, MLPConfig(x.shape[1], *ctx.shape))
        outputs = torch.autograd.grad(y, (x, params), grad_y, create_graph=True)
        upstream = (grad_grad_x, grad_grad_params)
        used = [(out, up.to(dtype)) for out, up in zip(outputs, upstream, strict=True) if up is not None]
        grads: tuple[Tensor | None, ...] = (None, None, None)
        if used:
            grads = torch.autograd.grad(
                [out for out, _ in used], (grad_y, x, params), [up for _, up in used], allow_unused=True
            )
    grads = tuple(None if g is None else g.to(t.dtype) for g, t in zip(grads, ctx.saved_tensors, strict=True))
    return *grads, *(None,) * (len(ctx.shape) + 4)


_backward.register_autograd(_double_autograd, setup_context=_setup_double_context)


def _composed(x: Tensor, params: Tensor, config: MLPConfig) -> Tensor:
    """The same function as torch operations, which can be differentiated any number of times."""
    h = functional.pad(x, (0, config.matrix_shapes[0][1] - config.n_input_dims), value=config.input_padding)
    layers = config.matrices(params)
    for weights, bias in layers[:-1]:
        h = _TORCH_ACTIVATIONS[config.activation](functional.linear(h, weights, bias))
    z = functional.linear(h, *layers[-1])
    return _TORCH_ACTIVATIONS[config.output_activation](z[:, : config.n_output_dims])


# ---- products of halves on tensor cores (csrc/ops/fused_mlp_half.h) ----

_HALF_DTYPES = (torch.float32, torch.float16)
_HALF_TILE_ROWS = 128  # and the bytes of a 16 x 16 block of halves
_HALF_BLOCK_BYTES = 512


def half_reason(config: MLPConfig) -> str | None:
    """Why tensor cores cannot take a network (it is evaluated in float32 then), or None if they can."""
    for name, n in (("inputs", config.n_input_dims), ("outputs", config.n_output_dims)):
        if n > MAX_NEURONS:
            return f"it has {n} {name}, more than {MAX_NEURONS}"
    if "Sine" in (config.activation, config.output_activation):
        return "Sine needs more of its argument than the 11 bits of float16"
    if config.output_activation == "SiLU":
        return "its output activation is SiLU"
    return None


def _half_saved_bytes(n: int, n_neurons: int, n_hidden_layers: int) -> int:
    """As fused_mlp_half_saved_bytes: whole tiles of rows, hidden layers of 1, 2, 4 or 8 blocks."""
    width = 1 << (n_neurons // COLUMN_MULTIPLE - 1).bit_length()
    row_blocks = -(-n // _HALF_TILE_ROWS) * (_HALF_TILE_ROWS // COLUMN_MULTIPLE)
    return n_hidden_layers * row_blocks * width * _HALF_BLOCK_BYTES


def _bits(tensor: Tensor) -> Tensor:
    """As the native core takes it: aligned, float16 as its bits."""
    tensor = aligned(tensor.detach())
    return tensor.view(torch.int16) if tensor.dtype == torch.float16 else tensor


@torch.library.custom_op("neurfield::fused_mlp_half", mutates_args=(), device_types="cuda")
def _half_forward(
    x: Tensor, params: Tensor, n_output_dims: int, n_neurons: int, n_hidden_layers: int, activation: str,
    output_activation: str, bias: bool, input_padding: float, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding
    )
    y = x.new_empty(x.shape[0], n_output_dims)
    n_saved, n_scratch, _ = lib.fused_mlp_half_bytes(shape, x.shape[0])
    saved, scratch = (x.new_empty(size, dtype=torch.uint8) for size in (n_saved if keep else 0, n_scratch))
    lib.fused_mlp_half_forward(shape, _bits(x), params.contiguous(), _bits(y), saved, scratch)
    return y, saved


@_half_forward.register_fake
def _(
    x, params, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding, keep
):  # fmt: skip
    n_saved = _half_saved_bytes(x.shape[0], n_neurons, n_hidden_layers) if keep else 0
    return x.new_empty(x.shape[0], n_output_dims), x.new_empty(n_saved, dtype=torch.uint8)


@torch.library.custom_op("neurfield::fused_mlp_half_backward", mutates_args=(), device_types="cuda")
def _half_backward(
    grad_y: Tensor, x: Tensor, params: Tensor, y: Tensor, saved: Tensor, n_output_dims: int, n_neurons: int,
    n_hidden_layers: int, activation: str, output_activation: str, bias: bool, input_padding: float, needs_x: bool,
    needs_params: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding
    )
    grad_x = x.new_empty(x.shape[0] if needs_x else 0, x.shape[1])
    grad_params = params.new_empty(params.numel() * needs_params)
    scratch = x.new_empty(lib.fused_mlp_half_bytes(shape, x.shape[0])[2], dtype=torch.uint8)
    lib.fused_mlp_half_backward(
        shape, _bits(x), params.contiguous(), _bits(y), saved, _bits(grad_y), _bits(grad_x), grad_params, scratch,
        needs_x, needs_params,
    )  # fmt: skip
    return grad_x, grad_params


@_half_backward.register_fake
def _(
    grad_y, x, params, y, saved, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias,
    input_padding, needs_x, needs_params,
):  # fmt: skip
    return x.new_empty(x.shape if needs_x else (0, x.shape[1])), params.new_empty(params.numel() * needs_params)


def _half_autograd(ctx, grad_y: Tensor | None, grad_saved: Tensor | None):
    x, params, y, saved = ctx.saved_tensors
    needs_x, needs_params, *_ = ctx.needs_input_grad
    unused = (None,) * (len(ctx.shape) + 1)
    if grad_y is None:
        return None, None, *unused
    grad_x, grad_params = _half_backward(grad_y, x, params, y, saved, *ctx.shape, needs_x, needs_params)
    return grad_x if needs_x else None, grad_params if needs_params else None, *unused


_half_forward.register_autograd(_half_autograd, setup_context=_setup_context)
_half_backward.register_autograd(_double_autograd, setup_context=_setup_double_context)
