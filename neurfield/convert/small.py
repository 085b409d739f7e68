# SPDX-License-Identifier: Apache-2.0
"""A run as one small file, without the optimiser's state: used like any other run, but not trained further.

half    parameters in fp16, occupancy in bits, everything else as it is; any field
int8    matrices of networks and modulation grids in 8 bits, levels of tables likewise, other parameters in fp16,
        occupancy in bits; all deflated
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurfield import config as configuration
from neurfield.convert.request import Request
from neurfield.errors import UserError
from neurfield.files import refuse_existing
from neurfield.run import Run, load
from neurfield.signal_run import SignalRun, SignalSubject
from neurfield.training import checkpoint, packed
from neurfield.training.guard import assert_finite

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
        stored = {
            f"field.{name}": value.half() if name in parameters else value
            for name, value in run.field.state_dict().items()
        }
        if isinstance(run, Run):
            stored["occupancy.bitfield"] = run.grid.bitfield
        return stored

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
        return packed.pack(run.field, run.grid if isinstance(run, Run) else None)

    return _write(run, request, "int8", tensors)


def _write(run: AnyRun, request: Request, form: str, tensors: Callable[[], dict[str, Tensor]]) -> AnyRun:
    path = request.output
    if path.suffix != checkpoint.SUFFIX:
        raise UserError(f"--output {path}: expected the name of a {checkpoint.SUFFIX} file")
    if run.path is not None and path.resolve() == run.path.resolve():
        raise UserError(f"{path}: that is the file which is converted; choose another --output")
    refuse_existing(path, request.overwrite)
    if path.exists() and not _is_small(path):
        raise UserError(f"{path}: no small file that a conversion has made; choose another --output")
    given = [flag for name, flag in _OF_TRAINING.items() if getattr(request, name) != getattr(Request, name)]
    if given:
        raise UserError(f"a small file is made without training: leave {', '.join(given)} out")
    subject: Any = run.views if isinstance(run, Run) else SignalSubject(run.info)
    stored = tensors() | subject.tensors()
    assert_finite(stored, run.step)
    header = {"config": configuration.to_dict(run.config), "counters": {"step": run.step}, **subject.header()}
    checkpoint.save(path, stored, header | {"stored_as": form})
    size, n = path.stat().st_size, _n_params(run.field)
    request.report(f"{n / 1e6:.3f} M parameters in {form}: {size / 1e6:.3f} MB, {size * 8 / n:.1f} bits each")
    return load(path)


def _is_small(path: Path) -> bool:
    try:
        return "stored_as" in checkpoint.load_header(path)
    except UserError:
        return False


def _n_params(field: nn.Module) -> int:
    return sum(p.numel() for p in field.parameters())


def _check_fp16(request: Request, parameters: dict[str, nn.Parameter]) -> None:
    for name, value in parameters.items():
        if value.numel() and float(value.detach().abs().max()) > _LARGEST:
            raise UserError(
                f"{request.output}: values of {name} are beyond {_LARGEST:.0f} and do not fit fp16; "
                "keep the run as it is"
            )
