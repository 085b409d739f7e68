# SPDX-License-Identifier: Apache-2.0
from itertools import product

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.ops import GridConfig
from neurfield.ops._common import not_deterministic
from neurfield.reference import hash_grid as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import EPS, assert_close

KINDS = list(product(("Hash", "Dense", "Tiled"), ("Linear", "Smoothstep", "Nearest")))


def small(dims: int = 3, features: int = 2, kind: str = "Hash", interpolation: str = "Linear") -> GridConfig:
    """Five levels of 4 ... 16 vertices per axis; with Hash, the finer ones are hashed for dims > 1."""
    return GridConfig(dims, 5, features, 5, 4, 16 ** (1 / 4) / 2**0.5, kind, interpolation)


def reference_levels(c: GridConfig) -> list[reference.Level]:
    return reference.levels(
        c.n_input_dims, c.n_levels, c.log2_hashmap_size, c.base_resolution, c.per_level_scale, c.type
    )


def reference_grid(x, params, c: GridConfig, max_level=None):
    table = params.view(-1, c.n_features_per_level)
    return reference.hash_grid(x, table, reference_levels(c), c.interpolation, max_level)


def inside_cells(n: int, c: GridConfig, dtype=torch.float64, seed: int = 0) -> torch.Tensor:
    """Positions that stay in their cells of all levels when moved by 1e-4: gradcheck must not step over a kink."""
    x = uniform(40 * n + 40, c.n_input_dims, dtype=torch.float64, seed=seed)
    keep = torch.ones(x.shape[0], dtype=torch.bool)
    for level in c.levels():
        fraction = (x * level.scale + 0.5) % 1
        keep &= ((fraction > 2e-3) & (fraction < 1 - 2e-3)).all(dim=1)
    return x[keep][:n].to(dtype)


def bound(c: GridConfig, amplitude: float) -> float:
    """Error of fp32 features against float64 ones. The position rounds at `scale` (1 unit) and its fraction again; per
    axis the feature moves by at most 2 * amplitude (3 * with smoothstep, whose slope reaches 1.5, plus 4 roundings).
    Each of the up to 4 nested lerps adds 3 roundings of values up to 2 * amplitude."""
    scale = max(level.scale for level in c.levels()) + 1
    return EPS[torch.float32] * amplitude * c.n_input_dims * (3 * scale + 3 * 2 + 4)


GOLDEN_LEVELS = [
    (GridConfig(3, 16, 2, 19, 16, 1.381912879967776),
     "16 23 31 43 59 81 112 154 213 295 407 562 777 1073 1483 2048", 12196240),
    (GridConfig(3, 16, 2, 19, 16, 1.4472692012786865),
     "16 24 34 49 71 102 148 213 308 446 646 934 1352 1956 2831 4096", 12599920),
    (GridConfig(3, 8, 4, 19, 16, 2.0), "16 32 64 128 256 512 1024 2048", 11681792),
    (GridConfig(3, 16, 2, 19, 16, 2.0), " ".join(str(16 * 2**k) for k in range(16)), 14229504),
    (GridConfig(2, 16, 2, 24, 16, 1.515716566510398),
     "16 25 37 56 85 128 195 295 446 676 1024 1553 2353 3566 5405 8192", 112155552),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(GOLDEN_LEVELS)))
def test_golden_levels(case: int) -> None:
    config, resolutions, n_params = GOLDEN_LEVELS[case]
    assert [level.resolution for level in config.levels()] == [int(r) for r in resolutions.split()]
    assert config.n_params == n_params
    assert [tuple(level) for level in config.levels()] == [tuple(level) for level in reference_levels(config)]


def test_first_golden_configuration_is_dense_up_to_level_4() -> None:
    levels = GOLDEN_LEVELS[0][0].levels()
    assert [level.hashed for level in levels] == [False] * 5 + [True] * 11
    assert [level.n_entries for level in levels[:6]] == [4096, 12168, 29792, 79512, 205384, 2**19]


@pytest.mark.parametrize(("kind", "dims"), list(product(("Hash", "Dense", "Tiled"), (1, 2, 3, 4))))
def test_levels_equal_the_definition(kind: str, dims: int) -> None:
    for base, scale, n_levels in ((16, 1.5, 6), (3, 1.3, 8), (2, 2.0, 5)):
        config = GridConfig(dims, n_levels, 2, 12, base, scale, kind)
        assert [tuple(level) for level in config.levels()] == [tuple(level) for level in reference_levels(config)]


