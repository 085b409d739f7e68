# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import composite as reference
from tests.cases import SIZES, packed_samples, strided, uniform
from tests.compare import EPS, assert_close

FIELDS = ("rgb", "depth", "acc", "weights", "distortion")
INPUTS = ("sigmas", "rgbs", "t_starts", "t_ends")

# Relative error of alpha: 2 roundings of sigma * (t_end - t_start), 2 of the opacity. T is a product of S factors
# (1 - alpha), each with a rounding of its own and one of the product, and with the error of alpha; the latter sums to
# at most 4 sum w <= 4 in every weighted sum (T_s / (1 - alpha_j) <= T_j). The sum itself rounds S times.
# Depth and distortion have t as the largest factor; midpoints and levers add 4 roundings per sample.
COUNTS = [0, 1, 2, 31, 0, 64, 65, 200, 3]
MAX_COUNT = max(COUNTS)
ROUNDINGS = 9 + 3 * MAX_COUNT
T_MAX = 20.0  # above every t of packed_samples(COUNTS)


def call(inputs: dict, early_stop_eps: float = 0.0, background=None) -> ops.Composite:
    return ops.composite(**inputs, background=background, early_stop_eps=early_stop_eps)


def double(inputs: dict) -> dict:
    return {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}


def assert_fields_close(actual, expected, roundings: float = ROUNDINGS, scale: float = 1.0) -> None:
    for name, a, e in zip(FIELDS, actual, expected, strict=True):
        factor = {"depth": T_MAX, "distortion": 6 * T_MAX}.get(name, 1.0)
        assert_close(a, e, roundings, scale=scale * factor)


@pytest.mark.parametrize("n_rays", SIZES)
def test_forward_matches_reference(n_rays: int) -> None:
    inputs = packed_samples([(7 * i) % 23 for i in range(n_rays)])
    background = uniform(n_rays, 3, seed=9)
    expected = reference.composite(**double(inputs), background=background.double(), early_stop_eps=0)
    assert_fields_close(call(inputs, background=background), expected)


def test_long_and_empty_rays_match_reference() -> None:
    inputs = packed_samples(COUNTS)
    expected = reference.composite(**double(inputs), early_stop_eps=0)
    assert_fields_close(call(inputs), expected)
    assert_fields_close(call({name: strided(x) for name, x in inputs.items()}), expected)


def test_early_stop_matches_reference() -> None:
    """In float64 both sides cut at the same sample; float32 may cut one sample apart, which moves at most eps."""
    inputs = packed_samples(COUNTS)
    inputs["sigmas"] *= 10
    full, cut = (reference.composite(**double(inputs), early_stop_eps=eps) for eps in (0, 1e-4))
    assert (cut[3] == 0).sum() > (full[3] == 0).sum(), "no ray was cut"
    assert_fields_close(call(double(inputs), 1e-4), cut)
    assert_fields_close(call(inputs, 1e-4), full, roundings=1, scale=1e-4 / EPS[torch.float32] + ROUNDINGS)


@pytest.mark.parametrize("early_stop_eps", [0, 1e-4])
def test_backward_matches_reference(early_stop_eps: float) -> None:
    """float64: the two agree to roundings (one per term of the suffix sum that the native pass subtracts from)."""
    inputs = double(packed_samples(COUNTS))
    inputs["sigmas"] = inputs["sigmas"] * 10
    background = uniform(3, dtype=torch.float64).requires_grad_()
    upstream = None
    grads = []
    for composite in (reference.composite, ops.composite):
        leaves = [inputs[name].clone().requires_grad_() for name in INPUTS]
        outputs = composite(*leaves, inputs["packed_info"], background, early_stop_eps)
        if upstream is None:
            upstream = [uniform(*x.shape, low=-1, dtype=x.dtype, seed=i) for i, x in enumerate(outputs)]
        grads.append(torch.autograd.grad(outputs, [*leaves, background], upstream))
    for name, expected, actual in zip((*INPUTS, "background"), *grads, strict=True):
        scale = 40 * T_MAX if name.startswith("t_") else T_MAX  # dL/dt carries sigma <= 40
        assert_close(actual, expected, 8 * ROUNDINGS, scale=scale)


def test_float32_gradients_are_near_float64() -> None:
    inputs = packed_samples(COUNTS)
    grads = []
    for values in (inputs, double(inputs)):
        leaves = [values[name].clone().requires_grad_() for name in INPUTS]
        outputs = ops.composite(*leaves, values["packed_info"])
        grads.append(torch.autograd.grad(sum(x.sum() for x in outputs), leaves))
    for name, actual, expected in zip(INPUTS, *grads, strict=True):
        assert_close(actual, expected, 8 * ROUNDINGS, scale=4 * T_MAX if name.startswith("t_") else T_MAX)


