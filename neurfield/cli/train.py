# SPDX-License-Identifier: Apache-2.0
"""`neurfield train`: fits a field to a scene, keeps checkpoints, measures it at the end."""

import contextlib
import dataclasses
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neurfield import auto_frequency
from neurfield.checks import rounded
from neurfield.cli import _distilled
from neurfield.cli._console import (
    FIGURES,
    Progress,
    budget_text,
    check_begun,
    figures,
    measuring,
    next_steps,
    resuming_training,
    say,
    say_steps,
)  # fmt: skip
from neurfield.cli._train_signal import train_signal
from neurfield.cli.view import watched
from neurfield.convert.earlier import Earlier
from neurfield.data.load import cameras, decode, locate, read_manifest
from neurfield.data.options import SPLITS, ReadOptions
from neurfield.data.scene import Scene
from neurfield.data.signals import kind_of
from neurfield.data.views import Manifest
from neurfield.errors import UserError
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.registry import nearest
from neurfield.run import Run, check_measurable, from_task
from neurfield.training.checkpoint import load_header
from neurfield.training.device import resolve_device
from neurfield.training.evaluation import evaluate
from neurfield.training.memory import describe
from neurfield.training.memory_plan import plan_training
from neurfield.training.method import MethodConfig, RunConfig, default_preset, load_method
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.resume import newest_whole
from neurfield.training.run_folder import RunFolder, find_checkpoint, new_run, newest_run
from neurfield.training.schedule import process_age
from neurfield.training.session import Session
from neurfield.training.stored import fitting
from neurfield.training.trainer import StepReport, Trainer
from neurfield.training.view_set import ViewSet
from neurfield.viewer.options import ServeOptions

if TYPE_CHECKING:
    from neurfield.viewer import Live


_MANY_PIXELS = 40e6  # to be measured: two CPU cores draw some 0.1 to 1 million a second


@dataclass(frozen=True)
class TrainOptions:
    data: tyro.conf.Positional[Path]
    """Data folder, transforms.json, .npz archive or scene file; or an image, a mesh, a video, a volume."""
    method: str | None = None
    """Preset or YAML file; an unknown name lists the presets.
    Default: on a GPU ngp or, from a minute on, ngp-big; on a CPU ngp-fast or, from two minutes on, ngp-medium; for
    views of different times ngp-dynamic; for single files the preset of their kind."""
    output_dir: Path = Path("outputs")
    """Runs are kept in OUTPUT_DIR/EXPERIMENT/METHOD/TIME."""
    experiment_name: str | None = None
    """Default: the name of the data."""
    timestamp: str | None = None
    """Name of the run's folder; default: the time."""
    max_seconds: float | None = None
    """Budget, counted from the start of this command; default: the method's, 60 s on a CPU."""
    max_num_iterations: int | None = None
    """Budget in steps; with both, the first one that is used up ends the run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train: auto is CUDA where it can be used, and for --resume where the run was trained."""
    seed: int | None = None
    """Of all random numbers; default: 42."""
    resume: bool = False
    """Continue the newest run of this experiment and method (or the one named by --timestamp) to its budget."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Override the method: --set optimizer.learning_rate=0.01 training.n_samples=65536"""
    auto_frequency: bool = False
    """First choose the parameter that decides the method's frequencies, by spectra and, for images, videos and
    volumes, short trainings; its seconds count. What was found is kept in the run's folder."""
    eval_split: str = "test"
    """Views that are measured at the end: train, val or test; 'none' measures nothing."""
    seconds_per_eval: float | None = None
    """Also measure about so often while training; that time does not count towards the budget."""
    vis: Literal["none", "viewer"] = "none"
    """viewer: watch in the browser; the page goes on when the training is done, until Ctrl-C."""
    serve: Annotated[ServeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ServeOptions)
    """Where the page of --vis viewer is served."""
    load: Annotated[ReadOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadOptions)
    """How to read the data."""


