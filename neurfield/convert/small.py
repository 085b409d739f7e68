# SPDX-License-Identifier: Apache-2.0
"""A run as one small file, without the optimiser's state: used like any other run, but not trained further.

half    parameters in fp16, occupancy in bits, everything else as it is; any field
int8    matrices of networks and modulation grids in 8 bits, levels of tables likewise, other parameters in fp16,
        occupancy in bits; all deflated
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neurfield.convert.request import Request
from neurfield.errors import UserError
from neurfield.run import Run, load
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.signal_run import SignalRun, SignalSubject
from neurfield.training import packed, small_file

AnyRun = Run | SignalRun
_LARGEST = torch.finfo(torch.float16).max
_OF_TRAINING = {
    "method": "--method", "overrides": "--set", "data": "--data", "max_seconds": "--max-seconds",
    "max_num_iterations": "--max-num-iterations", "seed": "--seed", "resume": "--resume",
}  # fmt: skip


def to_half(run: AnyRun, request: Request) -> AnyRun:
    """Writes `request.output`, a .safetensors file, with parameters in fp16.

    Raises:
        UserError: the name is no such file's, it exists and may not be replaced, an option that says nothing here, or a
            parameter that is too large for fp16.
    """

    def tensors() -> dict[str, Tensor]:
        parameters = dict(run.field.named_parameters())
        _check_fp16(request, parameters)
        halves = {f"field.{name}": value.detach().half() for name, value in parameters.items()}
        return small_file.tensors(run.field, _grid(run)) | halves

    return _write(run, request, "fp16", tensors)


def to_int8(run: AnyRun, request: Request) -> AnyRun:
    """The same in 8 bits.

    Raises:
        UserError: as to_half; or a field that has nothing to be stored in 8 bits.
    """

    def tensors() -> dict[str, Tensor]:
        parts = {name: module for name, module in run.field.named_modules() if hasattr(module, "packed")}
        if not parts:
            kind = type(run.field).__name__
            raise UserError(
                f"--to int8 stores tables, fused networks and modulation grids, and {kind} has none; use --to half"
            )
        inside = {id(p) for part in parts.values() for p in part.parameters()}
        _check_fp16(request, {name: p for name, p in run.field.named_parameters() if id(p) not in inside})
        return packed.pack(run.field, _grid(run))

    return _write(run, request, "int8", tensors)


def _write(run: AnyRun, request: Request, form: str, tensors: Callable[[], dict[str, Tensor]]) -> AnyRun:
    path = request.output
    small_file.check(path, run.path, request.overwrite)
    given = [flag for name, flag in _OF_TRAINING.items() if getattr(request, name) != getattr(Request, name)]
    if given:
        raise UserError(f"a small file is made without training: leave {', '.join(given)} out")
    subject: Any = run.views if isinstance(run, Run) else SignalSubject(run.info)
    small_file.write(path, tensors(), run.config, run.step, subject, form)
    size, n = path.stat().st_size, _n_params(run.field)
    request.report(f"{n / 1e6:.3f} M parameters in {form}: {size / 1e6:.3f} MB, {size * 8 / n:.1f} bits each")
    return load(path)


def _grid(run: AnyRun) -> OccupancyGrid | None:
    return run.grid if isinstance(run, Run) else None


def _n_params(field: nn.Module) -> int:
    return sum(p.numel() for p in field.parameters())


def _check_fp16(request: Request, parameters: dict[str, nn.Parameter]) -> None:
    for name, value in parameters.items():
        if value.numel() and float(value.detach().abs().max()) > _LARGEST:
            raise UserError(
                f"{request.output}: values of {name} are beyond {_LARGEST:.0f} and do not fit fp16; "
                "keep the run as it is"
            )
