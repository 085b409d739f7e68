# SPDX-License-Identifier: Apache-2.0
"""A trained field: measured, rendered and exported, from a run folder, a checkpoint file or a training just done."""

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurfield import auto_frequency as frequencies
from neurfield import config as configuration
from neurfield.cameras.cameras import Cameras
from neurfield.checks import words
from neurfield.data.load import load_scene, read_manifest
from neurfield.data.scene import Scene
from neurfield.data.views import Manifest
from neurfield.errors import UserError
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_module import RadianceModule
from neurfield.metrics.ssim import WINDOW as SSIM_WINDOW
from neurfield.progress import Progress, silent
from neurfield.rendering.renderer import DEFAULT_OUTPUTS
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.signal_run import SignalRun, is_signal, load_signal_run
from neurfield.training import checkpoint, packed, small_file
from neurfield.training.device import resolve_device
from neurfield.training.evaluation import evaluate
from neurfield.training.guard import check_finite
from neurfield.training.method import MethodConfig, RunConfig, default_preset, load_method
from neurfield.training.radiance_task import RadianceTask, method_renderer
from neurfield.training.resume import check_views, newest_whole
from neurfield.training.run_folder import RunFolder, find_checkpoint, new_run
from neurfield.training.session import Session
from neurfield.training.stored import build_field, check_stored, fitting, load_field, part
from neurfield.training.trainer import StepReport, Trainer
from neurfield.training.view_set import ViewSet, unpack_views


