# SPDX-License-Identifier: Apache-2.0
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from neurfield import losses, ops
from neurfield.errors import UserError
from neurfield.losses import LOSSES, REGULARIZERS
from tests.cases import packed_samples, uniform
from tests.compare import assert_close


def luminance(p: Tensor) -> Tensor:
    return (0.299 * p[..., 0] + 0.587 * p[..., 1] + 0.114 * p[..., 2])[..., None]


def divergence(p: Tensor, t: Tensor) -> Tensor:
    """Cross-entropy less entropy."""
    e = 1e-4
    entropy = -(t + e) * (t + e).log() - (1 - t + e) * (1 - t + e).log()
    return -(t + e) * (p + e).log() - (1 - t + e) * (1 - p + e).log() - entropy


# numerator and denominator of each definition; the latter is constant in the gradient
DEFINITIONS: dict[str, tuple[Callable, Callable]] = {
    "L1": (lambda p, t: (p - t).abs(), lambda p, t: torch.ones_like(p)),
    "L2": (lambda p, t: (p - t) ** 2, lambda p, t: torch.ones_like(p)),
    "Huber": (
        lambda p, t: 2 * torch.nn.functional.huber_loss(p, t, reduction="none", delta=0.1),
        lambda p, t: torch.ones_like(p),
    ),
    "RelativeL1": (lambda p, t: (p - t).abs(), lambda p, t: p.abs() + 0.01),
    "RelativeL2": (lambda p, t: (p - t) ** 2, lambda p, t: p**2 + 0.01),
    "RelativeL2Luminance": (lambda p, t: (p - t) ** 2, lambda p, t: (luminance(p) ** 2 + 0.01).expand_as(p)),
    "MAPE": (lambda p, t: (p - t).abs(), lambda p, t: t.abs() + 0.01),
    "SMAPE": (lambda p, t: (p - t).abs(), lambda p, t: 0.5 * (p.abs() + t.abs()) + 0.01),
    "BinaryCrossEntropy": (
        lambda p, t: -t * torch.sigmoid(p).log() - (1 - t) * torch.sigmoid(-p).log(),
        lambda p, t: torch.ones_like(p),
    ),
    "CrossEntropy": (lambda p, t: divergence(p.clamp(0, 1), t.clamp(0, 1)), lambda p, t: torch.ones_like(p)),
}


def test_every_loss_is_defined_here() -> None:
    assert DEFINITIONS.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient(name: str) -> None:
    prediction = uniform(100, 3, low=-1, dtype=torch.float64).requires_grad_()
    target = uniform(100, 3, low=-1, dtype=torch.float64, seed=1)
    numerator, denominator = (f(prediction, target) for f in DEFINITIONS[name])
    expected = numerator / denominator.detach()
    value = losses.create({"otype": name})(prediction, target)
    assert value.shape == prediction.shape
    grads = [torch.autograd.grad(x.sum(), prediction)[0] for x in (value, expected)]
    # a handful of operations at the size of the largest value, |p - t| / epsilon <= 200
    assert_close(value.detach(), expected.detach(), 16, scale=200)
    assert_close(grads[0], grads[1], 16, scale=200)


def test_huber_is_l2_near_zero_and_linear_far_away() -> None:
    """Written out: d^2 up to 0.1, then 0.2 |d| - 0.01; continuous with its slope."""
    huber = losses.create({"otype": "Huber"})
    d = torch.tensor([0.0, -0.05, 0.1, 0.5, -2.0], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.0025, 0.01, 0.09, 0.39], dtype=torch.float64)
    torch.testing.assert_close(huber(d, torch.zeros_like(d)), expected, atol=1e-15, rtol=0)
    wide = losses.create({"otype": "Huber", "alpha": 1.0})
    torch.testing.assert_close(wide(d, torch.zeros_like(d))[:4], d[:4] ** 2, atol=1e-15, rtol=0)