def run(options: TrainOptions, is_last: bool = True) -> int:
    """The command; `is_last`: a viewer goes on when the training is over."""
    start = time.monotonic() - process_age()
    _check(options)
    _refuse_run(options.data)
    kind = kind_of(options.data)
    if kind is not None:
        return train_signal(options, kind, start)
    device = resolve_device(options.device)
    source, name, load = locate(options.data, options.load)
    found = None if options.resume else read_manifest(source, load)
    times_differ = found is not None and found.times_differ
    method = load_method(options.method or default_preset(device, options.max_seconds, times_differ), options.set)
    if method.distill and not options.resume:
        plan = _distilled.plan(options, method, method.distill)
        try:
            code = run(plan.teacher, is_last=False)
            return plan.explain(code) if code else plan.distil()
        finally:
            plan.release()
    experiment = options.experiment_name or name
    if options.resume:
        with _distilled.stages_named(method):
            folder = newest_run(options.output_dir, experiment, options.method and method.name, options.timestamp)
    else:
        folder = new_run(options.output_dir, experiment, method.name, options.timestamp)
    resumed = newest_whole(folder, say) if options.resume else None
    if resumed:
        resumed.check_request(options.seed, options.load)
    manifest = found or read_manifest(source, resumed.config.load if resumed else load)
    manifest = dataclasses.replace(manifest, name=name)
    views = ViewSet.of_manifest(manifest)
    if resumed:
        resumed.check_views(views)
        views = resumed.views
        config = resumed.continued(options.max_seconds, options.max_num_iterations, options.device)
        config = dataclasses.replace(config, data=manifest.source)  # it may have been moved
    else:
        config = _config(options, manifest, method)
    say(f"{manifest.name}: " + ", ".join(f"{len(v)} {split}" for split, v in manifest.splits.items()) + " views")
    for note in manifest.notes:
        say(f"note: {note}")
    norm = manifest.normalization
    offset = ", ".join(rounded(norm.offset, 4, 1))
    say(f"unit space ({norm.source}): x * {norm.scale:.6g} + ({offset}), box of side {norm.aabb_scale}")
    test = _views_to_measure(options, manifest)
    train = manifest.only(("train",))
    say(describe(plan_training(train, test, config.method)))
    if test and config.device == "cpu":
        _warn_of_measuring(test, options.eval_split)
    with Progress("read") as progress:
        scene, choice = decode(train, progress.update), None
    if options.auto_frequency:
        with Progress("frequency") as progress:
            method, choice = auto_frequency.for_scene(
                method, scene, options.set, config.seed, progress.update, config.budget
            )
        say(auto_frequency.describe(choice))
        config = dataclasses.replace(config, method=method)
    task = RadianceTask(scene, config)
    del scene  # the task has what it needs of it: masks, depth maps and linear images are in memory twice
    config = task.config
    for note in task.notes:
        say(f"note: {note}")
    trainer = Trainer(task, config, start, report=say)
    if choice:
        auto_frequency.check_left(trainer)
    if not resumed:
        check_begun(trainer)
    session = Session(trainer, resumed.subject if resumed else views, folder, resumed.path if resumed else None)
    begun_at = trainer.step
    if choice:
        auto_frequency.write_report(session.folder.path, choice)
    say(f"{config.method.name} on {config.device}, {budget_text(trainer)}; files in {session.folder.path}")
    is_watched = options.vis == "viewer"
    shown = Run(config, task.placed(views), task.field, task.grid, trainer.step)
    view = watched(shown, None, session, options.serve, is_last=is_last) if is_watched else contextlib.nullcontext()
    with view as live:
        _train(task, trainer, session, views, options, test, live)
        say_steps(trainer, session.save(), begun_at)
        if task.refinement is not None:
            say(task.refinement.describe())
        if trainer.interrupted:
            if is_last:  # a teacher is not all that there is to go on with
                say(f"interrupted; continue with: {resuming_training(str(options.data), session.folder.path, options)}")
            return 1
        if resumed and isinstance(config.method.field, KiloNerfConfig):
            Earlier.beside(session.folder.path).settle()
        if test and trainer.step:
            _evaluate(task, trainer, session, views, options.eval_split, test, live)
        if is_last and not is_watched:
            say(next_steps(session.folder.path))
    return 0


def _refuse_run(data: Path) -> None:
    """Of a run that was given as the data it is said how one goes on with it."""
    folder = data.absolute()
    if not os.path.isdir(folder) or not RunFolder(folder).checkpoints():  # false, not an error, for overlong names
        return
    checkpoint = find_checkpoint(folder)
    with fitting(checkpoint):
        source = str(load_header(checkpoint)["config"]["data"])
    command = resuming_training(source if os.path.exists(source) else "DATA", folder)
    raise UserError(f"{data}: a run, no data; go on with it: {command}")


def _check(options: TrainOptions) -> None:
    """Refuses what can be refused before anything is read."""
    if options.resume and options.set:
        raise UserError("a resumed run keeps its configuration; leave --set out, or train a new run")
    if options.resume and options.auto_frequency:
        raise UserError("a resumed run keeps its frequencies; leave --auto-frequency out, or train a new run")
    seed = RunConfig.seed if options.seed is None else options.seed
    try:
        RunConfig(max_seconds=options.max_seconds, max_num_iterations=options.max_num_iterations, seed=seed)
    except UserError as error:
        name, _, rest = str(error).partition(":")
        raise UserError(f"--{name.replace('_', '-')}:{rest}") from None
    if not options.resume and 0 in (options.max_seconds, options.max_num_iterations):
        raise UserError(
            "--max-seconds and --max-num-iterations: nothing is learned with a budget of 0; give a larger one"
        )
    names = ("none", *SPLITS)
    if options.eval_split not in names:
        hint = nearest(options.eval_split, names)
        raise UserError(f"--eval-split: unknown split {options.eval_split!r}{hint} (valid: {', '.join(names)})")
    if options.seconds_per_eval is not None:
        if not options.seconds_per_eval > 0:
            raise UserError(f"--seconds-per-eval: expected more than 0, got {options.seconds_per_eval}")
        if options.eval_split == "none":
            raise UserError(
                "--seconds-per-eval needs views to measure, and --eval-split is none; leave one of them out"
            )