@pytest.mark.parametrize("field", FIELDS)
def test_gradcheck(field: str) -> None:
    inputs = packed_samples([3, 0, 1, 6], dtype=torch.float64)
    leaves = [inputs[name].requires_grad_() for name in INPUTS]
    background = uniform(4, 3, dtype=torch.float64, seed=5).requires_grad_()
    assert gradcheck(
        lambda *x: getattr(ops.composite(*x[:4], inputs["packed_info"], x[4], 0.0), field), (*leaves, background)
    )


def test_gradients_are_those_of_the_cut_ray() -> None:
    inputs = packed_samples([40], dtype=torch.float64)
    inputs["sigmas"] = (inputs["sigmas"] + 10).requires_grad_()
    call(inputs, 1e-2).rgb.sum().backward()
    cut = call(inputs, 1e-2).weights == 0
    assert 0 < cut.sum() < 40
    assert (inputs["sigmas"].grad[cut] == 0).all() and (inputs["sigmas"].grad[~cut] != 0).all()
    kept = {name: x[: int((~cut).sum())].detach() for name, x in inputs.items() if name != "packed_info"}
    kept["packed_info"] = torch.tensor([[0, len(kept["sigmas"])]])
    kept["sigmas"].requires_grad_()
    call(kept).rgb.sum().backward()
    torch.testing.assert_close(inputs["sigmas"].grad[~cut], kept["sigmas"].grad, atol=0, rtol=0)


def test_golden_values() -> None:
    """sigma = 1, 2, 5 over 0.1, 0.2, 0.3: alpha = 0.095163, 0.329680, 0.776870, T behind = e^-2."""
    result = call(
        {
            "sigmas": torch.tensor([1.0, 2.0, 5.0]),
            "rgbs": torch.eye(3),
            "t_starts": torch.tensor([0.0, 0.1, 0.3]),
            "t_ends": torch.tensor([0.1, 0.3, 0.6]),
            "packed_info": torch.tensor([[0, 3]]),
        },
        background=torch.ones(3),
    )
    weights = torch.tensor([0.095163, 0.298307, 0.471195])
    torch.testing.assert_close(result.weights, weights, atol=1e-6, rtol=0)
    torch.testing.assert_close(result.rgb[0], weights + math.exp(-2), atol=1e-6, rtol=0)
    torch.testing.assert_close(result.acc, torch.tensor([1 - math.exp(-2)]), atol=1e-6, rtol=0)
    torch.testing.assert_close(result.depth, torch.tensor([0.1 * 0.298307 + 0.3 * 0.471195]), atol=1e-6, rtol=0)
    # midpoints 0.05, 0.2, 0.45: twice the three pairs, plus a third of w^2 delta
    pairs = 0.095163 * 0.298307 * 0.15 + 0.095163 * 0.471195 * 0.40 + 0.298307 * 0.471195 * 0.25
    own = (0.095163**2 * 0.1 + 0.298307**2 * 0.2 + 0.471195**2 * 0.3) / 3
    torch.testing.assert_close(result.distortion, torch.tensor([2 * pairs + own]), atol=1e-6, rtol=0)


def test_homogeneous_medium_absorbs_exponentially() -> None:
    n, sigma = 1000, 0.7
    edges = torch.linspace(0, 2, n + 1)
    inputs = {
        "sigmas": torch.full((n,), sigma),
        "rgbs": torch.ones(n, 3),
        "t_starts": edges[:-1],
        "t_ends": edges[1:],
        "packed_info": torch.tensor([[0, n]]),
    }
    # every step t_end - t_start is exact, so the optical depths telescope to 2 sigma
    expected = torch.tensor([1 - math.exp(-2 * sigma)], dtype=torch.float64)
    assert_close(call(inputs).acc, expected, 9 + 3 * n)
    assert_close(call(inputs).acc, call(inputs).rgb[:, 0].double(), 1)


def test_weights_are_a_sub_distribution() -> None:
    inputs = packed_samples(COUNTS)
    inputs["sigmas"] *= torch.logspace(-6, 6, len(inputs["sigmas"]))
    result = call(inputs)
    assert (result.weights >= 0).all()
    assert (result.acc <= 1 + MAX_COUNT * EPS[torch.float32]).all()
    for (start, count), acc in zip(inputs["packed_info"].tolist(), result.acc, strict=True):
        assert_close(acc, result.weights[start : start + count].double().sum(), MAX_COUNT)


