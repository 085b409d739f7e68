# SPDX-License-Identifier: Apache-2.0
"""`neurfield train` of a single file: an image, a mesh, a video, a volume."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurfield import auto_frequency
from neurfield.cli._console import (
    Progress,
    budget_text,
    check_begun,
    measuring,
    next_steps,
    resuming_training,
    say,
    say_steps,
)
from neurfield.cli._signal_options import refuse_scene_options
from neurfield.cli.view import watched
from neurfield.data import signals
from neurfield.data.options import LoadOptions
from neurfield.errors import UserError
from neurfield.fields.signal_field import SignalField
from neurfield.memory import readable
from neurfield.signal_kinds import KINDS
from neurfield.signal_run import SignalRun, SignalSubject, experiment_of, from_trainer, unpack
from neurfield.training import checkpoint
from neurfield.training.device import resolve_device
from neurfield.training.memory import n_bytes
from neurfield.training.resume import check_seed, newest_readable
from neurfield.training.run_folder import new_run, newest_run
from neurfield.training.session import Session
from neurfield.training.signal_method import SignalRunConfig, load_signal_method
from neurfield.training.stored import check_stored, fitting
from neurfield.training.trainer import StepReport, Trainer

if TYPE_CHECKING:
    from neurfield.cli.train import TrainOptions
    from neurfield.viewer import Live


def train_signal(options: "TrainOptions", kind: str, start: float) -> int:
    """Trains a field of the file `options.data`, keeps checkpoints, measures it at the end."""
    device = resolve_device(options.device)
    _check(options, kind)
    method = load_signal_method(options.method or kind, kind, options.set)
    kind = method.kind
    path = options.data.absolute()
    experiment = options.experiment_name or experiment_of(path)
    resumed_from, stored = None, None
    if options.resume:
        folder = newest_run(options.output_dir, experiment, options.method and method.name, options.timestamp)
        resumed_from, (config, stored) = newest_readable(folder, say, _read)
        kind = config.kind  # several kinds are read from files of one sort
        check_seed(options.seed, config)
        config = dataclasses.replace(
            config.with_budget(options.max_seconds, options.max_num_iterations), data=str(path),
            device=resolve_device(config.device if options.device == "auto" else options.device),
        )  # fmt: skip
    else:
        folder = new_run(options.output_dir, experiment, method.name, options.timestamp)
        config = SignalRunConfig(
            data=str(path),
            experiment_name=experiment,
            max_seconds=options.max_seconds,
            max_num_iterations=options.max_num_iterations,
            seed=SignalRunConfig.seed if options.seed is None else options.seed,
            device=device,
            kind=method.kind,
            max_megapixels=options.load.over(LoadOptions()).max_megapixels,
            method=method,
        )
    with Progress("read") as progress:
        signal = signals.read(path, kind, config.max_megapixels, progress.update)
    if stored is not None and stored != signal.info:
        raise UserError(f"{path}: not what {folder.path} was trained on; restore the file, or train a new run")
    say(f"{kind}: {signal.info.describe()}")
    choice = None
    if options.auto_frequency:
        with Progress("frequency") as progress:
            method, choice = auto_frequency.for_signal(
                method, signal, options.set, config.seed, progress.update, config.budget, device=config.device
            )
        say(auto_frequency.describe(choice))
        config = dataclasses.replace(config, method=method)
    with Progress("prepare") as progress:
        task = KINDS[kind].task(signal, config, progress.update)
    trainer = Trainer(task, config, start, report=say)
    if choice:
        auto_frequency.check_left(trainer)
    if not resumed_from:
        check_begun(trainer)
    session = Session(trainer, SignalSubject(signal.info), folder, resumed_from)
    begun_at = trainer.step
    if choice:
        auto_frequency.write_report(session.folder.path, choice)
    parameters = n_bytes(task.field.parameters())
    say(f"memory: parameters {readable(parameters)}, with optimiser {readable(n_bytes(trainer.tensors().values()))}")
    say(f"{config.method.name} on {config.device}, {budget_text(trainer)}; files in {session.folder.path}")
    assert isinstance(task.field, SignalField)
    shown = SignalRun(config, signal.info, task.field, trainer.step)
    is_watched = options.vis == "viewer"
    with watched(shown, signal, session, options.serve) if is_watched else contextlib.nullcontext() as live:
        with Progress("train", trainer.progress) as progress:

            def on_step(report: StepReport) -> None:
                progress.update(report.progress, _text(report))
                if live:
                    live.on_step(report)

            session.train(on_step)
        say_steps(trainer, session.save(), begun_at)
        if trainer.interrupted:
            say(f"interrupted; continue with: {resuming_training(str(options.data), session.folder.path, options)}")
            return 1
        if options.eval_split != "none" and trainer.step:
            _measure(from_trainer(trainer, config, signal.info), signal, session, live)
        if not is_watched:
            say(next_steps(session.folder.path))
    return 0


def _measure(run: SignalRun, signal: Any, session: Session, live: "Live | None") -> None:
    with measuring(session.folder.path), Progress("measure") as progress:

        def on_part(part: float) -> None:
            progress.update(part)
            if live:
                live.turns.pass_on()

        result = run.kind.evaluate(run.field, signal, on_part)
    session.write_metrics(scalars(result) | {"seconds": session.trainer.clock.seconds()})
    say(summary(run, result))


def summary(run: SignalRun, result: Mapping[str, Any]) -> str:
    """The figures worth a line."""
    return ", ".join(
        text.format(result[name]) for name, text in run.kind.summary.items() if result.get(name) is not None
    )


def scalars(result: Mapping[str, Any]) -> dict[str, float]:
    """The plain numbers of an evaluation, for the log."""
    return {f"test/{name}": float(value) for name, value in result.items() if isinstance(value, int | float)}


def _check(options: "TrainOptions", kind: str) -> None:
    """Refuses options that mean something for scenes only."""
    refuse_scene_options(options.load, options.data, kind)
    if options.seconds_per_eval is not None:
        raise UserError("--seconds-per-eval is for scenes; signals are measured at the end")


def _read(path: Path) -> tuple[Path, tuple[SignalRunConfig, Any]]:
    tensors, header = checkpoint.load(path)
    with fitting(path):
        config, info = unpack(path, header)
        check_stored(lambda: KINDS[config.kind].field(config.method.field, info, config.seed), tensors)
        return path, (config, info)


def _text(report: StepReport) -> str:
    psnr = "" if math.isnan(report.psnr) else f", psnr {report.psnr:.2f}"
    return f"step {report.step}, loss {report.loss:.5f}{psnr}, {report.seconds:.0f} s"
