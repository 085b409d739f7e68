# SPDX-License-Identifier: Apache-2.0
"""A field in one file that is used like a run but not trained further: without the optimiser's state."""

from pathlib import Path

from torch import Tensor, nn

from neurfield import config as configuration
from neurfield.errors import UserError
from neurfield.files import refuse_existing
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training import checkpoint
from neurfield.training.guard import assert_finite
from neurfield.training.method import BaseRunConfig
from neurfield.training.session import Subject

STORED_AS = "stored_as"  # the entry of the header that says how the parameters are stored


def check(path: Path, own: Path | None, overwrite: bool) -> None:
    """Raises UserError where no small file may be written; `own` is the file of the run, if it has one."""
    if path.suffix != checkpoint.SUFFIX:
        raise UserError(f"{path}: expected the name of a {checkpoint.SUFFIX} file")
    if own is not None and path.resolve() == own.resolve():
        raise UserError(f"{path}: that is the file of the run itself; choose another")
    refuse_existing(path, overwrite)
    if path.exists() and not _is_small(path):
        raise UserError(f"{path}: no small file that convert or save has made; choose another")


def tensors(field: nn.Module, grid: OccupancyGrid | None) -> dict[str, Tensor]:
    """Of a field, and of the grid that says where it is not empty, as they are."""
    stored = {f"field.{name}": value for name, value in field.state_dict().items()}
    return stored if grid is None else stored | {"occupancy.bitfield": grid.bitfield}


def write(
    path: Path, stored: dict[str, Tensor], config: BaseRunConfig, step: int, subject: Subject, form: str = "fp32"
) -> None:
    """Writes tensors, `form` of which says how they are stored, with all that is needed to use them.

    Raises:
        UserError: a configuration that was made in code could not be read again.
        MachineError: the disk refuses, or values are not finite.
    """
    configuration.check_readable(config, "the run's configuration")
    stored = stored | subject.tensors()
    assert_finite(stored, step)
    header = {"config": configuration.to_dict(config), "counters": {"step": step}, **subject.header()}
    checkpoint.save(path, stored, header | {STORED_AS: form})


def _is_small(path: Path) -> bool:
    try:
        return STORED_AS in checkpoint.load_header(path)
    except UserError:
        return False
