# SPDX-License-Identifier: Apache-2.0
"""A training that keeps files: configuration, scalars, checkpoints from time to time, and exact continuation."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from neurfield import config as configuration
from neurfield.errors import MachineError
from neurfield.files import atomic_write
from neurfield.memory import readable
from neurfield.training import checkpoint
from neurfield.training.events import ScalarLog
from neurfield.training.guard import assert_finite
from neurfield.training.memory import n_bytes
from neurfield.training.run_folder import RunFolder
from neurfield.training.trainer import StepReport, Trainer
from neurfield.training.view_set import ViewSet

_LOG_INTERVAL = 50  # steps between lines of the scalar log
TEACHER = "teacher"  # the entry of a distilled field's header


class Subject(Protocol):
    """What a run is about, as far as its checkpoints tell: enough to use the field without the data."""

    def tensors(self) -> dict[str, Tensor]: ...

    def header(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Pupil:
    """Of a field that is distilled: the views, and which teacher it is made of, by a hash."""

    views: ViewSet
    teacher: str

    def tensors(self) -> dict[str, Tensor]:
        return self.views.tensors()

    def header(self) -> dict[str, Any]:
        return self.views.header() | {TEACHER: self.teacher}


def pack(trainer: Trainer, subject: Subject) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a checkpoint."""
    tensors = trainer.tensors() | subject.tensors()
    header = {
        "config": configuration.to_dict(trainer.config),
        "counters": trainer.counters(),
        **subject.header(),
    }
    return tensors, header


class Session:
    """Runs a Trainer and writes its files into a run folder.

    Args:
        trainer: fresh, or about to be continued from `resume_from`.
        subject: what the checkpoints tell of the data, e.g. the ViewSet of a scene.
        folder: created now, unless `resume_from` is a checkpoint in it.
        resume_from: checkpoint to continue from; newer ones in the folder are set aside.

    Raises:
        UserError: the folder exists with other content, the checkpoint does not fit, or a configuration that was made
            in code could not be read again.
        MachineError: nothing can be written, or the disk has no room for a checkpoint.
    """

    def __init__(self, trainer: Trainer, subject: Subject, folder: RunFolder, resume_from: Path | None = None):
        configuration.check_readable(trainer.config, "the run's configuration")
        self.trainer, self.subject = trainer, subject
        if resume_from is None:
            folder = folder.create()
        else:
            tensors, header = checkpoint.load(resume_from)
            told = subject.tensors().keys()
            trainer.load({name: value for name, value in tensors.items() if name not in told}, header["counters"])
            folder.set_aside_after(resume_from)
        with folder.removed_on_failure():
            _check_space(folder.path, n_bytes(trainer.tensors().values()))
            with atomic_write(folder.config_path) as file:
                file.write(configuration.dumps(trainer.config).encode())
            self._log = ScalarLog(folder.path)
        self.folder = folder
        self._saved_at = time.monotonic()
        self._saved_step = trainer.step if resume_from else -1

    def train(self, on_step: Callable[[StepReport], None] | None = None) -> None:
        """Trains to the end of the budget; saves every `seconds_per_save` seconds and at the end.

        Saving counts as training time, so that the budget is what the user waits for; the last save does not. A failure
        before the first checkpoint removes the folder.
        """

        def after_step(report: StepReport) -> None:
            if report.step % _LOG_INTERVAL == 0 or report.step == 1:
                self._write(report)
            if time.monotonic() - self._saved_at >= self.trainer.config.seconds_per_save:
                self.save()
            if on_step:
                on_step(report)

        with self.folder.removed_on_failure():
            self.trainer.train(after_step)
            self.save()

    def _write(self, report: StepReport) -> None:
        scalars = {
            "train/loss": report.loss,
            "learning_rate": report.learning_rate,
            "samples": report.n_samples,
            "seconds": report.seconds,
        }
        if report.psnr == report.psnr:
            scalars["train/psnr"] = report.psnr
        if report.n_rays:
            scalars["rays"] = report.n_rays
        self._log.write(report.step, scalars)

    def write_metrics(self, scalars: dict[str, float]) -> None:
        """Adds measurements at the present step to the log, e.g. of an evaluation."""
        self._log.write(self.trainer.step, scalars)

    def save(self) -> Path:
        """Writes a checkpoint of the present step and removes the oldest; returns its file."""
        trainer = self.trainer
        path = self.folder.checkpoint_path(trainer.step)
        if trainer.step != self._saved_step:
            tensors, header = pack(trainer, self.subject)
            assert_finite(tensors, trainer.step)
            checkpoint.save(path, tensors, header)
            trainer.remember()
            self.folder.prune(trainer.config.keep_checkpoints)
        self._saved_at, self._saved_step = time.monotonic(), trainer.step
        return path


def _check_space(folder: Path, size: int) -> None:
    """Before hours are spent on what cannot be kept."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MachineError(
            f"{folder}: a checkpoint takes {readable(size)}, and the disk has {readable(free)} free; free some, or "
            "choose another --output-dir"
        )
