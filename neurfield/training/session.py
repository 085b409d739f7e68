# SPDX-License-Identifier: Apache-2.0
"""A training that keeps files: configuration, scalars, checkpoints from time to time, and exact continuation."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from neurfield import config as configuration
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.corrections import corrected
from neurfield.data.load import cameras
from neurfield.data.scene import Normalization, Scene
from neurfield.data.views import Manifest
from neurfield.errors import UserError
from neurfield.fields import AnyFieldConfig
from neurfield.fields.radiance_module import RadianceModule
from neurfield.files import atomic_write
from neurfield.training import checkpoint
from neurfield.training.events import ScalarLog
from neurfield.training.guard import assert_finite
from neurfield.training.run_folder import RunFolder
from neurfield.training.trainer import StepReport, Trainer

_LOG_INTERVAL = 50  # steps between lines of the scalar log
TEACHER = "teacher"  # the entry of a distilled field's header
CORRECTIONS = "cameras.corrections"  # of training cameras; state of a training, and told of what is made of it
_CAMERA_FIELDS = ("c2w", "intrinsics", "sizes", "models", "distortion", "times")


@dataclass(frozen=True, repr=False)
class ViewSet:
    """The views of a scene without their images: what rendering a split needs.

    Attributes:
        read: cameras as they were read, world frame.
        corrections: of training cameras that were refined, `[n_train, 6]` in unit space, see
            neurfield.cameras.corrections; None: they are as they were read.
    """

    name: str
    read: Cameras
    splits: dict[str, list[int]]
    normalization: Normalization
    paths: list[str]
    corrections: Tensor | None = None

    def __repr__(self) -> str:
        return f"ViewSet({self.name!r}, {self.cameras})"

    @property
    def cameras(self) -> Cameras:
        """Where the cameras are, world frame."""
        if self.corrections is None:
            return self.read
        train, c2w, moved = self.splits["train"], self.read.c2w.clone(), self.corrections.detach().cpu().clone()
        moved[:, 3:] /= self.normalization.scale
        c2w[train] = corrected(c2w[train], moved)
        return replace(self.read, c2w=c2w)

    def moved(self, corrections: Tensor | None) -> "ViewSet":
        """The same with corrections of the training cameras, or with none."""
        return replace(self, corrections=corrections)

    def placed(self, scene: Scene, split: str) -> Scene:
        """The scene, which has this split, with the cameras of that where they are here."""
        if self.corrections is None:
            return scene
        c2w = scene.cameras.c2w.clone()
        c2w[scene.views(split)] = self.cameras.c2w[self.views(split)]
        return replace(scene, cameras=replace(scene.cameras, c2w=c2w))

    @staticmethod
    def of_scene(scene: Scene) -> "ViewSet":
        return ViewSet(scene.name, scene.cameras, scene.splits, scene.normalization, scene.paths)

    @staticmethod
    def of_manifest(manifest: Manifest) -> "ViewSet":
        paths = [str(view.path or view.name) for view in manifest.views]
        splits = {name: list(views) for name, views in manifest.splits.items()}
        return ViewSet(manifest.name, cameras(manifest.views), splits, manifest.normalization, paths)

    def views(self, split: str) -> list[int]:
        """View indices of a split; raises UserError when it is unknown or empty."""
        if not self.splits.get(split):
            there = ", ".join(f"{len(views)} {name}" for name, views in self.splits.items() if views)
            raise UserError(f"{self.name}: no views in split {split!r} (there are {there or 'none'})")
        return self.splits[split]

    @property
    def train(self) -> list[int]:
        """View indices of the training views, or of all views where there are none."""
        return self.splits.get("train") or list(range(len(self.read)))

    def build(self, field: AnyFieldConfig) -> RadianceModule:
        """The field that a configuration describes, for these views."""
        return field.build(self.normalization.aabb, len(self.splits.get("train", [])))

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"cameras.{name}": getattr(self.read, name) for name in _CAMERA_FIELDS}
        return tensors if self.corrections is None else tensors | {CORRECTIONS: self.corrections}

    def header(self) -> dict[str, Any]:
        return {
            "scene": {"name": self.name, "splits": self.splits, "paths": self.paths},
            "normalization": asdict(self.normalization),
        }


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


def unpack_views(tensors: dict[str, Tensor], header: dict[str, Any]) -> ViewSet:
    """The views that `pack` put into a checkpoint.

    Raises:
        KeyError, TypeError, ValueError: it has none, or such as no scene has.
    """
    scene, norm = header["scene"], header["normalization"]
    stored = Cameras(*(tensors[f"cameras.{name}"] for name in _CAMERA_FIELDS))
    stored.check()
    splits = {name: list(views) for name, views in dict(scene["splits"]).items()}
    if not all(type(i) is int and 0 <= i < len(stored) for views in splits.values() for i in views):
        raise ValueError(f"scene.splits: expected numbers of its {len(stored)} views")
    if not all(isinstance(text, str) for text in (scene["name"], *scene["paths"])):
        raise ValueError("scene: expected text as its name and paths")
    if len(scene["paths"]) not in (0, len(stored)):
        raise ValueError(f"scene.paths: expected one for each of its {len(stored)} views, or none")
    normalization = Normalization(**norm | {name: tuple(norm[name]) for name in ("offset", "origin") if name in norm})
    corrections = tensors.get(CORRECTIONS)
    if corrections is not None:
        shape = (len(splits.get("train", [])), 6)
        if corrections.shape != shape or not bool(corrections.isfinite().all()):
            raise ValueError(f"{CORRECTIONS}: expected finite numbers of shape {list(shape)}")
    return ViewSet(scene["name"], stored, splits, normalization, scene["paths"], corrections)


class Session:
    """Runs a Trainer and writes its files into a run folder.

    Args:
        trainer: fresh, or about to be continued from `resume_from`.
        subject: what the checkpoints tell of the data, e.g. the ViewSet of a scene.
        folder: created now, unless `resume_from` is a checkpoint in it.
        resume_from: checkpoint to continue from; newer ones in the folder are set aside.

    Raises:
        UserError: the folder exists with other content, or the checkpoint does not fit.
        MachineError: nothing can be written.
    """

    def __init__(self, trainer: Trainer, subject: Subject, folder: RunFolder, resume_from: Path | None = None):
        self.trainer, self.subject = trainer, subject
        if resume_from is None:
            folder = folder.create()
        else:
            tensors, header = checkpoint.load(resume_from)
            told = subject.tensors().keys()
            trainer.load({name: value for name, value in tensors.items() if name not in told}, header["counters"])
            folder.set_aside_after(resume_from)
        with folder.removed_on_failure():
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
