# SPDX-License-Identifier: Apache-2.0
"""Rules that hold for all operators: native code runs inside of registered ones, and each of them is checked."""

import ast
import re
from pathlib import Path

import neurfield.ops

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


def test_every_operator_is_checked() -> None:
    names = [name for path in SOURCES for name in re.findall(r'^@operator\(\s*"(\w+)"', path.read_text(), re.MULTILINE)]
    assert len(names) == len(set(names)) > 30
    assert [name for name in names if not re.search(rf"\b{name}\.default", TESTS)] == []
