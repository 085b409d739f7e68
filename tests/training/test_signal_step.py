# SPDX-License-Identifier: Apache-2.0
"""Steps of signals' fields: by autograd as on CUDA and natively, what lies where, what is left out."""

import math

import pytest
import torch
from torch import Tensor

from neurfield import losses
from neurfield.data.signals.grid import GridSignal, grid_signal
from neurfield.data.signals.mesh import MeshInfo, MeshSignal
from neurfield.fields.signal_field import SignalField
from neurfield.training import grid_task, signal_step
from neurfield.training.grid_task import GridTask
from neurfield.training.method import signal_presets
from neurfield.training.occupancy_task import OccupancyTask
from neurfield.training.optimizer import Adam
from neurfield.training.sdf_task import SdfTask
from neurfield.training.signal_method import SignalMethod, SignalRunConfig, load_signal_method
from neurfield.training.task import Task
from neurfield.training.trainer import Trainer
from tests.meshes import icosphere
from tests.signals.files import picture
from tests.training.test_composed_step import OnDevice

META = torch.device("meta")
SMALL_GRID = ("field.encoding.n_levels=6", "field.encoding.log2_hashmap_size=12", "field.encoding.base_resolution=8")
SMALL_SIREN = ("field.network.n_neurons=32", "field.network.n_hidden_layers=2")
SMALL_SAPE = ("field.encoding.n_blocks=4", "field.encoding.nested.n_frequencies=16", *SMALL_SIREN)
TASKS = {"sdf": SdfTask, "occupancy": OccupancyTask}


def image(height: int = 48, width: int = 64) -> GridSignal:
    return grid_signal(picture(height, width), "p", name="p", suffix=".png")


def ball() -> MeshSignal:
    vertices, faces = icosphere(2)
    info = MeshInfo("b", ".obj", len(vertices), len(faces), True, (-1.0,) * 3, (1.0,) * 3)
    return MeshSignal(info, vertices * info.scale + torch.tensor(info.offset), faces)


def config(name: str, *overrides: str, device: str = "cpu", steps: int = 20) -> SignalRunConfig:
    kind = name.split("-")[0]
    method = load_signal_method(name, kind, ("training.n_samples=2048", *overrides))
    return SignalRunConfig(method=method, kind=method.kind, device=device, max_num_iterations=steps)


def task_of(name: str, *overrides: str, device: str = "cpu") -> Task:
    chosen = config(name, *overrides, device=device)
    return TASKS[chosen.kind](ball(), chosen) if chosen.kind in TASKS else GridTask(image(), chosen)


def trained(name: str, *overrides: str, steps: int = 20) -> tuple[Trainer, list[float]]:
    trainer = Trainer(task_of(name, *overrides), config(name, *overrides, steps=steps))
    reports = []
    trainer.train(reports.append)
    return trainer, [report.loss for report in reports]


@pytest.mark.parametrize(
    ("name", "more"),
    [("image", ()), ("image", ("field.table_precision=fp32",)), ("sdf", ()), ("occupancy", ())],
)
def test_autograd_makes_of_a_grid_what_the_native_pass_makes(name, more, monkeypatch) -> None:
    """Bit for bit: the same gradients, and entries of the table wait alike. The losses are the same, too."""
    native, losses_of_native = trained(name, *SMALL_GRID, *more)
    monkeypatch.setattr(signal_step, "_grid_step", signal_step._composed_step)
    composed, losses_of_composed = trained(name, *SMALL_GRID, *more)
    assert losses_of_composed == losses_of_native and len(set(losses_of_native)) == 20
    ours, theirs = composed.tensors(), native.tensors()
    assert ours.keys() == theirs.keys() and composed.counters()["optimizer_step"] == 20
    for tensor in ours:
        assert torch.equal(ours[tensor], theirs[tensor]), tensor


def random_batch(field: SignalField, n: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, field.n_dims, generator=generator), torch.rand(n, field.n_channels, generator=generator)


@pytest.mark.parametrize(
    ("name", "small"), [("image", SMALL_GRID), ("image-siren", SMALL_SIREN), ("image-sape", SMALL_SAPE)]
)
@pytest.mark.parametrize("broken", ["target", "parameter"])
def test_a_step_that_is_not_finite_changes_nothing(name, small, broken) -> None:
    method = load_signal_method(name, "image", small)
    field = task_of(name, *small).field
    adam, (x, target) = Adam(field, method.optimizer), random_batch(field)
    step = signal_step._composed_step(field, adam, losses.create(method.loss), lambda number: (x, target), True)
    assert math.isfinite(step(0, 0.01, 0.0).loss) and adam.step_count == 1
    if broken == "target":
        target[7, 1] = math.nan
    else:
        field.network.params.data[3] = math.inf
    before = {key: value.clone() for key, value in field.named_parameters()}
    assert math.isnan(step(1, 0.01, 0.1).loss) and adam.step_count == 1
    assert all(torch.equal(value, before[key]) for key, value in field.named_parameters())
    for key, value in field.named_buffers():
        assert value.isfinite().all(), key  # what SAPE has recorded of the losses


