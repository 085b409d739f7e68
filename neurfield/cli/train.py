# SPDX-License-Identifier: Apache-2.0
"""`neurfield train`: fits a field to a scene, keeps checkpoints, measures it at the end."""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from neurfield import config as configuration
from neurfield.cli._console import Progress, duration
from neurfield.data.load import cameras, decode, read_manifest
from neurfield.data.options import LoadOptions
from neurfield.data.scene import Scene
from neurfield.data.views import Manifest
from neurfield.errors import UserError
from neurfield.run import from_trainer
from neurfield.training import checkpoint
from neurfield.training.device import resolve_device
from neurfield.training.evaluation import evaluate
from neurfield.training.memory import describe
from neurfield.training.method import RunConfig, default_preset, load_method
from neurfield.training.run_folder import new_run, newest_run
from neurfield.training.schedule import process_age
from neurfield.training.session import Session, ViewSet
from neurfield.training.trainer import StepReport, Trainer


@dataclass(frozen=True)
class TrainOptions:
    data: tyro.conf.Positional[Path]
    """Data folder, transforms.json, .npz archive or scene file."""
    method: str | None = None
    """Preset or YAML file; default: ngp-fast on a CPU, ngp on a GPU."""
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
    """Where to train."""
    seed: int = 42
    """Of all random numbers."""
    resume: bool = False
    """Continue the newest run of this experiment and method (or the one named by --timestamp) to its budget."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Override the method: --set optimizer.learning_rate=0.01 training.n_samples=65536"""
    eval_split: str = "test"
    """Measured at the end; 'none' measures nothing."""
    seconds_per_eval: float | None = None
    """Also measure about so often while training; that time does not count towards the budget."""
    load: Annotated[LoadOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=LoadOptions)
    """How to read the data."""


def run(options: TrainOptions) -> int:
    start = time.monotonic() - process_age()
    device = resolve_device(options.device)
    manifest = read_manifest(options.data, options.load)
    config = _config(options, manifest.name, device)
    resumed = None
    if options.resume:
        folder = newest_run(options.output_dir, config.experiment_name, config.method.name, options.timestamp)
        resumed = folder.checkpoints()[-1]
        config = _resumed_config(config, resumed)
    else:
        folder = new_run(options.output_dir, config.experiment_name, config.method.name, options.timestamp)
    _say(f"{manifest.name}: " + ", ".join(f"{len(v)} {split}" for split, v in manifest.splits.items()) + " views")
    for note in manifest.notes:
        _say(f"note: {note}")
    norm = manifest.normalization
    _say(f"unit space ({norm.source}): x * {norm.scale:.6g} + {_numbers(norm.offset)}, box of side {norm.aabb_scale}")
    trainer = Trainer(decode(manifest.only(("train",))), config, start, report=_say)
    _say(describe(trainer.memory_plan()))
    views = _all_views(manifest)
    session = Session(trainer, views, folder, resumed)
    _say(f"{config.method.name} on {device}, {_budget(config)}; files in {folder.path}")
    _train(trainer, session, options, manifest)
    _say(f"{trainer.step} steps in {duration(trainer.clock.seconds())}; {session.save()}")
    if trainer.interrupted:
        _say("interrupted; continue with --resume")
        return 1
    if options.eval_split != "none" and manifest.splits.get(options.eval_split):
        _evaluate(trainer, session, views, options, manifest)
    return 0


def _config(options: TrainOptions, name: str, device: Literal["cpu", "cuda"]) -> RunConfig:
    if options.resume and options.set:
        raise UserError("a resumed run keeps its configuration; leave --set out, or train a new run")
    for flag, value in (("max-seconds", options.max_seconds), ("max-num-iterations", options.max_num_iterations)):
        if value is not None and not value >= 0:
            raise UserError(f"--{flag}: expected at least 0, got {value}")
    return RunConfig(
        data=str(options.data),
        load=options.load,
        experiment_name=options.experiment_name or name,
        method=load_method(options.method or default_preset(device), options.set),
        max_seconds=options.max_seconds,
        max_num_iterations=options.max_num_iterations,
        seed=options.seed,
        device=device,
    )


def _resumed_config(asked: RunConfig, path: Path) -> RunConfig:
    """The configuration of the checkpoint, with the new budget if one was given."""
    stored = configuration.from_dict(RunConfig, checkpoint.load_header(path).get("config", {}), str(path))
    if asked.max_seconds is None and asked.max_num_iterations is None:
        return stored
    return dataclasses.replace(stored, max_seconds=asked.max_seconds, max_num_iterations=asked.max_num_iterations)


def _train(trainer: Trainer, session: Session, options: TrainOptions, manifest: Manifest) -> None:
    eval_due = options.seconds_per_eval
    eval_scene: Scene | None = None

    def on_step(report: StepReport) -> None:
        nonlocal eval_due, eval_scene
        rates.add(report)
        progress.update(report.progress, rates.text(report))
        if eval_due is not None and report.seconds >= eval_due and options.seconds_per_eval:
            pause = time.monotonic()
            eval_scene = eval_scene or decode(manifest.only((options.eval_split,)))
            result = evaluate(from_trainer(trainer, session.views).renderer, eval_scene, options.eval_split)
            session.write_metrics(_scalars(result, options.eval_split) | {"seconds": report.seconds})
            _say(f"after {report.seconds:.1f} s: {_summary(result)} (measuring does not count as training time)")
            eval_due += options.seconds_per_eval
            trainer.clock.pause(pause)

    rates = _Rates()
    with Progress("train") as progress:
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
            rates = f"{self._samples / elapsed / 1e6:.2f} Ms/s {self._rays / elapsed / 1e6:.2f} Mrays/s"
            self._text = f"step {report.step}, loss {report.loss:.5f}, psnr {report.psnr:.2f}, {rates}"
            self._since, self._samples, self._rays = time.monotonic(), 0, 0
        return self._text


def _evaluate(trainer: Trainer, session: Session, views: ViewSet, options: TrainOptions, manifest: Manifest) -> None:
    scene = decode(manifest.only((options.eval_split,)))
    with Progress(f"measure {options.eval_split}") as progress:
        renderer = from_trainer(trainer, views).renderer
        result = evaluate(renderer, scene, options.eval_split, lambda i, n, _: progress.update(i / n))
    session.write_metrics(_scalars(result, options.eval_split) | {"seconds": trainer.clock.seconds()})
    _say(f"{options.eval_split}: {_summary(result)}")


def _scalars(result: dict[str, Any], split: str) -> dict[str, float]:
    return {f"{split}/{name}": result[name] for name in ("psnr", "ssim", "seconds_per_view")}


def _summary(result: dict[str, Any]) -> str:
    n, seconds = result["protocol"]["n_views"], result["seconds_per_view"]
    return f"PSNR {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f}, {n} views, {seconds:.3f} s a view"


def _budget(config: RunConfig) -> str:
    budget = config.budget
    limits = []
    if budget.max_seconds is not None:
        limits.append(duration(budget.max_seconds) + " from the start of the command")
    if budget.max_num_iterations is not None:
        limits.append(f"{budget.max_num_iterations} steps")
    return " or ".join(limits)


def _all_views(manifest: Manifest) -> ViewSet:
    paths = [str(view.path or view.name) for view in manifest.views]
    splits = {name: list(views) for name, views in manifest.splits.items()}
    return ViewSet(manifest.name, cameras(manifest.views), splits, manifest.normalization, paths)


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _say(line: str) -> None:
    print(line, flush=True)