def test_cross_entropy_of_logits_corrects_what_is_surely_wrong() -> None:
    """At 40 the sigmoid of float32 is 1: the loss is 40 where it should be 0, and its slope still 1."""
    p = torch.tensor([40.0, -40.0, 40.0, 0.0], requires_grad=True)
    value = losses.create({"otype": "BinaryCrossEntropy"})(p, torch.tensor([0.0, 1.0, 1.0, 0.5]))
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.tensor([40.0, 40.0, 0.0, math.log(2)]))
    torch.testing.assert_close(p.grad, torch.tensor([1.0, -1.0, 0.0, 0.0]))


def test_cross_entropy_of_probabilities_corrects_what_a_sigmoid_hides() -> None:
    """A dark value at a logit of 8: L2 has a slope of 2 p^2 (1 - p) = 0.0007 there, the cross-entropy of 0.77."""
    slopes = []
    for name in ("L2", "CrossEntropy"):
        logit = torch.tensor([8.0], dtype=torch.float64, requires_grad=True)
        losses.create({"otype": name})(logit.sigmoid(), torch.zeros(1, dtype=torch.float64)).backward()
        slopes.append(float(logit.grad))
    p = 1 / (1 + math.exp(-8))
    # with e = 1e-4 in both terms: p (1 - p) ((1 + e) / (1 - p + e) - e / (p + e))
    expected = p * (1 - p) * ((1 + 1e-4) / (1 - p + 1e-4) - 1e-4 / (p + 1e-4))
    assert slopes == pytest.approx([2 * p**2 * (1 - p), expected], rel=1e-12)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "BinaryCrossEntropy"])
def test_equal_inputs_give_zero_loss_and_finite_gradient(name: str) -> None:
    x = torch.zeros(4, 3, requires_grad=True)
    value = losses.create({"otype": name})(x, torch.zeros(4, 3))
    value.sum().backward()
    assert (value == 0).all() and (x.grad == 0).all()


def test_opacity_entropy() -> None:
    rays = ops.composite(**packed_samples([0, 3, 60]))
    acc = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    value = losses.opacity_entropy(rays._replace(acc=acc))
    value.sum().backward()
    torch.testing.assert_close(value[1:].detach(), torch.tensor([0.5 * math.log(2), 0.0]))
    assert 0 <= value[0] < 2e-5 and torch.isfinite(acc.grad).all()


@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizers_are_per_ray_and_differentiable_in_density(name: str) -> None:
    inputs = packed_samples([3, 1, 6], dtype=torch.float64)
    inputs["sigmas"].requires_grad_()

    def regularize(sigmas: Tensor) -> Tensor:
        return REGULARIZERS[name](ops.composite(**{**inputs, "sigmas": sigmas}))

    value = regularize(inputs["sigmas"])
    assert value.shape == (3,) and (value > 0).all()
    assert gradcheck(regularize, inputs["sigmas"])


def test_errors_name_the_nearest_key() -> None:
    wrong = {
        r"unknown loss 'Hubber', did you mean 'Huber'\? \(valid: L1, L2": {"otype": "Hubber"},
        r"loss Huber: unknown key 'alfa', did you mean 'alpha'\?": {"otype": "Huber", "alfa": 1},
        r"loss L2: unknown key 'alpha'": {"otype": "L2", "alpha": 1},
        r"loss Huber: alpha: expected at least 1e-06, got '0'": {"otype": "Huber", "alpha": 0},
        r"loss: expected a key 'otype' with a name, got None": {},
    }
    for message, config in wrong.items():
        with pytest.raises(UserError, match=message):
            losses.create(config)
    with pytest.raises(ValueError, match=r"RelativeL2Luminance: prediction must be \[..., 3\], got \[4\]"):
        losses.create({"otype": "RelativeL2Luminance"})(torch.zeros(4), torch.zeros(4))


@pytest.mark.parametrize("name", LOSSES)
def test_two_shapes_are_refused(name: str) -> None:
    """A column and a row would be broadcast to all pairs, and the mean of those is a number, too."""
    with pytest.raises(ValueError, match=rf"loss {name}: expected .* of one shape, got \[5, 1\] and \[5\]"):
        losses.create({"otype": name})(torch.rand(5, 1), torch.rand(5))
