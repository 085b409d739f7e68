# SPDX-License-Identifier: Apache-2.0
"""Multi-resolution grid encoding: hash, dense and tiled grids (csrc/math/hash_grid.h)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurfield._native import lib
from neurfield.ops._common import (
    DEVICES,
    aligned,
    check_tensor,
    contiguous,
    empty,
    native,
    native_table,
    not_deterministic,
)
from neurfield.ops._operator import operator
from neurfield.ops.half_copy import half_copy_is_due

TYPES = ("Hash", "Dense", "Tiled")
INTERPOLATIONS = ("Linear", "Smoothstep", "Nearest")


class GridLevel(NamedTuple):
    """One level: `resolution` vertices per axis in `n_entries` feature vectors, after `offset` entries."""

    scale: float
    resolution: int
    n_entries: int
    offset: int
    hashed: bool


@dataclass(frozen=True)
class GridConfig:
    """Sizes and kind of a grid encoding; names, defaults and meaning as in tiny-cuda-nn.

    Level l has `ceil(base_resolution * per_level_scale^l - 1) + 1` vertices per axis.

    Raises:
        ValueError: a value out of range; the message names it.
    """

    n_input_dims: int = 3
    n_levels: int = 16
    n_features_per_level: int = 2
    log2_hashmap_size: int = 19
    base_resolution: int = 16
    per_level_scale: float = 2.0
    type: str = "Hash"
    interpolation: str = "Linear"

    def __post_init__(self) -> None:
        ranges = {
            "n_input_dims": (1, 4),
            "n_levels": (1, 128),
            "log2_hashmap_size": (0, 30),
            "base_resolution": (2, 2**20),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"hash_grid: {name} must be in [{low}, {high}], got {getattr(self, name)}")
        if self.n_features_per_level not in (1, 2, 4, 8):
            raise ValueError(f"hash_grid: n_features_per_level must be 1, 2, 4 or 8, got {self.n_features_per_level}")
        for name, valid in (("type", TYPES), ("interpolation", INTERPOLATIONS)):
            if getattr(self, name) not in valid:
                raise ValueError(f"hash_grid: {name} must be one of {', '.join(valid)}, got {getattr(self, name)!r}")
        finest = self.base_resolution * self.per_level_scale ** (self.n_levels - 1)
        if not (self.per_level_scale >= 1 and finest <= 2**30):
            raise ValueError(
                "hash_grid: per_level_scale must be at least 1 and give a finest resolution of at most 2^30, "
                f"got {self.per_level_scale} with {self.n_levels} levels from {self.base_resolution}"
            )
        resolution, n_entries = self.levels()[-1].resolution, self.levels()[-1].n_entries
        if self.type == "Dense" and n_entries < resolution**self.n_input_dims:
            raise ValueError(
                f"hash_grid: a Dense level of {resolution}^{self.n_input_dims} vertices exceeds 2^31; use type Hash"
            )

    def levels(self) -> list[GridLevel]:
        """Coarse to fine, sized by the native routine that the kernels use."""
        return [GridLevel(*level) for level in lib.hash_grid_levels(self.layout, self.per_level_scale)]

    @functools.cached_property
    def layout(self) -> tuple[int, ...]:
        """All but per_level_scale as integers: what the operators pass on."""
        return (
            self.n_input_dims,
            self.n_levels,
            self.n_features_per_level,
            self.log2_hashmap_size,
            self.base_resolution,
            TYPES.index(self.type),
            INTERPOLATIONS.index(self.interpolation),
        )

    @functools.cached_property
    def n_params(self) -> int:
        """Table values of all levels."""
        return _n_params(self.layout, self.per_level_scale)

    @property
    def n_output_dims(self) -> int:
        return self.n_levels * self.n_features_per_level


def hash_grid(
    x: Tensor,
    params: Tensor,
    config: GridConfig,
    max_level: float | Tensor | None = None,
    half_copy: Tensor | None = None,
) -> Tensor:
    """Encodes positions by interpolating the features of the grid vertices around them, level by level.

    Definition, level sizes, indices and hash as in tiny-cuda-nn (Müller et al. 2022); see csrc/math/hash_grid.h.

    Args:
        x: float32 or float64 `[n, n_input_dims]`; the grid covers [0, 1]. Positions outside wrap to some vertex, which
            from 2^31 cells on is another one on another device. NaN and infinite ones give NaN, and NaN gradients to
            some entries; on CUDA to none where the incoming gradient is zero, and where sums are exact to all entries.
            Strided tensors are copied.
        params: `[config.n_params]`, level by level, `[n_entries, n_features_per_level]` within a level. float32 or
            float16 with float32 x, float64 with float64 x.
        max_level: level l counts where `l < max_level * n_levels`, the features of others are zero. A number, or
            float32 `[n]` for one per sample. Not differentiable. Default: all levels.
        half_copy: float16 `[config.n_params]` that is read in place of `params` (half the memory traffic); gradients
            go to `params`. It must be `params` rounded (`ops.adam_step` keeps such a copy).

    Returns:
        `[n, config.n_output_dims]` in x's dtype. Differentiable in x and params, and twice through the gradient of x
        (normals, eikonal terms): in params, x and the incoming gradient. With Nearest, the gradient of x is zero.
        On CUDA the gradient of params is a sum in any order; torch.use_deterministic_algorithms asks for exact sums.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device.
        RuntimeError: differentiating the gradient of params; what has no deterministic form where torch asks for it.
    """
    check_tensor("hash_grid", "x", x, ("n", config.n_input_dims))
    tables = (torch.float64,) if x.dtype == torch.float64 else (torch.float32, torch.float16)
    check_tensor("hash_grid", "params", params, (config.n_params,), tables, x.device)
    if half_copy is not None:
        check_tensor("hash_grid", "half_copy", half_copy, (config.n_params,), (torch.float16,), x.device)
        check_tensor("hash_grid", "x with half_copy", x, ("n", config.n_input_dims), (torch.float32,))
    if isinstance(max_level, Tensor):
        check_tensor("hash_grid", "max_level", max_level, (x.shape[0],), (torch.float32,), x.device)
    elif max_level is not None:
        max_level = torch.full((1,), max_level, dtype=torch.float32, device=x.device)
    return _forward(x, params, half_copy, max_level, config.layout, config.per_level_scale)


@functools.cache
def _n_params(layout: tuple[int, ...], per_level_scale: float) -> int:
    _, _, n_entries, offset, _ = lib.hash_grid_levels(layout, per_level_scale)[-1]
    return (offset + n_entries) * layout[2]


@operator("hash_grid", devices=DEVICES)
def _forward(
    x: Tensor,
    params: Tensor,
    half_copy: Tensor | None,
    max_level: Tensor | None,
    layout: Sequence[int],
    per_level_scale: float,
) -> Tensor:
    lib = native(x)
    y = empty(x, x.shape[0], layout[1] * layout[2])
    table = native_table(params if half_copy is None else half_copy)
    lib.hash_grid_forward(layout, per_level_scale, x.contiguous(), table, contiguous(max_level), y)
    return y


@_forward.register_fake
def _(x, params, half_copy, max_level, layout, per_level_scale):
    return x.new_empty(x.shape[0], layout[1] * layout[2])


@operator("hash_grid_backward_params", devices=DEVICES)
def hash_grid_backward_params(
    x: Tensor, grad_y: Tensor, max_level: Tensor | None, layout: Sequence[int], per_level_scale: float
) -> Tensor:
    grad_params = empty(x, _n_params(tuple(layout), per_level_scale))
    lib = native(x)
    inputs = layout, per_level_scale, x.contiguous(), aligned(grad_y), contiguous(max_level)
    if x.is_cuda and torch.are_deterministic_algorithms_enabled():
        if x.dtype == torch.float32:
            scratch = x.new_empty(grad_params.numel() + 1, dtype=torch.int64)
            lib.hash_grid_backward_params_exact(*inputs, grad_params, scratch)
            return grad_params
        not_deterministic("hash_grid: on CUDA the deterministic gradient of params is float32 only, got float64")
    lib.hash_grid_backward_params(*inputs, grad_params)
    return grad_params


@hash_grid_backward_params.register_fake
def _(x, grad_y, max_level, layout, per_level_scale):
    return x.new_empty(_n_params(tuple(layout), per_level_scale))


@operator("hash_grid_backward_input", devices=DEVICES)
def _backward_input(
    x: Tensor,
    params: Tensor,
    half_copy: Tensor | None,
    grad_y: Tensor,
    max_level: Tensor | None,
    layout: Sequence[int],
    per_level_scale: float,
) -> Tensor:
    lib = native(x)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    table, sizes = native_table(params if half_copy is None else half_copy), (layout, per_level_scale)
    lib.hash_grid_backward_input(*sizes, x.contiguous(), table, aligned(grad_y), contiguous(max_level), grad_x)
    return grad_x


@_backward_input.register_fake
def _(x, params, half_copy, grad_y, max_level, layout, per_level_scale):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator("hash_grid_backward_backward_input", devices=DEVICES)
def _backward_backward_input(
    x: Tensor,
    params: Tensor,
    half_copy: Tensor | None,
    grad_y: Tensor,
    grad_grad_x: Tensor,
    max_level: Tensor | None,
    needed: Sequence[bool],
    layout: Sequence[int],
    per_level_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to params, grad_y and x of `(grad_grad_x * grad_x).sum()`; empty where not `needed`."""
    if x.is_cuda and needed[0] and torch.are_deterministic_algorithms_enabled():
        not_deterministic(
            "hash_grid: on CUDA the second derivative by params has no deterministic form; compute it on the CPU"
        )
    lib = native(x)
    outputs = _second_order_outputs(empty, x, grad_y, needed, layout, per_level_scale)
    lib.hash_grid_backward_backward_input(
        layout,
        per_level_scale,
        x.contiguous(),
        native_table(params if half_copy is None else half_copy),
        aligned(grad_y),
        grad_grad_x.contiguous(),
        contiguous(max_level),
        *(output if need else None for output, need in zip(outputs, needed, strict=True)),
    )
    return outputs


