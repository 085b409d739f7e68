# SPDX-License-Identifier: Apache-2.0
"""The training loop: learns, repeats, resumes bit for bit, survives NaN and interruption."""

import dataclasses
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from neurfield import config as configuration
from neurfield import metrics
from neurfield.errors import MachineError, UserError
from neurfield.fields.radiance_field import RadianceField
from neurfield.rendering.color import over_background
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training import checkpoint
from neurfield.training.evaluation import evaluate
from neurfield.training.method import RunConfig, load_method
from neurfield.training.run_folder import TIME_FORMAT, RunFolder, find_checkpoint, new_run, newest_run
from neurfield.training.session import Session
from neurfield.training.trainer import Trainer
from neurfield.training.view_set import ViewSet
from tests.scenes import ball_picture, ball_scene, radiance_trainer

SMALL = (
    "field.encoding.n_levels=4",
    "field.encoding.log2_hashmap_size=12",
    "field.encoding.base_resolution=8",
    "field.max_resolution=64",
    "training.n_samples=8192",
    "sampler.step_scale=3",
)
# the fused step takes no other encoding of directions than spherical harmonics
COMPOSED = ("field.direction_encoding={otype: Frequency, n_frequencies: 2}",)


def small_config(*overrides: str, steps: int = 20) -> RunConfig:
    return RunConfig(method=load_method("ngp-fast", (*SMALL, *overrides)), max_num_iterations=steps)


@pytest.fixture(scope="module")
def scene():
    return ball_scene()


def trained(scene, config: RunConfig) -> Trainer:
    trainer = radiance_trainer(scene, config)
    trainer.train()
    return trainer


def assert_same_state(a: Trainer, b: Trainer) -> None:
    ours, theirs = a.tensors(), b.tensors()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), f"{name} differs"
    for name in ("step", "n_rays", "optimizer_step"):
        assert a.counters()[name] == b.counters()[name]


def mean_psnr(scene, picture_of) -> float:
    """PSNR over the test views of pictures that know the truth `[h, w, 3]` and where the ball is `[h, w]`."""
    background = torch.zeros(3) if not scene.has_alpha else torch.ones(3)
    psnrs = []
    for view in scene.splits["test"]:
        truth, is_ball = over_background(scene.images[view], background), ball_picture(scene.cameras[view])[..., 3] > 0
        psnrs.append(metrics.psnr(picture_of(truth, is_ball, background), truth))
    return sum(psnrs) / len(psnrs)


def constant(truth, is_ball, background):
    """The best picture of one colour: its error is the variance of the truth."""
    return truth.mean((0, 1)).expand_as(truth)


def disc(truth, is_ball, background):
    """The right outline, filled with the best colour."""
    return torch.where(is_ball[..., None], truth[is_ball].mean(0), background)


def test_learns_the_ball(scene):
    trainer = trained(scene, small_config(steps=150))
    result = evaluate(trainer.task.renderer, scene, "test")
    # the outline comes for free from the alpha masks; colours in their place do not
    assert result["psnr"] > mean_psnr(scene, disc) + 1
    assert result["protocol"]["n_views"] == 2 and len(result["per_image"]) == 2


@pytest.mark.parametrize("per_pixel", [1, 4])
def test_the_composed_step_learns_like_the_fused(scene, monkeypatch, per_pixel):
    """On the same rays (their number is held at max_rays) the two are one computation up to rounding.

    The first loss, of equal parameters, is a mean of at most 192 x 3 squares: rounding stays below that many halves of
    an ulp.
    Later Adam carries roundings on at full size where a gradient is next to 0; the yardstick is another seed.
    """
    # a sample more or less at the end of a ray is worth the transmittance there
    precise = ("field.table_precision=fp32", "field.network_precision=fp32", "sampler.stop_transmittance=1e-4")
    config = small_config(*precise, f"sampler.rays_per_pixel={per_pixel}", "training.max_rays=192", steps=24)

    def losses(config):
        reports = []
        radiance_trainer(scene, config).train(reports.append)
        assert all(report.n_rays == 192 for report in reports)
        return torch.tensor([report.loss for report in reports])

    fused, other_seed = losses(config), losses(dataclasses.replace(config, seed=7))
    monkeypatch.setattr(RadianceField, "fused", lambda self: None)
    composed = losses(config)
    assert abs(composed[0] / fused[0] - 1) < 192 * 3 * torch.finfo(torch.float32).eps / 2
    apart = [(losses / fused).log().abs().mean() for losses in (composed, other_seed)]
    assert apart[0] < 0.02 * apart[1]


