# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import gates as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close


def counts(n_nodes: int, n_blocks: int) -> torch.Tensor:
    return (256 * uniform(n_nodes, n_blocks, seed=1)).floor().to(torch.uint8)


@pytest.mark.parametrize("resolution", [(12,), (9, 7), (4, 5, 6), (2, 3, 4, 2)])
@pytest.mark.parametrize("n", SIZES)
def test_matches_reference(n: int, resolution: tuple[int, ...]) -> None:
    x = uniform(n, len(resolution), low=-0.2, high=1.2)
    table = counts(int(torch.tensor(resolution).prod()), 21)
    factors = uniform(21, seed=2) / 125
    factors[13:] = 0
    expected = reference.gates(x.double(), table, factors.double(), resolution)
    y = ops.gates(x, table, factors, resolution)
    # as lookups of modulation: positions round at the resolution, which moves counts of up to 255; two products more
    assert_close(y, expected, 6 + 2 ** len(resolution), 255 / 125 * max(resolution))
    assert not y[:, 13:].any()
    assert torch.equal(ops.gates(strided(x), strided(table), factors, resolution), y)


def test_open_everywhere_is_one() -> None:
    y = ops.gates(uniform(100, 2, dtype=torch.float64), torch.full((30, 4), 25, dtype=torch.uint8),
                  torch.full((4,), 1 / 25, dtype=torch.float64), [5, 6])  # fmt: skip
    torch.testing.assert_close(y, torch.ones_like(y), atol=1e-14, rtol=0)


def test_opcheck() -> None:
    opcheck(torch.ops.neurfield.gates.default, (uniform(7, 2), counts(12, 3), uniform(3), [3, 4]))


def test_errors_say_expected_and_found() -> None:
    x, table, factors = torch.zeros(4, 2), counts(12, 3), torch.zeros(3)
    with pytest.raises(TypeError, match=r"gates: counts must be uint8 \[12, n_blocks\], got float32 \[12, 3\]"):
        ops.gates(x, table.float(), factors, [3, 4])
    with pytest.raises(ValueError, match=r"gates: counts must be uint8 \[12, n_blocks\], got uint8 \[11, 3\]"):
        ops.gates(x, table[1:], factors, [3, 4])
    with pytest.raises(ValueError, match=r"gates: factors must be float32 \[3\], got float32 \[2\]"):
        ops.gates(x, table, factors[1:], [3, 4])
    with pytest.raises(
        ValueError, match=r"expected 1 ... 4 dimensions with a resolution of at least 1 each, got 2 with"
    ):
        ops.gates(x, table, factors, [3, 0])