def read_index(config: GridConfig, vertex: tuple[int, ...]) -> int:
    """The entry that stores a vertex of a one-level grid, read from a table that holds its own indices."""
    (level,) = config.levels()
    x = (torch.tensor([vertex], dtype=torch.float64) - 0.25) / level.scale
    return int(ops.hash_grid(x, torch.arange(level.n_entries, dtype=torch.float64), config))


@pytest.mark.parametrize(
    ("vertex", "log2_size", "index"),
    [
        ((1, 2, 3), 19, 128476),
        ((100, 200, 300), 19, 110768),
        ((511, 511, 511), 19, 474075),
        ((0, 1, 0), 19, 489905),
        ((0, 0, 1), 19, 153493),
        ((12, 34), 15, 10638),
    ],
)
def test_golden_hash(vertex: tuple[int, ...], log2_size: int, index: int) -> None:
    config = GridConfig(len(vertex), 1, 1, log2_size, 512, interpolation="Nearest")
    assert read_index(config, vertex) == index


@pytest.mark.parametrize(("kind", "interpolation"), KINDS)
@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_forward_matches_reference(kind: str, interpolation: str, dims: int, features: int) -> None:
    config = small(dims, features, kind, interpolation)
    params = uniform(config.n_params, low=-1)
    for n in (0, 1, 33) if dims != 3 else SIZES:
        # away from cell borders, where Nearest is discontinuous; the others are continuous and tested everywhere below
        x = inside_cells(n, config, torch.float32)
        expected = reference_grid(x.double(), params.double(), config)
        for inputs in (x, strided(x)):
            actual = ops.hash_grid(inputs, params, config)
            assert_close(actual, expected, 1, scale=bound(config, 1.0) / EPS[torch.float32])
            exact = ops.hash_grid(inputs.double(), params.double(), config)
            torch.testing.assert_close(exact, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("interpolation", ["Linear", "Smoothstep"])
def test_forward_at_the_paper_sizes(interpolation: str) -> None:
    config = GridConfig(3, 16, 2, 19, 16, 1.381912879967776, interpolation=interpolation)
    params = uniform(config.n_params, low=-1)
    x = torch.cat([uniform(3000, 3), torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 1], [0.5, 1, 1]])])
    expected = reference_grid(x.double(), params.double(), config)
    assert_close(ops.hash_grid(x, params, config), expected, 1, scale=bound(config, 1.0) / EPS[torch.float32])
    half = params.half()
    expected = reference_grid(x.double(), half.double(), config)
    for actual in (ops.hash_grid(x, half, config), ops.hash_grid(x, params, config, half_copy=half)):
        assert_close(actual, expected, 1, scale=bound(config, 1.0) / EPS[torch.float32])


@pytest.mark.parametrize("features", [1, 4, 8])
def test_float16_tables_of_other_widths(features: int) -> None:
    config = small(3, features)
    params, x = uniform(config.n_params, low=-1).half(), uniform(257, 3)
    expected = reference_grid(x.double(), params.double(), config)
    assert_close(ops.hash_grid(x, params, config), expected, 1, scale=bound(config, 1.0) / EPS[torch.float32])


@pytest.mark.parametrize(("kind", "interpolation"), KINDS)
def test_constant_tables_give_constants(kind: str, interpolation: str) -> None:
    config = small(3, 2, kind, interpolation)
    y = ops.hash_grid(uniform(100, 3, low=-3, high=4), torch.full((config.n_params,), 0.7), config)
    assert torch.equal(y, torch.full_like(y, 0.7))


def test_positions_outside_are_valid_and_non_finite_ones_give_nan() -> None:
    for kind, interpolation in KINDS:
        config = small(2, 2, kind, interpolation)
        params = uniform(config.n_params, low=-1)
        bad = [[float("nan"), 0.5], [0.5, float("inf")], [-float("inf"), 0.5], [1e30, 0.5], [-0.02, 1.7]]
        y = ops.hash_grid(torch.tensor(bad), params, config)
        assert y[:3].isnan().all() and y[3:].isfinite().all()
        x = inside_cells(50, config, torch.float32) * 3 - 1
        expected = reference_grid(x.double(), params.double(), config)
        if interpolation != "Nearest":
            assert_close(ops.hash_grid(x, params, config), expected, 1, scale=3 * bound(config, 1.0) / 2.0**-24)


