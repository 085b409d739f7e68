# SPDX-License-Identifier: Apache-2.0
"""Fused multi-layer perceptron (csrc/ops/fused_mlp.h, csrc/math/activation.h)."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from neurfield.ops._common import (
    DEVICES,
    NATIVE_FLOATS,
    aligned,
    check_tensor,
    contiguous,
    cuda_core,
    empty,
    native,
    vjp,
)
from neurfield.ops._operator import operator

# in the order of nf::Activation, of z, omega and scale; the torch form is differentiated for second derivatives
_TORCH_ACTIVATIONS = {
    "None": lambda z, omega, scale: z,
    "ReLU": lambda z, omega, scale: torch.relu(z),
    "LeakyReLU": lambda z, omega, scale: functional.leaky_relu(z, 0.01),
    "SiLU": lambda z, omega, scale: functional.silu(z),
    "Exponential": lambda z, omega, scale: torch.exp(z),
    "Sine": lambda z, omega, scale: torch.sin(omega * z),
    "Sigmoid": lambda z, omega, scale: torch.sigmoid(z),
    "Squareplus": lambda z, omega, scale: 0.5 * z + 0.1 * torch.sqrt(25 * z * z + 1),
    "Softplus": lambda z, omega, scale: functional.softplus(z, beta=10, threshold=40),
    "Tanh": lambda z, omega, scale: torch.tanh(z),
    "Gaussian": lambda z, omega, scale: torch.exp(-((scale * z) ** 2)),
    "Gabor": lambda z, omega, scale: torch.cos(omega * z) * torch.exp(-((scale * z) ** 2)),
    "FINER": lambda z, omega, scale: torch.sin(omega * (z.abs() + 1).detach() * z),
}
ACTIVATIONS = tuple(_TORCH_ACTIVATIONS)
STORES_INPUT = ("SiLU", "Sine", "Gaussian", "Gabor", "FINER")  # derivative of the input, not the output (stores_input)
# which numbers a hidden activation takes
ARGUMENTS = {
    "Sine": ("first_omega", "omega"),
    "Gaussian": ("scale",),
    "Gabor": ("first_omega", "omega", "scale"),
    "FINER": ("first_omega", "omega"),
}

COLUMN_MULTIPLE = 16
MAX_NEURONS = 512


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
        n_neurons: width of the hidden layers, a multiple of 16 in 16 ... 512.
        n_hidden_layers: at least 0; 0 is one matrix and the output activation.
        activation, output_activation: one of ACTIVATIONS.
        input_padding: the constant in the input columns past n_input_dims: 1 acts as a bias (tiny-cuda-nn pads every
            encoding but grids so), 0 makes them idle.
        first_omega, omega, scale: of the first hidden activation, the other hidden ones, and all hidden ones: Sine is
            `sin(omega z)`, Gaussian `exp(-(scale z)^2)`, Gabor `cos(omega z) exp(-(scale z)^2)`, FINER
            `sin(omega (|z| + 1) z)` with `|z| + 1` a constant in derivatives. Positive; 1 where the activation does
            not take them. An output activation has ones.
        normalizes: whether z, the value before a hidden activation, is normalised over the features of its sample
            before it is modulated: `(z - mean) / sqrt(variance + 1e-5)`. Only together with a modulation.
    """

    n_input_dims: int
    n_output_dims: int
    n_neurons: int = 64
    n_hidden_layers: int = 1
    activation: str = "ReLU"
    output_activation: str = "None"
    bias: bool = False
    input_padding: float = 0.0
    first_omega: float = 1.0
    omega: float = 1.0
    scale: float = 1.0
    normalizes: bool = False

    def __post_init__(self) -> None:
        if self.n_input_dims < 1 or self.n_output_dims < 1:
            raise ValueError(
                f"fused_mlp: n_input_dims and n_output_dims must be at least 1, "
                f"got {self.n_input_dims} and {self.n_output_dims}"
            )
        if self.n_neurons % COLUMN_MULTIPLE or not 0 < self.n_neurons <= MAX_NEURONS:
            raise ValueError(
                f"fused_mlp: n_neurons must be a multiple of 16 in 16 ... {MAX_NEURONS}, got {self.n_neurons}"
            )
        if self.n_hidden_layers < 0:
            raise ValueError(f"fused_mlp: n_hidden_layers must be at least 0, got {self.n_hidden_layers}")
        for key in ("activation", "output_activation"):
            if getattr(self, key) not in ACTIVATIONS:
                raise ValueError(
                    f"fused_mlp: {key} must be one of {', '.join(ACTIVATIONS)}, got {getattr(self, key)!r}"
                )

        for key in ("first_omega", "omega", "scale"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"fused_mlp: {key} must be a positive number, got {value}")
            if value != 1 and key not in ARGUMENTS.get(self.activation, ()):
                raise ValueError(f"fused_mlp: activation {self.activation} takes no {key}, got {value}")
        _ = self.n_params  # is kept: compilers cannot trace the first reading

    @property
    def arguments(self) -> tuple[float, float, float]:
        """first_omega, omega, scale."""
        return self.first_omega, self.omega, self.scale

    @property
    def matrix_shapes(self) -> list[tuple[int, int]]:
        """Padded `(out, in)` of every matrix, first to last."""
        hidden = [self.n_neurons] * self.n_hidden_layers
        widths = [_padded(self.n_input_dims), *hidden, _padded(self.n_output_dims)]
        return [(n_out, n_in) for n_in, n_out in itertools.pairwise(widths)]

    @functools.cached_property
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


