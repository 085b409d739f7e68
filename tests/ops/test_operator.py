# SPDX-License-Identifier: Apache-2.0
"""What registering an operator brings: no compiler at the first call, versions of what changes, an error for a missing
derivative.
"""

import subprocess
import sys

import pytest
import torch

from neurfield import ops

START = """
import sys
import torch
from neurfield import ops
from neurfield.fields.radiance_field import FieldConfig
from neurfield.fields.dynamic import DynamicConfig
from neurfield.training.method import OptimizerConfig
from neurfield.training.optimizer import Adam

x = torch.rand(5, 3, requires_grad=True)
ops.frequency(x, 4).sum().backward()
ops.adam_step(*torch.zeros(4, 8), step=1, learning_rate=0.1)
with torch.device("meta"):
    for config in FieldConfig(), DynamicConfig():
        Adam(config.build([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3), OptimizerConfig())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_first_calls_and_plans_of_memory_import_no_compiler() -> None:
    run = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[]\n"


def test_changed_arguments_get_a_new_version() -> None:
    params, grad, exp_avg, exp_avg_sq = (torch.ones(8) for _ in range(4))
    copy = params.half()
    before = [t._version for t in (params, grad, exp_avg, exp_avg_sq, copy)]
    ops.adam_step(params, grad, exp_avg, exp_avg_sq, step=1, learning_rate=0.1, copy=copy)
    changed = [t._version - v for t, v in zip((params, grad, exp_avg, exp_avg_sq, copy), before, strict=True)]
    assert [n > 0 for n in changed] == [True, False, True, True, True]


def test_tensors_without_versions_can_be_changed() -> None:
    with torch.inference_mode():
        state = torch.ones(4, 8)
        ops.adam_step(*state, step=1, learning_rate=0.1)
    assert not state[0].eq(1).any()


def test_operator_without_derivative_says_so() -> None:
    x = torch.rand(5, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(ops.frequency(x, 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="neurfield::frequency_backward has no derivative"):
        grad.sum().backward()


def test_eager_calls_are_differentiated_as_by_the_dispatcher() -> None:
    x = torch.rand(5, 3, requires_grad=True)
    ours, dispatched = ops.trunc_exp(x), torch.ops.neurfield.trunc_exp(x)
    assert ours.grad_fn.name() == "neurfield_trunc_expBackward" and torch.equal(ours, dispatched)
    upstream = torch.rand_like(ours)
    assert torch.equal(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, dispatched)))


def test_nothing_is_kept_where_nothing_is_differentiated() -> None:
    x = torch.rand(5, 3, requires_grad=True)
    assert ops.frequency(x.detach(), 4).grad_fn is None
    with torch.no_grad():
        assert ops.frequency(x, 4).grad_fn is None
