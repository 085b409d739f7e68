# SPDX-License-Identifier: Apache-2.0
"""The step of fixed capacity, which CUDA runs, is on the CPU the composed step; it reads nothing from the device."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neurfield import ops
from neurfield.rendering.volume import MarchOptions, composite_rays, march_rays, sample_positions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training import composed_step as steps
from neurfield.training import radiance_task
from neurfield.training.composed_step import RayBatch, capacity_step, composed_step
from neurfield.training.evaluation import evaluate
from neurfield.training.graph import Delayed
from neurfield.training.method import MethodConfig, load_method
from neurfield.training.optimizer import Adam
from neurfield.training.task import StepResult
from tests.cases import uniform
from tests.compare import EPS, relative_norm
from tests.scenes import ball_scene, radiance_trainer
from tests.training.test_trainer import disc, mean_psnr, small_config

OPTIONS = MarchOptions.for_box(1, 4.0)
REGULARISED = ("loss.distortion=0.1", "loss.opacity_entropy=0.01")
N_PIXELS = 96


def method(*overrides: str) -> MethodConfig:
    return load_method("ngp-fast", ("field.encoding.log2_hashmap_size=10", "field.max_resolution=64", *overrides))


def batch(per_pixel: int = 1, n_pixels: int = N_PIXELS) -> RayBatch:
    """Rays from below through and beside the unit cube; some meet nothing, and of a third the distance is not known."""
    n = n_pixels * per_pixel
    origins = uniform(n, 3, low=-0.2, high=1.2, seed=4)
    origins[:, 2] = -0.5
    directions = torch.tensor([0.0, 0.0, 1.0]).repeat(n, 1)
    distances = torch.stack([uniform(n, low=0.5, high=1.5, seed=7), uniform(n, high=0.2 / n, seed=8)], dim=1)
    distances[::3] = 0
    colors = uniform(n_pixels, 3, seed=5), uniform(n_pixels, 3, seed=6)
    return RayBatch(origins, directions, *colors, distances=distances)


class Recorder:
    """Takes the place of Adam: keeps the gradients of a step and changes nothing."""

    def __init__(self, field):
        self.field, self.grads, self.condition = field, {}, None

    def step_if(self, condition: Tensor, learning_rate: Tensor) -> None:
        self.condition, self.learning_rate = bool(condition), float(learning_rate)
        self.grads = {name: param.grad.clone() for name, param in self.field.named_parameters()}
        self.field.zero_grad(set_to_none=True)


def gradients(
    make, method: MethodConfig, rays: RayBatch, options: MarchOptions = OPTIONS
) -> tuple[StepResult, dict[str, Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        field = method.field.build((0, 0, 0, 1, 1, 1))
    adam = Recorder(field)
    result = make(field, OccupancyGrid(1, resolution=16), adam, options, method, 3)(rays, 0.01, 7)
    assert adam.condition and adam.learning_rate == 0.01
    return result, adam.grads


def leading(rays: RayBatch, n_pixels: int) -> RayBatch:
    n_rays = n_pixels * (rays.n_rays // rays.n_pixels)
    colors = rays.target[:n_pixels], rays.background[:n_pixels]
    weights = torch.tensor([1, rays.n_rays / n_rays])  # the sum is as large as if it were over all
    return RayBatch(
        rays.origins[:n_rays], rays.directions[:n_rays], *colors, distances=weights * rays.distances[:n_rays]
    )


def test_the_depth_error_is_the_share_of_light_from_elsewhere() -> None:
    """As losses.depth defines it, ray by ray in float64; it is what the loss grows by, and it has a gradient."""
    rays = batch()
    samples = march_rays(OccupancyGrid(1, resolution=16), rays.origins, rays.directions, OPTIONS, (3, 7))
    plain, unaware = gradients(step_on_all_samples, method(), dataclasses.replace(rays, distances=None))
    found, grads = gradients(step_on_all_samples, method(), rays)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        field = method().field.build((0, 0, 0, 1, 1, 1))
        weights = composite_rays(field, samples, rays.origins, rays.directions, OPTIONS).weights.double()
    errors = []
    for (start, count), (distance, weight) in zip(
        samples.packed_info.tolist(), rays.distances.double().tolist(), strict=True
    ):
        own = slice(start, start + count)
        k = (1 - (samples.t_starts[own].double() / max(distance, 1e-9) - 1).abs() / 0.05).clamp_min(0)
        errors.append(weight * float(1 - (weights[own] * k).sum()))
    assert min(errors) == 0 and sum(errors) < 0.99 * float(rays.distances[:, 1].sum())
    assert found.loss - plain.loss == pytest.approx(sum(errors), rel=1e-4)
    assert relative_norm(grads["density_network.params"], unaware["density_network.params"]) > 0.01


@pytest.mark.parametrize("per_pixel", [1, 4])
@pytest.mark.parametrize("room", [2.0, 0.5], ids=["all fit", "half fit"])
def test_gradients_are_those_of_the_composed_step_on_the_pixels_that_fit(room: float, per_pixel: int) -> None:
    """Both add the same terms, one for each sample, in another order: that many roundings at most."""
    rays = batch(per_pixel)
    n_all = march_rays(OccupancyGrid(1, resolution=16), rays.origins, rays.directions, OPTIONS, (3, 7)).counts
    capacity = int(room * int(n_all[2]))
    config = method(*REGULARISED, f"training.n_samples={capacity}")
    found, grads = gradients(capacity_step, config, rays)
    assert found.n_samples <= capacity and found.n_rays % per_pixel == 0
    assert found.n_rays == rays.n_rays if room > 1 else 0.3 * rays.n_rays < found.n_rays < 0.7 * rays.n_rays
    expected, expected_grads = gradients(composed_step, config, leading(rays, found.n_rays // per_pixel))
    assert expected.n_samples <= found.n_samples < expected.n_samples + OPTIONS.max_samples
    bound = found.n_samples * EPS[torch.float32]
    assert abs(found.loss / expected.loss - 1) < bound and found.loss > 0
    assert abs(found.squared_error / expected.squared_error - 1) < bound
    for name, grad in grads.items():
        assert relative_norm(grad, expected_grads[name]) < bound, name


def step_on_all_samples(field, grid, optimizer, options, config, seed):
    """What the steps would do if they left no sample out."""
    learn = steps._learning(field, optimizer, options, config)

    def step(rays: RayBatch, learning_rate: float, number: int) -> StepResult:
        samples = march_rays(grid, rays.origins, rays.directions, options, (seed, number))
        return steps._result(learn(rays, samples, torch.tensor(learning_rate, dtype=torch.float64)).tolist())

    return step


@pytest.mark.parametrize("per_pixel", [1, 4])
def test_samples_behind_surfaces_take_no_room_and_change_nothing(per_pixel: int) -> None:
    """The field is a fog of density 1, so with this threshold a ray through the cube ends before its middle."""
    rays, options = batch(per_pixel), dataclasses.replace(OPTIONS, stop_transmittance=0.9)
    n_all = int(march_rays(OccupancyGrid(1, resolution=16), rays.origins, rays.directions, OPTIONS, (3, 7)).counts[2])
    config = method(f"training.n_samples={n_all // 3 if per_pixel == 4 else 4096}")
    found, grads = gradients(capacity_step, config, rays, options)
    full, _ = gradients(capacity_step, config, rays)
    assert found.n_rays > full.n_rays and 0 < found.n_samples < n_all
    some = leading(rays, found.n_rays // per_pixel)
    expected, expected_grads = gradients(step_on_all_samples, config, some, options)
    bound = expected.n_samples * EPS[torch.float32]
    for result, own in ((found, grads), gradients(composed_step, config, some, options)):
        assert result.n_samples < expected.n_samples
        assert abs(result.loss / expected.loss - 1) < bound
        for name, grad in own.items():
            assert relative_norm(grad, expected_grads[name]) < bound, name


def test_the_first_pixel_is_learned_from_however_small_the_capacity() -> None:
    result, _ = gradients(capacity_step, method("training.n_samples=256"), batch(4))
    assert result.n_rays > 0 and math.isfinite(result.loss)


@pytest.mark.parametrize("per_pixel", [1, 4])
def test_no_more_rays_are_marched_than_fill_the_room_and_it_changes_nothing(per_pixel: int, monkeypatch) -> None:
    """A quarter more than the step two before took, in a buffer for their samples; the same losses as from all rays."""
    rays, seen = batch(per_pixel), []

    def recorded(grid, origins, directions, options, jitter, capacity):
        samples = march_rays(grid, origins, directions, options, jitter, capacity)
        assert samples.counts[1] == 0  # all rays have room
        seen.append((origins.shape[0], capacity, int(samples.counts[2])))
        return samples

    monkeypatch.setattr(steps, "march_rays", recorded)
    config = method("training.n_samples=4096")
    results = {}
    for spare in (1.25, 1e9):
        monkeypatch.setattr(steps, "_SPARE", spare)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            field = config.field.build((0, 0, 0, 1, 1, 1))
        step = capacity_step(field, OccupancyGrid(1, resolution=16), Adam(field, config.optimizer), OPTIONS, config, 3)
        results[spare] = [step(rays, 0.01, number) for number in range(8)]
    assert results[1.25] == results[1e9]
    first, last = seen[0], seen[7]
    assert first[0] == seen[-1][0] == rays.n_rays and first[1] == steps._MARCHED * 4096
    taken = results[1.25][-1].n_rays
    assert 1.1 * taken < last[0] < 1.5 * taken + per_pixel and last[0] % per_pixel == 0
    assert last[2] < last[1] < 1.5 * last[2]


def test_results_are_two_steps_late() -> None:
    late = Delayed()
    assert [late.exchange(torch.tensor([float(i)])) for i in range(6)] == [[0], [0], [0], [1], [2], [3]]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = method()
    field = config.field.build((0, 0, 0, 1, 1, 1))
    adam = Adam(field, config.optimizer)
    step = capacity_step(field, OccupancyGrid(1, resolution=16), adam, OPTIONS, config, 3)
    rays = batch()
    step(rays, 0.01, 0)
    before = [t.clone() for t in (*field.parameters(), *adam.tensors().values())]
    assert adam.step_count == 1 and before[0].abs().max() > 1e-3
    handle = None
    if where == "loss":
        rays.target[3] = math.nan
    else:
        handle = field.color_network.params.register_hook(lambda grad: grad * math.nan)
    losses = [step(rays, 0.01, number).loss for number in (1, 2, 3)]
    assert math.isfinite(losses[0]) and math.isnan(losses[2])
    assert adam.step_count == 1
    after = (*field.parameters(), *adam.tensors().values())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(param.grad is None for param in field.parameters())
    if handle:
        handle.remove()
        step(rays, 0.01, 4)
        assert adam.step_count == 2 and not torch.equal(before[0], after[0])


@pytest.mark.parametrize("make", [capacity_step, composed_step])
def test_a_field_that_has_become_nan_is_noticed(make) -> None:
    """Its density hides nothing, so that its samples are learned from and the loss is not finite."""
    config = method()
    field = config.field.build((0, 0, 0, 1, 1, 1))
    field.density_network.params.data.fill_(math.nan)
    adam = Adam(field, config.optimizer)
    result = make(field, OccupancyGrid(1, resolution=16), adam, OPTIONS, config, 3)(batch(), 0.01, 0)
    assert math.isnan(result.loss) and adam.step_count == 0


@pytest.mark.parametrize("make", [capacity_step, composed_step])
def test_adam_writes_the_copy_that_the_next_step_reads(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table and its float16 copy change together, and nothing copies the whole table again."""
    config = method()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        field = config.field.build((0, 0, 0, 1, 1, 1))
    table = field.encoding.params
    step = make(field, OccupancyGrid(1, resolution=16), Adam(field, config.optimizer), OPTIONS, config, 3)
    step(batch(), 0.01, 1)
    copy, before = ops.current_half_copy(table), table.detach().clone()
    assert copy is not None and torch.equal(copy, table.half())
    pointers, make_copy = set(), torch.Tensor.copy_
    monkeypatch.setattr(
        torch.Tensor, "copy_", lambda to, *a, **k: pointers.add(to.data_ptr()) or make_copy(to, *a, **k)
    )
    step(batch(), 0.01, 2)
    assert not torch.equal(table, before) and torch.equal(copy, table.half()) and copy.data_ptr() not in pointers
    with torch.no_grad():
        table.mul_(0.5)  # another one has changed the table: what Adam would write is not all that is wrong
    assert ops.current_half_copy(table) is None
    step(batch(), 0.0, 3)
    assert copy.data_ptr() in pointers and torch.equal(ops.current_half_copy(table), table.half())