def fused_mlp(
    x: Tensor, params: Tensor, config: MLPConfig, modulation: Tensor | None = None, half_products: bool = False
) -> Tensor:
    """Evaluates a small multi-layer perceptron in one pass over the samples (Mueller et al. 2021).

    Tiles of samples go through all layers inside the first caches. When a gradient will be needed, the stored value of
    every hidden layer is kept: `n * n_hidden_layers * n_neurons` values; otherwise nothing is.

    Args:
        x: float32 or float64 `[n, n_input_dims]`; strided tensors are copied.
        params: same dtype `[config.n_params]`, layout in MLPConfig.
        config: shape and activations.
        modulation: same dtype, scale and shift per sample of what the hidden activations take, `gamma z + beta` (Lee et
            al. 2024, eq. 2; see ops.modulation): `[n, 2]`, gamma and beta for all layers, or
            `[n, 2 n_hidden_layers]`, gamma and beta of the first layer, of the second and so on.
        half_products: on CUDA, with float32 params and without modulation, round what is multiplied to float16 and sum
            in float32, on tensor cores, where they have the shape (`half_reason`); x may then be float16, too. Hidden
            values saturate at 65504. Elsewhere it means nothing.

    Returns:
        `[n, n_output_dims]`, same dtype as x. Differentiable any number of times in `x`, `params` and `modulation`,
        from the second on through plain torch operations. The same numbers for every thread count. NaN and infinity
        propagate as in the formulas, except that Exponential saturates at the largest finite float.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device; normalisation without modulation.
    """
    use_half = half_products and x.is_cuda and x.dtype != torch.float64 and modulation is None
    check_tensor("fused_mlp", "x", x, ("n", config.n_input_dims), _HALF_DTYPES if use_half else NATIVE_FLOATS)
    dtype = torch.float32 if use_half else x.dtype
    check_tensor("fused_mlp", "params", params, (config.n_params,), (dtype,), x.device)
    inputs = [x, params] if modulation is None else [x, params, modulation]
    if modulation is not None:
        per_sample = 2 if modulation.dim() == 2 and modulation.shape[1] == 2 else 2 * config.n_hidden_layers
        check_tensor("fused_mlp", "modulation", modulation, (x.shape[0], per_sample), (x.dtype,), x.device)
    elif config.normalizes:
        raise ValueError("fused_mlp: config.normalizes needs a modulation, got none")
    keep = torch.is_grad_enabled() and any([tensor.requires_grad for tensor in inputs])
    if use_half and half_reason(config, x.device) is None:
        return _half_forward(x, params, *_flatten(config), keep)[0]
    if x.is_cuda and not _takes_kernel(config, dtype, x.device):
        return _composed(x.to(dtype), params, modulation, config).to(x.dtype)
    if x.dtype == torch.float16:
        return _forward(x.float(), params, None, *_flatten(config), keep)[0].half()
    return _forward(x, params, modulation, *_flatten(config), keep)[0]


