# SPDX-License-Identifier: Apache-2.0
"""A trained field of a single file: measured, drawn, loaded again."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurfield import auto_frequency as frequencies
from neurfield import config as configuration
from neurfield.checks import words
from neurfield.data import signals
from neurfield.errors import UserError
from neurfield.export.sdf_mesh import export_sdf_mesh
from neurfield.fields.signal_field import SignalField
from neurfield.files import refuse_existing
from neurfield.geometry import MeshReport
from neurfield.progress import Progress, silent
from neurfield.rendering.sphere_trace import Distance
from neurfield.signal_kinds import KINDS, SURFACE_CELLS, Kind, SignalRender
from neurfield.training import checkpoint, packed, small_file
from neurfield.training.device import resolve_device
from neurfield.training.guard import check_finite
from neurfield.training.run_folder import find_checkpoint, new_run
from neurfield.training.session import Session
from neurfield.training.signal_method import SignalMethod, SignalRunConfig, load_signal_method
from neurfield.training.stored import build_field, fitting, load_field
from neurfield.training.trainer import StepReport, Trainer

HEADER = "signal"  # the entry of a checkpoint's header


@dataclass(frozen=True)
class SignalSubject:
    """What checkpoints tell of a signal."""

    info: Any

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def header(self) -> dict[str, Any]:
        return {HEADER: asdict(self.info)}


class SignalRun:
    """A field and what is needed to use it.

    Attributes:
        config: how it was trained; `config.kind` says what it is.
        info: what is known of the data, see GridInfo.
        field: maps positions `[n, n_dims]` in 0 ... 1 to values.
        step: training steps done.
        path: checkpoint file, or None.
        stored_as: "fp32", "fp16" or "int8" where that is a small file (neurfield.training.small_file), else None.
    """

    def __init__(
        self,
        config: SignalRunConfig,
        info: Any,
        field: SignalField,
        step: int,
        path: Path | None = None,
        stored_as: str | None = None,
    ):
        self.config, self.info, self.field, self.step, self.path = config, info, field, step, path
        self.stored_as = stored_as

    def to(self, device: str | torch.device) -> None:
        """Moves the field to `cpu`, `cuda` or `auto`, CUDA where it can be used: it is evaluated there. Positions and
        values, meshes and pictures stay where they are.

        Raises:
            UserError: cuda cannot be used.
        """
        self.field.to(resolve_device(device))

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes one file, see neurfield.run.Run.save."""
        path = Path(path)
        small_file.check(path, self.path, overwrite)
        small_file.write(path, small_file.tensors(self.field, None), self.config, self.step, SignalSubject(self.info))
        return path

    def __repr__(self) -> str:
        place = "" if self.path is None else f", {self.path}"
        return f"SignalRun({self.config.method.name}, step {self.step}{place})"

    @property
    def kind(self) -> Kind:
        return KINDS[self.config.kind]

    def distance(self, n_cells: int = SURFACE_CELLS, version: Callable[[], int] = lambda: 0) -> Distance:
        """The signed distance that the field of a shape is, or that is made of it, see Kind.distance.

        Raises:
            UserError: the field of something that is no shape.
        """
        if self.kind.distance is None:
            raise UserError(f"a field of the kind {self.config.kind} has no surface")
        return self.kind.distance(self.field, n_cells, version)

    def signal(self, data: str | None = None) -> Any:
        """The data that the field was trained on, see neurfield.data.signals.

        Args:
            data: where the file is now; None: where it was when the run was trained.

        Raises:
            UserError: the file cannot be read, or is another.
        """
        path = Path(self.config.data_at(data))
        signal = signals.read(path, self.config.kind, self.config.max_megapixels)
        if asdict(signal.info) | {"name": ""} != asdict(self.info) | {"name": ""}:
            raise UserError(f"{path}: not the data that this run was trained on ({self.info.name})")
        return signal

    def evaluate(self, data: str | None = None, progress: Progress = silent) -> dict[str, Any]:
        """Metrics against the data: see the kind's `evaluate`; `data` and errors as for `signal`."""
        signal = self.signal(data)
        result = self.kind.evaluate(self.field, signal, progress)
        if self.stored_as and self.path and "bits_per_sample" in result:
            result["bits_per_sample"] = 8 * self.path.stat().st_size / self.info.n_samples
            result["protocol"]["bits_per_sample"] = f"size of the file, {self.stored_as}, over samples"
        return result

    def render(
        self,
        path: str | Path,
        asked: SignalRender | None = None,
        overwrite: bool = False,
        progress: Progress = silent,
    ) -> Path:
        """Draws the field into a file, in the format of its suffix.

        Raises:
            UserError: a suffix or resolution that does not fit, or a file that exists.
            MachineError: the disk refuses.
        """
        path = Path(path)
        refuse_existing(path, overwrite)
        self.kind.write(self.field, self.info, asked or SignalRender(), path, progress)
        return path

    def export_mesh(self, path: str | Path, **options: Any) -> MeshReport:
        """Writes the surface of a shape (.ply, .obj, .glb), in the frame of its source; options as
        neurfield.export.sdf_mesh.export_sdf_mesh's.

        Raises:
            UserError: see there, and the field of something that is no shape.
            MachineError: the disk refuses.
        """
        return export_sdf_mesh(self.distance(), self.info, path, **options)


