# SPDX-License-Identifier: Apache-2.0
"""Who reads a table in its float16 copy reads the table, whoever has changed it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import vector_to_parameters

from neurfield import encodings, ops
from neurfield.encodings import Grid
from neurfield.ops.half_copy import _COPIES
from tests.cases import uniform


def make_grid() -> Grid:
    grid = encodings.create(2, {"otype": "HashGrid", "n_levels": 2, "log2_hashmap_size": 8, "init_range": 1.0})
    assert isinstance(grid, Grid)
    grid.reads_half = True
    return grid


def agrees(grid: Grid, x: Tensor) -> bool:
    """Whether a grid that reads the copy gives what one gives that has the rounded table."""
    return torch.equal(grid(x), ops.hash_grid(x, grid.params.detach().half(), grid.config))


def replace_data(grid: Grid) -> None:
    grid.params.data = -grid.params.data


def add_in_place(grid: Grid) -> None:
    with torch.no_grad():
        grid.params.add_(1)


def write_past_torch(grid: Grid) -> None:
    """As docs/interop.md says."""
    grid.params.data.copy_(-grid.params.detach())
    torch.autograd.graph.increment_version(grid.params)


CHANGES: dict[str, Callable[[Grid], object]] = {
    "in place": add_in_place,
    "initialised": lambda grid: nn.init.normal_(grid.params),
    "another state": lambda grid: grid.load_state_dict({"params": -grid.params.detach()}),
    "other memory": replace_data,
    "from a vector": lambda grid: vector_to_parameters(-grid.params.detach(), [grid.params]),
    "past torch": write_past_torch,
    "rounded and back": lambda grid: grid.bfloat16().float(),  # perhaps to where it was
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_seen(change: Callable[[Grid], object]) -> None:
    grid, x = make_grid(), uniform(50, 2)
    before = grid(x)
    change(grid)
    assert agrees(grid, x) and not torch.equal(grid(x), before)


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad"])
@pytest.mark.parametrize("fused", [False, True])
def test_steps_of_torch_are_seen(name: str, fused: bool) -> None:
    """Fused optimisers change parameters and leave their versions as they are."""
    grid, x = make_grid(), uniform(50, 2)
    optimizer = getattr(torch.optim, name)(grid.parameters(), lr=0.1, fused=fused)
    for _ in range(3):
        before = grid(x)
        before.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert agrees(grid, x) and not torch.equal(grid(x), before)


def test_nothing_is_copied_while_nothing_changes() -> None:
    grid, x = make_grid(), uniform(50, 2)
    grid(x).sum().backward()
    copy = ops.half_copy(grid.params)
    copy.zero_()
    for _ in range(2):
        grid(x)
    assert ops.half_copy(grid.params) is copy and not copy.any()


def test_renewing_after_a_gradient_leaves_other_backward_passes_whole() -> None:
    """As of two losses, one of which is differentiated before a third is computed."""
    grid, x = make_grid(), uniform(50, 2).requires_grad_()
    first, second = grid(x).sum(), grid(x).square().sum()
    expected = torch.autograd.grad(second, (x, grid.params), retain_graph=True)
    first.backward()
    grid(x)
    for found, gradient in zip(torch.autograd.grad(second, (x, grid.params)), expected, strict=True):
        assert torch.equal(found, gradient)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_tables_of_torch_func_are_read_rounded() -> None:
    grid, x = make_grid(), uniform(50, 2)

    def loss(table: Tensor) -> Tensor:
        return functional_call(grid, {"params": table}, (x,)).square().sum()

    tables = torch.stack([grid.params.detach(), -2 * grid.params.detach()])
    assert torch.equal(torch.vmap(loss)(tables), torch.stack([loss(table) for table in tables]))
    (expected,) = torch.autograd.grad(loss(grid.params), grid.params)
    assert torch.equal(torch.func.grad(loss)(grid.params.detach()), expected)


def test_copies_of_inference_mode_can_be_trained_with() -> None:
    grid, x = make_grid(), uniform(50, 2)
    with torch.inference_mode():
        expected = grid(x)
        add_in_place(grid)
        assert agrees(grid, x)
        assert agrees(make_grid(), x)  # a table that has no version
    y = grid(x)
    y.sum().backward()
    assert not torch.equal(y, expected) and grid.params.grad.abs().sum() > 0


def test_graphs_of_the_compiler_read_the_rounded_table() -> None:
    grid, x = make_grid(), uniform(50, 2)
    compiled = torch.compile(grid, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), grid(x))
    add_in_place(grid)
    assert torch.equal(compiled(x), grid(x)) and agrees(grid, x)


def test_copy_of_another_device_is_made_anew() -> None:
    """As of a module that has moved."""
    table = uniform(64, low=-1)
    ops.half_copy(table)
    _COPIES[table].values = torch.empty(64, dtype=torch.float16, device="meta")
    table.data = table.clone()
    assert torch.equal(ops.half_copy(table), table.half())
