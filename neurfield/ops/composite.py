# SPDX-License-Identifier: Apache-2.0
"""Packed compositing: samples along rays to colour, depth and opacity (csrc/math/composite.h)."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, contiguous, native
from neurfield.ops._operator import operator


class Composite(NamedTuple):
    """What the samples of each ray add up to, and the weight of each sample."""

    rgb: Tensor  # [n_rays, 3]
    depth: Tensor  # [n_rays], sum of weight * t_start; divide by acc for the expected distance of what was hit
    acc: Tensor  # [n_rays], opacity
    weights: Tensor  # [n_samples]
    distortion: Tensor  # [n_rays], sum_ij w_i w_j |m_i - m_j| + 1/3 sum w_i^2 delta_i with interval midpoints m


def composite(
    sigmas: Tensor,
    rgbs: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
) -> Composite:
    """Composites packed samples front to back (Max 1995; distortion: Barron et al. 2022, eq. 15).

    Per ray, with `delta = t_end - t_start`: `alpha = 1 - exp(-sigma delta)`, `T` the product of `1 - alpha` over the
    samples in front, `weight = T alpha`. Opacity lies in [0, 1] up to one rounding per sample. A ray is cut behind the
    sample that takes `T` below `early_stop_eps`: what lies behind gets weight and gradient zero.

    Args:
        sigmas: float32 or float64 `[n_samples]`, density per unit of t, at least 0 (infinity is opaque).
        rgbs: `[n_samples, 3]`, any three channels.
        t_starts, t_ends: `[n_samples]`, `t_starts <= t_ends`, increasing along a ray. A sample sits at its t_start.
        packed_info: int64 `[n_rays, 2]`, (start, count) of each ray; ranges must not overlap. Samples in no range are
            ignored, a ray without samples is fully transparent.
        background: `[3]` or `[n_rays, 3]`, added as `(1 - acc) * background`; None: black.
        early_stop_eps: 0 (never) or a transmittance below 1.

    Returns:
        Composite. Every field is differentiable once in every floating-point input, in one pass over the samples.

    Raises:
        TypeError, ValueError: wrong dtype, shape or early_stop_eps; a range outside the samples. On CUDA, where finding
            out would wait for the device, such a ray is NaN instead.
    """
    check_tensor("composite", "sigmas", sigmas, ("n_samples",))
    floats = (sigmas.dtype,)
    n = sigmas.shape[0]
    check_tensor("composite", "rgbs", rgbs, (n, 3), floats, sigmas.device)
    check_tensor("composite", "t_starts", t_starts, (n,), floats, sigmas.device)
    check_tensor("composite", "t_ends", t_ends, (n,), floats, sigmas.device)
    check_tensor("composite", "packed_info", packed_info, ("n_rays", 2), (torch.int64,), sigmas.device)
    if not 0 <= early_stop_eps < 1:
        raise ValueError(f"composite: early_stop_eps must be in [0, 1), got {early_stop_eps}")
    result = Composite(*_forward(sigmas, rgbs, t_starts, t_ends, packed_info, early_stop_eps))
    if background is None:
        return result
    shape = (3,) if getattr(background, "ndim", 0) == 1 else (packed_info.shape[0], 3)
    check_tensor("composite", "background", background, shape, floats, sigmas.device)
    return result._replace(rgb=result.rgb + (1 - result.acc)[:, None] * background)


@operator("composite", devices=DEVICES)
def _forward(
    sigmas: Tensor, rgbs: Tensor, t_starts: Tensor, t_ends: Tensor, packed_info: Tensor, early_stop_eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    lib = native(sigmas)
    rgb, depth, acc, _, distortion = outputs = _allocate(sigmas, packed_info)
    weights = outputs[3].zero_()
    samples = (x.contiguous() for x in (sigmas, rgbs, t_starts, t_ends, packed_info))
    lib.composite_forward(*samples, early_stop_eps, rgb, depth, acc, weights, distortion)
    return outputs


def _allocate(sigmas: Tensor, packed_info: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    n_rays = packed_info.shape[0]
    per_ray = [sigmas.new_empty(n_rays) for _ in range(3)]
    return sigmas.new_empty(n_rays, 3), per_ray[0], per_ray[1], sigmas.new_empty(sigmas.shape[0]), per_ray[2]


@_forward.register_fake
def _(sigmas, rgbs, t_starts, t_ends, packed_info, early_stop_eps):
    return _allocate(sigmas, packed_info)


@operator("composite_backward", devices=DEVICES)
def _backward(
    sigmas: Tensor,
    rgbs: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    early_stop_eps: float,
    rgb: Tensor,
    depth: Tensor,
    acc: Tensor,
    weights: Tensor,
    distortion: Tensor,
    grad_rgb: Tensor | None,
    grad_depth: Tensor | None,
    grad_acc: Tensor | None,
    grad_weights: Tensor | None,
    grad_distortion: Tensor | None,
    with_grad_t: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lib = native(sigmas)
    grads = _allocate_grads(sigmas, with_grad_t)
    samples = (x.contiguous() for x in (sigmas, rgbs, t_starts, t_ends, packed_info))
    outputs = (x.contiguous() for x in (rgb, depth, acc, weights, distortion))
    upstream = (contiguous(x) for x in (grad_rgb, grad_depth, grad_acc, grad_weights, grad_distortion))
    grad_t = grads[2:] if with_grad_t else (None, None)
    lib.composite_backward(*samples, early_stop_eps, *outputs, *upstream, grads[0], grads[1], *grad_t)
    return grads


def _allocate_grads(sigmas: Tensor, with_grad_t: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = sigmas.shape[0]
    n_t = n if with_grad_t else 0
    return sigmas.new_zeros(n), sigmas.new_zeros(n, 3), sigmas.new_zeros(n_t), sigmas.new_zeros(n_t)


@_backward.register_fake
def _(sigmas, *others):
    return _allocate_grads(sigmas, others[-1])


def _setup_context(ctx, inputs, output) -> None:
    *samples, ctx.early_stop_eps = inputs
    ctx.save_for_backward(*samples, *output)
    ctx.set_materialize_grads(False)


def _autograd(ctx, *grad_outputs: Tensor | None):
    with_grad_t = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
    saved = ctx.saved_tensors
    grads = _backward(*saved[:5], ctx.early_stop_eps, *saved[5:], *grad_outputs, with_grad_t)
    grad_t = grads[2:] if with_grad_t else (None, None)
    return grads[0], grads[1], *grad_t, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
