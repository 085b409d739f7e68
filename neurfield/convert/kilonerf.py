# SPDX-License-Identifier: Apache-2.0
"""From any trained radiance field to a KiloNeRF (Reiser et al. 2021, sections 3.2 and 3.3).

1. Voxels of the teacher's occupancy grid that are really occupied; cells over their box, a network for each cell.
2. Distillation: all networks at once learn the teacher's colour and opacity.
3. Fine-tuning on the images, with the penalty on what depends on the direction.

Both trainings keep checkpoints, so an interrupted conversion can be continued; those of the distillation lie beside the
new run, in OUTPUT.distill, until it is done. An earlier conversion that is to be replaced lies in OUTPUT.before.
"""

import dataclasses
import hashlib
from contextlib import nullcontext
from pathlib import Path

import torch

from neurfield import config as configuration
from neurfield.convert.cells import CellPlan, plan_cells
from neurfield.convert.distill import DistillTask
from neurfield.convert.earlier import Earlier
from neurfield.convert.occupied import grid_of, occupied_voxels
from neurfield.convert.request import Request
from neurfield.data.load import load_scene
from neurfield.data.scene import Scene
from neurfield.errors import UserError
from neurfield.fields.kilonerf import KiloNerf, KiloNerfConfig
from neurfield.run import Run, from_task
from neurfield.training import checkpoint
from neurfield.training.background import like_teacher
from neurfield.training.density import make_density
from neurfield.training.device import resolve_device
from neurfield.training.method import DistillConfig, RunConfig, load_method
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.resume import check_views, newest_readable
from neurfield.training.run_folder import RunFolder, find_checkpoint
from neurfield.training.session import TEACHER, Pupil, Session
from neurfield.training.stored import fitting
from neurfield.training.trainer import StepReport, Trainer
from neurfield.training.view_set import ViewSet

PRESET = "kilonerf"


def to_kilonerf(teacher: Run, request: Request) -> Run | None:
    """Makes a run folder with a KiloNeRF; None when it was interrupted, to be continued with `request.resume`.

    Raises:
        UserError: the method has no kilonerf field, the teacher is empty or has no images, too many networks, the
            output exists, or was begun in another way than it is to go on, or cuda cannot be used.
    """
    conversion = Conversion(teacher, request)
    conversion.refuse()
    conversion.plan()
    return conversion.run()


