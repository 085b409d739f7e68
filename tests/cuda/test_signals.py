# SPDX-License-Identifier: Apache-2.0
"""Fields of single files on a CUDA device: they learn there, without waiting, and are the same on the CPU."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurfield
from neurfield import losses
from neurfield.cli.main import main
from neurfield.data.signals.grid import grid_signal
from neurfield.signal_run import train_signal
from neurfield.training import grid_task, signal_step
from neurfield.training.grid_task import GridTask
from neurfield.training.optimizer import Adam
from neurfield.training.trainer import Trainer
from tests.compare import EPS, relative_norm
from tests.meshes import icosphere
from tests.signals.files import write_obj, write_picture
from tests.training.test_composed_step import Recorder
from tests.training.test_signal_step import SMALL_GRID, SMALL_SAPE, SMALL_SIREN, config, image, random_batch, task_of

FAMILIES = [
    ("image", SMALL_GRID), ("image-siren", SMALL_SIREN), ("image-finer", SMALL_SIREN), ("image-gabor", SMALL_SIREN),
    ("image-wire", SMALL_SIREN), ("image-cam", SMALL_SIREN), ("image-sape", SMALL_SAPE), ("sdf", SMALL_GRID),
    ("occupancy", SMALL_GRID),
]  # fmt: skip
STEPS = 200


@pytest.mark.cuda
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("known", [None, torch.arange(0, 48 * 64, 2)])
def test_the_samples_of_a_grid_are_those_of_the_cpu(device, resident, known, monkeypatch) -> None:
    if not resident:
        monkeypatch.setattr(grid_task, "MAX_RESIDENT", 0)
    # with 2048 samples of 3072; of the known ones all are taken
    here, there = (GridTask(image(), config("image", device=kind), known) for kind in ("cpu", "cuda"))
    assert (there._resident is not None) == resident
    for number in (0, 7):
        (x, target), (y, seen) = here._batch(number), there._batch(number)
        assert y.is_cuda and seen.is_cuda and torch.equal(seen.cpu(), target)
        # a division by a number is a product with its reciprocal there: two roundings against one
        assert float((y.cpu() - x).abs().max()) <= 3 * EPS[torch.float32]


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["sdf", "occupancy"])
def test_the_points_of_a_shape_are_those_of_the_cpu(device, name) -> None:
    here, there = (task_of(name, *SMALL_GRID, device=kind)._batch(3) for kind in ("cpu", "cuda"))
    for expected, part in zip(here, there, strict=True):
        # a few roundings of numbers below 1, should one of the devices contract products and sums
        assert part.is_cuda and float((part.cpu() - expected).abs().max()) <= 16 * EPS[torch.float32]


def gradients(name: str, small: tuple[str, ...], kind: str, n: int = 2048) -> tuple[list[float], dict[str, Tensor]]:
    task = task_of(name, *small, device=kind)
    adam = Recorder(task.field)
    learn = signal_step._learning(task.field, adam, losses.create(task.config.method.loss), True)
    x, target = (part.to(kind) for part in random_batch(task.field, n))
    rate = torch.full((), 0.01, dtype=torch.float64, device=kind)
    numbers = learn(x, target, rate, *((0.1,) if task.field.encoding.wants_losses else ()))
    return numbers.tolist(), adam.grads


def compare(cpu: tuple[list[float], dict[str, Tensor]], cuda: tuple[list[float], dict[str, Tensor]], n: int) -> None:
    """The same terms, one for each sample, summed in another order, and what steep activations make of a rounding."""
    bound = n * 16 * EPS[torch.float32]
    assert cuda[0] == pytest.approx(cpu[0], rel=bound)
    assert cuda[1].keys() == cpu[1].keys()
    for parameter, grad in cuda[1].items():
        assert relative_norm(grad.cpu(), cpu[1][parameter]) < bound, parameter


@pytest.mark.parametrize(("name", "small"), FAMILIES)
def test_the_kernels_on_the_host_give_the_gradients_of_the_cpu(kernels_on_host, name, small) -> None:
    expected = gradients(name, small, "cpu", 300)
    with kernels_on_host:
        actual = gradients(name, small, "cpu", 300)
    compare(expected, actual, 300)


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "small"), FAMILIES)
def test_the_device_gives_the_gradients_of_the_cpu(device, name, small) -> None:
    compare(gradients(name, small, "cpu"), gradients(name, small, "cuda"), 2048)


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "small"), FAMILIES)
def test_a_step_does_not_wait(device, name, small) -> None:
    task = task_of(name, *small, device="cuda")
    learn = signal_step._learning(
        task.field, Adam(task.field, task.config.method.optimizer), losses.create(task.config.method.loss), True
    )

    def step(number: int) -> None:
        rate = torch.full((), 0.001, dtype=torch.float64, device=device)
        learn(*task._batch(number), rate, *((number / 4,) if task.field.encoding.wants_losses else ()))

    step(0)  # libraries set themselves up
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(1, 4):
            step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def learned(task, chosen) -> tuple[Trainer, list[float]]:
    trainer, reports = Trainer(task, chosen), []
    trainer.train(reports.append)
    return trainer, [report.loss for report in reports]


@pytest.mark.parametrize(("name", "small"), FAMILIES[:2])
def test_the_kernels_on_the_host_learn_as_the_cpu(kernels_on_host, name, small, monkeypatch) -> None:
    """The step of a device. A rate of Adam differs by 8 roundings there, and gradients that all but cancel may differ
    by all they are, which moves their entries of the table by a step: little is left of that in the loss."""
    fewer = (*small, "training.n_samples=300")
    _, expected = learned(task_of(name, *fewer), config(name, *fewer, steps=12))
    with kernels_on_host:
        monkeypatch.setattr(signal_step, "_grid_step", signal_step._composed_step)
        _, actual = learned(task_of(name, *fewer), config(name, *fewer, steps=12))
    assert actual == pytest.approx(expected, rel=1e-3) and actual[-1] < actual[0]


@pytest.mark.cuda
def test_a_graph_trains_as_the_calls_that_it_is_made_of(device, monkeypatch) -> None:
    """Up to the order in which atomics add up gradients of the table."""
    found = []
    for n_eager in (3, 20):
        monkeypatch.setattr("neurfield.training.graph._EAGER_CALLS", n_eager)
        found.append(torch.tensor(learned(task_of("image", *SMALL_GRID, device="cuda"), config("image", steps=20))[1]))
    assert float((found[0].log() - found[1].log()).abs().max()) < 0.01
    assert found[0][-1] < found[0][0]


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "small"), FAMILIES)
def test_what_is_learned_there_is_the_same_field_on_the_cpu(device, name, small) -> None:
    if name == "image-cam":  # a weight between two codes of 8 bits may be rounded to either
        small = (*small, "field.network.weight_bits=null")
    task = task_of(name, *small, device="cuda")
    trainer, losses_of_steps = learned(task, config(name, *small, device="cuda", steps=STEPS))
    assert trainer.counters()["optimizer_step"] == STEPS
    assert sum(losses_of_steps[-20:]) / 20 < 0.7 * losses_of_steps[0]
    here, (x, _) = copy.deepcopy(task.field).to("cpu"), random_batch(task.field, 4096)
    with torch.no_grad():
        there, expected = task.field(x), here(x)
        assert there.device.type == "cpu" and torch.equal(task.field(x.to(device)).cpu(), there)
    # roundings of float32, times what some ten layers and activations make of them
    assert float((there - expected).abs().max()) < 1e-3 * max(1.0, float(expected.abs().max()))
    x = x[:64].requires_grad_()
    (slopes,) = torch.autograd.grad(task.field(x).sum(), x)
    assert slopes.device.type == "cpu" and slopes.isfinite().all()


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "small"), FAMILIES[:2])
def test_it_is_learned_as_well_as_on_the_cpu(device, name, small) -> None:
    found = [
        learned(task_of(name, *small, device=kind), config(name, *small, device=kind, steps=STEPS))[1]
        for kind in ("cpu", "cuda")
    ]
    here, there = (torch.tensor(values[-50:]).mean().log10() for values in found)
    assert abs(float(there - here)) < 0.1  # 1 dB


@pytest.mark.cuda
def test_a_volume_is_learned_there(device) -> None:
    values = torch.linspace(0, 1, 24**3).view(24, 24, 24, 1).square().numpy()
    chosen = config("volume", *SMALL_GRID, device="cuda", steps=STEPS)
    signal = grid_signal(values, "v", name="v", suffix=".npy")
    trainer, found = learned(GridTask(signal, chosen), chosen)
    assert trainer.task.field.device.type == "cuda" and found[-1] < 0.1 * found[0]


@pytest.mark.cuda
def test_products_of_halves_learn_an_image(device) -> None:
    half = (*SMALL_GRID, "field.network_precision=fp16")
    found = learned(task_of("image", *half, device="cuda"), config("image", *half, steps=STEPS))[1]
    assert found[-1] < 0.1 * found[0]


def command(*words: object) -> None:
    pytest.importorskip("tyro")
    assert main([str(word) for word in words]) == 0


@pytest.mark.cuda
def test_the_commands_use_the_device_and_go_on_on_the_other(device, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "p.png")
    words = ("train", path, "--output-dir", tmp_path / "out", "--timestamp", "t")
    command(*words, "--device", "cuda", "--max-num-iterations", STEPS, "--set", *SMALL_GRID)
    folder = tmp_path / "out" / "p" / "image" / "t"
    psnr = {}
    for kind in ("cuda", "cpu"):
        command("eval", folder, "--device", kind, "--output", tmp_path / f"{kind}.json")
        command("render", folder, "--device", kind, "--output", tmp_path / f"{kind}.png")
        psnr[kind] = json.loads((tmp_path / f"{kind}.json").read_text())["psnr"]
    assert psnr["cuda"] > 25 and abs(psnr["cuda"] - psnr["cpu"]) < 0.05
    command("convert", folder, "--to", "half", "--output", tmp_path / "small.safetensors")
    command("eval", tmp_path / "small.safetensors", "--device", "cuda", "--output", tmp_path / "small.json")
    for n, kind in ((STEPS + 20, "cpu"), (STEPS + 40, "cuda")):
        command(*words, "--resume", "--device", kind, "--max-num-iterations", n)
        run = neurfield.load(folder)
        assert run.step == n and run.config.device == kind


@pytest.mark.cuda
def test_a_shape_that_was_trained_there_is_measured_and_meshed(device, tmp_path: Path) -> None:
    pytest.importorskip("trimesh")
    path = write_obj(tmp_path / "ball.obj", *icosphere(3))
    overrides = (*SMALL_GRID, "field.max_resolution=64", "training.n_samples=8192")
    for method in ("sdf", "occupancy"):
        run = train_signal(path, method, max_num_iterations=400, overrides=overrides, device="cuda")
        assert run.field.device.type == "cuda"
        there = run.evaluate()
        assert there["iou"] > 0.9
        run.to("cpu")
        assert abs(run.evaluate()["iou"] - there["iou"]) < 0.01


@pytest.mark.cuda
def test_an_average_lies_where_the_field_does(device, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "p.png")
    overrides = (*SMALL_GRID, "training.n_samples=2048", "training.ema_decay=0.9")
    run = train_signal(path, max_num_iterations=STEPS, overrides=overrides, device="cuda")
    assert run.field.device.type == "cuda" and run.evaluate()["psnr"] > 25


@pytest.mark.cuda
def test_a_frequency_is_chosen_there(device, tmp_path: Path) -> None:
    """By trials on the device."""
    path = write_picture(tmp_path / "p.png")
    lines: list[str] = []
    run = train_signal(
        path, "image-siren", max_num_iterations=400, overrides=(*SMALL_SIREN, "training.n_samples=2048"),
        auto_frequency=True, device="cuda", report=lines.append,
    )  # fmt: skip
    assert lines and run.field.device.type == "cuda"
