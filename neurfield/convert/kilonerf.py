# SPDX-License-Identifier: Apache-2.0
"""From any trained radiance field to a KiloNeRF (Reiser et al. 2021, sections 3.2 and 3.3).

1. Voxels of the teacher's occupancy grid that are really occupied; cells over their box, a network for each cell.
2. Distillation: all networks at once learn the teacher's colour and opacity.
3. Fine-tuning on the images, with the penalty on what depends on the direction.

Both trainings keep checkpoints, so an interrupted conversion can be continued; those of the distillation lie beside the
new run, in OUTPUT.distill, until it is done. An earlier conversion that is to be replaced lies in OUTPUT.before.
"""

import dataclasses
from contextlib import nullcontext
from pathlib import Path

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
from neurfield.training.density import make_density
from neurfield.training.device import resolve_device
from neurfield.training.method import DistillConfig, MethodConfig, RunConfig, load_method
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.resume import Resumed
from neurfield.training.run_folder import RunFolder, find_checkpoint
from neurfield.training.session import Session, ViewSet
from neurfield.training.trainer import StepReport, Trainer

PRESET = "kilonerf"


def to_kilonerf(teacher: Run, request: Request) -> Run | None:
    """Makes a run folder with a KiloNeRF; None when it was interrupted, to be continued with `request.resume`.

    Raises:
        UserError: the method has no kilonerf field, the teacher is empty or has no images, too many networks, the
            output exists, or cuda cannot be used, or not for the teacher.
    """
    method = load_method(request.method or PRESET, request.overrides)
    distill = method.distill or DistillConfig()
    if not isinstance(method.field, KiloNerfConfig):
        raise UserError(f"--method {method.name}: its field is {method.field.otype}, expected kilonerf")
    device = resolve_device(request.device, teacher.field.why_not_cuda() or "")
    earlier = Earlier.beside(request.output)
    folder, aside = earlier.folders
    if request.resume and request.overwrite:
        raise UserError("--resume goes on with what --overwrite would remove; leave one of them out")
    if teacher.path is not None and earlier.holds(teacher.path):
        raise UserError(f"{request.output}: that is the run which is converted; choose another --output")
    earlier.check(request.overwrite, request.resume)
    if teacher.is_dynamic:
        raise UserError(
            f"--to kilonerf: the teacher's field ({teacher.config.method.name}) moves, and a kilonerf field cannot; "
            "convert a run of a method for still scenes"
        )
    scene = _scene(teacher, request)
    progress = request.progress
    teacher.to(device)
    density = make_density(teacher.field)
    voxels, largest = occupied_voxels(
        teacher.grid, density, distill.density_threshold, lambda part: progress("occupancy", part, "")
    )
    plan = plan_cells(method.field, voxels)
    grid = grid_of(voxels, largest, teacher.grid)
    request.report(plan.describe())
    config = RunConfig(
        data=scene.source,
        load=teacher.config.load,
        experiment_name=teacher.config.experiment_name,
        method=dataclasses.replace(method, field=plan.config),
        max_seconds=request.max_seconds,
        max_num_iterations=request.max_num_iterations,
        seed=request.seed,
        device=device,
    )
    task = RadianceTask(scene, config)
    task.grid.load_state_dict(grid.state_dict())
    field = task.field
    assert isinstance(field, KiloNerf)
    field.cells.copy_(plan.cells)
    made = Run(config, teacher.views, field, task.grid, 0)

    def train() -> Trainer | None:
        if not folder.checkpoints():
            stage = _distill_config(config, distill)
            student = DistillTask(field, teacher.field, plan, task.grid, task.pixels, task.march, distill, request.seed)
            if not _train(Trainer(student, stage, report=request.report), made, aside, request, "distil"):
                return None
        trainer = Trainer(task, config, report=request.report)  # its clock runs from here
        return trainer if _train(trainer, made, folder, request, "fine-tune") else None

    with earlier.moved() if request.overwrite else nullcontext():  # not before everything that can be refused has been
        trainer = train()
    if trainer is None:
        for kept in earlier.kept:
            request.report(f"{kept.path}: has the earlier conversion until the new one is whole")
        return None
    earlier.settle()
    request.report(_unused(trainer, plan))
    return from_task(task, trainer, teacher.views, find_checkpoint(folder.path), scene)


def _scene(teacher: Run, request: Request) -> Scene:
    source = request.data or teacher.config.data
    if not source:
        raise UserError("this run does not know where its images are; give --data")
    scene = load_scene(source, teacher.config.load, splits=("train",))
    Resumed(teacher.path or Path("run/checkpoints/none"), teacher.config, teacher.views).check_views(
        ViewSet.of_scene(scene)
    )
    return scene


def _distill_config(config: RunConfig, distill: DistillConfig) -> RunConfig:
    """How the training loop runs the distillation."""
    method: MethodConfig = dataclasses.replace(
        config.method,
        optimizer=dataclasses.replace(config.method.optimizer, learning_rate=distill.learning_rate),
        training=dataclasses.replace(config.method.training, n_samples=distill.n_samples, ema_decay=0.0),
    )
    seconds = None if distill.iterations else distill.seconds
    return dataclasses.replace(
        config, method=method, max_seconds=seconds, max_num_iterations=distill.iterations or None
    )


def _train(trainer: Trainer, made: Run, folder: RunFolder, request: Request, stage: str) -> bool:
    """Trains, continuing from the newest checkpoint where there is one; whether it came to its end."""
    newest = folder.checkpoints()[-1] if folder.checkpoints() else None
    session = Session(trainer, made.views, folder, newest)

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


def _unused(trainer: Trainer, plan: CellPlan) -> str:
    """How many networks no training ray has met: no sample has given their first layer a gradient."""
    steps = trainer.optimizer.moments["params"].steps
    assert steps is not None
    first_layer = plan.config.network.parts(steps)["w0"].flatten(1).amax(dim=1)
    return f"{int((first_layer == 0).sum())} networks met no training ray and stay as distilled"