class Conversion:
    """One conversion, in three steps: `refuse` what can be refused at once, `plan`, `run`. Only the last one writes.

    Attributes:
        config: of the fine-tuning; how many networks its field has is known when `plan` is done.
        distill: of the distillation.
        folder, aside: of the new run, and of its distillation.
        scene, cells, task: what `plan` gives: the images, the networks of the cells, the fine-tuning.
        pupil: what checkpoints tell beside the training's state.
        newest: checkpoints to go on from.
    """

    def __init__(self, teacher: Run, request: Request):
        self.teacher, self.request = teacher, request
        method = load_method(request.method or PRESET, request.overrides)
        self.distill = method.distill or DistillConfig()
        self.config = RunConfig(
            data=teacher.config.data_at(request.data),
            load=teacher.config.load,
            experiment_name=teacher.config.experiment_name,
            method=method,
            max_seconds=request.max_seconds,
            max_num_iterations=request.max_num_iterations,
            seed=request.seed,
            device=resolve_device(request.device),
        )
        self.earlier = Earlier.beside(request.output)
        self.folder, self.aside = self.earlier.folders

    def refuse(self) -> None:
        """Raises UserError for what is wrong before anything has been read."""
        method, request, teacher = self.config.method, self.request, self.teacher
        if not isinstance(method.field, KiloNerfConfig):
            raise UserError(f"--method {method.name}: its field is {method.field.otype}, expected kilonerf")
        if request.resume and request.overwrite:
            raise UserError("--resume goes on with what --overwrite would remove; leave one of them out")
        if teacher.path is not None and self.earlier.holds(teacher.path):
            raise UserError(f"{request.output}: that is the run which is converted; choose another --output")
        self.earlier.check(request.overwrite, request.resume)
        if teacher.is_dynamic:
            raise UserError(
                f"--to kilonerf: the teacher's field ({teacher.config.method.name}) moves, and a kilonerf field "
                "cannot; convert a run of a method for still scenes"
            )

    def plan(self) -> None:
        """Reads the images, and divides what the teacher holds among networks.

        Raises:
            UserError: the images are others, the teacher is empty, too many networks, or what is to be continued was
                begun in another way.
        """
        teacher, request = self.teacher, self.request
        self.scene = _scene(teacher, self.config.data)
        teacher.to(self.config.device)
        self.pupil = Pupil(teacher.views, _digest(teacher))
        voxels, largest = occupied_voxels(
            teacher.grid,
            make_density(teacher.field),
            self.distill.density_threshold,
            lambda part: request.progress("occupancy", part, ""),
        )
        assert isinstance(self.config.method.field, KiloNerfConfig)
        self.cells = plan_cells(self.config.method.field, voxels)
        request.report(self.cells.describe())
        method = like_teacher(self.config.method, teacher.config.method)
        method = dataclasses.replace(method, field=self.cells.config)
        self.config = dataclasses.replace(self.config, data=self.scene.source, method=method)
        self.newest = self._newest() if request.resume else {}
        self.task = RadianceTask(self.scene, self.config)
        self.task.grid.load_state_dict(grid_of(voxels, largest, teacher.grid).state_dict())
        assert isinstance(self.task.field, KiloNerf)
        self.task.field.cells.copy_(self.cells.cells)

    def run(self) -> Run | None:
        """Both trainings, and the order of their files; None when it was interrupted."""
        request, earlier = self.request, self.earlier
        earlier.clear_unstarted()
        with earlier.moved() if request.overwrite else nullcontext():
            trainer = self._fine_tune() if self.folder in self.newest or self._distil() else None
        if trainer is None:
            for folder in earlier.kept:
                request.report(f"{folder.path}: has the earlier conversion until the new one is whole")
            return None
        for path in earlier.settle():
            request.report(f"{path}: stays, for it holds what no conversion has made, or cannot be removed")
        request.report(_unused(trainer, self.cells))
        return from_task(self.task, trainer, self.teacher.views, find_checkpoint(self.folder.path), self.scene)

    def _newest(self) -> dict[RunFolder, Path]:
        """The checkpoints that the trainings go on from.

        Raises:
            UserError: they are of another teacher, or of other settings than are asked for; budgets may change.
        """
        newest: dict[RunFolder, Path] = {}
        for folder, config in ((self.folder, self.config), (self.aside, self._distill_config())):
            if not folder.checkpoints():
                continue
            newest[folder], stored, teacher = newest_readable(folder, self.request.report, _stored)
            way_out = "go on as it was begun, replace it with --overwrite, or choose another --output"
            if teacher not in (None, self.pupil.teacher):  # earlier versions did not keep it
                raise UserError(
                    f"{folder.path}: made of another run than this one, or before that was trained on; {way_out}"
                )
            free = {name: getattr(config, name) for name in ("data", "device", "max_seconds", "max_num_iterations")}
            if key := configuration.difference(dataclasses.replace(stored, **free), config):
                raise UserError(f"{folder.path}: begun with another {key} than is asked for now; {way_out}")
            if self.request.device == "auto":  # where it was begun
                self.config = dataclasses.replace(self.config, device=resolve_device(stored.device))
        return newest

    def _distil(self) -> bool:
        task, field = self.task, self.task.field
        assert isinstance(field, KiloNerf)
        student = DistillTask(
            field, self.teacher.field, self.cells, task.grid, task.pixels, task.march, self.distill, self.config.seed
        )
        trainer = Trainer(student, self._distill_config(), report=self.request.report)
        return self._train(trainer, self.aside, "distil")

    def _fine_tune(self) -> Trainer | None:
        trainer = Trainer(self.task, self.config, report=self.request.report)  # its clock runs from here
        return trainer if self._train(trainer, self.folder, "fine-tune") else None

    def _distill_config(self) -> RunConfig:
        """How the training loop runs the distillation."""
        method, distill = self.config.method, self.distill
        method = dataclasses.replace(
            method,
            optimizer=dataclasses.replace(method.optimizer, learning_rate=distill.learning_rate),
            training=dataclasses.replace(method.training, n_samples=distill.n_samples, ema_decay=0.0),
        )
        seconds = None if distill.iterations else distill.seconds
        return dataclasses.replace(
            self.config, method=method, max_seconds=seconds, max_num_iterations=distill.iterations or None
        )

    def _train(self, trainer: Trainer, folder: RunFolder, stage: str) -> bool:
        """Trains, continuing where there is something to continue; whether it came to its end."""
        request, task = self.request, self.task
        session = Session(trainer, self.pupil, folder, self.newest.get(folder))
        made = Run(self.config, self.teacher.views, task.field, task.grid, 0)
        with request.watch(made, session) as on_watch:

            def on_step(report: StepReport) -> None:
                text = f"step {report.step}, loss {report.loss:.5f}, psnr {report.psnr:.2f}"
                request.progress(stage, report.progress, text)
                on_watch(report)

            session.train(on_step)
        if trainer.interrupted:
            request.report(f"interrupted at step {trainer.step} of stage {stage!r}")
        else:
            request.report(f"{stage}: {trainer.step} steps in {trainer.clock.seconds():.1f} s")
        return not trainer.interrupted


def _scene(teacher: Run, source: str) -> Scene:
    scene = load_scene(source, teacher.config.load, splits=("train",))
    check_views(ViewSet.of_scene(scene), teacher.views, "train", teacher.path)
    return teacher.views.placed(scene, "train")


def _digest(teacher: Run) -> str:
    digest = hashlib.sha256(teacher.grid.bitfield.cpu().numpy().data)
    for value in teacher.field.state_dict().values():
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _stored(path: Path) -> tuple[Path, RunConfig, str | None]:
    header = checkpoint.load_header(path)
    with fitting(path):
        return path, configuration.from_dict(RunConfig, header["config"], str(path)), header.get(TEACHER)


def _unused(trainer: Trainer, plan: CellPlan) -> str:
    """How many networks no training ray has met: no sample has given their first layer a gradient."""
    steps = trainer.optimizer.moments["params"].steps
    assert steps is not None
    first_layer = plan.config.network.parts(steps)["w0"].flatten(1).amax(dim=1)
    return f"{int((first_layer == 0).sum())} networks met no training ray and stay as distilled"