@pytest.mark.parametrize(("kind", "interpolation"), KINDS)
@pytest.mark.parametrize(("dims", "features"), [(1, 2), (2, 1), (3, 2), (3, 8), (4, 4)])
def test_backward_matches_reference(kind: str, interpolation: str, dims: int, features: int) -> None:
    config = small(dims, features, kind, interpolation)
    n = 129
    x = inside_cells(n, config, torch.float32)
    params = uniform(config.n_params, low=-1)
    grad_y = uniform(x.shape[0], config.n_output_dims, low=-1, seed=1)
    grads = []
    for encode, dtype in ((ops.hash_grid, torch.float32), (reference_grid, torch.float64)):
        inputs = [t.to(dtype, copy=True).requires_grad_() for t in (x, params)]
        y = encode(*inputs, config)
        grads.append(torch.autograd.grad(y, inputs, grad_y.to(dtype), allow_unused=True))
    (grad_x, grad_params), (expected_x, expected_params) = grads
    # The weights carry the error of `bound`; an entry sums at most n of them, rounding each time at up to n.
    scale = n * (bound(config, 1.0) / EPS[torch.float32] + n)
    assert_close(grad_params, expected_params, 1, scale=scale)
    if interpolation == "Nearest":
        assert not grad_x.any()
        return
    # d y / d x is the scale of the level times such a weight, over all levels, features and corners.
    terms = config.n_output_dims * 2**dims * 2
    steepest = max(level.scale for level in config.levels()) * (6 if interpolation == "Smoothstep" else 1)
    assert_close(grad_x, expected_x, 1, scale=steepest * (terms + features * bound(config, 1.0) * terms / 2.0**-24))


def test_max_level_hides_fine_levels() -> None:
    config = small()
    params, x = uniform(config.n_params, low=-1), uniform(100, 3)
    full = ops.hash_grid(x, params, config).view(100, 5, 2)
    y = ops.hash_grid(x, params, config, max_level=0.5).view(100, 5, 2)
    assert torch.equal(y[:, :3], full[:, :3]) and not y[:, 3:].any()  # 0, 1, 2 < 2.5
    assert torch.equal(ops.hash_grid(x, params, config, max_level=1.0).view_as(full), full)
    assert not ops.hash_grid(x, params, config, max_level=0.0).any()
    each = uniform(100, high=1.2)
    y = ops.hash_grid(x, params, config, max_level=each).view(100, 5, 2)
    visible = torch.arange(5) < each[:, None] * 5
    assert torch.equal(y, full * visible[:, :, None])