def _config(options: TrainOptions, manifest: Manifest, method: MethodConfig) -> RunConfig:
    return RunConfig(
        data=manifest.source,
        load=manifest.options,
        experiment_name=options.experiment_name or manifest.name,
        method=method,
        max_seconds=options.max_seconds,
        max_num_iterations=options.max_num_iterations,
        seed=RunConfig.seed if options.seed is None else options.seed,
        device=resolve_device(options.device),
    )


def _views_to_measure(options: TrainOptions, manifest: Manifest) -> Manifest | None:
    """The views of --eval-split; None where there are none and none were asked for."""
    split = options.eval_split
    if split == "none":
        return None
    if not manifest.splits.get(split) and split == TrainOptions.eval_split and options.seconds_per_eval is None:
        say(f"note: no {split} views, nothing will be measured")
        return None
    test = manifest.only((split,))
    check_measurable(f"--eval-split {split}", cameras(test.views))
    return test


def _warn_of_measuring(test: Manifest, split: str) -> None:
    n_pixels = sum(view.intrinsics.width * view.intrinsics.height for view in test.views)
    if n_pixels > _MANY_PIXELS:
        say(
            f"note: the {len(test.views)} {split} views have {n_pixels / 1e6:.0f} megapixels, which may take longer to "
            "measure than to train; --eval-split none leaves that out, Ctrl-C ends it and keeps the run"
        )


def _train(
    task: RadianceTask,
    trainer: Trainer,
    session: Session,
    views: ViewSet,
    options: TrainOptions,
    test: Manifest | None,
    live: "Live | None",
) -> None:
    eval_due = options.seconds_per_eval
    eval_scene: Scene | None = None

    def on_step(report: StepReport) -> None:
        nonlocal eval_due, eval_scene
        rates.add(report)
        progress.update(report.progress, rates.text(report))
        if test and eval_due is not None and options.seconds_per_eval and report.seconds >= eval_due:
            pause = time.monotonic()
            eval_scene = eval_scene or decode(test)
            seen = task.placed(views).placed(eval_scene, options.eval_split)
            result = evaluate(from_task(task, trainer, views).renderer, seen, options.eval_split)
            session.write_metrics(_scalars(result, options.eval_split) | {"seconds": report.seconds})
            say(f"after {report.seconds:.1f} s: {_summary(result)} (measuring does not count as training time)")
            eval_due += options.seconds_per_eval
            trainer.clock.pause(pause)
        if live:
            live.on_step(report)

    rates = _Rates()
    with Progress("train", trainer.progress) as progress:
        session.train(on_step)


class _Rates:
    """Samples and rays per second since the last text."""

    def __init__(self) -> None:
        self._since, self._samples, self._rays = time.monotonic(), 0, 0
        self._text = ""

    def add(self, report: StepReport) -> None:
        self._samples += report.n_samples
        self._rays += report.n_rays

    def text(self, report: StepReport) -> str:
        elapsed = time.monotonic() - self._since
        if elapsed > 0.5 or not self._text:
            rates = f"{self._samples / elapsed / 1e6:.2f} M samples/s, {self._rays / elapsed / 1e3:.1f} k rays/s"
            self._text = f"step {report.step}, psnr {report.psnr:.2f}, loss {report.loss:.5f}, {rates}"
            self._since, self._samples, self._rays = time.monotonic(), 0, 0
        return self._text


def _evaluate(
    task: RadianceTask,
    trainer: Trainer,
    session: Session,
    views: ViewSet,
    split: str,
    test: Manifest,
    live: "Live | None",
) -> None:
    with measuring(session.folder.path, "--split", split), Progress(f"measure {split}") as progress:
        scene = task.placed(views).placed(decode(test), split)
        renderer = from_task(task, trainer, views).renderer

        def on_part(part: float) -> None:
            progress.update(part)
            if live:
                live.turns.pass_on()

        result = evaluate(renderer, scene, split, on_part)
    session.write_metrics(_scalars(result, split) | {"seconds": trainer.clock.seconds()})
    say(f"{split}: {_summary(result)}")


def _scalars(result: dict[str, Any], split: str) -> dict[str, float]:
    return {f"{split}/{name}": result[name] for name in (*FIGURES, "seconds_per_view") if name in result}


def _summary(result: dict[str, Any]) -> str:
    n, seconds = result["protocol"]["n_views"], result["seconds_per_view"]
    return f"{figures(result)}, {n} views, {seconds:.3f} s a view"