class Run:
    """A field and what is needed to use it.

    Attributes:
        config: how it was trained.
        views: cameras and splits of its scene, world frame of the input.
        field, grid, renderer: see those classes.
        step: training steps done.
        path: checkpoint file, or None.
    """

    def __init__(
        self,
        config: RunConfig,
        views: ViewSet,
        field: RadianceModule,
        grid: OccupancyGrid,
        step: int,
        path: Path | None = None,
        scene: Scene | None = None,
    ):
        self.config, self.views, self.field, self.grid, self.step, self.path = config, views, field, grid, step, path
        self.renderer = method_renderer(config.method, field, grid, views.normalization)
        self._scene = scene

    def __repr__(self) -> str:
        place = "" if self.path is None else f", {self.path}"
        return f"Run({self.config.method.name}, step {self.step}{place})"

    def to(self, device: str | torch.device) -> None:
        """Moves field and grid to `cpu`, `cuda` or `auto`, CUDA where it can be used: the run is measured and rendered
        there.

        Raises:
            UserError: cuda cannot be used.
        """
        kind = resolve_device(device)
        self.field.to(kind)
        self.grid.to(kind)

    def on_cpu(self) -> "Run":
        """This run where it lies on the CPU, else a copy there: for what reads a field point by point, as meshes do."""
        if self.grid.bitfield.device.type == "cpu":
            return self
        field, grid = copy.deepcopy(self.field).to("cpu"), copy.deepcopy(self.grid).to("cpu")
        return Run(self.config, self.views, field, grid, self.step, self.path, self._scene)

    @property
    def is_dynamic(self) -> bool:
        """Whether the field depends on the time."""
        return "times" in self.field.needs

    @property
    def n_appearances(self) -> int:
        """Training photos that have a look of their own; 0: the field has one look."""
        return len(self.views.views("train")) if "views" in self.field.needs else 0

    def at(self, time: float | None = None, appearance: int | None = None) -> "Run":
        """The run with a field of one time and one look, which it shares its parameters with.

        Args:
            time: 0 ... 1; None: 0 where the field moves.
            appearance: number of the training view whose look is meant; None: the mean look.

        Raises:
            UserError: the field does not depend on that, or a number is out of range.
        """
        self.check_conditions(time, appearance)
        times = torch.tensor([time or 0.0], device=self.grid.bitfield.device)
        views = None if appearance is None else torch.tensor([appearance], device=times.device)
        field = self.field.at(Conditions(times, views))
        return Run(self.config, self.views, field, self.grid, self.step, self.path, self._scene)

    def check_conditions(self, time: float | None, appearance: int | None) -> None:
        """Raises UserError for a time or look that the field does not have."""
        name = self.config.method.name
        if time is not None and not self.is_dynamic:
            raise UserError(f"time {time:g}: the field of this run ({name}) is the same at all times; leave it out")
        if time is not None and not 0 <= time <= 1:
            raise UserError(f"time {time:g}: expected 0 ... 1")
        if appearance is not None and not self.n_appearances:
            raise UserError(
                f"appearance {appearance}: the field of this run ({name}) has one look for all photos; leave it "
                "out, or train with --set field.appearance_channels=8"
            )
        if appearance is not None and not 0 <= appearance < self.n_appearances:
            raise UserError(
                f"appearance {appearance}: expected the number of a training view, 0 ... {self.n_appearances - 1}"
            )

    @property
    def cameras(self) -> Cameras:
        """All views of the scene, world frame of the input."""
        return self.views.cameras

    def evaluate(self, split: str = "test", data: str | None = None, progress: Progress = silent) -> dict[str, Any]:
        """Metrics of a split, see neurfield.training.evaluation.evaluate.

        Args:
            data: where the images are now; None: where they were when the run was trained.

        Raises:
            UserError: the split has no views, its images cannot be read or are too small, or the data are not those
                of the run: other cameras of the split, or another map into unit space.
        """
        scene = self._scene
        if scene is None or data or not scene.splits.get(split):
            self.views.views(split)  # a better message than that of a data set read without the split
            scene = load_scene(self.config.data_at(data), self.config.load, splits=(split,))
            check_views(ViewSet.of_scene(scene), self.views, split, self.path)
        check_measurable(scene.name, scene.cameras[scene.views(split)])
        return evaluate(self.renderer, self.views.placed(scene, split), split, progress)

    def look_at_data(self, data: str | None = None) -> Manifest:
        """The data set of this run, its images not decoded, as they were read for it.

        Args:
            data: where the images are now; None: where they were when the run was trained.

        Raises:
            UserError: it cannot be read, or is not that of the run: other cameras, or another map into unit space.
        """
        manifest = read_manifest(self.config.data_at(data), self.config.load)
        found = ViewSet.of_manifest(manifest)
        for split in self.views.splits:
            check_views(found, self.views, split, self.path)
        return manifest

    def render(
        self,
        camera: Cameras,
        outputs: Sequence[str] = DEFAULT_OUTPUTS,
        progress: Progress = silent,
        appearance: int | None = None,
    ) -> dict[str, Tensor]:
        """One view, see Renderer.render: `camera` is a batch of one in the world frame, e.g. `run.cameras[0]`."""
        self.check_conditions(None, appearance)
        return self.renderer.render(camera, outputs, progress, appearance=appearance)

    def export_views(self, path: str | Path, cameras: Cameras, **options: Any) -> Path:
        """Renders views into a folder or a video (.mp4); options as neurfield.export.views.export_views's."""
        from neurfield.export.views import export_views  # pulls in file writers

        return export_views(self, path, cameras, **options)

    def export_mesh(self, path: str | Path, **options: Any) -> Any:
        """Writes a triangle mesh (.ply, .obj, .glb), world frame; options as neurfield.export.mesh.export_mesh's."""
        from neurfield.export.mesh import export_mesh  # pulls in marching cubes and file writers

        return export_mesh(self, path, **options)

    def export_web(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes a page (.html) that draws the field in a browser, see neurfield.export.web_page.export_web."""
        from neurfield.export.web_page import export_web

        return export_web(self, path, overwrite)

    def export_pointcloud(self, path: str | Path, **options: Any) -> int:
        """Writes what the training views see as points (.ply), world frame; options as
        neurfield.export.point_cloud.export_point_cloud's, and its number of points."""
        from neurfield.export.point_cloud import export_point_cloud

        return export_point_cloud(self, path, **options)

    def export_cameras(self, path: str | Path, data: str | None = None, overwrite: bool = False) -> bool:
        """Writes the cameras as nerfstudio's transforms.json, see neurfield.export.cameras.export_cameras."""
        from neurfield.export.cameras import export_cameras

        return export_cameras(self, path, data, overwrite)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes one file (.safetensors) that `load` reads, to be used, not trained further; returns it.

        Raises:
            UserError: another suffix, a file that exists, or that is no small file; a run that `at` gave, or with
                another field than its configuration says.
            MachineError: the disk refuses.
        """
        path = Path(path)
        small_file.check(path, self.path, overwrite)
        tensors = small_file.tensors(self.field, self.grid)
        try:
            check_stored(lambda: self.views.build(self.config.method.field), tensors)
        except (KeyError, ValueError):
            raise UserError(
                f"{path}: the field is not the one that the run's configuration builds, as of a run at one time or in "
                "one look; save the whole run"
            ) from None
        small_file.write(path, tensors, self.config, self.step, self.views)
        return path


def load(run: str | Path) -> Run | SignalRun:
    """A run from its folder (newest checkpoint) or a .safetensors file: of a scene, or of an image or another signal.

    Raises:
        UserError: nothing there, truncated, or no checkpoint of this program.
    """
    path = find_checkpoint(Path(run))
    return load_signal_run(path) if is_signal(checkpoint.load_header(path)) else _load_scene_run(path)


def load_scene_run(run: str | Path, what: str) -> Run:
    """A run of a scene; raises UserError, saying `what` needs one, for others, and as `load` does."""
    found = load(run)
    if isinstance(found, SignalRun):
        raise UserError(f"{run}: a field of the kind {found.config.kind}; {what} needs a radiance field")
    return found


def _load_scene_run(path: Path) -> Run:
    tensors, header = checkpoint.load(path)
    with fitting(path):
        config = configuration.from_dict(RunConfig, header["config"], str(path))
        views = unpack_views(tensors, header)
        field = build_field(lambda: views.build(config.method.field), tensors)
        grid = OccupancyGrid(views.normalization.aabb_scale)
        if packed.is_packed(tensors):
            packed.unpack(tensors, field, grid, told=views.tensors().keys())
        else:
            load_field(field, tensors)
            occupancy = part(tensors, "occupancy.")
            if occupancy.keys() == {"bitfield"}:  # of a small file, which is not trained further
                grid.load_bits(occupancy["bitfield"])
            else:
                grid.load_state_dict(occupancy)
        check_finite(path, field)
        step = int(header["counters"]["step"])
    return Run(config, views, field, grid, step, path)


def train(
    scene: Scene,
    method: str | MethodConfig | None = None,
    *,
    max_seconds: float | None = None,
    max_num_iterations: int | None = None,
    overrides: Sequence[str] = (),
    auto_frequency: bool = False,
    seed: int | None = None,
    device: str | torch.device = "auto",
    output_dir: str | Path | None = None,
    resume: str | Path | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Run:
    """Trains a field on a scene; Ctrl-C, SIGTERM and SIGHUP end it early, after the step in progress.

    Args:
        scene: see neurfield.load_scene; its `train` views are used.
        method: preset, YAML file or configuration; None: the default of device, budget and views.
        max_seconds, max_num_iterations: the budget, whichever ends first; seconds count from this call. None: the
            method's default budget, or that of the run that is continued.
        overrides: single values of the method, "optimizer.learning_rate=0.01".
        auto_frequency: choose the method's frequency parameter first, see neurfield.auto_frequency; `report` tells it.
        seed: of all random numbers; None: 42.
        device: cpu, cuda or auto, or a torch.device: auto is that of the run that is continued, else CUDA where it
            can be used. What comes from cuda lies there.
        output_dir: also keep files there, OUTPUT/SCENE/METHOD/TIME; None: nothing is written.
        resume: folder of a run on the same scene, to be continued there with its own method and seed.
        on_step: called after each step.
        report: takes a line for the user: skipped steps, roll-backs, checkpoints that cannot be read.

    Raises:
        UserError: the scene, the method, a budget or the seed cannot be used, or the run was trained in another way
            than is asked for.
        MachineError: training does not converge to numbers, or nothing can be written.
    """
    start, overrides = time.monotonic(), words(overrides)
    if not isinstance(scene, Scene):
        raise UserError(
            f"train: expected a scene, as neurfield.load_scene reads it, got {type(scene).__name__}; "
            "neurfield.train_signal takes the path of a single file"
        )
    kind = resolve_device(device)
    views, folder, resumed = ViewSet.of_scene(scene), None, None
    if resume is not None:
        if method is not None or overrides or auto_frequency or output_dir is not None:
            raise UserError("a resumed run keeps its method and its folder; give neither, or train a new run")
        folder = RunFolder(Path(resume))
        resumed = newest_whole(folder, report)
        resumed.check_request(seed, scene.options)
        resumed.check_views(views)
        views, config = resumed.views, resumed.continued(max_seconds, max_num_iterations, device)
    else:
        chosen = _method(
            method or default_preset(kind, max_seconds, scene.unit_cameras("train").times_differ), overrides
        )
        config = RunConfig(
            data=scene.source,
            load=scene.options,
            experiment_name=scene.name,
            method=chosen,
            max_seconds=max_seconds,
            max_num_iterations=max_num_iterations,
            seed=RunConfig.seed if seed is None else seed,
            device=resolve_device(device),
        )
        if output_dir is not None:
            folder = new_run(Path(output_dir), scene.name, config.method.name)
    choice = None
    if auto_frequency:
        chosen, choice = frequencies.for_scene(config.method, scene, overrides, config.seed, budget=config.budget)
        config = dataclasses.replace(config, method=chosen)
        report(frequencies.describe(choice))
    task = RadianceTask(scene, config)
    for note in task.notes:
        report(f"note: {note}")
    trainer, path = Trainer(task, task.config, start, report), None
    if choice:
        frequencies.check_left(trainer)
    if folder is None:
        trainer.train(on_step)
    else:
        session = Session(trainer, resumed.subject if resumed else views, folder, resumed.path if resumed else None)
        if choice:
            frequencies.write_report(session.folder.path, choice)
        session.train(on_step)
        path = session.save()
    return from_task(task, trainer, views, path, scene)


def _method(method: str | MethodConfig, overrides: tuple[str, ...]) -> MethodConfig:
    if isinstance(method, MethodConfig):
        return configuration.override(method, overrides, "overrides")
    return load_method(method, overrides)


def check_measurable(name: str, cameras: Cameras) -> None:
    """Raises UserError when a view is too small for the metrics."""
    width, height = cameras.sizes.amin(dim=0).tolist()
    if min(width, height) < SSIM_WINDOW:
        raise UserError(
            f"{name}: views of {width} x {height} pixels are too small to be measured, SSIM needs {SSIM_WINDOW} x "
            f"{SSIM_WINDOW}; use larger images, or measure nothing"
        )


def from_task(
    task: RadianceTask, trainer: Trainer, views: ViewSet, path: Path | None = None, scene: Scene | None = None
) -> Run:
    """The run of a task that `trainer` has trained, sharing its grid; with an average, the field is a copy that holds
    it.

    `scene` has the images to evaluate with; None: they are read when they are needed.
    """
    field = task.field
    if trainer.ema:
        field = task.config.method.field.build(views.normalization.aabb, len(task.pixels.cameras))
        field.to(task.device)
        field.load_state_dict(task.field.state_dict() | trainer.ema.tensors())
    return Run(task.config, task.placed(views), field, task.grid, trainer.step, path, scene)
