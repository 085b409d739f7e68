# SPDX-License-Identifier: Apache-2.0
"""Thousands of tiny networks, each for its own samples (csrc/math/kilo_mlp.h, csrc/ops/kilo_mlp.h)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, aligned, check_tensor, empty, native, not_deterministic
from neurfield.ops._operator import operator

WIDTHS = (16, 32, 48, 64)
MAX_FREQUENCIES = 20


@dataclass(frozen=True)
class KiloConfig:
    """Shape of the tiny networks (Reiser et al. 2021, section 3.1 and figure 2), the same for all of them.

    With `e_x`, `e_d` the encodings of position and direction:

        h0 = relu(W0 e_x + b0)      h1 = relu(W1 h0 + b1)
        z  = w_sigma h1 + b_sigma   f  = W2 h1 + b2          (no activation)
        h2 = relu(W3 [f || e_d] + b3)
        rgb = sigmoid(W4 h2 + b4)

    A vector is encoded as `[v, sin v, cos v, sin 2v, cos 2v, ..., cos 2^(K-1) v]`, each entry for its three axes.

    Attributes:
        width: of the hidden layers, one of WIDTHS.
        position_frequencies, direction_frequencies: K, 0 ... MAX_FREQUENCIES.
    """

    width: int = 32
    position_frequencies: int = 10
    direction_frequencies: int = 4

    def __post_init__(self) -> None:
        if self.width not in WIDTHS:
            raise ValueError(f"kilo_mlp: width must be one of {WIDTHS}, got {self.width}")
        for key in ("position_frequencies", "direction_frequencies"):
            if not 0 <= getattr(self, key) <= MAX_FREQUENCIES:
                raise ValueError(f"kilo_mlp: {key} must be in 0 ... {MAX_FREQUENCIES}, got {getattr(self, key)}")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of the parts of a network in the order in which they are stored; matrices are `[in, out]`."""
        w = self.width
        n_position, n_direction = 3 + 6 * self.position_frequencies, 3 + 6 * self.direction_frequencies
        return {
            "b0": (w,), "w0": (n_position, w), "b1": (w,), "w1": (w, w), "b2": (w,), "w2": (w, w), "b3": (w,),
            "w3": (w + n_direction, w), "w_sigma": (w, 1), "w_rgb": (3, w), "b_sigma": (1,), "b_rgb": (3,),
        }  # fmt: skip

    @property
    def n_values(self) -> int:
        """Parameters of a network that mean something."""
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    @property
    def n_params(self) -> int:
        """Values per network as stored: `n_values` rounded up to a multiple of 16; the rest is idle."""
        return -(-self.n_values // 16) * 16

    def parts(self, params: Tensor) -> dict[str, Tensor]:
        """Views of `params [n_networks, n_params]` by name, `[n_networks, in, out]`; `w_rgb` is `[.., out, in]`."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            size = torch.Size(shape).numel()
            views[name] = params[:, start : start + size].unflatten(1, shape)
            start += size
        return views


def kilo_mlp(
    x: Tensor, directions: Tensor | None, network: Tensor, params: Tensor, config: KiloConfig | None = None
) -> Tensor:
    """Evaluates for each sample the network that it names (Reiser et al. 2021, KiloNeRF).

    Samples may come in any order: they are sorted by network first, which costs little, and best is at least some
    hundred samples per network. Nothing is kept for the backward pass, which evaluates the networks again.

    Args:
        x: float32 or float64 `[n, 3]`, positions in the local coordinates of their cells, usually -1 ... 1.
        directions: same dtype `[n, 3]`, unit vectors; None: only densities are evaluated.
        network: int32 `[n]`, in 0 ... n_networks - 1; negative: no network, whose result and gradients are zero.
        params: same dtype as x `[n_networks, config.n_params]`, layout in KiloConfig. Networks without samples get a
            gradient of zero.
        config: shape of the networks; None: that of the paper.

    Returns:
        `[n, 4]`: density before its activation, then rgb in 0 ... 1; without directions `[n, 1]`. Differentiable once
        in `x`, `directions` and `params`. Error of the encoding in float32: 2^-17 absolute. The same numbers for
        every thread count and, while |x| 2^K <= 8192, in any order of the samples. NaN stays in its sample.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or a network that does not exist; on CUDA its samples are
            NaN instead, and there the gradient of params is a sum in any order.
    """
    config = config or KiloConfig()
    check_tensor("kilo_mlp", "x", x, ("n", 3))
    if directions is not None:
        check_tensor("kilo_mlp", "directions", directions, (x.shape[0], 3), (x.dtype,), x.device)
    check_tensor("kilo_mlp", "network", network, (x.shape[0],), (torch.int32,), x.device)
    check_tensor("kilo_mlp", "params", params, ("n_networks", config.n_params), (x.dtype,), x.device)
    shape = (config.width, config.position_frequencies, config.direction_frequencies)
    return _forward(x, directions, network, params, *shape)


@operator("kilo_mlp", devices=DEVICES)
def _forward(
    x: Tensor, directions: Tensor | None, network: Tensor, params: Tensor, width: int, position_frequencies: int,
    direction_frequencies: int,
) -> Tensor:  # fmt: skip
    lib = native(x)
    y = empty(x, x.shape[0], 1 if directions is None else 4)
    sort = network.new_empty(lib.kilo_sort_scratch(x.shape[0], params.shape[0]), dtype=torch.int64)
    shape = (width, position_frequencies, direction_frequencies)
    lib.kilo_mlp_forward(shape, *_arrays(x, directions, network, params), y, sort, directions is not None)
    return y


@_forward.register_fake
def _(x, directions, network, params, width, position_frequencies, direction_frequencies):
    return x.new_empty(x.shape[0], 1 if directions is None else 4)


@operator("kilo_mlp_backward", devices=DEVICES)
def _backward(
    grad_y: Tensor, x: Tensor, directions: Tensor | None, network: Tensor, params: Tensor, width: int,
    position_frequencies: int, direction_frequencies: int, needs_x: bool, needs_directions: bool, needs_params: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if x.is_cuda and needs_params and torch.are_deterministic_algorithms_enabled():
        not_deterministic("kilo_mlp: on CUDA the gradient of params has no deterministic form; compute it on the CPU")
    lib = native(x)
    n = x.shape[0]
    grad_x, grad_directions = empty(x, n if needs_x else 0, 3), empty(x, n if needs_directions else 0, 3)
    grad_params = empty(params, params.shape[0] if needs_params else 0, params.shape[1])
    sort = network.new_empty(lib.kilo_sort_scratch(n, params.shape[0]), dtype=torch.int64)
    slots = empty(x, lib.kilo_n_slots(n) * params.shape[1] if needs_params else 0)
    shape = (width, position_frequencies, direction_frequencies)
    lib.kilo_mlp_backward(
        shape, *_arrays(x, directions, network, params), grad_y.contiguous(), grad_params, grad_x, grad_directions,
        sort, slots, directions is not None, needs_params, needs_x, needs_directions,
    )  # fmt: skip
    return grad_x, grad_directions, grad_params


@_backward.register_fake
def _(
    grad_y, x, directions, network, params, width, position_frequencies, direction_frequencies, needs_x,
    needs_directions, needs_params,
):  # fmt: skip
    n = x.shape[0]
    return (
        x.new_empty(n if needs_x else 0, 3),
        x.new_empty(n if needs_directions else 0, 3),
        params.new_empty(params.shape[0] if needs_params else 0, params.shape[1]),
    )


def _arrays(x: Tensor, directions: Tensor | None, network: Tensor, params: Tensor) -> tuple[Tensor, ...]:
    d = x.new_empty(0, 3) if directions is None else directions.contiguous()
    return x.contiguous(), d, network.contiguous(), aligned(params)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, width, position_frequencies, direction_frequencies = inputs
    ctx.shape = (width, position_frequencies, direction_frequencies)
    ctx.save_for_backward(*tensors)


def _autograd(ctx, grad_y: Tensor):
    x, directions, network, params = ctx.saved_tensors
    needs_x, needs_directions, _, needs_params, *_ = ctx.needs_input_grad
    grad_x, grad_directions, grad_params = _backward(
        grad_y, x, directions, network, params, *ctx.shape, needs_x, needs_directions, needs_params
    )
    return (
        grad_x if needs_x else None,
        grad_directions if needs_directions else None,
        None,
        grad_params if needs_params else None,
        None,
        None,
        None,
    )


_forward.register_autograd(_autograd, setup_context=_setup_context)
