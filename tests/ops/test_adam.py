# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import adam as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close

RATES = {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-15}
# Moments add two products (3 roundings); the update takes a root, a sum, a quotient, a product and a difference, whose
# size is at most learning_rate * sqrt(1 / (1 - beta2)) / (1 - beta1) < 1 while |w| <= 1.
ROUNDINGS = 12


class State:
    """Parameters with their moments; `shared` gradients are exactly zero in a third of the places."""

    def __init__(self, n: int, dtype=torch.float32, own_steps: bool = False, half: bool = False):
        self.params = uniform(n, low=-1, dtype=dtype)
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.params), torch.zeros_like(self.params)
        self.steps = torch.zeros(n, dtype=torch.int16) if own_steps else None
        self.copy = self.params.half() if half else None

    def step(self, grad: torch.Tensor, step: int, **options) -> None:
        ops.adam_step(self.params, grad, self.exp_avg, self.exp_avg_sq, step=step, steps=self.steps, copy=self.copy,
                      **{**RATES, **options})  # fmt: skip


def gradient(n: int, seed: int, dtype=torch.float32) -> torch.Tensor:
    grad = uniform(n, low=-1, dtype=dtype, seed=seed)
    grad[uniform(n, seed=seed + 100) < 0.33] = 0
    return grad


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("skip_zero", "own_steps", "l2_reg"), [(False, False, 1e-2), (True, False, 0), (True, True, 0)]
)
def test_steps_match_reference(n: int, dtype: torch.dtype, skip_zero: bool, own_steps: bool, l2_reg: float) -> None:
    state = State(n, dtype, own_steps, half=True)
    w, m, v = (t.to(torch.float64, copy=True) for t in (state.params, state.exp_avg, state.exp_avg_sq))
    count = torch.zeros(n, dtype=torch.int64)
    for step in range(1, 8):
        grad = gradient(n, step, dtype)
        state.step(grad, step, skip_zero=skip_zero, l2_reg=l2_reg)
        count += grad != 0
        k = count.clamp_min(1) if own_steps else step
        w, m, v = reference.adam_step(w, grad.double(), m, v, k, 0.01, (0.9, 0.99), 1e-15, l2_reg, skip_zero)
        for actual, expected in ((state.params, w), (state.exp_avg, m), (state.exp_avg_sq, v)):
            assert_close(actual, expected, step * ROUNDINGS)
    if own_steps:
        assert torch.equal(state.steps.long(), count)
    assert torch.equal(state.copy, state.params.half())


def test_first_step_is_the_learning_rate_and_untouched_entries_stay() -> None:
    state = State(4, own_steps=True)
    before = state.params.clone()
    for step in range(1, 1001):
        grad = torch.tensor([1e-6, 0.0, -3.0, 0.0])
        grad[1] = 5.0 if step == 1000 else 0.0
        state.step(grad, step, skip_zero=True)
        if step in (1, 1000):
            moved = state.params - before
        if step == 1:
            torch.testing.assert_close(moved, torch.tensor([-0.01, 0, 0.01, 0]), rtol=1e-5, atol=0)
    # seen for the first time in step 1000: bias-corrected as in its first step
    torch.testing.assert_close(moved[1], torch.tensor(-0.01), rtol=1e-5, atol=0)
    assert moved[3] == 0 and state.exp_avg[3] == 0


@pytest.mark.parametrize("beta2", [0.99, 0.999])
def test_own_counts_saturate_without_a_jump(beta2: float) -> None:
    state = State(64, own_steps=True)
    assert state.steps is not None
    for count in (1500, 1800, 17000, 18000, 32765, 32766, 32767):
        state.steps.fill_(count)
        state.exp_avg.fill_(0.3), state.exp_avg_sq.fill_(0.2)
        before, grad = state.params.clone().double(), torch.ones(64)
        moments = torch.full((64,), 0.3).double(), torch.full((64,), 0.2).double()
        state.step(grad, 1, skip_zero=True, beta2=beta2)
        k = min(count + 1, 32767)
        w, _, _ = reference.adam_step(before, grad.double(), *moments, k, 0.01, (0.9, beta2), 1e-15, 0, True)
        assert_close(state.params, w, ROUNDINGS)
        assert (state.steps == k).all()


def test_any_number_of_threads_gives_the_same_numbers() -> None:
    threads, results = torch.get_num_threads(), []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            state = State(100_000, own_steps=True, half=True)
            for step in (1, 2):
                state.step(gradient(100_000, step), step, skip_zero=True)
            results.append(state.params)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.parametrize(("own_steps", "half"), [(False, False), (True, True)])