@pytest.mark.parametrize("overrides", [(), COMPOSED], ids=["fused", "composed"])
def test_two_runs_and_any_number_of_threads_are_equal(scene, overrides):
    config = small_config(*overrides)
    first = trained(scene, config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        second = trained(scene, config)
    finally:
        torch.set_num_threads(threads)
    assert_same_state(first, second)


def test_another_seed_is_another_run(scene):
    a = trained(scene, small_config(steps=2))
    b = trained(scene, dataclasses.replace(small_config(steps=2), seed=7))
    assert not torch.equal(a.tensors()["field.encoding.params"], b.tensors()["field.encoding.params"])


def taken_up(scene, config, n_steps: int, folder: Path) -> Trainer:
    """A training that was left after `n_steps`, and ended by another that began with its checkpoint."""
    views, run = ViewSet.of_scene(scene), RunFolder(folder / "run")
    half = radiance_trainer(scene, config)
    session = Session(half, views, run)
    for _ in range(n_steps):
        half.train_step()
    session.save()
    rest = radiance_trainer(scene, config)
    resumed = Session(rest, views, run, run.checkpoints()[-1])
    assert rest.step == n_steps
    resumed.train()
    return rest


@pytest.mark.parametrize(
    "overrides",
    [(), COMPOSED, ("training.ema_decay=0.9", "training.ema_interval=3")],
    ids=["fused", "composed", "ema"],
)
def test_resume_is_exact(scene, overrides, tmp_path):
    config = small_config(*overrides, steps=24)
    whole = trained(scene, config)
    assert_same_state(whole, taken_up(scene, config, 12, tmp_path))


def test_the_number_of_rays_follows_the_sample_target(scene):
    reports = []
    trainer = radiance_trainer(scene, small_config(steps=40))
    trainer.train(reports.append)
    assert 0.5 < reports[-1].n_samples / 8192 < 1.5
    assert all(report.n_rays % 64 == 0 for report in reports)


def test_a_budget_of_seconds_ends_the_run(scene):
    config = dataclasses.replace(small_config(), max_num_iterations=None, max_seconds=0.5)
    trainer = trained(scene, config)
    assert trainer.step > 0 and 0.5 <= trainer.clock.seconds() < 2.0


def test_no_budget_trains_nothing(scene):
    assert trained(scene, small_config(steps=0)).step == 0


def test_a_bad_step_is_left_out_and_reported(scene):
    lines = []
    trainer = radiance_trainer(scene, small_config(), report=lines.append)
    trainer.train_step()
    before = {name: value.clone() for name, value in trainer.tensors().items()}
    target = trainer.task._batch
    trainer.task._batch = lambda *a: dataclasses.replace(target(*a), target=target(*a).target * float("nan"))
    trainer.train_step()
    for name, value in trainer.tensors().items():
        if not name.startswith("occupancy."):
            assert torch.equal(value, before[name]), f"{name} changed in a step without a finite loss"
    assert lines == ["step 1: the loss is nan; the step is left out"]


def test_broken_parameters_are_rolled_back_and_named(scene):
    lines = []
    trainer = radiance_trainer(scene, small_config(), report=lines.append)
    trainer.train_step()
    trainer.remember()
    good = trainer.tensors()["field.color_network.params"].clone()
    with torch.no_grad():
        trainer.tensors()["field.color_network.params"].fill_(float("nan"))
    for _ in range(8):
        trainer.train_step()
    assert torch.equal(trainer.tensors()["field.color_network.params"], good)
    assert (
        "not finite: field.color_network.params" in lines[-1] and "went back to the parameters of step 1" in lines[-1]
    )


def test_training_that_stays_broken_ends_with_an_error(scene):
    trainer = radiance_trainer(scene, small_config())
    with torch.no_grad():
        trainer.tensors()["field.color_network.params"].fill_(float("nan"))
    with pytest.raises(MachineError, match=r"no finite loss in 8 steps in a row \(not finite: field.color_network"):
        for _ in range(8):
            trainer.train_step()


def test_broken_parameters_never_reach_a_checkpoint(scene, tmp_path):
    trainer = radiance_trainer(scene, small_config())
    session = Session(trainer, ViewSet.of_scene(scene), RunFolder(tmp_path / "run"))
    with torch.no_grad():
        trainer.tensors()["field.encoding.params"][5] = float("inf")
    with pytest.raises(MachineError, match=r"not finite: field.encoding.params; no checkpoint"):
        session.save()
    assert not session.folder.checkpoints()


def test_a_disk_without_room_for_a_checkpoint_is_told_before_training(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    with pytest.raises(MachineError, match=r"run: a checkpoint takes .* MiB, and the disk has 1.0 MiB free; free some"):
        Session(radiance_trainer(scene, small_config()), ViewSet.of_scene(scene), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_finishes_the_step_and_saves(kind, scene, tmp_path, heard):
    trainer = radiance_trainer(scene, small_config(steps=1000))
    session = Session(trainer, ViewSet.of_scene(scene), RunFolder(tmp_path / "run"))
    session.train(lambda report: os.kill(os.getpid(), kind) if report.step == 3 else None)
    assert trainer.interrupted and trainer.step == 3
    assert [path.name for path in session.folder.checkpoints()] == ["step-000000003.safetensors"]
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        was_hang_up = kind == other == signal.SIGHUP  # which comes twice, once while the checkpoint is written
        assert signal.getsignal(other) is (signal.SIG_IGN if was_hang_up else signal.default_int_handler)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_stays_so(kind, scene, tmp_path, heard):
    signal.signal(kind, signal.SIG_IGN)
    trainer = radiance_trainer(scene, small_config(steps=4))
    session = Session(trainer, ViewSet.of_scene(scene), RunFolder(tmp_path / "run"))
    session.train(lambda report: os.kill(os.getpid(), kind) if report.step == 3 else None)
    assert not trainer.interrupted and trainer.step == 4 and signal.getsignal(kind) is signal.SIG_IGN


def test_a_run_folder_holds_what_is_promised(scene, tmp_path):
    trainer = radiance_trainer(scene, small_config(steps=3))
    session = Session(trainer, ViewSet.of_scene(scene), RunFolder(tmp_path / "run"))
    session.train()
    names = {path.name for path in session.folder.path.iterdir()}
    assert {"config.yaml", "checkpoints", "metrics.jsonl"} < names and any("tfevents" in name for name in names)
    assert configuration.load(RunConfig, session.folder.config_path) == trainer.config
    header = checkpoint.load_header(session.folder.checkpoints()[-1])
    assert configuration.from_dict(RunConfig, header["config"], "header") == trainer.config
    assert header["normalization"]["scale"] == 0.33


def test_only_the_newest_checkpoints_are_kept(scene, tmp_path):
    config = dataclasses.replace(small_config(steps=4), seconds_per_save=1e-6, keep_checkpoints=2)
    session = Session(radiance_trainer(scene, config), ViewSet.of_scene(scene), RunFolder(tmp_path / "run"))
    session.train()
    assert [path.stem for path in session.folder.checkpoints()] == ["step-000000003", "step-000000004"]


def test_a_checkpoint_of_another_method_is_refused(scene, tmp_path):
    session = Session(
        radiance_trainer(scene, small_config(steps=1)), ViewSet.of_scene(scene), RunFolder(tmp_path / "run")
    )
    path = session.save()
    other = radiance_trainer(scene, small_config("field.encoding.n_levels=5"))
    with pytest.raises(UserError, match="of another method or scene"):
        Session(other, ViewSet.of_scene(scene), session.folder, path)


def test_an_existing_folder_is_not_overwritten(scene, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="exists already"):
        Session(radiance_trainer(scene, small_config()), ViewSet.of_scene(scene), RunFolder(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(scene, tmp_path):
    names = []
    for _ in range(11):
        folder = dataclasses.replace(new_run(tmp_path, "ball", "mine", "2026-01-01_120000"), by_time=True)
        session = Session(radiance_trainer(scene, small_config(steps=1)), ViewSet.of_scene(scene), folder)
        session.train()
        names.append(session.folder.path.name)
        assert session.folder.checkpoints() == [session.save()]
    assert names == ["2026-01-01_120000", *(f"2026-01-01_120000-{n}" for n in range(2, 12))]
    assert newest_run(tmp_path, "ball", None) == session.folder
    with pytest.raises(UserError, match=f"did you mean {session.folder.path}"):
        find_checkpoint(tmp_path)
    assert new_run(tmp_path, "ball", "mine").by_time and not new_run(tmp_path, "ball", "mine", "first").by_time


def test_a_run_with_a_name_of_its_own_is_as_old_as_its_first_events(tmp_path):
    """`final` says nothing of time, and the times of files are those of a copy."""
    now = int(time.time())
    stamps = [time.strftime(TIME_FORMAT, time.localtime(now - seconds)) for seconds in (9000, 3000)]
    for name, begun in (("2-final", now - 6000), (stamps[0], now), ("z", now - 8000), (stamps[1], now - 9000)):
        folder = RunFolder(tmp_path / "ball" / "mine" / name)
        folder.checkpoint_path(1).parent.mkdir(parents=True)
        folder.checkpoint_path(1).touch()
        for second in (now, begun):  # all have been continued
            (folder.path / f"events.out.tfevents.{second}.neurfield").touch()
    found = []
    while len(found) < 4:
        found.append(newest_run(tmp_path, "ball", None))
        found[-1].remove()
    assert [run.path.name for run in found] == [stamps[1], "2-final", "z", stamps[0]]


def test_the_run_that_is_meant_is_the_last_written_and_no_stage_of_one(tmp_path):
    """Teacher and student of one command have one name, and a distillation the name of its student and more."""
    for age, place in enumerate(("a/now", "b/now", "c/now", "a/now.distill", "a/now.before")):
        checkpoint = RunFolder(tmp_path / place).checkpoint_path(7)
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        os.utime(checkpoint, (age, age))
    with pytest.raises(UserError, match=f"did you mean {tmp_path}/c/now\\?"):
        find_checkpoint(tmp_path)


def test_a_scene_without_training_views_is_refused(scene):
    with pytest.raises(UserError, match="no views in split 'train'"):
        radiance_trainer(dataclasses.replace(scene, splits={"train": [], "test": [0]}), small_config())


def test_images_without_alpha_train_too():
    """Nothing says where the ball is: it must be found. 6 dB above the best constant picture explain three quarters of
    the variance of the views, which needs the right shape, place and colours."""
    scene = ball_scene(alpha=False)
    trainer = trained(scene, small_config(steps=100))
    assert evaluate(trainer.task.renderer, scene, "test")["psnr"] > mean_psnr(scene, constant) + 6


def test_cells_that_no_camera_sees_stay_closed() -> None:
    scene = ball_scene(n_train=2, alpha=False)
    trainer = radiance_trainer(scene, small_config())
    closed = trainer.task.grid.density_grid < 0
    seen = OccupancyGrid(scene.normalization.aabb_scale)
    seen.close_unseen(scene.unit_cameras("train"))
    assert 0 < closed.float().mean() < 1
    assert torch.equal(closed, seen.density_grid < 0)


def test_modulation_grids_learn_faster():
    """Adam's first step is the learning rate, whatever the gradient; theirs is `modulation_rate` times it."""
    from neurfield.fields.signal_field import SignalField
    from neurfield.training.method import OptimizerConfig
    from neurfield.training.optimizer import Adam

    block = {"otype": "MLP", "n_neurons": 16, "n_hidden_layers": 1, "modulation": {"resolution": [3, 3]}}
    field = SignalField(2, 1, {"otype": "Frequency", "n_frequencies": 3}, block)
    adam = Adam(field, OptimizerConfig(modulation_rate=7.0, epsilon=1e-15, l2_reg=0.0))
    before = {name: value.detach().clone() for name, value in field.named_parameters()}
    field(torch.rand(200, 2)).square().sum().backward()
    adam.step(1e-3)
    moved = {name: float((value - before[name]).detach().abs().max()) for name, value in field.named_parameters()}
    assert moved["network.params"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["network.modulation.values"] == pytest.approx(7e-3, rel=1e-3)


def test_the_modulated_preset_learns_the_ball(scene):
    """ngp-cam, composed: its grids move, and it explains more than the background does."""
    small = (*SMALL[:4], "field.density_network.modulation.resolution=[4, 4, 4]", "training.n_samples=4096")
    config = RunConfig(method=load_method("ngp-cam", small), max_num_iterations=60)
    trainer = trained(scene, config)
    field = trainer.task.field
    assert field.fused() is None and field.density_network.modulation.values.any()
    assert field.color_network.modulation.values.any()
    view = scene.views("test")[0]
    rgb = trainer.task.renderer.render(scene.cameras[view], ("rgb",))["rgb"]
    target = over_background(scene.images[view], torch.ones(3))
    assert metrics.psnr(rgb, target) > metrics.psnr(torch.ones_like(target), target) + 3