def test_losses_that_are_not_finite_end_no_growth() -> None:
    """A block that is due after such steps opens everywhere, as if nothing had been learned yet."""
    method, field = load_signal_method("image-sape", "image", SMALL_SAPE), task_of("image-sape", *SMALL_SAPE).field
    x, target = random_batch(field)
    step = signal_step._composed_step(
        field, Adam(field, method.optimizer), losses.create(method.loss), lambda number: (x, target * math.nan), True
    )
    progress = field.encoding.progress
    before = progress.open_blocks.clone()
    assert math.isnan(step(0, 0.01, 0.5).loss) and int(progress.n_due) > 1
    assert progress.growing.all() and (progress.open_blocks > before).all()


def methods() -> list[SignalMethod]:
    return [load_signal_method(name, name.split("-")[0]) for name in signal_presets()]


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_the_step_reads_nothing_from_its_device_and_makes_nothing_elsewhere(method) -> None:
    """On torch's meta device, whose tensors have no values: to read one is an error. What SAPE asks for in every step
    lies on the CPU, which is why no graph is made of it."""
    field = SignalField.from_config(method.field, 2 if method.kind == "image" else 3, 1, 64, 0).to(META)
    learn = signal_step._learning(field, Adam(field, method.optimizer), losses.create(method.loss), True)
    x, target = (part.to(META) for part in random_batch(field))
    rate = torch.full((), 0.01, dtype=torch.float64, device=META)
    if field.encoding.wants_losses:
        numbers = learn(x, target, rate, 0.4)
        assert field.encoding.progress.n_due.device.type == field.encoding.progress.done.device.type == "cpu"
        assert int(field.encoding.progress.n_due) > 1
    else:
        with OnDevice(META) as mode:
            numbers = learn(x, target, rate)
        assert "neurfield::adam_step" in mode.names
    assert numbers.shape == (2,) and numbers.device == META


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_nothing_in_a_step_is_made_on_the_default_device(method) -> None:
    """What is, lands on the meta device here and cannot meet the others."""
    field = SignalField.from_config(method.field, 2 if method.kind == "image" else 3, 1, 64, 0)
    learn = signal_step._learning(field, Adam(field, method.optimizer), losses.create(method.loss), True)
    x, target = random_batch(field)
    rate = torch.full((), 0.01, dtype=torch.float64)
    progress = (0.4,) if field.encoding.wants_losses else ()
    with META:
        numbers = learn(x, target, rate, *progress)
    assert numbers.isfinite().all()


def test_positions_are_taken_to_the_parameters_and_values_are_brought_back() -> None:
    field = task_of("image", *SMALL_GRID).field.to(META)
    assert field(torch.empty(5, 2, device=META)).device == META
    with pytest.raises(NotImplementedError, match="meta"):  # from where nothing can be brought back
        field(torch.rand(5, 2))


@pytest.mark.parametrize("limit", [0, grid_task.MAX_RESIDENT])
@pytest.mark.parametrize("known", [None, torch.arange(0, 48 * 64, 2)])
def test_batches_of_a_grid_lie_where_the_field_does(limit, known, monkeypatch) -> None:
    monkeypatch.setattr(grid_task, "MAX_RESIDENT", limit)
    for n in (300, 5000):
        task = GridTask(image(), config("image", f"training.n_samples={n}", device="meta"), known)
        x, target = task._batch(3)
        n_all = 48 * 64 if known is None else len(known)
        assert task._resident is None if limit == 0 else task._resident.shape == (n_all, 3)
        assert x.device == target.device == META and task.field.device == META
        assert x.shape == (min(n, n_all), 2) and target.shape == (min(n, n_all), 3)


@pytest.mark.parametrize("known", [None, torch.arange(0, 48 * 64, 2)])
def test_a_resident_array_gives_the_samples_that_the_host_gathers(known) -> None:
    task = GridTask(image(), config("image", "training.n_samples=700"), known)
    expected = task._batch(3)
    task._resident = torch.from_numpy(task.signal.normalized(task._rows if known is None else task._rows[known]))
    for ours, theirs in zip(task._batch(3), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["sdf", "occupancy"])
def test_batches_of_shapes_lie_where_the_field_does(name) -> None:
    """Points and their distances are made when the task is, with values; the meta device takes over afterwards."""
    task = task_of(name, *SMALL_GRID)
    task.field.to(META)
    if name == "sdf":
        task._surface, task._pools = task._surface.to(META), [(x.to(META), d.to(META)) for x, d in task._pools]
    else:
        task._positions, task._inside = task._positions.to(META), task._inside.to(META)
    for part, width in zip(task._batch(3), (3, 1), strict=True):
        assert part.device == META and part.shape == (2048, width)