class OnDevice(TorchDispatchMode):
    """Fails where an operation reads or makes a tensor that does not lie on the device, even a scalar."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.names = device, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.names.add(func._schema.name)
        for leaf in tree_leaves((args, kwargs, result)):
            assert not isinstance(leaf, Tensor) or leaf.device == self.device, f"{func}: a tensor on {leaf.device}"
        return result


KILONERF = ("field.box=[0, 0, 0, 1, 1, 1]", "field.cells=[2, 2, 2]", "field.n_networks=8", "loss.view_dependence=0.1")


@pytest.mark.parametrize(
    ("method", "options", "kernel"),
    [
        *(
            ("ngp", (f"loss.color={{otype: {x}}}",), "hash_grid")
            for x in ("Huber", "L2", "RelativeL2Luminance", "SMAPE")
        ),
        ("kilonerf", KILONERF, "kilo_mlp"),
        ("ngp-cam", (), "modulation"),
        ("ngp", ("field.encoding={otype: GaussianFourier, n_frequencies: 16}",), "fourier_features"),
    ],
)
def test_the_step_reads_nothing_from_its_device_and_makes_nothing_elsewhere(method, options, kernel) -> None:
    """On torch's meta device, whose tensors have no values: to read one is an error."""
    meta = torch.device("meta")
    config = load_method(method, (*REGULARISED, *options))
    field = config.field.build((0, 0, 0, 1, 1, 1)).to(meta)
    learn = steps._learning(field, Adam(field, config.optimizer), OPTIONS, config)
    rays = RayBatch(*(torch.empty(64, 3, device=meta) for _ in range(4)))
    bits = torch.empty(1, 16**3 // 8, dtype=torch.uint8, device=meta), torch.empty(1, 8, dtype=torch.uint8, device=meta)
    grid = SimpleNamespace(march=lambda o, d, **options: ops.march(o, d, *bits, **options))
    with OnDevice(meta) as mode:
        marched = march_rays(grid, rays.origins, rays.directions, OPTIONS, (3, 7), 4096)
        sigmas = field.density(sample_positions(marched, rays.origins, rays.directions)[0])[0]
        samples = ops.visible_samples(marched, sigmas, 1e-4, 1024)
        numbers = learn(rays, samples, torch.full((), 0.01, dtype=torch.float64, device=meta))
    assert numbers.shape == (4,)
    assert {"neurfield::march", f"neurfield::{kernel}", "neurfield::adam_step"} <= mode.names


def test_an_update_of_the_grid_reads_nothing_from_its_device() -> None:
    """Once it is known how many cells are open."""
    meta = torch.device("meta")
    grid = OccupancyGrid(2, resolution=16).to(meta)
    grid._counted = (grid.density_grid, grid.density_grid._version, 1000)
    with OnDevice(meta) as mode:
        for number in (16, 512):
            grid.update(number, lambda x: x[:, 0], seed=1, max_draws=500)
    assert {"neurfield::occupancy_select", "neurfield::occupancy_draw", "neurfield::occupancy_update"} <= mode.names


def test_a_whole_training_with_it_learns_the_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA does it: always the most rays, of which the step takes those that fit."""
    scene = ball_scene()
    monkeypatch.setattr(radiance_task, "make_step", lambda *given: capacity_step(*given[:-1]))
    trainer = radiance_trainer(scene, small_config("training.max_rays=2048", steps=150))
    trainer.task._adapts, trainer.task.n_rays = False, 2048
    reports = []
    trainer.train(reports.append)
    assert reports[0].n_rays < 2048 and all(report.n_samples <= 8192 for report in reports)
    assert reports[0].loss == reports[2].loss > 3 * reports[-1].loss
    assert evaluate(trainer.task.renderer, scene, "test")["psnr"] > mean_psnr(scene, disc) + 1