def test_permuting_rays_permutes_results() -> None:
    inputs = packed_samples(COUNTS)
    order = torch.randperm(len(COUNTS), generator=torch.Generator().manual_seed(0))
    permuted = call({**inputs, "packed_info": inputs["packed_info"][order]})
    straight = call(inputs)
    for name in ("rgb", "depth", "acc", "distortion"):
        assert torch.equal(getattr(permuted, name), getattr(straight, name)[order])
    assert torch.equal(permuted.weights, straight.weights)


def test_threads_do_not_change_results() -> None:
    inputs = packed_samples([i % 70 for i in range(500)])
    n_threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            leaf = inputs["sigmas"].clone().requires_grad_()
            result = call({**inputs, "sigmas": leaf}, 1e-4)
            (result.rgb.sum() + result.distortion.sum()).backward()
            results.append((*result, leaf.grad))
    finally:
        torch.set_num_threads(n_threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_edges() -> None:
    empty = call(packed_samples([]))
    assert [list(x.shape) for x in empty] == [[0, 3], [0], [0], [0], [0]]
    background = torch.tensor([0.1, 0.2, 0.3])
    transparent = call(packed_samples([0, 0]), background=background)
    assert torch.equal(transparent.rgb, background.expand(2, 3)) and (transparent.acc == 0).all()

    inputs = packed_samples([3])
    for huge in (1e30, torch.inf):
        inputs["sigmas"] = torch.tensor([huge, 1.0, 1.0], requires_grad=True)
        for eps in (0.0, 1e-4):
            opaque = call(inputs, eps)
            assert torch.equal(opaque.weights, torch.tensor([1.0, 0.0, 0.0]))
            opaque.rgb.sum().backward()
            assert torch.isfinite(inputs["sigmas"].grad).all()
    inputs["sigmas"] = torch.tensor([torch.nan, 1.0, 1.0])
    assert call(inputs, 1e-4).acc.isnan().all(), "NaN must be seen"


def test_samples_in_no_ray_are_ignored() -> None:
    inputs = packed_samples([4, 5])
    inputs["packed_info"] = torch.tensor([[1, 2], [4, 5]])
    inputs["sigmas"].requires_grad_()
    result = call(inputs)
    result.acc.sum().backward()
    outside = torch.tensor([True, False, False, True, False, False, False, False, False])
    assert (result.weights[outside] == 0).all() and (result.weights[~outside] > 0).all()
    assert (inputs["sigmas"].grad[outside] == 0).all() and (inputs["sigmas"].grad[~outside] > 0).all()


def test_opcheck() -> None:
    inputs = packed_samples([3, 0, 2])
    for name in INPUTS:
        inputs[name].requires_grad_()
    args = (*(inputs[name] for name in INPUTS), inputs["packed_info"], 1e-4)
    opcheck(torch.ops.neurfield.composite.default, args)
    outputs = [x.detach() for x in torch.ops.neurfield.composite(*args)]
    samples = [x.detach() for x in args[:5]]
    for upstream, with_grad_t in ((outputs, True), ([outputs[0], None, None, None, None], False)):
        opcheck(torch.ops.neurfield.composite_backward.default, (*samples, 1e-4, *outputs, *upstream, with_grad_t))


def test_errors_say_expected_and_found() -> None:
    inputs = packed_samples([3, 2])
    wrong = {
        r"sigmas must be float32/float64 \[n_samples\], got float16 \[5\]": {"sigmas": torch.ones(5).half()},
        r"rgbs must be float32 \[5, 3\], got float32 \[5, 4\]": {"rgbs": torch.ones(5, 4)},
        r"t_ends must be float32 \[5\], got float64 \[5\]; use .float\(\)": {"t_ends": torch.ones(5).double()},
        r"packed_info must be int64 \[n_rays, 2\], got int32 \[2, 2\]": {"packed_info": inputs["packed_info"].int()},
        r"packed_info\[1\] is \(start 3, count 3\), outside the 5 samples": {
            "packed_info": torch.tensor([[0, 3], [3, 3]])
        },
        r"packed_info\[0\] is \(start -1, count 2\), outside the 5 samples": {"packed_info": torch.tensor([[-1, 2]])},
        r"background must be float32 \[2, 3\], got float32 \[3, 3\]": {"background": torch.ones(3, 3)},
        r"background must be a torch.Tensor, got list": {"background": [1.0, 1.0, 1.0]},
        r"early_stop_eps must be in \[0, 1\), got 1.0": {"early_stop_eps": 1.0},
    }
    for message, change in wrong.items():
        with pytest.raises((TypeError, ValueError), match="composite: " + message):
            ops.composite(**{**inputs, **change})
