# SPDX-License-Identifier: Apache-2.0
"""From a small teacher to tiny networks: the plan, what is learned, continuation, the small file, bad input."""

import copy
import dataclasses
import errno
import math
import os
import shlex
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import neurfield.run
from neurfield import ops
from neurfield.cli import _distilled
from neurfield.cli.main import main
from neurfield.cli.train import TrainOptions
from neurfield.config import dumps
from neurfield.convert import CONVERTERS
from neurfield.convert.cells import plan_cells
from neurfield.convert.distill import DistillTask
from neurfield.convert.earlier import Earlier
from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.occupied import Voxels, grid_of, occupied_voxels
from neurfield.convert.request import Request
from neurfield.errors import MachineError, UserError
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.rendering.volume import march_rays, sample_positions
from neurfield.run import load
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training import checkpoint
from neurfield.training.density import make_density
from neurfield.training.method import load_method, presets
from neurfield.training.resume import newest_whole
from neurfield.training.run_folder import RunFolder, newest_run
from neurfield.training.session import Session
from tests.scenes import ball_scene, write_synthetic
from tests.training.test_trainer import SMALL

QUICK = (
    "field.longest=3",
    "field.width=16",
    "field.position_frequencies=4",
    "distill.iterations=600",
    "distill.learning_rate=0.005",
    "distill.n_samples=4096",
    "training.n_samples=4096",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_synthetic(ball_scene(), tmp_path_factory.mktemp("ball") / "data")


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    scene = neurfield.load_scene(data)
    return neurfield.run.train(scene, "ngp-fast", max_num_iterations=150, overrides=SMALL, output_dir=folder)


def request(output, *overrides: str, **options) -> Request:
    return Request(output, overrides=(*QUICK, *overrides), **{"max_num_iterations": 10, **options})


def test_student_comes_close_to_its_teacher(teacher, tmp_path):
    lines = []
    made = to_kilonerf(teacher, request(tmp_path / "kilo", max_num_iterations=60, report=lines.append))
    before, after = teacher.evaluate()["psnr"], made.evaluate()["psnr"]
    assert after > before - 3 and after > 22, (before, after)
    assert "networks of" in lines[0] and "MB in fp16" in lines[0]
    assert "met no training ray" in lines[-1]
    again = load(tmp_path / "kilo")
    assert torch.equal(again.field.params, made.field.params) and again.config.method.field.n_networks > 0
    assert not (tmp_path / "kilo.distill").exists()
    small = tmp_path / "small.safetensors"
    assert main(["convert", str(tmp_path / "kilo"), "--to", "half", "--output", str(small)]) == 0
    half = load(small)
    assert abs(half.evaluate(data=teacher.config.data)["psnr"] - after) < 0.05
    assert torch.equal(half.grid.bitfield, made.grid.bitfield) and torch.equal(half.grid.coarse, made.grid.coarse)
    kept, whole = checkpoint.load(small)[0], checkpoint.load(made.path)[0]
    assert kept["field.params"].dtype == torch.float16 and "occupancy.density_grid" not in kept
    assert not any(name.startswith("optimizer") for name in kept) and len(kept) < len(whole)


def test_lessons_along_rays_are_what_training_rays_reach(teacher, tmp_path, monkeypatch):
    """Places on the rays of pixels, seen as these see them, up to where the teacher has hidden what follows."""
    tasks = []

    class Kept(DistillTask):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            tasks.append(self)

    monkeypatch.setattr("neurfield.convert.kilonerf.DistillTask", Kept)
    to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=1", max_num_iterations=1))
    (task,) = tasks
    x, d = task.draw_along_rays(5, 256)
    origins, directions, *_ = task.pixels.sample(256, 5, task.seed)
    ray = (d[:, None] - directions).abs().amax(dim=2).argmin(dim=1)
    assert torch.equal(d, directions[ray])
    t = ((x - origins[ray]) * d).sum(dim=1)
    assert (t > 0).all() and (x - origins[ray] - t[:, None] * d).norm(dim=1).max() < 1e-5
    everything = march_rays(task.grid, origins, directions, task.march, jitter=(task.seed, 5))
    # the density that the choice uses, so that nothing but the rounding of a sum decides at the limit
    sigmas = make_density(teacher.field)(sample_positions(everything, origins, directions)[0])
    hiding = (sigmas * (everything.t_ends - everything.t_starts)).double()
    n_reached = 0
    for start, count in everything.packed_info.tolist():
        before = torch.exp(-hiding[start : start + count].cumsum(0) + hiding[start : start + count])
        n_reached += int((before >= 0.02).sum())
    assert 0 < n_reached < 0.8 * len(hiding) and abs(len(x) - n_reached) <= 2


def test_a_teacher_of_another_device_is_converted_on_the_cpu(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "config", dataclasses.replace(teacher.config, device="cuda"))
    made = to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=3", max_num_iterations=1))
    assert made.config.device == "cpu"


@pytest.mark.parametrize("n_reached", [0, 1, 100_000])
def test_rays_of_a_lesson_are_as_many_as_fit(n_reached, teacher, tmp_path, monkeypatch):
    """Views that see nothing, next to nothing, or much of the teacher."""
    drawn = []

    def draw(self, number, n_rays):
        drawn.append(n_rays)
        return torch.full((n_reached, 3), 0.5), torch.tensor([[0.0, 0.0, 1.0]]).repeat(n_reached, 1)

    monkeypatch.setattr("neurfield.convert.distill.DistillTask.draw_along_rays", draw)
    to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=4", max_num_iterations=1))
    trial, *lessons = drawn
    assert len(lessons) == (3 if n_reached else 0)  # three in four, or all in the cells
    assert set(lessons) <= {4096 if n_reached == 1 else trial * 4096 // 100_000}


def test_interrupted_and_continued_equals_straight_through(teacher, tmp_path):
    straight = to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=30"))

    def stop(stage: str, part: float, text: str) -> None:
        if stage == "distil" and part > 0.5:
            os.kill(os.getpid(), signal.SIGTERM)

    assert to_kilonerf(teacher, request(tmp_path / "b", "distill.iterations=30", progress=stop)) is None
    assert (tmp_path / "b.distill").exists()
    with pytest.raises(UserError, match="a conversion exists there; continue it with --resume"):
        to_kilonerf(teacher, request(tmp_path / "b"))
    continued = to_kilonerf(teacher, request(tmp_path / "b", "distill.iterations=30", resume=True))
    assert torch.equal(straight.field.params, continued.field.params)


def test_overwrite_spares_what_no_conversion_has_made(teacher, tmp_path):
    assert teacher.path is not None
    with pytest.raises(UserError, match="that is the run which is converted"):
        to_kilonerf(teacher, request(teacher.path.parents[1], overwrite=True))
    other = tmp_path / "other"
    shutil.copytree(teacher.path.parents[1], other)
    with pytest.raises(UserError, match="holds a field of the kind grid, which no conversion has made"):
        to_kilonerf(teacher, request(other, overwrite=True))
    assert teacher.path.exists() and (other / "checkpoints").exists()
    with pytest.raises(UserError, match="that is the file of the run itself"):
        CONVERTERS["half"].convert(teacher, Request(teacher.path, overwrite=True))


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["a", "a.distill"])
@pytest.mark.parametrize("option", ["overwrite", "resume", "none"])
def test_folders_that_are_no_conversions_are_refused_at_once(teacher, tmp_path, name, option):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("a note")
    options = {} if option == "none" else {option: True}
    with pytest.raises(UserError, match=rf"{name}: is there, and without a checkpoint of a conversion; move it away"):
        to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=2", **options))
    assert files(tmp_path) == {Path(name, "mine.txt"): b"a note"}


def test_a_folder_called_before_that_no_conversion_has_moved_is_never_touched(teacher, tmp_path):
    """Not a user's own, and not a KiloNeRF that was put there by hand."""
    quick = request(tmp_path / "a", "distill.iterations=2", max_num_iterations=1)
    for name in ("a.before", "a.distill.before"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("a note")
    notes = files(tmp_path)
    to_kilonerf(teacher, quick)
    made = files(tmp_path)
    assert notes.items() <= made.items()
    again = dataclasses.replace(quick, overwrite=True)
    with pytest.raises(UserError, match=r"a\.before: the earlier conversion would be kept there, and no conversion"):
        to_kilonerf(teacher, again)
    assert files(tmp_path) == made
    shutil.rmtree(tmp_path / "a.before")
    shutil.copytree(tmp_path / "a", tmp_path / "a.before")
    with pytest.raises(UserError, match=r"a\.before: the earlier conversion would be kept there, and no conversion"):
        to_kilonerf(teacher, again)
    (tmp_path / "a").rename(tmp_path / "b")
    to_kilonerf(teacher, again)
    assert (tmp_path / "a.before").exists() and (tmp_path / "a").exists()


def put(path: Path, *checkpoints: Path) -> None:
    """A conversion as far as its folder tells: copies of checkpoints."""
    for file in checkpoints:
        place = path / "checkpoints" / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def test_renames_are_undone_together(teacher, tmp_path, monkeypatch):
    made = to_kilonerf(teacher, request(tmp_path / "x", "distill.iterations=2", max_num_iterations=1))
    folders = (tmp_path / "a", tmp_path / "a.distill")
    for folder in folders:
        put(folder, made.path)
    before, rename = files(tmp_path), Path.rename

    def second_fails(self: Path, target: Path) -> Path:
        if self == folders[1]:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(MachineError, match="cannot write"), Earlier(*map(RunFolder, folders)).moved():
        pytest.fail("moved")
    assert files(tmp_path) == before


def test_what_was_left_beside_a_whole_conversion_gives_way_to_it(teacher, tmp_path):
    """A process may die between the end of a conversion and the removal of the earlier one."""
    made = to_kilonerf(teacher, request(tmp_path / "x", "distill.iterations=2", max_num_iterations=1))
    folder, earlier = tmp_path / "a", Earlier(RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a.distill"))
    put(folder, made.path)
    (folder / "metrics.jsonl").write_text("older")
    with earlier.moved():
        put(folder, made.path)
        (folder / "metrics.jsonl").write_text("newer")
    with pytest.raises(MachineError), earlier.moved():
        assert (tmp_path / "a.before" / "metrics.jsonl").read_text() == "newer"
        raise MachineError("no more")
    assert (folder / "metrics.jsonl").read_text() == "newer" and not (tmp_path / "a.before").exists()


def test_the_converted_run_may_not_be_what_is_kept(teacher, tmp_path):
    made = to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=2", max_num_iterations=1))
    with Earlier(RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a.distill")).moved():
        put(tmp_path / "a.distill", tmp_path / "a.before" / "checkpoints" / made.path.name)
    kept = load(tmp_path / "a.before")
    with pytest.raises(UserError, match="that is the run which is converted"):
        to_kilonerf(kept, request(tmp_path / "a", overwrite=True))


def test_overwrite_replaces_a_conversion(teacher, tmp_path):
    first = to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=2"))
    again = request(tmp_path / "a", "distill.iterations=3", overwrite=True)
    with pytest.raises(UserError, match="leave one of them out"):
        to_kilonerf(teacher, dataclasses.replace(again, resume=True))
    assert first.path.exists()
    second = to_kilonerf(teacher, again)
    assert second.config.method.distill.iterations == 3 and not torch.equal(first.field.params, second.field.params)


def failing(*_):
    raise MachineError("no more")


def test_overwrite_puts_back_what_it_cannot_replace(teacher, tmp_path, monkeypatch):
    """A failure before the first checkpoint leaves the folder as it was; one after it keeps both."""
    folder = tmp_path / "a"
    first = to_kilonerf(teacher, request(folder, "distill.iterations=2"))
    again = request(folder, "distill.iterations=3", overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr("neurfield.training.trainer.Trainer.train", failing)
        with pytest.raises(MachineError, match="no more"):
            to_kilonerf(teacher, again)
    assert torch.equal(load(folder).field.params, first.field.params)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with monkeypatch.context() as patch:
        patch.setattr("neurfield.convert.kilonerf.RadianceTask.start", failing)
        with pytest.raises(MachineError, match="no more"):
            to_kilonerf(teacher, again)  # in the fine-tuning
    assert {path.name for path in tmp_path.iterdir()} == {"a.before", "a.distill"}
    assert torch.equal(load(tmp_path / "a.before").field.params, first.field.params)
    with pytest.raises(UserError, match="a conversion exists there"):
        to_kilonerf(teacher, request(folder))
    to_kilonerf(teacher, dataclasses.replace(again, overwrite=False, resume=True))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_overwrite_spares_what_lies_in_an_earlier_conversion(teacher, tmp_path):
    """What is there already is in the way; what comes while the new one is made stays in the folder that was moved."""
    folder, lines = tmp_path / "a", []
    to_kilonerf(teacher, request(folder, "distill.iterations=2", max_num_iterations=1))
    (folder / "views").mkdir()
    (folder / "views" / "mine.png").write_text("a picture")
    before = files(tmp_path)

    def render(stage: str, part: float, text: str) -> None:
        if stage == "distil":
            (tmp_path / "a.before" / "mine.png").write_text("a picture")

    again = request(
        folder, "distill.iterations=2", max_num_iterations=1, overwrite=True, progress=render, report=lines.append
    )
    with pytest.raises(UserError, match=r"a/views: no conversion has made that, and --overwrite removes the folder"):
        to_kilonerf(teacher, again)
    assert files(tmp_path) == before
    shutil.rmtree(folder / "views")
    to_kilonerf(teacher, again)
    assert files(tmp_path / "a.before") == {Path("mine.png"): b"a picture"}
    assert f"{tmp_path}/a.before: stays, for it holds what no conversion has made, or cannot be removed" in lines


def test_what_is_kept_is_the_newest(teacher, tmp_path):
    """Of two that are not whole, too."""
    made = to_kilonerf(teacher, request(tmp_path / "x", "distill.iterations=2", max_num_iterations=1))
    aside, earlier = tmp_path / "a.distill", Earlier(RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a.distill"))
    put(aside, made.path)
    (aside / "metrics.jsonl").write_text("older")
    with earlier.moved():
        put(aside, made.path)
        (aside / "metrics.jsonl").write_text("newer")
    with earlier.moved():
        assert (tmp_path / "a.distill.before" / "metrics.jsonl").read_text() == "newer"


def test_what_could_not_be_put_back_keeps_its_mark(teacher, tmp_path, monkeypatch):
    made = to_kilonerf(teacher, request(tmp_path / "x", "distill.iterations=2", max_num_iterations=1))
    folder, earlier = tmp_path / "a", Earlier(RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a.distill"))
    put(folder, made.path)
    with pytest.raises(MachineError), monkeypatch.context() as patch, earlier.moved():
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        raise MachineError("no more")
    assert [kept.path.name for kept in earlier.kept] == ["a.before"]


def test_killed_before_its_first_checkpoint_begins_again(teacher, tmp_path):
    quick = request(tmp_path / "a", "distill.iterations=2", max_num_iterations=1)
    config = dataclasses.replace(teacher.config, method=load_method("kilonerf", quick.overrides))
    for option in ("resume", "overwrite"):
        Session(SimpleNamespace(step=0, config=config, tensors=dict), teacher.views, RunFolder(tmp_path / "a.distill"))
        assert not RunFolder(tmp_path / "a.distill").is_free
        with pytest.raises(UserError, match="a conversion exists there; continue it with --resume"):
            to_kilonerf(teacher, quick)
        assert to_kilonerf(teacher, dataclasses.replace(quick, **{option: True})) is not None
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        shutil.rmtree(tmp_path / "a")


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_what_another_run_has_begun_is_no_conversion(option, teacher, tmp_path):
    """Without a checkpoint, its configuration tells: files have the same names."""
    other = RunFolder(tmp_path / "a")
    other.create()
    other.config_path.write_text(dumps(teacher.config))
    (other.path / "metrics.jsonl").write_text("{}")
    for _ in range(2):
        before = files(tmp_path)
        with pytest.raises(UserError, match="a: is there, and without a checkpoint of a conversion; move it away or"):
            to_kilonerf(teacher, request(other.path, **{option: True}))
        assert files(tmp_path) == before
        other.config_path.unlink(missing_ok=True)


def test_resume_goes_on_with_what_was_begun_alone(teacher, tmp_path):
    """The same teacher, method and seed; another budget may be given."""
    begun = request(tmp_path / "a", "distill.iterations=2", "optimizer.beta1=0.5", max_num_iterations=1, seed=1)
    to_kilonerf(teacher, begun)
    other = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in other.field.parameters():
            parameter *= 1.001
    goes_on = dataclasses.replace(begun, resume=True)
    before = files(tmp_path)
    for run, changed, message in (
        (teacher, {"seed": 2}, "begun with another seed than is asked for now"),
        (teacher, {"overrides": begun.overrides[:-1]}, "begun with another method.optimizer.beta1 than"),
        (other, {}, "made of another run than this one"),
    ):
        with pytest.raises(UserError, match=message):
            to_kilonerf(run, dataclasses.replace(goes_on, **changed))
    assert files(tmp_path) == before
    assert to_kilonerf(teacher, dataclasses.replace(goes_on, max_num_iterations=3)).step == 3


def test_output_may_be_the_working_folder(teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = request(Path("."), "distill.iterations=2", max_num_iterations=1)
    assert to_kilonerf(teacher, quick).path == tmp_path / "checkpoints" / "step-000000001.safetensors"
    assert not (tmp_path.parent / f"{tmp_path.name}.distill").exists()
    with pytest.raises(UserError, match="is in use: it is the working folder"):
        to_kilonerf(teacher, dataclasses.replace(quick, overwrite=True))
    (tmp_path / "mine" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine" / "below")
    with pytest.raises(UserError, match=f"{tmp_path}/mine: is there, and without a checkpoint of a conversion"):
        to_kilonerf(teacher, dataclasses.replace(quick, output=Path("..")))


def test_runs_of_other_kinds_are_no_conversions(teacher, tmp_path):
    for header, message in (
        (
            {"config": {"kind": "image", "method": {"field": {}}}},
            "holds a field of the kind image, which no conversion",
        ),
        ({"x": 1}, "the parts of this checkpoint do not fit each other"),
    ):
        checkpoint.save(RunFolder(tmp_path / "a").checkpoint_path(1), {}, header)
        for option in ("resume", "overwrite"):
            with pytest.raises(UserError, match=message):
                to_kilonerf(teacher, request(tmp_path / "a", **{option: True}))


@pytest.mark.parametrize("budget", [{"max_seconds": -1.0}, {"max_seconds": math.nan}, {"max_num_iterations": -1}])
def test_budgets_out_of_range_are_refused_before_anything_is_written(teacher, data, tmp_path, budget):
    (name,) = budget
    with pytest.raises(UserError, match=f"{name}: expected at least 0, got"):
        to_kilonerf(teacher, request(tmp_path / "a", **budget))
    with pytest.raises(UserError, match=f"{name}: expected at least 0, got"):
        neurfield.train(neurfield.load_scene(data), output_dir=tmp_path, **budget)
    assert not list(tmp_path.iterdir())


def test_overwrite_keeps_the_earlier_conversion_until_the_new_one_is_whole(teacher, tmp_path):
    folder, lines = tmp_path / "x" / "kilonerf" / "t", []
    first = to_kilonerf(teacher, request(folder, "distill.iterations=2"))

    def stop(stage: str, part: float, text: str) -> None:
        if stage == "distil" and part > 0.5:
            os.kill(os.getpid(), signal.SIGTERM)

    again = request(folder, "distill.iterations=30", overwrite=True, progress=stop, report=lines.append)
    assert to_kilonerf(teacher, again) is None
    assert lines[-1] == f"{folder}.before: has the earlier conversion until the new one is whole"
    with pytest.raises(UserError, match="no run with a checkpoint to resume"):
        newest_run(tmp_path, "x", "kilonerf")
    assert to_kilonerf(teacher, again) is None  # what is kept is still the whole one
    assert torch.equal(load(Path(f"{folder}.before")).field.params, first.field.params)
    whole = to_kilonerf(teacher, dataclasses.replace(again, progress=Request.progress))
    assert whole is not None and [path.name for path in folder.parent.iterdir()] == ["t"]


def test_train_resume_ends_an_interrupted_conversion_as_convert_does(data, teacher, tmp_path, monkeypatch):
    """Nothing of the distillation, and nothing of the conversion that was replaced, stays beside it."""
    folder = tmp_path / "data" / "kilonerf" / "t"
    to_kilonerf(teacher, request(folder, "distill.iterations=2"))

    def stop(stage: str, part: float, text: str) -> None:
        if stage == "fine-tune":
            os.kill(os.getpid(), signal.SIGTERM)

    again = request(folder, "distill.iterations=3", overwrite=True, progress=stop)
    assert to_kilonerf(teacher, again) is None
    assert {path.name for path in folder.parent.iterdir()} == {"t", "t.before", "t.distill"}
    known = checkpoint.load_header(RunFolder(folder).checkpoints()[-1])["teacher"]
    assert main(["train", str(data), "--method", "kilonerf", "--resume", "--output-dir", str(tmp_path)]) == 0
    assert [path.name for path in folder.parent.iterdir()] == ["t"]
    assert checkpoint.load_header(RunFolder(folder).checkpoints()[-1])["teacher"] == known  # convert --resume asks


def test_occupancy_is_the_teachers(teacher):
    def density(x):
        return 100 * ((x - 0.5).norm(dim=1) < 0.25).float()

    voxels, largest = occupied_voxels(OccupancyGrid(1, resolution=32), density, 10.0)
    middle = voxels.low + voxels.width[:, None] / 2
    assert (largest == 100).all() and ((middle - 0.5).norm(dim=1) < 0.25 + 1 / 32).all()
    volume = len(voxels) / 32**3
    assert 4.19 * 0.25**3 < volume < 4.19 * (0.25 + 1.73 / 32) ** 3
    grid = grid_of(voxels, largest, OccupancyGrid(1, resolution=32))
    assert abs(grid.occupied_fraction() - volume) < 1e-6
    again, _ = occupied_voxels(grid, density, 10.0)
    assert torch.equal(again.index, voxels.index) and torch.equal(again.low, voxels.low)


def test_the_original_nerf_is_a_teacher(data, tmp_path):
    """It has no kernel of its own that says densities: nothing may be kept for gradients of millions of them."""
    small = ("field.width=16", "field.n_layers=2", "field.position_frequencies=4", "training.n_samples=4096")
    nerf = neurfield.run.train(
        neurfield.load_scene(data), "nerf", max_num_iterations=2, overrides=small, output_dir=tmp_path / "runs"
    )
    grad_modes, density = set(), make_density(nerf.field)

    def watched(x):
        grad_modes.add((sigma := density(x)).requires_grad)
        return sigma

    assert len(occupied_voxels(OccupancyGrid(1, resolution=16), watched, 0.0)[0]) == 16**3
    assert grad_modes == {False}
    made = to_kilonerf(nerf, request(tmp_path / "kilo", "distill.iterations=4", "distill.density_threshold=0"))
    assert made.step == 10 and made.field.params.isfinite().all()


def test_voxels_of_outer_cascades_count_outside_of_the_inner_ones():
    voxels, _ = occupied_voxels(OccupancyGrid(4, resolution=16), lambda x: torch.ones(len(x)), 0.5)
    assert abs(float((voxels.width.double() ** 3).sum()) - 4.0**3) < 1e-6  # they fill the box once


def test_cells_cover_the_voxels_and_their_parts_fill_them():
    low = torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.5, 0.3, 0.11]) + 0.2
    voxels = Voxels(torch.arange(500), low, torch.full((500,), 1 / 64))
    plan = plan_cells(KiloNerfConfig(longest=7), voxels)
    assert max(plan.config.cells) == 7 and plan.config.cells[0] == 7
    sides = torch.tensor(plan.config.box[3:]) - torch.tensor(plan.config.box[:3])
    assert torch.allclose(sides / torch.tensor(plan.config.cells), sides[0] / 7)  # cubic
    volume = (plan.high - plan.low).double().prod(dim=1)
    assert abs(float(volume.sum()) - 500 / 64**3) < 1e-8
    field = plan.config.build(())
    field.cells.copy_(plan.cells)
    owner = torch.repeat_interleave(torch.arange(plan.config.n_networks), plan.starts.diff())
    network, local = ops.kilo_locate((plan.low + plan.high) / 2, field.grid())
    assert torch.equal(network.long(), owner) and (local.abs() < 1).all()
    assert int((plan.cells >= 0).sum()) == plan.config.n_networks == len(owner.unique())


def test_more_networks_than_memory_come_with_a_number_that_fits(monkeypatch):
    n = 1 << 15
    u = torch.rand(n, 3, generator=torch.Generator().manual_seed(1))
    for low in (u, torch.cat([u[:, :2], torch.zeros(n, 1)], dim=1)):  # of a volume, and of a surface
        voxels = Voxels(torch.arange(n), low, torch.full((n,), 1e-6))
        free = 40 << 20
        monkeypatch.setattr("neurfield.convert.cells.available_bytes", lambda free=free: free)
        with pytest.raises(UserError, match=r"need .* only 40.0 MiB are free; field.longest \d+ fits") as refused:
            plan_cells(KiloNerfConfig(longest=64), voxels)
        fits = int(str(refused.value).partition("free; field.longest ")[2].split()[0])
        assert 1 < fits < 64
        plan_cells(KiloNerfConfig(longest=fits), voxels)  # does not raise


def test_bad_input_is_one_line(teacher, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="the teacher is empty everywhere"):
        to_kilonerf(teacher, request(tmp_path / "x", "distill.density_threshold=1e9"))
    monkeypatch.setattr("neurfield.convert.cells.available_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"field.longest 3: \d+ networks need .* while they are trained, only 0.0 MiB"):
        to_kilonerf(teacher, request(tmp_path / "x"))
    with pytest.raises(UserError, match="--method ngp: its field is grid, expected kilonerf"):
        to_kilonerf(teacher, Request(tmp_path / "x", method="ngp"))
    with pytest.raises(UserError, match="a kilonerf field is made from a teacher"):
        KiloNerfConfig().build(())
    with pytest.raises(UserError, match="networks do not fit a grid"):
        dataclasses.replace(KiloNerfConfig(), box=(0.0,) * 6, cells=(2, 2, 2), n_networks=9).build(())
    monkeypatch.setattr("neurfield.training.device.why_not_cuda", lambda: "no driver")
    with pytest.raises(UserError, match="device cuda cannot be used: no driver; use --device cpu"):
        to_kilonerf(teacher, request(tmp_path / "x", device="cuda"))
    words = ["convert", str(teacher.path), "--to", "half", "--output", str(tmp_path / "x.safetensors")]
    assert main([*words, "--device", "cuda"]) == 2
    assert "device cuda cannot be used: --to half trains nothing; use --device cpu" in capsys.readouterr().err
    assert main(["convert", str(teacher.path), "--to", "half", "--output", str(tmp_path / "x.bin")]) == 2
    assert "expected the name of a .safetensors file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def words(data, tmp_path, *settings: str) -> list[str]:
    """`train` with the method, in a fixed folder, 60 steps in all."""
    quick = [setting for setting in QUICK if not setting.startswith("distill.iterations")]
    return [
        "train", str(data), "--method", "kilonerf", "--max-num-iterations", "60", "--timestamp", "t", "--output-dir",
        str(tmp_path), "--set", *quick, "distill.teacher=ngp-fast", *settings,
    ]  # fmt: skip


def test_train_divides_its_steps_between_teacher_and_student(data, tmp_path, capsys):
    assert main(words(data, tmp_path)) == 0
    lines = capsys.readouterr().out
    assert "test: PSNR" in lines and "distil: 9 steps in" in lines and "fine-tune: 27 steps in" in lines
    student, teacher = load(tmp_path / "data" / "kilonerf" / "t"), load(tmp_path / "data" / "ngp-fast" / "t")
    assert student.config.method.field.otype == "kilonerf" and student.step == 27
    assert teacher.config.method.field.otype == "grid" and teacher.step == 24


def test_two_that_begin_in_the_same_second_have_folders_of_their_own(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *_: "now")
    command = [word for word in words(data, tmp_path) if word not in ("--timestamp", "t")]
    assert main(command) == 0 and main(command) == 0
    for method in ("ngp-fast", "kilonerf"):
        assert sorted(path.name for path in (tmp_path / "data" / method).iterdir()) == ["now", "now-2"]
        assert load(tmp_path / "data" / method / "now-2").step > 0
    method = load_method("kilonerf", ("distill.teacher=ngp-fast",))
    options = TrainOptions(data, method="kilonerf", output_dir=tmp_path / "b", max_num_iterations=9)
    plans = [_distilled.plan(options, method, method.distill) for _ in range(2)]  # neither has begun to train
    assert (
        [made.teacher.timestamp for made in plans] == [made.student.output.name for made in plans] == ["now", "now-2"]
    )
    for made in plans:
        made.release()
    assert not [path for path in (tmp_path / "b").iterdir()]


def test_what_is_interrupted_before_it_trains_leaves_no_folders(data, tmp_path, monkeypatch):
    def interrupted(*arguments):
        assert len(list((tmp_path / "data" / "kilonerf").iterdir())) == 1  # of this second it is taken
        raise KeyboardInterrupt

    monkeypatch.setattr("neurfield.cli.train.decode", interrupted)
    assert main([word for word in words(data, tmp_path) if word not in ("--timestamp", "t")]) == 1
    assert not list(tmp_path.iterdir())


def test_a_teacher_of_a_file_is_found_by_its_name(data, tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text(presets()["ngp-fast"].read_text().replace("name: ngp-fast", "name: my-teacher"))
    assert main(words(data, tmp_path, f"distill.teacher={mine}")) == 0
    assert load(tmp_path / "data" / "my-teacher" / "t").step == 24
    assert main(words(data, tmp_path / "b", "distill.teacher=ngp-fats")) == 2
    assert "did you mean 'ngp-fast'" in capsys.readouterr().err
    assert main(words(data, tmp_path / "b", "distill.teacher=kilonerf")) == 2
    assert "its runs are named kilonerf" in capsys.readouterr().err and not (tmp_path / "b").exists()


def shares(seconds=None, steps=None, *settings: str):
    """Seconds and steps of teacher, distillation and fine-tuning."""
    options = TrainOptions(
        Path("x"), method="kilonerf", experiment_name="x", timestamp="t", set=settings, max_seconds=seconds,
        max_num_iterations=steps,
    )  # fmt: skip
    method = load_method("kilonerf", settings)
    made = _distilled.plan(options, method, method.distill)
    distill = load_method("kilonerf", made.student.overrides).distill
    return (
        (made.teacher.max_seconds, distill.seconds, made.student.max_seconds),
        (made.teacher.max_num_iterations, distill.iterations, made.student.max_num_iterations),
    )


def test_budget_is_divided_and_what_the_user_sets_is_kept(monkeypatch):
    monkeypatch.setattr(_distilled, "locate", lambda *_: ("x", "x", None))
    assert shares(seconds=100.0)[0] == (40.0, 15.0, 45.0)
    assert shares(seconds=1000.0)[0] == (400.0, 100.0, 500.0)
    assert shares(1000.0, None, "distill.seconds=500")[0] == (400.0, 500.0, 100.0)
    assert shares(steps=1000)[1] == (400, 150, 450)
    assert shares(None, 1000, "distill.iterations=50")[1] == (400, 50, 550)
    assert shares(None, 1000, "distill.seconds=7") == ((None, 7.0, None), (400, 0, 600))
    with pytest.raises(UserError, match="give --max-seconds or --max-num-iterations, not both"):
        shares(10.0, 10)
    with pytest.raises(UserError, match=r"--set distill.seconds=70: of the budget the teacher leaves 60 for"):
        shares(100.0, None, "distill.seconds=70")
    with pytest.raises(UserError, match="--max-num-iterations: of 2 none is the teacher's"):
        shares(steps=2)


def test_interrupted_teacher_says_how_to_go_on(data, tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("neurfield.cli.train._Rates.add", interrupt)
        assert main(words(data, tmp_path)) == 1
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if "interrupted in the teacher; continue with:" in line
    ]
    first, second = (shlex.split(part) for part in line.partition("continue with: ")[2].split(" && "))
    assert first[0] == second[0] == "neurfield"
    assert main(first[1:]) == 0 and main(second[1:]) == 0
    assert load(tmp_path / "data" / "ngp-fast" / "t").step == 24
    assert load(tmp_path / "data" / "kilonerf" / "t").step == 27


def test_resume_without_a_student_names_the_stages(data, tmp_path, capsys):
    (tmp_path / "data" / "ngp-medium" / "t").mkdir(parents=True)
    assert main(["train", str(data), "--method", "kilonerf", "--resume", "--output-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "no run with a checkpoint to resume" in error and "a teacher goes on with --method ngp-medium" in error


def test_interrupted_distillation_is_no_run_to_resume(teacher, tmp_path):
    folder = tmp_path / "x" / "kilonerf" / "t"

    def stop(stage: str, part: float, text: str) -> None:
        if stage == "distil" and part > 0.5:
            os.kill(os.getpid(), signal.SIGTERM)

    assert to_kilonerf(teacher, request(folder, "distill.iterations=30", progress=stop)) is None
    with pytest.raises(UserError, match="no run with a checkpoint to resume"):
        newest_run(tmp_path, "x", "kilonerf")


def test_a_file_that_promises_too_much_is_refused_before_anything_is_allocated(teacher, tmp_path, monkeypatch):
    made = to_kilonerf(teacher, request(tmp_path / "kilo", "distill.iterations=2", max_num_iterations=1))
    tensors, header = checkpoint.load(made.path)
    field = header["config"]["method"]["field"]
    build = KiloNerfConfig.build

    def shapes_only(*arguments):
        field = build(*arguments)
        assert field.params.is_meta or field.params.numel() < 1 << 20
        return field

    monkeypatch.setattr(KiloNerfConfig, "build", shapes_only)
    for change in ({"n_networks": 1 << 24, "cells": [256, 256, 256]}, {"cells": [1, 1, 27]}, {"width": 64}):
        path = tmp_path / "bad" / "checkpoints" / "step-000000001.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        changed = {**header["config"], "method": {**header["config"]["method"], "field": {**field, **change}}}
        checkpoint.save(path, tensors, {**header, "config": changed})
        with pytest.raises(UserError, match=r"field.\w+: expected \[.*\] as its configuration says, got \["):
            load(path)
        with pytest.raises(UserError, match="none of its checkpoints can be continued"):
            newest_whole(RunFolder(tmp_path / "bad"), lambda line: None)


def test_names_of_conversions_come_from_the_registry(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "|".join(CONVERTERS) in text
    monkeypatch.setitem(CONVERTERS, "mirror", CONVERTERS["half"])
    assert main(["convert", "nowhere", "--to", "miror", "--output", "x"]) == 2
    assert "unknown conversion 'miror', did you mean 'mirror'?" in capsys.readouterr().err