_MAX_KERNEL_WIDTH = 128  # of hidden layers in float on CUDA


@functools.cache  # what fits is not asked again, at every call
def _takes_kernel(config: MLPConfig, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the CUDA kernel in the precision of its inputs is the way; else torch's products are.

    Wide layers leave the chip by the size of their matrices: SIREN's four of 256 learned 65536 samples in 34 ms on an
    H200, 2 TFLOP/s. And a tile of samples must fit into shared memory.
    """
    if config.n_neurons > _MAX_KERNEL_WIDTH:
        return False
    core = cuda_core(device)
    if core is None:
        return True
    in_float, in_double = core.fused_mlp_shared_bytes(_config_shape(config))
    return bool((in_double if dtype == torch.float64 else in_float) <= core.max_shared_bytes())


def _flatten(config: MLPConfig) -> tuple[int, int, int, str, str, bool, float, list[float], bool]:
    """The configuration as arguments of an operator schema; n_input_dims is x.shape[1]."""
    return (
        config.n_output_dims, config.n_neurons, config.n_hidden_layers, config.activation, config.output_activation,
        config.bias, config.input_padding, list(config.arguments), config.normalizes,
    )  # fmt: skip


def _shape(
    n_input_dims, n_modulation, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias,
    input_padding, arguments, normalizes,
):  # fmt: skip
    return (
        n_input_dims, n_output_dims, n_neurons, n_hidden_layers, ACTIVATIONS.index(activation),
        ACTIVATIONS.index(output_activation), bias, input_padding, tuple(arguments),
        n_modulation, normalizes,
    )  # fmt: skip


def _config_shape(config: MLPConfig) -> tuple:
    """That of an evaluation without modulation."""
    return _shape(config.n_input_dims, 0, *_flatten(config))


@operator("fused_mlp", devices=DEVICES)
def _forward(
    x: Tensor, params: Tensor, modulation: Tensor | None, n_output_dims: int, n_neurons: int, n_hidden_layers: int,
    activation: str, output_activation: str, bias: bool, input_padding: float, arguments: Sequence[float],
    normalizes: bool, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], 0 if modulation is None else modulation.shape[1], n_output_dims, n_neurons, n_hidden_layers,
        activation, output_activation, bias, input_padding, arguments, normalizes,
    )  # fmt: skip
    y = empty(x, x.shape[0], n_output_dims)
    n_saved, n_scratch, _ = lib.fused_mlp_sizes(shape, x.shape[0])
    saved, scratch = empty(x, n_saved if keep else 0), x.new_empty(n_scratch)
    lib.fused_mlp_forward(shape, x.contiguous(), params.contiguous(), contiguous(modulation), y, saved, scratch)
    return y, saved


@_forward.register_fake
def _(
    x, params, modulation, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias,
    input_padding, arguments, normalizes, keep,
):  # fmt: skip
    per_sample = n_hidden_layers * (n_neurons + normalizes) + (
        n_output_dims if output_activation in STORES_INPUT else 0
    )
    return x.new_empty(x.shape[0], n_output_dims), x.new_empty(x.shape[0] * per_sample if keep else 0)


@operator("fused_mlp_backward", devices=DEVICES)
def _backward(
    grad_y: Tensor, x: Tensor, params: Tensor, modulation: Tensor | None, y: Tensor, saved: Tensor, n_output_dims: int,
    n_neurons: int, n_hidden_layers: int, activation: str, output_activation: str, bias: bool, input_padding: float,
    arguments: Sequence[float], normalizes: bool, needs_x: bool, needs_params: bool, needs_modulation: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], 0 if modulation is None else modulation.shape[1], n_output_dims, n_neurons, n_hidden_layers,
        activation, output_activation, bias, input_padding, arguments, normalizes,
    )  # fmt: skip
    grad_x = empty(x, x.shape[0] if needs_x else 0, x.shape[1])
    grad_params = x.new_empty(params.numel() if needs_params else 0)
    grad_modulation = _modulation_gradient(x, modulation, needs_modulation)
    scratch = empty(x, lib.fused_mlp_sizes(shape, x.shape[0])[2] if needs_params else 0)
    x, params, grad_y = x.contiguous(), params.contiguous(), grad_y.contiguous()
    lib.fused_mlp_backward(
        shape, x, params, contiguous(modulation), y, saved, grad_y, grad_x, grad_params, grad_modulation, scratch,
        needs_x, needs_params, needs_modulation,
    )  # fmt: skip
    return grad_x, grad_params, grad_modulation


@_backward.register_fake
def _(
    grad_y, x, params, modulation, y, saved, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation,
    bias, input_padding, arguments, normalizes, needs_x, needs_params, needs_modulation,
):  # fmt: skip
    grad_x = x.new_empty(x.shape if needs_x else (0, x.shape[1]))
    return (
        grad_x,
        x.new_empty(params.numel() if needs_params else 0),
        _modulation_gradient(x, modulation, needs_modulation),
    )


def _modulation_gradient(x: Tensor, modulation: Tensor | None, needed: bool) -> Tensor:
    return x.new_empty(modulation.shape if modulation is not None and needed else (0, 0))


def _setup_context(ctx, inputs, output) -> None:
    x, params, modulation, *ctx.shape, ctx.kept = inputs
    ctx.set_materialize_grads(False)  # that of `saved` would be as large as it
    ctx.save_for_backward(x, params, modulation, *output)


def _autograd(ctx, grad_y: Tensor | None, grad_saved: Tensor | None):
    needs, unused = ctx.needs_input_grad[:3], (None,) * (len(ctx.shape) + 1)
    if grad_y is None:
        return None, None, None, *unused
    x, params, modulation, y, saved = ctx.saved_tensors
    if not ctx.kept:  # by a caller who could not know, as inside of torch.func.vmap
        y, saved = _forward(x, params, modulation, *ctx.shape, True)
    grads = _backward(grad_y, x, params, modulation, y, saved, *ctx.shape, *needs)
    return *(grad if need else None for grad, need in zip(grads, needs, strict=True)), *unused


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _setup_double_context(ctx, inputs, output) -> None:
    grad_y, x, params, modulation, _y, _saved, *ctx.shape, needs_x, needs_params, needs_modulation = inputs
    ctx.needed = needs_x, needs_params, needs_modulation
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad_y, x, params, modulation)


def _double_autograd(ctx, *upstream: Tensor | None):
    """Gradients of `<upstream_0, grad_x> + <upstream_1, grad_params> + <upstream_2, grad_modulation>` in grad_y, x,
    params and modulation.

    y and saved are functions of the others: their part is in theirs. In the dtype of params.
    """
    *shape, arguments, normalizes = ctx.shape
    sizes = (*shape, *arguments, normalizes)
    saved = [t for t in ctx.saved_tensors if t is not None]
    dtype = ctx.saved_tensors[2].dtype
    config = MLPConfig(ctx.saved_tensors[1].shape[1], *sizes)
    wanted = {i: up.to(dtype) for i, up in enumerate(upstream) if up is not None and ctx.needed[i]}

    def product(grad_y: Tensor, *inputs: Tensor) -> Tensor:
        def value(*chosen: Tensor) -> Tensor:
            x, params, *modulation = (dict(enumerate(inputs)) | dict(zip(wanted, chosen, strict=True))).values()
            return _composed(x, params, modulation[0] if modulation else None, config)

        firsts = vjp(value, [inputs[i] for i in wanted], grad_y)
        return torch.stack([(up * first).sum() for up, first in zip(wanted.values(), firsts, strict=True)]).sum()

    grads: list[Tensor | None] = [None] * 4
    if wanted:
        seconds = vjp(product, [t.to(dtype) for t in saved], saved[0].new_ones((), dtype=dtype))
        grads[: len(saved)] = [second.to(t.dtype) for second, t in zip(seconds, saved, strict=True)]
    return *grads, *(None,) * (len(ctx.shape) + 5)


_backward.register_autograd(_double_autograd, setup_context=_setup_double_context)


def _composed(x: Tensor, params: Tensor, modulation: Tensor | None, config: MLPConfig) -> Tensor:
    """The same function as torch operations, which can be differentiated any number of times."""
    h = functional.pad(x, (0, config.matrix_shapes[0][1] - config.n_input_dims), value=config.input_padding)
    layers = config.matrices(params)
    omega = config.first_omega
    for layer, (weights, bias) in enumerate(layers[:-1]):
        z = functional.linear(h, weights, bias)
        if config.normalizes:
            z = z - z.mean(1, keepdim=True)  # not layer_norm, whose third derivative torch 2.13 has wrong
            z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-5)
        if modulation is not None:
            first = 0 if modulation.shape[1] == 2 else 2 * layer
            z = modulation[:, first : first + 1] * z + modulation[:, first + 1 : first + 2]
        h = _TORCH_ACTIVATIONS[config.activation](z, omega, config.scale)
        omega = config.omega
    z = functional.linear(h, *layers[-1])
    return _TORCH_ACTIVATIONS[config.output_activation](z[:, : config.n_output_dims], 1.0, 1.0)


# ---- products of halves on tensor cores (csrc/ops/fused_mlp_half.h) ----

_HALF_DTYPES = (torch.float32, torch.float16)
MAX_HALF_WIDTH = 128  # inputs, outputs and hidden layers
_HALF_TILE_ROWS = 128  # and the bytes of a 16 x 16 block of halves
_HALF_BLOCK_BYTES = 512


@functools.cache
def half_reason(config: MLPConfig, device: torch.device | None = None) -> str | None:
    """Why tensor cores cannot take a network (it is evaluated in float32 then), or None if they can.

    With a device, its shared memory counts, too.
    """
    for name, n in (("inputs", config.n_input_dims), ("outputs", config.n_output_dims)):
        if n > MAX_HALF_WIDTH:
            return f"it has {n} {name}, more than {MAX_HALF_WIDTH}"
    if config.n_neurons > MAX_HALF_WIDTH:
        return f"it is {config.n_neurons} wide, more than {MAX_HALF_WIDTH}"
    for kind in (config.activation, config.output_activation):
        if kind in ARGUMENTS:
            return f"{kind} needs more of its argument than the 11 bits of float16"
    if config.output_activation == "SiLU":
        return "its output activation is SiLU"
    if config.normalizes:
        return "it is modulated"
    core = None if device is None else cuda_core(device)
    if core is not None:
        n_bytes, limit = core.fused_mlp_half_shared_bytes(_config_shape(config)), core.max_shared_bytes()
        if n_bytes > limit:
            return f"its backward pass takes {n_bytes} bytes of shared memory, more than {limit} of {device}"
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


@operator("fused_mlp_half", devices=("cuda",))
def _half_forward(
    x: Tensor, params: Tensor, n_output_dims: int, n_neurons: int, n_hidden_layers: int, activation: str,
    output_activation: str, bias: bool, input_padding: float, arguments: Sequence[float], normalizes: bool, keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], 0, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding,
        arguments, normalizes,
    )  # fmt: skip
    y = x.new_empty(x.shape[0], n_output_dims)
    n_saved, n_scratch, _ = lib.fused_mlp_half_bytes(shape, x.shape[0])
    saved, scratch = (x.new_empty(size, dtype=torch.uint8) for size in (n_saved if keep else 0, n_scratch))
    lib.fused_mlp_half_forward(shape, _bits(x), params.contiguous(), _bits(y), saved, scratch)
    return y, saved


@_half_forward.register_fake
def _(
    x, params, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding,
    arguments, normalizes, keep,
):  # fmt: skip
    n_saved = _half_saved_bytes(x.shape[0], n_neurons, n_hidden_layers) if keep else 0
    return x.new_empty(x.shape[0], n_output_dims), x.new_empty(n_saved, dtype=torch.uint8)


@operator("fused_mlp_half_backward", devices=("cuda",))
def _half_backward(
    grad_y: Tensor, x: Tensor, params: Tensor, y: Tensor, saved: Tensor, n_output_dims: int, n_neurons: int,
    n_hidden_layers: int, activation: str, output_activation: str, bias: bool, input_padding: float,
    arguments: Sequence[float], normalizes: bool, needs_x: bool, needs_params: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    lib = native(x)
    shape = _shape(
        x.shape[1], 0, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias, input_padding,
        arguments, normalizes,
    )  # fmt: skip
    grad_x = x.new_empty(x.shape[0] if needs_x else 0, x.shape[1])
    grad_params = params.new_empty(params.numel() if needs_params else 0)
    scratch = x.new_empty(lib.fused_mlp_half_bytes(shape, x.shape[0])[2], dtype=torch.uint8)
    lib.fused_mlp_half_backward(
        shape, _bits(x), params.contiguous(), _bits(y), saved, _bits(grad_y), _bits(grad_x), grad_params, scratch,
        needs_x, needs_params,
    )  # fmt: skip
    return grad_x, grad_params


@_half_backward.register_fake
def _(
    grad_y, x, params, y, saved, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, bias,
    input_padding, arguments, normalizes, needs_x, needs_params,
):  # fmt: skip
    return x.new_empty(x.shape if needs_x else (0, x.shape[1])), params.new_empty(params.numel() if needs_params else 0)


# They have no modulation; what is shared with the other operator finds None in its place.
def _setup_half_context(ctx, inputs, output) -> None:
    _setup_context(ctx, (*inputs[:2], None, *inputs[2:]), output)


def _setup_half_double_context(ctx, inputs, output) -> None:
    _setup_double_context(ctx, (*inputs[:3], None, *inputs[3:], False), output)


def _half_double_autograd(ctx, *upstream: Tensor | None):
    grads = _double_autograd(ctx, *upstream)
    return *grads[:3], *grads[5:]


def _half_autograd(ctx, grad_y: Tensor | None, grad_saved: Tensor | None):
    x, params, _modulation, y, saved = ctx.saved_tensors
    needs_x, needs_params, *_ = ctx.needs_input_grad
    unused = (None,) * (len(ctx.shape) + 1)
    if grad_y is None:
        return None, None, *unused
    if not ctx.kept:
        y, saved = _half_forward(x, params, *ctx.shape, True)
    grad_x, grad_params = _half_backward(grad_y, x, params, y, saved, *ctx.shape, needs_x, needs_params)
    return grad_x if needs_x else None, grad_params if needs_params else None, *unused


_half_forward.register_autograd(_half_autograd, setup_context=_setup_half_context)
_half_backward.register_autograd(_half_double_autograd, setup_context=_setup_half_double_context)
