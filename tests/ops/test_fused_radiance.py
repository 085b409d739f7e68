# SPDX-License-Identifier: Apache-2.0
"""The fused path against the composed one: march, hash_grid, fused_mlp, trunc_exp, spherical_harmonics, composite."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

from neurfield import ops
from neurfield._native import lib
from neurfield.ops.fused_field import (
    MAX_HIDDEN_LAYERS,
    MAX_WIDTH,
    FusedField,
    FusedMarch,
    fused_reason,
    fused_supported,
)
from neurfield.ops.fused_mlp import ACTIVATIONS, COLUMN_MULTIPLE, STORES_INPUT, MLPConfig
from neurfield.ops.fused_radiance import (
    N_SLOTS,
    FusedImage,
    FusedLoss,
    FusedReport,
    FusedWorkspace,
    fused_density,
    fused_gradients,
    fused_render,
    fused_table_adam,
    fused_table_gradient,
)
from neurfield.ops.hash_grid import INTERPOLATIONS, TYPES, GridConfig
from neurfield.reference.fused_mlp import ACTIVATIONS as reference_activations
from tests.cases import generator, strided, uniform
from tests.compare import EPS, assert_close, relative_norm

NGP_GRID = GridConfig(3, 8, 2, 14, 16, 1.5)
NGP_DENSITY = MLPConfig(16, 16, 64, 1)
NGP_COLOR = MLPConfig(32, 3, 64, 2, output_activation="Sigmoid")
HUBER = FusedLoss(0.1)


@dataclass(frozen=True)
class Case:
    """One field and one way of marching it."""

    grid: GridConfig = NGP_GRID
    density: MLPConfig = NGP_DENSITY
    color: MLPConfig = NGP_COLOR
    sh_degree: int = 4
    half: bool = False
    n_cascades: int = 1
    n_rays: int = 301
    loss: FusedLoss = HUBER
    log_density: float = 3.0  # of most of the volume: e^3 ends rays after some ten to hundred samples
    step_scale: float = 2.0
    surface: tuple[float, ...] | None = None  # beta, radius, scale, alpha, reach


CASES = {
    "ngp": Case(),
    "ngp half cascades": Case(half=True, n_cascades=4, n_rays=257, loss=FusedLoss(None, 1e-2, 1e-2)),
    "padded": Case(
        GridConfig(3, 3, 4, 10, 8, 2.0, "Hash", "Smoothstep"),
        MLPConfig(12, 3, 32, 2, "Softplus", input_padding=1.0),
        MLPConfig(12, 3, 48, 1, "Tanh", "Sigmoid", input_padding=1.0),
        sh_degree=3,
        half=True,
        n_rays=33,
    ),
    "sine dense": Case(
        GridConfig(3, 5, 1, 14, 4, 1.6, "Dense"),
        MLPConfig(5, 1, 16, 1, "SiLU"),
        MLPConfig(65, 3, 128, 3, "Sine", "Exponential"),
        sh_degree=8,
        n_cascades=2,
        n_rays=31,
        loss=FusedLoss(None),
    ),
    "surface": Case(surface=(0.03, 0.4, 0.1, 33.0, 9.0), log_density=0.0),
    "surface half cascades": Case(
        half=True,
        n_cascades=2,
        n_rays=257,
        loss=FusedLoss(None, 1e-2, 1e-2),
        surface=(0.1, 0.5, 0.2, 20.0, 9.0),
        log_density=0.0,
    ),
    "surface with surroundings": Case(n_cascades=2, surface=(0.05, 0.6, 0.1, 30.0, 0.7), log_density=0.5),
    "transparent tiled": Case(
        GridConfig(3, 2, 8, 10, 8, 2.0, "Tiled"), MLPConfig(16, 16, 64, 1), n_rays=64, log_density=-2.0, step_scale=4.0
    ),
}


def make_field(case: Case, seed: int = 0) -> FusedField:
    """Random weights; the first table feature and a path through the density net set the general density."""
    g = generator(seed)
    table = torch.rand(case.grid.n_params, generator=g) * 0.4 - 0.2

    def xavier(config: MLPConfig) -> Tensor:
        return torch.cat([
            (torch.rand(n_out * n_in, generator=g) * 2 - 1) * math.sqrt(6 / (n_out + n_in))
            for n_out, n_in in config.matrix_shapes
        ])  # fmt: skip

    density_params, color_params = xavier(case.density), xavier(case.color)
    if case.density.activation == "ReLU":
        table[: case.grid.levels()[0].n_entries * case.grid.n_features_per_level : case.grid.n_features_per_level] = 1
        matrices = [weights for weights, _ in case.density.matrices(density_params)]
        matrices[0][0] = 0
        matrices[0][0, 0] = 1
        matrices[-1][0, 0] = case.log_density
    side = 2.0 ** (case.n_cascades - 1)
    low, inverse = (0.5 - side / 2,) * 3, (1 / side,) * 3
    half = table.half() if case.half else None
    surface = None if case.surface is None else torch.tensor(case.surface)
    return FusedField(
        case.grid, table, case.density, density_params, case.color, color_params, case.sh_degree, low, inverse, half,
        surface=surface,
    )  # fmt: skip


def make_rays(n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Rays around the unit cube, most of which cross it; every eighth misses every box."""
    g = generator(seed)
    origins = nn.functional.normalize(torch.randn(n, 3, generator=g)) * 1.4 + 0.5
    directions = nn.functional.normalize(torch.rand(n, 3, generator=g) * 0.8 + 0.1 - origins)
    origins[::8] *= 1000
    return origins, directions