def test_hash_grid_adam_step_equals_gradient_then_step(own_steps: bool, half: bool) -> None:
    config = ops.GridConfig(3, 6, 2, 10, 4, 1.5)
    x = uniform(500, 3)
    scratch = torch.zeros(torch.get_num_threads(), 2 * 1024)
    whole, parts = (State(config.n_params, torch.float32, own_steps, half) for _ in range(2))
    for step in (1, 2, 3):
        grad_y = uniform(500, config.n_output_dims, low=-1, seed=step)
        grad_y[:, 6:] = 0 if step == 2 else grad_y[:, 6:]  # levels that a step does not touch
        ops.hash_grid_adam_step(x, grad_y, whole.params, whole.exp_avg, whole.exp_avg_sq, scratch, config, step=step,
                                steps=whole.steps, copy=whole.copy, **RATES)  # fmt: skip
        leaf = parts.params.clone().requires_grad_()
        (grad,) = torch.autograd.grad(ops.hash_grid(x, leaf, config), leaf, grad_y)
        parts.step(grad, step, skip_zero=True)
        assert not scratch.any()
        for name in ("params", "exp_avg", "exp_avg_sq", "steps", "copy"):
            a, b = getattr(whole, name), getattr(parts, name)
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("own_steps", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_clock_on_the_device_gives_the_same_steps_or_none(own_steps: bool, dtype: torch.dtype) -> None:
    by_clock, by_value = State(300, dtype, own_steps, half=True), State(300, dtype, own_steps, half=True)
    options = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-15, "skip_zero": own_steps}
    for number in (1, 2, 0, 3):
        grad = gradient(300, number, dtype)
        clock = torch.tensor([number, 0.01 * (number + 1)], dtype=torch.float64)
        ops.adam_step_by_clock(clock, by_clock.params, grad, by_clock.exp_avg, by_clock.exp_avg_sq,
                               steps=by_clock.steps, copy=by_clock.copy, **options)  # fmt: skip
        if number:
            by_value.step(grad, number, learning_rate=0.01 * (number + 1), skip_zero=own_steps)
        for a, b in zip(vars(by_clock).values(), vars(by_value).values(), strict=True):
            assert a is b is None or torch.equal(a, b)
    with pytest.raises(TypeError, match=r"adam_step_by_clock: clock must be float64 \[2\], got float32 \[2\]"):
        ops.adam_step_by_clock(torch.zeros(2), *(torch.zeros(3) for _ in range(4)))


def test_opcheck() -> None:
    state = State(33, own_steps=True, half=True)
    tensors = (state.params, gradient(33, 1), state.exp_avg, state.exp_avg_sq)
    rates = [0.01, 0.9, 0.99, 1e-15, 0.0]
    opcheck(torch.ops.neurfield.adam_step.default, (*tensors, state.steps, state.copy, rates, 1, True))
    opcheck(torch.ops.neurfield.adam_step.default, (*tensors, None, None, rates, 1, False))
    clock = torch.tensor([3.0, 0.01], dtype=torch.float64)
    opcheck(torch.ops.neurfield.adam_step.default, (*tensors, state.steps, None, rates, 1, True, clock))
    config = ops.GridConfig(2, 2, 1, 4, 4)
    grid = State(config.n_params, own_steps=True)
    tensors = (grid.params, grid.exp_avg, grid.exp_avg_sq, grid.steps, None, torch.zeros(8, 16))
    inputs = (uniform(7, 2), uniform(7, 2, seed=1), *tensors, config.layout, config.per_level_scale, rates, 1)
    opcheck(torch.ops.neurfield.hash_grid_adam_step.default, inputs)


def test_errors_say_expected_and_found() -> None:
    state = State(4)
    with pytest.raises(ValueError, match=r"adam_step: grad must be float32 \[4\], got float32 \[5\]"):
        state.step(torch.zeros(5), 1)
    with pytest.raises(TypeError, match=r"adam_step: grad must be float32 \[4\], got float64 \[4\]"):
        state.step(torch.zeros(4).double(), 1)
    with pytest.raises(ValueError, match="adam_step: step must be at least 1, got 0"):
        state.step(torch.zeros(4), 0)
    with pytest.raises(ValueError, match=r"adam_step: beta2 must be in \[0, 1\), got 1.0"):
        state.step(torch.zeros(4), 1, beta2=1.0)
    with pytest.raises(ValueError, match="adam_step: learning_rate must be at least 0, got nan"):
        state.step(torch.zeros(4), 1, learning_rate=float("nan"))
    state.copy = torch.zeros(4)
    with pytest.raises(TypeError, match=r"adam_step: copy must be float16 \[4\], got float32 \[4\]"):
        state.step(torch.zeros(4), 1)
    state.copy, state.params = None, strided(state.params)
    with pytest.raises(ValueError, match=r"params changes in place and must be contiguous, got strides \(2,\)"):
        state.step(torch.zeros(4), 1)
    config = ops.GridConfig(2, 2, 1, 4, 4)
    flat = [torch.zeros(config.n_params) for _ in range(3)]
    with pytest.raises(ValueError, match=r"grad_scratch must be float32 \[n_threads, 16\], got float32 \[1, 8\]"):
        ops.hash_grid_adam_step(torch.zeros(1, 2), torch.zeros(1, 2), *flat, torch.zeros(1, 8), config, step=1,
                                learning_rate=0.1)  # fmt: skip


def test_strided_gradients_are_copied() -> None:
    one, other = State(50), State(50)
    grad = gradient(50, 3)
    one.step(grad, 1)
    other.step(strided(grad), 1)
    assert torch.equal(one.params, other.params)