@_backward_backward_input.register_fake
def _(x, params, half_copy, grad_y, grad_grad_x, max_level, needed, layout, per_level_scale):
    return _second_order_outputs(Tensor.new_empty, x, grad_y, needed, layout, per_level_scale)


def _second_order_outputs(new, x, grad_y, needed, layout, per_level_scale) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((_n_params(tuple(layout), per_level_scale),), grad_y.shape, x.shape)
    grad_params, grad_grad_y, grad_x = (new(x, *(s if n else (0,))) for s, n in zip(shapes, needed, strict=True))
    return grad_params, grad_grad_y, grad_x


def _setup_forward(ctx, inputs, output) -> None:
    x, params, half_copy, max_level, ctx.layout, ctx.per_level_scale = inputs
    ctx.save_for_backward(x, params, half_copy, max_level)


def _autograd_forward(ctx, grad_y: Tensor):
    x, params, half_copy, max_level = ctx.saved_tensors
    sizes = ctx.layout, ctx.per_level_scale
    grad_x = grad_params = None
    if ctx.needs_input_grad[0]:
        grad_x = _backward_input(x, params, half_copy, grad_y, max_level, *sizes)
    if ctx.needs_input_grad[1]:
        grad_params = hash_grid_backward_params(x, grad_y, max_level, *sizes).to(params.dtype)
        if half_copy is not None:
            half_copy_is_due(params)
    return grad_x, grad_params, None, None, None, None


