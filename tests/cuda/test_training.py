# SPDX-License-Identifier: Apache-2.0
"""Training on a CUDA device: the numbers of the CPU's step, no waiting, graphs, and what comes out of it."""

import dataclasses
import gc

import pytest
import torch

import neurfield
import neurfield.run
from neurfield import ops
from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.request import Request
from neurfield.fields.radiance_field import RadianceField
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training import composed_step as steps
from neurfield.training.composed_step import RayBatch, capacity_step
from neurfield.training.evaluation import evaluate
from neurfield.training.graph import Graphed
from neurfield.training.optimizer import Adam
from neurfield.training.run_folder import RunFolder
from neurfield.training.session import Session
from neurfield.training.task import StepResult
from neurfield.training.view_set import ViewSet
from neurfield.viewer import shown_run
from neurfield.viewer.look import Look
from tests.compare import EPS, relative_norm
from tests.scenes import ball_scene, moving_scene, radiance_trainer, write_synthetic
from tests.training.test_composed_step import N_PIXELS, OPTIONS, REGULARISED, Recorder, batch, method
from tests.training.test_trainer import SMALL, disc, mean_psnr, small_config

PRECISE = ("field.network_precision=fp32", "field.table_precision=fp32")


def made(device: torch.device, *overrides: str):
    """A field, the same on every device, an empty grid and rays."""
    config = method("training.n_samples=4096", *overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        field = config.field.build((0, 0, 0, 1, 1, 1)).to(device)
    rays = RayBatch(*(value.to(device) for value in vars(batch()).values()))
    return config, field, OccupancyGrid(1, resolution=16).to(device), rays


def gradients(place: torch.device) -> tuple[StepResult, dict[str, torch.Tensor]]:
    config, field, grid, rays = made(place, *PRECISE, *REGULARISED)
    adam = Recorder(field)
    return capacity_step(field, grid, adam, OPTIONS, config, 3)(rays, 0.01, 7), adam.grads


def compare(cpu: tuple[StepResult, dict[str, torch.Tensor]], cuda: tuple[StepResult, dict[str, torch.Tensor]]) -> None:
    """The same terms, at most one for each sample, summed in another order."""
    assert (cuda[0].n_rays, cuda[0].n_samples) == (cpu[0].n_rays, cpu[0].n_samples)
    assert 0 < cpu[0].n_rays < N_PIXELS  # the capacity is used up
    bound = cpu[0].n_samples * EPS[torch.float32]
    assert abs(cuda[0].loss / cpu[0].loss - 1) < bound
    for name, grad in cuda[1].items():
        assert relative_norm(grad.cpu(), cpu[1][name]) < bound, name


def test_the_kernels_on_the_host_give_the_gradients_of_the_cpu(
    kernels_on_host, fma: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fma:
        pytest.skip("without FMA the CPU's rays meet other cells")
    monkeypatch.setattr(RadianceField, "fused", lambda self: None)  # as on CUDA for a precise field
    expected = gradients(torch.device("cpu"))
    with kernels_on_host:
        actual = gradients(torch.device("cpu"))
    compare(expected, actual)


@pytest.mark.cuda
def test_the_device_gives_the_gradients_of_the_cpu(device: torch.device, fma: bool) -> None:
    if not fma:
        pytest.skip("without FMA the CPU's rays meet other cells")
    compare(gradients(torch.device("cpu")), gradients(device))


@pytest.mark.cuda
def test_a_graph_trains_as_the_calls_that_it_is_made_of(device: torch.device, monkeypatch) -> None:
    """Up to the order in which atomics add up gradients of the table."""
    losses = []
    for n_eager in (3, 10):
        monkeypatch.setattr("neurfield.training.graph._EAGER_CALLS", n_eager)
        config, field, grid, rays = made(device)
        step = capacity_step(field, grid, Adam(field, config.optimizer), OPTIONS, config, 3)
        losses.append(torch.tensor([step(rays, 0.01, 7).loss for _ in range(10)]))
    assert (losses[0].log() - losses[1].log()).abs().max() < 0.01
    assert losses[0][-1] < losses[0][0]


@pytest.mark.cuda
def test_an_earlier_graph_in_the_garbage_does_not_end_a_capture(device: torch.device) -> None:
    def doubled(x: torch.Tensor) -> torch.Tensor:
        if torch.cuda.is_current_stream_capturing():
            gc.collect()
        return 2 * x

    x = torch.arange(1000.0, device=device)
    for _ in range(2):
        graphed = Graphed(doubled)
        graphed.itself = graphed  # a cycle, as a run is one
        for _ in range(5):
            assert torch.equal(graphed(x), 2 * x)


@pytest.mark.cuda
def test_a_step_does_not_wait(device: torch.device) -> None:
    config, field, grid, rays = made(device)
    learn = steps._learning(field, Adam(field, config.optimizer), OPTIONS, config)
    rate = torch.full((), 0.01, dtype=torch.float64, device=device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(3):
            marched = steps.march_rays(grid, rays.origins, rays.directions, OPTIONS, (3, number), 8192)
            learn(rays, ops.visible_samples(marched, torch.ones_like(marched.t_starts), 1e-4, 4096), rate)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_a_run_learns_the_ball_and_renders_on_the_cpu_as_well(device: torch.device, tmp_path) -> None:
    scene = ball_scene()
    config = dataclasses.replace(small_config("training.max_rays=2048", steps=150), device="cuda")
    trainer = radiance_trainer(scene, config)
    trainer.train()
    psnr = evaluate(trainer.task.renderer, scene, "test")["psnr"]
    assert psnr > mean_psnr(scene, disc) + 1
    path = Session(trainer, ViewSet.of_scene(scene), RunFolder(tmp_path / "run")).save()
    on_cpu = neurfield.load(path)
    assert abs(evaluate(on_cpu.renderer, scene, "test")["psnr"] - psnr) < 0.05


@pytest.mark.cuda
@pytest.mark.parametrize("preset", ["ngp-dynamic", "ngp-dynamic-cam", "ngp-cam"])
def test_moving_and_modulated_fields_learn_and_render_on_the_cpu_as_well(preset: str, device: torch.device) -> None:
    scene = moving_scene() if "dynamic" in preset else ball_scene()
    run = neurfield.train(scene, preset, overrides=SMALL, max_num_iterations=300, device=device.type)
    # of views that it has learned: what grids over the directions say between a dozen views is chance
    there = run.evaluate("train")["psnr"]
    assert there > mean_psnr(scene, disc) + 5
    run.to("cpu")
    assert abs(run.evaluate("train")["psnr"] - there) < 0.05


@pytest.mark.cuda
@pytest.mark.parametrize("coarse", ["true", "false"])
def test_the_original_nerf_learns_and_renders_on_the_cpu_as_well(coarse: str, device: torch.device) -> None:
    sets = (
        f"field.coarse={coarse}", "field.width=160", "field.n_layers=3", "field.skip=1", "field.position_frequencies=4",
        "sampler.n_coarse=16", "sampler.n_fine=16", "training.n_samples=8192", "optimizer.learning_rate=0.002",
    )  # fmt: skip
    run = neurfield.train(ball_scene(), "nerf", overrides=sets, max_num_iterations=200, device=device.type)
    there = run.evaluate("train")["psnr"]
    assert there > mean_psnr(ball_scene(), disc) + 1
    run.to("cpu")
    assert abs(run.evaluate("train")["psnr"] - there) < 0.05


@pytest.mark.cuda
def test_an_update_of_the_grid_does_not_wait(device: torch.device) -> None:
    grid = OccupancyGrid(2, resolution=16).to(device)
    grid.update(0, lambda x: x[:, 0])  # counts the open cells
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in (16, 256, 512):
            grid.update(number, lambda x: 100 * x[:, 0], max_draws=500)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_a_kilonerf_is_made_there_and_looks_the_same_on_the_cpu(device: torch.device, tmp_path) -> None:
    scene = neurfield.load_scene(write_synthetic(ball_scene(), tmp_path / "data"))
    teacher = neurfield.run.train(
        scene, "ngp-fast", max_num_iterations=150, overrides=SMALL, output_dir=tmp_path, device="cuda"
    )
    quick = ("field.longest=3", "field.width=16", "field.position_frequencies=4", "distill.iterations=300")
    rates = ("distill.learning_rate=0.005", "distill.n_samples=4096", "training.n_samples=4096")
    made = to_kilonerf(
        teacher, Request(tmp_path / "kilo", overrides=(*quick, *rates), max_num_iterations=60, device="cuda")
    )
    assert made is not None and made.field.params.is_cuda
    there = made.evaluate()["psnr"]
    assert there > 20
    on_cpu = neurfield.load(tmp_path / "kilo")
    assert abs(on_cpu.evaluate()["psnr"] - there) < 0.05


@pytest.mark.cuda
def test_the_viewer_draws_every_mode_as_on_the_cpu(device: torch.device, tmp_path) -> None:
    scene = neurfield.load_scene(write_synthetic(ball_scene(12, 2, 32), tmp_path / "data"))
    run = neurfield.train(scene, "ngp-fast", overrides=SMALL, max_num_iterations=100, device=device.type)
    camera, stage = run.cameras[0], shown_run(run).stage
    looks = [Look(mode=mode) for mode in stage.modes]
    for is_final in (False, True):
        run.to(device.type)
        there = [stage.paint(camera, look, lambda part: None, is_final).image for look in looks]
        run.to("cpu")
        here = [stage.paint(camera, look, lambda part: None, is_final).image for look in looks]
        for look, ours, theirs in zip(looks, there, here, strict=True):
            ours = ours.cpu()
            assert ours.shape == theirs.shape, look.mode
            # in 0 ... 1 and, as bytes, in 0 ... 255; edges of cells and of steps may fall to either side
            scale = 255 if ours.dtype == torch.uint8 else 1
            assert (ours.double() - theirs.double()).abs().mean() < 0.01 * scale, look.mode
