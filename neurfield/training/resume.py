# SPDX-License-Identifier: Apache-2.0
"""Continuing a run: from which checkpoint, with its own configuration, on the data that it was trained on."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from neurfield import config as configuration
from neurfield.data.options import ReadOptions
from neurfield.errors import UserError
from neurfield.training import checkpoint
from neurfield.training.device import resolve_device
from neurfield.training.method import BaseRunConfig, RunConfig
from neurfield.training.run_folder import RunFolder, find_checkpoint
from neurfield.training.session import TEACHER, Pupil, Subject
from neurfield.training.stored import check_stored, fitting
from neurfield.training.view_set import ViewSet, unpack_views

ROUNDING = 1e-5  # poses are read through float64 decompositions, whose last bits are the library's
_ELSE = "leave it out to continue as before, or train a new run"


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint says about the run that is to be continued from it."""

    path: Path
    config: RunConfig
    views: ViewSet
    subject: Subject  # what its checkpoints are to tell: the views, and which teacher a distilled field has

    def continued(
        self, max_seconds: float | None, max_num_iterations: int | None, device: str | torch.device
    ) -> RunConfig:
        """The configuration of the run, with the new budget if one is given, on a device; `auto` is that of the run.

        Raises:
            UserError: that device cannot be used here.
        """
        config = self.config.with_budget(max_seconds, max_num_iterations)
        return dataclasses.replace(config, device=resolve_device(config.device if str(device) == "auto" else device))

    def check_request(self, seed: int | None, load: ReadOptions) -> None:
        """Raises UserError when another seed, or another way of reading the data, is asked for than the run has."""
        check_seed(seed, self.config)
        for name, asked in load.wishes().items():
            stored = getattr(self.config.load, name)
            if asked != stored and name != "splits":
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} {asked}: the run was trained with {stored}; {_ELSE}")

    def check_views(self, found: ViewSet) -> None:
        """Raises UserError when the training views found now are not those that the run was trained on."""
        check_views(found, self.views, "train", self.path)


def check_views(found: ViewSet, known: ViewSet, split: str, path: Path | None) -> None:
    """Raises UserError when the cameras of a split, or their map into unit space, are not those that a run knows.

    Args:
        path: of the run's checkpoint, if it has one.
    """
    ours, theirs = _geometry(known, split), _geometry(found, split)
    is_there = found.normalization.origin == known.normalization.origin  # round numbers
    if not is_there or ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=ROUNDING, atol=ROUNDING):
        raise UserError(
            f"{found.name}: its {len(theirs) - 1} {split} views, or their map into unit space, are not those of "
            f"{path or 'this run'}, sizes of images included; restore the data, or train a new run"
        )


def check_seed(seed: int | None, config: BaseRunConfig) -> None:
    """Raises UserError when another seed is asked for than the run has."""
    if seed is not None and seed != config.seed:
        raise UserError(f"--seed {seed}: the run has the seed {config.seed}; {_ELSE}")


def _geometry(views: ViewSet, split: str) -> Tensor:
    """`[1 + n_views, n]`: the map into unit space, and everything about the cameras of a split."""
    cameras, norm = views.read[views.splits.get(split, [])], views.normalization
    parts = vars(cameras).values()
    rows = torch.cat([part.double().reshape(len(cameras), part.shape[1:].numel()) for part in parts], dim=1)
    scene = torch.zeros(1, rows.shape[1], dtype=torch.float64)
    scene[0, :5] = torch.tensor([norm.scale, *norm.offset, norm.aabb_scale])
    return torch.cat([scene, rows])


R = TypeVar("R")


def newest_whole(folder: RunFolder, report: Callable[[str], None]) -> Resumed:
    """The newest checkpoint of a radiance run that can be read, see newest_readable."""
    return newest_readable(folder, report, _read)


def newest_readable(folder: RunFolder, report: Callable[[str], None], read: Callable[[Path], R]) -> R:
    """What `read` gives of the newest checkpoint that can be read; `report` takes a line about each newer one.

    Raises:
        UserError: the run has no checkpoint, or none that can be read; says why of the newest.
    """
    newest, reason = find_checkpoint(folder.path), ""
    for path in reversed(folder.checkpoints()):
        try:
            found = read(path)
        except UserError as error:
            report(f"note: {error}")
            reason = reason or str(error)
            continue
        if path != newest:
            report(f"note: continuing from {path}, newer ones are set aside")
        return found
    raise UserError(f"{folder.path}: none of its checkpoints can be continued ({reason}); train a new run")


def _read(path: Path) -> Resumed:
    tensors, header = checkpoint.load(path)
    with fitting(path):
        config = configuration.from_dict(RunConfig, header["config"], str(path))
        views = unpack_views(tensors, header).moved(None)  # corrections are a state of the training
        check_stored(lambda: views.build(config.method.field), tensors)
        teacher = header.get(TEACHER)
        return Resumed(path, config, views, views if teacher is None else Pupil(views, teacher))