def _setup_backward_input(ctx, inputs, output) -> None:
    x, params, half_copy, grad_y, max_level, ctx.layout, ctx.per_level_scale = inputs
    ctx.save_for_backward(x, params, half_copy, grad_y, max_level)


def _autograd_backward_input(ctx, grad_grad_x: Tensor):
    x, params, half_copy, grad_y, max_level = ctx.saved_tensors
    needs_x, needs_params, _, needs_grad_y = ctx.needs_input_grad[:4]
    needed = [needs_params, needs_grad_y, needs_x]
    grad_params, grad_grad_y, grad_x = _backward_backward_input(
        x, params, half_copy, grad_y, grad_grad_x, max_level, needed, ctx.layout, ctx.per_level_scale
    )
    return (
        grad_x if needs_x else None,
        grad_params.to(params.dtype) if needs_params else None,
        None,
        grad_grad_y if needs_grad_y else None,
        None,
        None,
        None,
    )


def _not_differentiable(what: str):
    def backward(ctx, *grads):
        raise RuntimeError(
            f"hash_grid: {what} cannot be differentiated; second derivatives go through the gradient of x only"
        )

    return backward


_forward.register_autograd(_autograd_forward, setup_context=_setup_forward)
_backward_input.register_autograd(_autograd_backward_input, setup_context=_setup_backward_input)
hash_grid_backward_params.register_autograd(_not_differentiable("the gradient of params"))
_backward_backward_input.register_autograd(_not_differentiable("a second derivative"))
