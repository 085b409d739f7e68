# SPDX-License-Identifier: Apache-2.0
"""Losses of a prediction p against a target t, element by element, as in tiny-cuda-nn: denominators (epsilon = 0.01)
are constants in the gradient. Every function maps two tensors of one shape to a third; the mean is the caller's.
"""

from torch import Tensor
from torch.nn import functional

EPSILON = 0.01
LEAST_PROBABILITY = 1e-4
# ITU-R BT.601, the weights of tiny-cuda-nn
LUMINANCE = (0.299, 0.587, 0.114)


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """|p - t|"""
    return (prediction - target).abs()


def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """(p - t)^2"""
    return (prediction - target).square()


def huber(prediction: Tensor, target: Tensor, alpha: float = 0.1) -> Tensor:
    """(p - t)^2 up to |p - t| = alpha, beyond it the tangent 2 alpha |p - t| - alpha^2; comparable with L2.

    instant-ngp's form: the Huber loss of threshold alpha divided by 0.5 / alpha (5 for alpha = 0.1).
    """
    return 2 * functional.huber_loss(prediction, target, reduction="none", delta=alpha)


def relative_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """|p - t| / (|p| + epsilon)"""
    return l1(prediction, target) / (prediction.detach().abs() + EPSILON)


def relative_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """(p - t)^2 / (p^2 + epsilon): for high dynamic range"""
    return l2(prediction, target) / (prediction.detach().square() + EPSILON)


def relative_l2_luminance(prediction: Tensor, target: Tensor) -> Tensor:
    """(p - t)^2 / (Y(p)^2 + epsilon) with the luminance Y; RGB `[..., 3]` only"""
    if prediction.shape[-1:] != (3,):
        raise ValueError(f"RelativeL2Luminance: prediction must be [..., 3], got {list(prediction.shape)}")
    red, green, blue = (w * channel for w, channel in zip(LUMINANCE, prediction.detach().unbind(-1), strict=True))
    luminance = red + green + blue
    return l2(prediction, target) / (luminance.square() + EPSILON)[..., None]


def mape(prediction: Tensor, target: Tensor) -> Tensor:
    """|p - t| / (|t| + epsilon)"""
    return l1(prediction, target) / (target.detach().abs() + EPSILON)


def smape(prediction: Tensor, target: Tensor) -> Tensor:
    """|p - t| / (|p| / 2 + |t| / 2 + epsilon)"""
    half_sum = 0.5 * (prediction.detach().abs() + target.detach().abs())
    return l1(prediction, target) / (half_sum + EPSILON)


def binary_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """-t ln s(p) - (1 - t) ln(1 - s(p)) with s(p) = 1 / (1 + e^-p): p is a logit, t a probability in 0 ... 1.

    A logit, because the sigmoid of float32 is 1 from 17 on, where a sample that is wrong would no longer be corrected.
    """
    return functional.binary_cross_entropy_with_logits(prediction, target, reduction="none")


def cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """(t + e) ln((t + e) / (p + e)), and the same of 1 - t and 1 - p: p and t are probabilities, e = 1e-4.

    The cross-entropy less that of a perfect prediction, 0 where p = t; what is not in 0 ... 1 counts as the nearer end.
    For values behind a sigmoid: the gradient before it is about p - t as long as p and 1 - p are above e, where that of
    L2 is 2 (p - t) p (1 - p) and leaves a dark stroke white once the sigmoid is near 1. For t = 0 it is 0.77 at a logit
    of 8, 0.5 at 9.2, 0.06 at 12 and 0 from 17 on. A prediction outside of 0 ... 1 has none.
    """
    p, t = prediction.clamp(0, 1), target.clamp(0, 1)
    return _divergence(p, t) + _divergence(1 - p, 1 - t)


def _divergence(p: Tensor, t: Tensor) -> Tensor:
    return (t + LEAST_PROBABILITY) * ((t + LEAST_PROBABILITY) / (p + LEAST_PROBABILITY)).log()
