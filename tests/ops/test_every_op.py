# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for all operators: native code runs inside of registered ones, and each of them is checked."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurfield.ops
from neurfield.ops import GridConfig, KiloConfig
from tests.cases import uniform

SOURCES = sorted(Path(neurfield.ops.__file__).parent.glob("*.py"))
TESTS = "".join(path.read_text() for path in Path(__file__).parents[1].glob("*/test_*.py"))  # those of cuda, too
# sizes, layouts, memory and the thread pool: nothing that is computed from tensors
HOST = {
    "fused_render_scratch_bytes",
    "fused_slots",
    "fused_workspace_sizes",
    "hash_grid_levels",
    "occupancy_scratch_bytes",
    "pooled_bytes",
    "set_num_threads",
}


def native_calls(node: ast.AST) -> set[str]:
    calls = (inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute))
    return {call.attr for call in calls if isinstance(call.value, ast.Name) and call.value.id == "lib"}


def test_native_code_runs_in_operators_only() -> None:
    outside, inside = set(), set()
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            is_operator = isinstance(node, ast.FunctionDef) and any(
                ast.unparse(decorator).startswith("operator(") for decorator in node.decorator_list
            )
            (inside if is_operator else outside).update(native_calls(node))
    assert outside == HOST
    assert len(inside) > 30


def operators() -> list[str]:
    return [name for path in SOURCES for name in re.findall(r'^@operator\(\s*"(\w+)"', path.read_text(), re.MULTILINE)]


def test_every_operator_is_checked() -> None:
    names = operators()
    assert len(names) == len(set(names)) > 30
    assert [name for name in names if not re.search(rf"\b{name}\.default", TESTS)] == []


def backward_calls() -> dict[str, tuple[Tensor, Callable[[Tensor], object]]]:
    """By operator a gradient of the right size, and the call that takes one."""
    library, n = torch.ops.neurfield, 33
    x = uniform(n, 3)
    grid = GridConfig(3, 2, 2, 10, 4)
    layout, scale, table = [3, 2, 2, 10, 4, 0, 0], grid.per_level_scale, uniform(grid.n_params)
    kilo = KiloConfig()
    networks, which = uniform(2, kilo.n_params), torch.zeros(n, dtype=torch.int32)
    shape = (kilo.width, kilo.position_frequencies, kilo.direction_frequencies)
    samples = (uniform(n), x, uniform(n), uniform(n) + 1, torch.tensor([[0, n]]), 0.0)
    made = library.composite(*samples)
    values, frequencies, pairs = uniform(4**3, 5), uniform(6, 3), uniform(n, 10)
    return {
        "trunc_exp_backward": (uniform(n, 3), lambda g: library.trunc_exp_backward(x, g)),
        "frequency_backward": (uniform(3 * n, 8), lambda g: library.frequency_backward(x.view(-1), g)),
        "wavelet_backward": (
            uniform(n, 10), lambda g: library.wavelet_backward(pairs, pairs, g, 20.0, 10.0),
        ),
        "fourier_features_backward": (
            uniform(n, 12), lambda g: library.fourier_features_backward(g, x, frequencies, None),
        ),
        "spherical_harmonics_backward": (uniform(n, 16), lambda g: library.spherical_harmonics_backward(x, g, 4)),
        "modulation_backward": (
            uniform(n, 5), lambda g: library.modulation_backward(g, x, values, [4, 4, 4], True, True),
        ),
        "hash_grid_backward_params": (
            uniform(n, 4), lambda g: library.hash_grid_backward_params(x, g, None, layout, scale),
        ),
        "hash_grid_backward_input": (
            uniform(n, 4), lambda g: library.hash_grid_backward_input(x, table, None, g, None, layout, scale),
        ),
        "hash_grid_backward_backward_input": (
            uniform(n, 4),
            lambda g: library.hash_grid_backward_backward_input(x, table, None, g, x, None, [True] * 3, layout, scale),
        ),
        "kilo_mlp_backward": (
            uniform(n, 4),
            lambda g: library.kilo_mlp_backward(g, x, x, which, networks, *shape, True, True, True),
        ),
        "composite_backward": (
            uniform(n), lambda g: library.composite_backward(*samples, *made, None, None, None, g, None, True),
        ),
    }  # fmt: skip


def test_every_backward_is_called_with_another_size() -> None:
    elsewhere = {"fused_mlp_backward", "fused_mlp_half_backward", "hash_grid_backward_params_exact"}  # with their own
    assert {name for name in operators() if "_backward" in name} - elsewhere == set(backward_calls())


@pytest.mark.parametrize("name", backward_calls())
def test_gradients_of_another_size_are_refused(name: str) -> None:
    """Those of autograd fit; one that does not would be read past its end."""
    gradient, call = backward_calls()[name]
    call(gradient)
    with pytest.raises(ValueError, match=r"(grad_y|grad_h|weights) must hold \d+ values, got \d+"):
        call(gradient[1:].contiguous())