def test_max_level_masks_gradients() -> None:
    config = small()
    x, params = inside_cells(60, config), uniform(config.n_params, low=-1, dtype=torch.float64)
    grad_y = uniform(60, config.n_output_dims, dtype=torch.float64, seed=2)
    for max_level in (torch.tensor([0.4]), uniform(60, high=1.2)):
        results = []
        for encode in (ops.hash_grid, reference_grid):
            inputs = [x.clone().requires_grad_(), params.clone().requires_grad_(), grad_y.clone().requires_grad_()]
            mask = 0.4 if encode is ops.hash_grid and max_level.numel() == 1 else max_level
            y = encode(inputs[0], inputs[1], config, mask)
            first = torch.autograd.grad(y, inputs[:2], inputs[2], create_graph=True)
            second = torch.autograd.grad(first[0].pow(2).sum(), inputs)
            results.append([*first, *second])
        for actual, expected in zip(*results, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kind", "interpolation"), KINDS)
@pytest.mark.parametrize(("dims", "features"), [(1, 2), (2, 1), (3, 2), (4, 4)])
def test_gradcheck(kind: str, interpolation: str, dims: int, features: int) -> None:
    config = small(dims, features, kind, interpolation)
    params = uniform(config.n_params, low=-1, dtype=torch.float64)
    x = inside_cells(3, config).requires_grad_()
    assert gradcheck(lambda x: ops.hash_grid(x, params, config), x, eps=1e-6)
    few = torch.arange(0, config.n_params, max(1, config.n_params // 40))

    def of_some_params(values):
        return ops.hash_grid(x.detach(), params.index_put((few,), values), config)

    assert gradcheck(of_some_params, params[few].clone().requires_grad_())


@pytest.mark.parametrize(("kind", "interpolation"), KINDS)
@pytest.mark.parametrize(("dims", "features"), [(1, 1), (2, 2), (3, 2), (4, 1)])
def test_second_order_through_the_input_gradient(kind: str, interpolation: str, dims: int, features: int) -> None:
    config = small(dims, features, kind, interpolation)
    params = uniform(config.n_params, low=-1, dtype=torch.float64)
    x = inside_cells(4, config)
    grad_y = uniform(4, config.n_output_dims, low=-1, dtype=torch.float64, seed=3)
    grads = []
    for encode in (ops.hash_grid, reference_grid):
        inputs = [t.clone().requires_grad_() for t in (x, params, grad_y)]
        (grad_x,) = torch.autograd.grad(encode(*inputs[:2], config), inputs[:1], inputs[2], create_graph=True,
                                        allow_unused=True, materialize_grads=True)  # fmt: skip
        grads.append(torch.autograd.grad((grad_x**3).sum(), inputs, allow_unused=True, materialize_grads=True))
    # Terms of this size cancel, and torch differentiates a product by dividing by its factors, here down to 2e-3:
    # 20 roundings / 2e-3 * 2^-53.
    size = 3 * float(grad_x.detach().abs().max()) ** 2 * max(level.scale for level in config.levels()) ** 2
    for actual, expected in zip(*grads, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1.2e-12 * size)


@pytest.mark.parametrize("interpolation", ["Linear", "Smoothstep"])
def test_gradgradcheck(interpolation: str) -> None:
    config = small(3, 2, "Hash", interpolation)
    params = uniform(config.n_params, low=-1, dtype=torch.float64)
    x = inside_cells(3, config).requires_grad_()
    assert gradgradcheck(lambda x: ops.hash_grid(x, params, config), x, eps=1e-6)


@pytest.mark.parametrize(("kind", "interpolation"), [("Hash", "Linear"), ("Tiled", "Smoothstep"), ("Hash", "Nearest")])
@pytest.mark.parametrize(("dims", "features"), [(1, 8), (2, 4), (3, 1), (3, 2), (4, 2)])
@pytest.mark.parametrize("n", [1, 17, 2177])
def test_second_order_in_float32_and_float16(kind: str, interpolation: str, dims: int, features: int, n: int) -> None:
    """Against float64, which gradcheck has checked: vectors and chunks that are not full, with and without a mask."""
    config = small(dims, features, kind, interpolation)
    half = uniform(config.n_params, low=-1).half()
    x = inside_cells(n, config, torch.float32)
    assert len(x) == n
    v, grad_y = uniform(n, dims, low=-1, seed=4), uniform(n, config.n_output_dims, low=-1, seed=5)
    for max_level in (None, uniform(n, high=1.2)):
        results = []
        for params, dtype in ((half.float(), torch.float32), (half, torch.float32), (half.double(), torch.float64)):
            inputs = [x.to(dtype, copy=True), params.clone(), grad_y.to(dtype, copy=True)]
            y = ops.hash_grid(*(t.requires_grad_() for t in inputs[:2]), config, max_level)
            (grad_x,) = torch.autograd.grad(y, inputs[:1], inputs[2].requires_grad_(), create_graph=True)
            second = torch.autograd.grad((grad_x * v.to(dtype)).sum(), inputs, materialize_grads=True)
            results.append([t.detach().double() for t in (grad_x, *second)])
        for single, halves, expected in zip(*results, strict=True):
            size = float(expected.abs().max())
            # `bound` is 1e-5 of a feature, slopes change up to 6 times as fast; float16 gradients round once more
            torch.testing.assert_close(single, expected, rtol=0, atol=size * 1e-4)
            torch.testing.assert_close(halves, expected, rtol=0, atol=size * 1e-3)


def test_what_cannot_be_differentiated_says_so() -> None:
    config = small()
    x, params = inside_cells(4, config).requires_grad_(), uniform(config.n_params, dtype=torch.float64).requires_grad_()
    y = ops.hash_grid(x, params, config)
    (grad_params,) = torch.autograd.grad(y.pow(2).sum(), params, create_graph=True)
    with pytest.raises(RuntimeError, match="hash_grid: the gradient of params cannot be differentiated"):
        grad_params.sum().backward()
    (grad_x,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad_x.pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="hash_grid: a second derivative cannot be differentiated"):
        second.sum().backward()


def test_opcheck() -> None:
    config = small()
    x, params = uniform(7, 3), uniform(config.n_params)
    sizes = (config.layout, config.per_level_scale)
    grad_y, max_level = uniform(7, config.n_output_dims), torch.full((1,), 0.5)
    library = torch.ops.neurfield
    leaves = (x.clone().requires_grad_(), params.clone().requires_grad_())
    opcheck(library.hash_grid.default, (*leaves, None, None, *sizes))
    opcheck(library.hash_grid.default, (*leaves, params.half(), max_level, *sizes))
    opcheck(library.hash_grid_backward_params.default, (x, grad_y, None, *sizes))
    opcheck(library.hash_grid_backward_input.default, (*leaves, None, grad_y.requires_grad_(), max_level, *sizes))
    grad_y = grad_y.detach()
    for needed in ([True, True, True], [False, True, False]):
        opcheck(
            library.hash_grid_backward_backward_input.default,
            (x, params, None, grad_y, uniform(7, 3), None, needed, *sizes),
        )


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    config = GridConfig(3, 8, 2, 14, 16, 1.5)
    x, params = uniform(5000, 3), uniform(config.n_params, low=-1)
    threads = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            inputs = [x.clone().requires_grad_(), params.clone().requires_grad_()]
            y = ops.hash_grid(*inputs, config)
            first = torch.autograd.grad(y.pow(2).sum(), inputs, create_graph=True)
            second = torch.autograd.grad(first[0].pow(2).sum(), inputs)
            results.append([t.detach() for t in (y, *first, *second)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_errors_say_expected_and_found() -> None:
    config = small()
    params = torch.zeros(config.n_params)
    with pytest.raises(ValueError, match=r"hash_grid: x must be float32/float64 \[n, 3\], got float32 \[4, 2\]"):
        ops.hash_grid(torch.zeros(4, 2), params, config)
    with pytest.raises(TypeError, match=r"hash_grid: x must be float32/float64 \[n, 3\], got float16 \[4, 3\]"):
        ops.hash_grid(torch.zeros(4, 3).half(), params, config)
    with pytest.raises(ValueError, match=rf"params must be float32/float16 \[{config.n_params}\], got float32 \[7\]"):
        ops.hash_grid(torch.zeros(4, 3), params[:7], config)
    with pytest.raises(TypeError, match=r"^hash_grid: x must be a torch.Tensor, got ndarray$"):
        ops.hash_grid(np.zeros((4, 3), np.float32), params, config)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"params must be float64 \[\d+\], got float32"):
        ops.hash_grid(torch.zeros(4, 3).double(), params, config)
    with pytest.raises(ValueError, match=r"max_level must be float32 \[4\], got float32 \[5\]"):
        ops.hash_grid(torch.zeros(4, 3), params, config, max_level=torch.zeros(5))
    with pytest.raises(TypeError, match=r"half_copy must be float16 \[\d+\], got float32"):
        ops.hash_grid(torch.zeros(4, 3), params, config, half_copy=params)
    for field, value, message in (
        ("n_input_dims", 5, r"n_input_dims must be in \[1, 4\], got 5"),
        ("n_levels", 0, r"n_levels must be in \[1, 128\], got 0"),
        ("n_features_per_level", 3, "n_features_per_level must be 1, 2, 4 or 8, got 3"),
        ("log2_hashmap_size", 31, r"log2_hashmap_size must be in \[0, 30\], got 31"),
        ("base_resolution", 1, r"base_resolution must be in \[2, 1048576\], got 1"),
        ("per_level_scale", 0.5, "per_level_scale must be at least 1 .* got 0.5 with 16 levels from 16"),
        ("type", "Hashed", "type must be one of Hash, Dense, Tiled, got 'Hashed'"),
        ("interpolation", "Cubic", "interpolation must be one of Linear, Smoothstep, Nearest, got 'Cubic'"),
    ):
        with pytest.raises(ValueError, match=f"hash_grid: {message}"):
            GridConfig(**{field: value})
    with pytest.raises(ValueError, match=r"a Dense level of 524288\^3 vertices exceeds 2\^31; use type Hash"):
        GridConfig(type="Dense")


def test_what_has_no_deterministic_form_is_an_error_or_a_warning() -> None:
    try:
        torch.use_deterministic_algorithms(True)
        with pytest.raises(RuntimeError, match=r"^no form$"):
            not_deterministic("no form")
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match=r"^no form$"):
            not_deterministic("no form")
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("n", [5, 40000])
def test_results_of_any_size_can_be_changed_in_place(n: int) -> None:
    """Large ones lie in memory of the native pool, of which they must be no views."""
    config = GridConfig(n_input_dims=2, n_levels=4, log2_hashmap_size=8)
    table, x = uniform(config.n_params).requires_grad_(), uniform(n, 2)
    y = ops.hash_grid(x, table, config)
    y[:, 2:] = 0
    y.mul_(3)
    (found,) = torch.autograd.grad(y.sum(), table)
    (expected,) = torch.autograd.grad(3 * ops.hash_grid(x, table, config)[:, :2].sum(), table)
    assert torch.equal(found, expected)