def train_signal(
    path: str | Path,
    method: str | SignalMethod | None = None,
    *,
    max_seconds: float | None = None,
    max_num_iterations: int | None = None,
    overrides: Sequence[str] = (),
    auto_frequency: bool = False,
    seed: int = SignalRunConfig.seed,
    device: str | torch.device = "auto",
    max_megapixels: float = SignalRunConfig.max_megapixels,
    output_dir: str | Path | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> SignalRun:
    """Trains a field of a file; Ctrl-C, SIGTERM and SIGHUP end it early, after the step in progress.

    Args:
        path: image, mesh, video or volume; see neurfield.data.signals.
        method: preset, YAML file or configuration; None: the preset that has the name of the kind.
        max_seconds, max_num_iterations: the budget, whichever ends first; seconds count from this call. None: the
            method's default.
        overrides: single values of the method, "optimizer.learning_rate=0.01".
        auto_frequency: choose the method's frequency parameter first, see neurfield.auto_frequency; `report` tells it.
        seed: of all random numbers.
        device: cpu, cuda or auto, or a torch.device: auto is CUDA where it can be used. What comes from cuda lies
            there.
        max_megapixels: larger images are refused.
        output_dir: also keep files there, OUTPUT/FILE/METHOD/TIME; None: nothing is written.
        on_step: called after each step.
        report: takes a line for the user: skipped steps, roll-backs.

    Raises:
        UserError: the file, the method, a budget or the seed cannot be used.
        MachineError: training does not converge to numbers, or nothing can be written.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(
            f"train_signal: expected the path of a file, got {type(path).__name__}; an array becomes one by "
            "numpy.save('name.npy', array)"
        )
    start, path, overrides = time.monotonic(), Path(path).absolute(), words(overrides)
    signal = signals.read(path, max_megapixels=max_megapixels)
    kind = signals.kind_of(path)
    assert kind is not None, "what has been read is of a kind"
    if isinstance(method, SignalMethod):
        chosen = configuration.override(method, overrides, "overrides")
    else:
        chosen = load_signal_method(method or kind, kind, overrides)
    config = SignalRunConfig(
        data=str(path), experiment_name=experiment_of(path), max_seconds=max_seconds,
        max_num_iterations=max_num_iterations, seed=seed, device=resolve_device(device), kind=chosen.kind,
        max_megapixels=max_megapixels, method=chosen,
    )  # fmt: skip
    choice = None
    if auto_frequency:
        chosen, choice = frequencies.for_signal(
            chosen, signal, overrides, seed, budget=config.budget, device=config.device
        )
        config = replace(config, method=chosen)
        report(frequencies.describe(choice))
    task = KINDS[chosen.kind].task(signal, config, silent)
    trainer = Trainer(task, config, start, report)
    if choice:
        frequencies.check_left(trainer)
    if output_dir is None:
        trainer.train(on_step)
        return from_trainer(trainer, config, signal.info)
    folder = new_run(Path(output_dir), config.experiment_name, chosen.name)
    session = Session(trainer, SignalSubject(signal.info), folder)
    if choice:
        frequencies.write_report(session.folder.path, choice)
    session.train(on_step)
    return from_trainer(trainer, config, signal.info, session.save())


def experiment_of(path: Path) -> str:
    """How runs of a file are called: as the file, without its suffixes."""
    return path.name.partition(".")[0]


def unpack(path: Path, header: dict[str, Any]) -> tuple[SignalRunConfig, Any]:
    """Configuration and info of a checkpoint's header; raises KeyError, TypeError or UserError for others."""
    config = configuration.from_dict(SignalRunConfig, header["config"], str(path))
    return config, configuration.from_dict(KINDS[config.kind].info, header[HEADER], str(path))


def load_signal_run(path: Path) -> SignalRun:
    """A run from its checkpoint file.

    Raises:
        UserError: truncated, or parts that do not fit each other.
    """
    tensors, header = checkpoint.load(path)
    with fitting(path):
        config, info = unpack(path, header)
        field = build_field(lambda: KINDS[config.kind].field(config.method.field, info, config.seed), tensors)
        if packed.is_packed(tensors):
            packed.unpack(tensors, field)
        else:
            load_field(field, tensors)
        check_finite(path, field)
        step = int(header["counters"]["step"])
    return SignalRun(config, info, field, step, path, header.get(small_file.STORED_AS))


def holds_signal(run: Path) -> bool:
    """Whether a run folder or file is of a signal; False also for what cannot be read."""
    try:
        return is_signal(checkpoint.load_header(find_checkpoint(run)))
    except UserError:
        return False


def is_signal(header: dict[str, Any]) -> bool:
    """Whether a checkpoint is of a signal rather than of a scene."""
    return HEADER in header


def from_trainer(trainer: Trainer, config: SignalRunConfig, info: Any, path: Path | None = None) -> SignalRun:
    """The run that a trainer has made; with an average, the field is a copy that holds it."""
    field = trainer.task.field
    if trainer.ema:
        field = KINDS[config.kind].field(config.method.field, info, config.seed).to(config.device)
        field.load_state_dict(trainer.task.field.state_dict() | trainer.ema.tensors())
    assert isinstance(field, SignalField)
    return SignalRun(config, info, field, trainer.step, path)