def make_occupancy(n_cascades: int, share: float = 0.4) -> tuple[Tensor, Tensor]:
    return ops.occupancy_bits(uniform(n_cascades, 32**3, seed=5), 1 - share)


@dataclass
class Batch:
    origins: Tensor
    directions: Tensor
    target: Tensor
    background: Tensor
    bitfield: Tensor
    coarse: Tensor
    march: FusedMarch
    distances: Tensor  # with weights; 0 of every third ray

    @property
    def per_pixel(self) -> int:
        return self.origins.shape[0] // max(self.target.shape[0], 1)

    def select(self, rays: Tensor) -> "Batch":
        parts = {k: getattr(self, k)[rays] for k in ("origins", "directions", "target", "background", "distances")}
        return replace(self, **parts)


def make_batch(case: Case, n: int | None = None, per_pixel: int = 1) -> Batch:
    n = case.n_rays // per_pixel * per_pixel if n is None else n
    cone = 0.0 if case.n_cascades == 1 else 1 / 256
    march = FusedMarch(case.step_scale, cone, near=0.05, max_samples=512, jitter=(3, 7))
    colors = (uniform(n // per_pixel, 3, seed=seed) for seed in (2, 3))
    distances = (0.5 + 1.5 * uniform(n, 2, seed=4)) * torch.tensor([1, 0.1 / max(n, 1)])
    distances[::3] = 0
    return Batch(*make_rays(n), *colors, *make_occupancy(case.n_cascades), march, distances)


@dataclass
class Result:
    loss: float
    rgb: Tensor
    depth: Tensor
    acc: Tensor
    grads: dict[str, Tensor]
    n_samples: int
    weights: Tensor
    t_starts: Tensor
    packed_info: Tensor


def rounded(x: Tensor) -> Tensor:
    """The nearest bfloat16 in the dtype of x; its gradient passes."""
    return x + (x.detach().bfloat16().to(x.dtype) - x.detach())


def bf16_mlp(x: Tensor, params: Tensor, config: MLPConfig, n_rounded: int) -> Tensor:
    """ops.fused_mlp as bfloat16 products see it: in every product, forward and backward, both factors are rounded.

    Only the first n_rounded inputs are; what follows them is the same for all samples of a ray, and stays as it is.
    """
    matrices = [weights for weights, _ in config.matrices(params)]
    h = nn.functional.pad(x, (0, matrices[0].shape[1] - x.shape[1]), value=config.input_padding)
    z = (
        rounded(h[:, :n_rounded]) @ rounded(matrices[0][:, :n_rounded]).T
        + h[:, n_rounded:] @ matrices[0][:, n_rounded:].T
    )
    for weights in matrices[1:]:
        if z.requires_grad:
            z.register_hook(rounded)
        z = rounded(z.relu()) @ rounded(weights).T
    if z.requires_grad:
        z.register_hook(rounded)
    return reference_activations[config.output_activation](z, 1.0, 1.0)[:, : config.n_output_dims]


def features_at(field: FusedField, x: Tensor, table: Tensor, params: Tensor) -> Tensor:
    """Outputs of the density network, ln(sigma) first, at x `[n, 3]` in the box of the field."""
    encoded = ops.hash_grid(x, table, field.grid)
    if field.bf16_products:
        return bf16_mlp(encoded, params, field.density, field.density.matrix_shapes[0][1])
    return ops.fused_mlp(encoded, params, field.density)


def density_of(field: FusedField, features: Tensor, x: Tensor) -> Tensor:
    """sigma `[n]` of those outputs at x `[n, 3]` in the box of the field."""
    if field.surface is None:
        return ops.trunc_exp(features[:, 0])
    beta, radius, scale, alpha, reach = (value.to(features.dtype) for value in field.surface)
    from_middle = (x - 0.5).norm(dim=1) / field.inverse_size[0]
    f = scale * features[:, 0] + from_middle - radius
    tail = alpha / 2 * torch.exp(-f.abs() / beta)
    near = torch.where(f > 0, tail, alpha - tail)
    return torch.where(from_middle > reach, ops.trunc_exp(features[:, 0]), near)


def colors_of(field: FusedField, features: Tensor, directions: Tensor, params: Tensor) -> Tensor:
    """rgb `[n, 3]` of those outputs seen along directions `[n, 3]`."""
    inputs = torch.cat([features, ops.spherical_harmonics(directions, field.sh_degree)], 1)
    if field.bf16_products:
        return bf16_mlp(inputs, params, field.color, features.shape[1])
    return ops.fused_mlp(inputs, params, field.color)


def composed(field: FusedField, batch: Batch, loss: FusedLoss, dtype: torch.dtype = torch.float32) -> Result:
    """Op by op with autograd; positions and samples are those of float32 in any dtype."""
    m = batch.march
    seed, step = m.jitter or (0, None)
    samples = ops.march(
        batch.origins, batch.directions, batch.bitfield, batch.coarse, step_scale=m.step_scale,
        cone_angle=m.cone_angle, near=m.near, far=m.far, max_samples=m.max_samples, seed=seed, step=step,
    )  # fmt: skip
    rays = samples.ray_indices
    x = batch.origins[rays] + samples.t_starts[:, None] * batch.directions[rays]
    x = (x - torch.tensor(field.low)) * torch.tensor(field.inverse_size)
    table = field.table if field.half_table is None else field.half_table.float()
    params = {
        "table": table.to(dtype).requires_grad_(),
        "density": field.density_params.to(dtype).requires_grad_(),
        "color": field.color_params.to(dtype).requires_grad_(),
    }
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    features = features_at(field, x.to(dtype), leaves["table"], leaves["density"])
    rgbs = colors_of(field, features, batch.directions[rays].to(dtype), leaves["color"])
    t_starts, t_ends = samples.t_starts.to(dtype), samples.t_ends.to(dtype)
    out = ops.composite(
        density_of(field, features, x.to(dtype)), rgbs, t_starts, t_ends, samples.packed_info,
        batch.background.to(dtype).repeat_interleave(batch.per_pixel, dim=0), m.stop_transmittance,
    )  # fmt: skip
    d = (out.rgb.unflatten(0, (-1, batch.per_pixel)).mean(1) - batch.target).abs()
    alpha = math.inf if loss.huber_alpha is None else loss.huber_alpha
    value = torch.where(d <= alpha, d.square(), 2 * min(alpha, 1e30) * d - min(alpha, 1e30) ** 2).mean()
    acc = out.acc.clamp(1e-6, 1)
    value = value - loss.opacity_entropy * (acc * acc.log()).mean() + loss.distortion * out.distortion.mean()
    distance, weight = batch.distances.to(dtype).unbind(1)
    right = (1 - (t_starts / distance[rays] - 1).abs() / 0.05).clamp_min(0)
    error = 1 - torch.zeros_like(distance).index_add(0, rays, out.weights * right)
    value = value + (weight * error).sum()
    value.backward()
    grads = {name: leaf.grad for name, leaf in leaves.items()}
    n_samples = int((out.weights.detach() > 0).sum())
    return Result(
        value.item(), out.rgb.detach(), out.depth.detach(), out.acc.detach(), grads, n_samples, out.weights.detach(),
        samples.t_starts, samples.packed_info,
    )  # fmt: skip


def fused(field: FusedField, batch: Batch, loss: FusedLoss, capacity: int = 1 << 18) -> tuple[FusedReport, Result]:
    workspace = FusedWorkspace(field, capacity, batch.march.max_samples)
    n = batch.origins.shape[0]
    rays = FusedImage(torch.full((n, 3), -1.0), torch.empty(n), torch.empty(n), torch.empty(n))
    report = fused_gradients(
        workspace, batch.bitfield, batch.coarse, batch.origins, batch.directions, batch.target, batch.background,
        batch.march, loss, rays=rays, distances=batch.distances,
    )  # fmt: skip
    grads = {
        "table": fused_table_gradient(workspace),
        "density": workspace.grad_density,
        "color": workspace.grad_color,
    }
    empty = torch.empty(0)
    return report, Result(report.loss, rays.rgb, rays.depth, rays.acc, grads, report.n_samples, empty, empty, empty)


# A number that lies between two bfloat16 within the error of a float32 sum, some 8 roundings, falls to either side: a
# share of 8 * 2^-24 / 2^-9 of all, wrong by 2^-8. Twenty factors are rounded between the inputs and a gradient, two in
# each of the products of five layers forward and backward.
FLIPPED_ROUNDINGS = math.sqrt(20 * 8 * 2**-15) * 2**-8


def assert_equals_composed_path(case: Case, bf16_products: bool = False, per_pixel: int = 1) -> None:
    """Both round the same sums in different orders, so the fused path must be as near to float64 as the composed one.

    Allowed: four times the composed path's own error, plus what both share by luck: 16 roundings. With products in
    bfloat16 both paths round the same factors, up to FLIPPED_ROUNDINGS. A sample more or less at the end of a ray,
    where the transmittance passes the threshold to within a rounding, is worth at most 1e-4 of one ray; the seeds have
    none.
    """
    field = replace(make_field(case), bf16_products=bf16_products)
    batch = make_batch(case, per_pixel=per_pixel)
    report, actual = fused(field, batch, case.loss)
    single, exact = composed(field, batch, case.loss), composed(field, batch, case.loss, torch.float64)
    assert report.is_finite and report.n_rays_dropped == 0
    assert actual.n_samples == single.n_samples and report.n_evaluated >= report.n_samples

    def bound(single_error: float) -> float:
        return 4 * max(single_error, FLIPPED_ROUNDINGS if bf16_products else 0.0) + 16 * EPS[torch.float32]

    assert abs(actual.loss - exact.loss) <= bound(abs(single.loss - exact.loss) / exact.loss) * exact.loss
    for part in ("rgb", "depth", "acc"):
        got, want = getattr(actual, part).double(), getattr(exact, part)
        error = (getattr(single, part).double() - want).abs().max()
        assert (got - want).abs().max() <= bound(float(error)) * want.abs().max().clamp_min(1), part
    for part, want in exact.grads.items():
        error = relative_norm(single.grads[part], want)
        assert relative_norm(actual.grads[part], want) <= bound(error), part


@pytest.mark.parametrize("name", CASES)
def test_equals_composed_path(name: str) -> None:
    assert_equals_composed_path(CASES[name])


@pytest.mark.parametrize("per_pixel", [4, 9])
def test_equals_composed_path_with_several_rays_per_pixel(per_pixel: int) -> None:
    """With every part of the loss, those of pixels and those of rays."""
    case = next(case for case in CASES.values() if case.loss.distortion and case.loss.opacity_entropy)
    assert_equals_composed_path(case, per_pixel=per_pixel)


def test_a_pixel_is_used_whole_or_not_at_all() -> None:
    case = next(iter(CASES.values()))
    field, batch = make_field(case), make_batch(case, per_pixel=4)
    whole, rays = fused(field, batch, case.loss)
    report, part = fused(field, batch, case.loss, capacity=whole.n_samples // 3)
    assert 0 < report.n_rays_used < whole.n_rays_used and report.n_rays_used % 4 == 0
    empty = (part.acc == 0).view(-1, 4)
    hit = (rays.acc > 0).view(-1, 4)
    assert (empty.all(1) | torch.equal(part.acc.view(-1, 4)[~empty.all(1)], rays.acc.view(-1, 4)[~empty.all(1)])).all()
    assert (empty & hit).any()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.surface])
def test_surfaces_are_seen_from_both_sides_and_end_rays(name: str) -> None:
    field, batch = make_field(CASES[name]), make_batch(CASES[name])
    single = composed(field, batch, CASES[name].loss)
    alpha = CASES[name].surface[3]
    sigma = fused_density(field, uniform(5000, 3, seed=4))
    assert 0.05 < float((sigma > 0.5 * alpha).float().mean()) < 0.95
    assert (single.acc > 0.99).any() and (single.acc < 0.5).any()


SMALL = Case(
    GridConfig(3, 3, 2, 9, 8, 2.0),
    MLPConfig(6, 5, 32, 1),
    MLPConfig(9, 3, 32, 1, output_activation="Sigmoid"),
    sh_degree=2,
    n_rays=41,
)


def with_networks(case: Case, **changes: object) -> Case:
    return replace(case, density=replace(case.density, **changes), color=replace(case.color, **changes))


def every_choice() -> dict[str, Case]:
    """A small field for each entry of every table of choices."""
    cases = {}
    for kind, interpolation in itertools.product(TYPES, INTERPOLATIONS):
        cases[f"{kind} {interpolation}"] = replace(
            SMALL, grid=replace(SMALL.grid, type=kind, interpolation=interpolation)
        )
    for n in (1, 2, 4, 8):
        grid, density = replace(SMALL.grid, n_features_per_level=n), replace(SMALL.density, n_input_dims=3 * n)
        cases[f"{n} features"] = replace(SMALL, grid=grid, density=density)
    for degree in range(1, 9):
        color = replace(SMALL.color, n_input_dims=5 + degree**2)
        cases[f"degree {degree}"] = replace(SMALL, color=color, sh_degree=degree)
    for width in range(COLUMN_MULTIPLE, MAX_WIDTH + 1, COLUMN_MULTIPLE):
        cases[f"width {width}"] = with_networks(SMALL, n_neurons=width)
    for depth in range(1, MAX_HIDDEN_LAYERS + 1):
        cases[f"{depth} hidden layers"] = with_networks(SMALL, n_hidden_layers=depth)
    for activation in ACTIVATIONS:
        cases[f"hidden {activation}"] = with_networks(SMALL, activation=activation)
        if activation not in STORES_INPUT:  # their derivative needs what the fused path does not keep
            cases[f"output {activation}"] = replace(SMALL, color=replace(SMALL.color, output_activation=activation))
    return cases


EVERY_CHOICE = every_choice()


@pytest.mark.parametrize("choice", EVERY_CHOICE)
def test_every_choice_equals_composed_path(choice: str) -> None:
    assert_equals_composed_path(EVERY_CHOICE[choice])


needs_bf16_products = pytest.mark.skipif(
    not lib.has_bf16_products, reason="this machine or instruction set has no bfloat16 products"
)
ROUNDED = {
    name: case
    for name, case in (CASES | EVERY_CHOICE).items()
    if all(net.activation == "ReLU" and net.n_neurons % 32 == 0 for net in (case.density, case.color))
}


@needs_bf16_products
@pytest.mark.parametrize("name", ROUNDED)
def test_bf16_products_equal_composed_path(name: str) -> None:
    assert_equals_composed_path(ROUNDED[name], bf16_products=True)


@needs_bf16_products
def test_bf16_products_are_taken() -> None:
    case = CASES["ngp"]
    field, batch = make_field(case), make_batch(case)
    _, exact = fused(field, batch, case.loss)
    _, brief = fused(replace(field, bf16_products=True), batch, case.loss)
    for part, want in exact.grads.items():
        assert relative_norm(brief.grads[part], want) > 2 * FLIPPED_ROUNDINGS, part


def test_bf16_products_are_left_alone_where_they_do_not_fit() -> None:
    case = CASES["padded"]
    field, batch = make_field(case), make_batch(case)
    _, want = fused(field, batch, case.loss)
    _, got = fused(replace(field, bf16_products=True), batch, case.loss)
    assert torch.equal(got.rgb, want.rgb)


def test_mean_squared_error_is_reported() -> None:
    case = CASES["ngp"]
    batch = make_batch(case)
    report, actual = fused(make_field(case), batch, case.loss)
    expected = (actual.rgb - batch.target).square().mean()
    assert_close(torch.tensor(report.squared_error, dtype=torch.float32), expected, 16)


@pytest.mark.parametrize("bf16_products", [False, True])
def test_no_dependence_on_threads(bf16_products: bool) -> None:
    case = CASES["ngp half cascades"]
    field, batch = replace(make_field(case), bf16_products=bf16_products), make_batch(case)
    before, results = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            results.append(fused(field, batch, case.loss))
    finally:
        torch.set_num_threads(before)
    for report, result in results[1:]:
        assert report == results[0][0]
        assert torch.equal(result.rgb, results[0][1].rgb)
        for part, grad in result.grads.items():
            assert torch.equal(grad, results[0][1].grads[part]), part


@pytest.mark.parametrize("n", [0, 1])
def test_few_rays(n: int) -> None:
    case = CASES["ngp"]
    report, actual = fused(make_field(case), make_batch(case, n), case.loss)
    assert report.is_finite and report.n_rays_used == n and report.n_samples == 0
    assert all(float(g.abs().sum()) == 0 for g in actual.grads.values())
    assert n > 0 or report.loss == 0


def test_rays_that_miss_show_the_background() -> None:
    case = CASES["ngp"]
    batch = make_batch(case)
    batch = replace(batch, origins=batch.origins * 1000)
    report, actual = fused(make_field(case), batch, FusedLoss(None))
    assert report.n_samples == 0 and torch.equal(actual.rgb, batch.background)
    assert float(actual.acc.abs().max()) == 0
    squared = float((batch.background - batch.target).square().mean())
    assert report.loss == pytest.approx(squared + float(batch.distances[:, 1].sum()), rel=1e-6)


def test_rays_beyond_the_capacity_are_dropped_and_counted() -> None:
    case = replace(CASES["ngp"], n_rays=600)
    field, batch = make_field(case), make_batch(case)
    batch = replace(batch, march=replace(batch.march, jitter=None))  # which goes by the number of the ray
    report, actual = fused(field, batch, case.loss, capacity=N_SLOTS * 600)
    whole, _ = fused(field, batch, case.loss)
    assert 0 < report.n_rays_dropped < 600 and report.n_rays_used + report.n_rays_dropped == 600
    assert report.n_samples < whole.n_samples and report.is_finite
    # the gradient is that of the rays that were used, as part of a mean over all; bound as in test_equals_composed_path
    used = (actual.acc > 0).nonzero()[:, 0]
    part_of_batch = batch.select(used)
    part_of_batch.distances[:, 1] *= 600 / len(used)
    single = composed(field, part_of_batch, case.loss)
    exact = composed(field, part_of_batch, case.loss, torch.float64)
    for part, grad in actual.grads.items():
        bound = 4 * relative_norm(single.grads[part], exact.grads[part]) + 16 * EPS[torch.float32]
        assert relative_norm(grad * (600 / len(used)), exact.grads[part]) <= bound, part


@pytest.mark.parametrize("what", ["target", "table", "weights"])
def test_what_is_not_finite_is_reported(what: str) -> None:
    case = CASES["ngp"]
    field, batch = make_field(case), make_batch(case)
    if what == "target":
        batch.target[3, 1] = math.nan
    elif what == "table":
        field.table.fill_(math.inf)
    else:
        field.color_params[7] = math.nan
    assert not fused(field, batch, case.loss)[0].is_finite


@pytest.mark.parametrize("half", [False, True])
def test_table_step_is_adam_that_skips_zeros(half: bool) -> None:
    case = replace(CASES["ngp"], half=half)
    field, batch = make_field(case), make_batch(case)
    workspace = FusedWorkspace(field, 1 << 18, 512)
    m, v = torch.zeros_like(field.table), torch.zeros_like(field.table)
    steps = torch.zeros(field.table.shape, dtype=torch.int16)
    w64, m64, v64, k = field.table.double(), m.double(), v.double(), steps.double()
    rate, beta1, beta2, epsilon = 1e-2, 0.9, 0.99, 1e-15
    for step in (1, 2):
        march = replace(batch.march, jitter=(0, step))
        fused_gradients(
            workspace, batch.bitfield, batch.coarse, batch.origins, batch.directions, batch.target, batch.background,
            march, case.loss,
        )  # fmt: skip
        grad = fused_table_gradient(workspace).double()
        fused_table_adam(workspace, m, v, steps, step=step, learning_rate=rate)
        touched = grad != 0
        k += touched
        m64 = torch.where(touched, beta1 * m64 + (1 - beta1) * grad, m64)
        v64 = torch.where(touched, beta2 * v64 + (1 - beta2) * grad.square(), v64)
        change = rate * (1 - beta2**k).sqrt() / (1 - beta1**k) * m64 / (v64.sqrt() + epsilon)
        w64 = torch.where(touched, w64 - change, w64)
    assert torch.equal(steps.double(), k) and 0 < int((k == 0).sum()) < k.numel()
    # moments round five times per step, relative to their largest term; w moves by at most two rates, 12 roundings each
    assert_close(m, m64, 10, scale=m64.abs().max())
    assert_close(v, v64, 10, scale=v64.abs().max())
    assert_close(field.table, w64, 2, scale=1 + 24 * rate)
    if field.half_table is not None:
        assert torch.equal(field.half_table[touched], field.table.half()[touched])
    assert float(workspace.table_scratch().abs().max()) == 0


@pytest.mark.parametrize(
    ("name", "bf16_products"),
    [
        ("ngp", False),
        ("ngp half cascades", False),
        ("padded", False),
        pytest.param("ngp half cascades", True, marks=needs_bf16_products),
    ],
)
def test_render_equals_composed_path(name: str, bf16_products: bool) -> None:
    case = CASES[name]
    field, batch = replace(make_field(case), bf16_products=bf16_products), make_batch(case, 1031)
    batch = replace(batch, march=replace(batch.march, jitter=None), background=torch.zeros(1031, 3))
    image = fused_render(
        field, batch.bitfield, batch.coarse, strided(batch.origins), strided(batch.directions), batch.march
    )
    expected = composed(field, batch, FusedLoss(None))
    # a ray adds up at most a hundred samples of which each went through sums of at most 64 products in 5 layers
    roundings = 64 + 5 * math.sqrt(64)
    if bf16_products:
        roundings += FLIPPED_ROUNDINGS / EPS[torch.float32]
    assert_close(image.rgb, expected.rgb, roundings)
    assert_close(image.acc, expected.acc, roundings)
    assert_close(image.depth, expected.depth, roundings, scale=2.0)
    assert_close(image.median_depth.nan_to_num(posinf=0), _median(expected).nan_to_num(posinf=0), 1)


def _median(result: Result) -> Tensor:
    medians = torch.full(result.acc.shape, math.inf)
    for ray, (start, count) in enumerate(result.packed_info.tolist()):
        trans = 1 - result.weights[start : start + count].cumsum(0)
        behind = (trans < 0.5).nonzero()
        if len(behind):
            medians[ray] = result.t_starts[start + int(behind[0])]
    return medians


def test_skipped_colours_cost_at_most_their_weight() -> None:
    case = CASES["ngp"]
    field, batch = make_field(case), make_batch(case, 512)
    views = field, batch.bitfield, batch.coarse, batch.origins, batch.directions, batch.march
    exact, skipped = fused_render(*views), fused_render(*views, skip_weight=1e-3)
    difference = exact.rgb - skipped.rgb
    assert float(difference.max()) > 0, "nothing was skipped"
    assert float(difference.min()) > -1e-6
    assert float(difference.max()) <= 1e-3 * batch.march.max_samples
    assert torch.equal(exact.acc, skipped.acc) and torch.equal(exact.depth, skipped.depth)


@pytest.mark.parametrize("bf16_products", [False, pytest.param(True, marks=needs_bf16_products)])
@pytest.mark.parametrize("case", ["ngp half cascades", "surface half cascades"])
@pytest.mark.parametrize("n", [0, 1, 33, 2049])
def test_density_equals_composed_path(n: int, case: str, bf16_products: bool) -> None:
    field = replace(make_field(CASES[case]), bf16_products=bf16_products)
    x = uniform(n, 3, low=-1, high=2, seed=4)
    unit = (x - torch.tensor(field.low)) * torch.tensor(field.inverse_size)
    sigma = density_of(field, features_at(field, unit, field.half_table, field.density_params), unit)
    # e^h for |h| <= 8: the roundings of h (sums of 16 and 64 products) count eightfold; and so does a factor of one of
    # the 64 that was rounded the other way, 2^-8 of its share
    roundings = 8 * (16 + 64 + (2**-8 / 64 / EPS[torch.float32] if bf16_products else 0))
    assert_close(fused_density(field, strided(x)), sigma, roundings)


class _Module(nn.Module):
    """What fused_reason looks at in a RadianceField."""

    def __init__(self, case: Case = CASES["ngp"]) -> None:
        super().__init__()
        fused_field = make_field(case)
        for name, config, params in (
            ("encoding", fused_field.grid, fused_field.table),
            ("density_network", fused_field.density, fused_field.density_params),
            ("color_network", fused_field.color, fused_field.color_params),
        ):
            part = nn.Module()
            part.config, part.params = config, nn.Parameter(params)
            setattr(self, name, part)
        self.direction_encoding = nn.Module()
        self.direction_encoding.config = type("Harmonics", (), {"degree": 4})()
        self.low, self.inverse_size = torch.zeros(3), torch.ones(3)


def test_supported_fields() -> None:
    module = _Module()
    assert fused_supported(module) and fused_reason(module) is None
    field = FusedField.of(module)
    assert field.table is module.encoding.params and field.sh_degree == 4
    assert FusedField.of(module, half=False).half_table is None
    module.color_network.config = MLPConfig(32, 3, 64, 2, bias=True)
    assert fused_reason(module) == "the colour network has biases"
    assert not fused_supported(module)
    with pytest.raises(ValueError, match="the colour network has biases"):
        FusedField.of(module)
    assert fused_reason(nn.Linear(1, 1)) == "Linear is not a RadianceField"


def test_half_copy_follows_the_table() -> None:
    module = _Module()
    field, positions = FusedField.of(module), uniform(64, 3)
    before = fused_density(field, positions)
    with torch.no_grad():
        module.encoding.params.mul_(0.5)
    assert not torch.equal(fused_density(field, positions), before)
    assert torch.equal(field.half_table, module.encoding.params.half())
    assert FusedField.of(module).half_table is field.half_table
    workspace = FusedWorkspace(field, 1 << 16, 512)
    batch = make_batch(CASES["ngp"])
    fused_gradients(
        workspace, batch.bitfield, batch.coarse, batch.origins, batch.directions, batch.target, batch.background,
        batch.march, FusedLoss(),
    )  # fmt: skip
    state = [torch.zeros_like(field.table) for _ in range(2)]
    fused_table_adam(workspace, *state, None, step=1, learning_rate=1e-2)
    assert torch.equal(field.half_table, module.encoding.params.half())


def test_appended_gradients_reach_the_table_like_those_of_rays() -> None:
    case = CASES["ngp"]
    field, batch = make_field(case), make_batch(case)
    workspace = FusedWorkspace(field, 1 << 16, 512)
    fused_gradients(
        workspace, batch.bitfield, batch.coarse, batch.origins, batch.directions, batch.target, batch.background,
        batch.march, case.loss,
    )  # fmt: skip
    before = fused_table_gradient(workspace)
    x, grad = uniform(1001, 3, seed=8), uniform(1001, field.grid.n_output_dims, low=-1, seed=9)
    leaf = field.table.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(ops.hash_grid(x, leaf, field.grid), leaf, grad)
    assert workspace.append(strided(x), strided(grad)) == 1001
    added = fused_table_gradient(workspace) - before
    assert relative_norm(added, wanted) < 100 * EPS[torch.float32]  # sums of some samples an entry, in another order


def test_what_finds_no_room_is_not_appended_and_samples_are_those_of_the_step() -> None:
    case = CASES["ngp"]
    field, batch = make_field(case), make_batch(case)
    workspace = FusedWorkspace(field, 1 << 12, 512)
    assert workspace.sampled(64, generator()).shape == (0, 3)
    fused_gradients(
        workspace, batch.bitfield, batch.coarse, batch.origins, batch.directions, batch.target, batch.background,
        batch.march, case.loss,
    )  # fmt: skip
    n_kept = int(workspace.slot_counts.sum())
    drawn = workspace.sampled(64, generator())
    room = (1 << 12) // N_SLOTS
    kept = torch.cat([workspace.positions[:, s * room : s * room + n] for s, n in enumerate(workspace.slot_counts)], 1)
    assert len(drawn) and {tuple(x) for x in drawn.tolist()} <= {tuple(x) for x in kept.T.tolist()}
    assert torch.equal(drawn, workspace.sampled(64, generator()))
    n = workspace.append(torch.zeros(1 << 13, 3), torch.zeros(1 << 13, field.grid.n_output_dims))
    assert n == (1 << 12) - n_kept and workspace.slot_counts.eq(room).all()
    assert workspace.append(torch.zeros(5, 3), torch.zeros(5, field.grid.n_output_dims)) == 0
    with pytest.raises(ValueError, match=r"append: grad_encoding must be float32 \[5, 16\], got float32 \[5, 4\]"):
        workspace.append(torch.zeros(5, 3), torch.zeros(5, 4))


def test_errors_say_expected_and_found() -> None:
    case = CASES["ngp"]
    field, batch = make_field(case), make_batch(case, 4)
    with pytest.raises(ValueError, match=r"fused_radiance: expected networks with 16 and 32 inputs, got 16 and 20"):
        replace(field, color=MLPConfig(20, 3, 64, 2))
    with pytest.raises(ValueError, match=r"directions must be float32 \[4, 3\], got float32 \[3, 3\]"):
        fused_render(field, batch.bitfield, batch.coarse, batch.origins, batch.directions[:3], batch.march)
    with pytest.raises(TypeError, match=r"fused_density: positions must be float32 \[n, 3\], got float64 \[2, 3\]"):
        fused_density(field, torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="at most 16 samples per ray, got max_samples 512"):
        workspace = FusedWorkspace(field, 1024, max_samples=16)
        fused_gradients(
            workspace, batch.bitfield, batch.coarse, batch.origins, batch.directions, batch.target, batch.background,
            batch.march, case.loss,
        )  # fmt: skip
    with pytest.raises(ValueError, match="step_scale > 0"):
        FusedMarch(step_scale=0)


def test_far_ends_rays_in_training_and_rendering() -> None:
    """All paths take the same samples; what is left to differ is the rounding of sums of some hundred terms."""
    field, batch = make_field(CASES["ngp"]), make_batch(CASES["ngp"])
    far = replace(batch, march=replace(batch.march, far=1.2))
    (report, trained), single = fused(field, far, HUBER), composed(field, far, HUBER)
    image = fused_render(field, far.bitfield, far.coarse, far.origins, far.directions, far.march)
    assert single.n_samples == report.n_samples < composed(field, batch, HUBER).n_samples
    assert (trained.rgb - single.rgb).abs().max() < 300 * EPS[torch.float32]
    assert (trained.acc - single.acc).abs().max() < 300 * EPS[torch.float32]
    assert (image.acc - single.acc).abs().max() < 300 * EPS[torch.float32]


def test_opcheck() -> None:
    case = replace(CASES["ngp"], n_rays=5)
    field, batch = make_field(case), make_batch(case)
    sizes, march = (field.sizes, field.scales), (batch.march.values, [0, 1])
    views = batch.origins, batch.directions, batch.bitfield, batch.coarse
    n = torch.ops.neurfield
    opcheck(n.fused_render.default, (*field.tensors, *views, *sizes, *march, 0.0))
    opcheck(n.fused_density.default, (*field.tensors, batch.origins, *sizes))
    w = FusedWorkspace(field, 1 << 12, 512)
    outputs = w.positions, w.grad_encoding, w.slot_counts, w.grad_density, w.grad_color, w.slot_gradients, w.scratch()
    for buffer in (w.positions, w.grad_encoding, w.slot_gradients, w.scratch()):
        buffer.zero_()  # what is not written must compare equal
    arguments = (
        *field.tensors,
        *views,
        batch.target,
        batch.background,
        batch.distances,
        *sizes,
        *march,
        case.loss.values(5, 5),
        16.0,
    )
    schema = ("test_schema", "test_faketensor")
    opcheck(n.fused_gradients.default, (*arguments, *outputs, None, None, None), test_utils=schema)
    samples = w.positions, w.grad_encoding, w.slot_counts, *sizes
    opcheck(n.fused_table_gradient.default, (*samples, field.grid.n_params))
    state = field.table, torch.zeros_like(field.table), torch.zeros_like(field.table), None, None, w.table_scratch()
    opcheck(n.fused_table_adam.default, (*samples, [1e-2, 0.9, 0.99, 1e-15], 1, *state), test_utils=schema)
