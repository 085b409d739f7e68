# SPDX-License-Identifier: Apache-2.0
"""A run as one small file: parameters in fp16, no optimiser. It is loaded like any other, and not trained further."""

import torch

from neurfield import config as configuration
from neurfield.convert.request import Request
from neurfield.errors import UserError
from neurfield.run import Run, load_scene_run
from neurfield.training import checkpoint
from neurfield.training.guard import assert_finite

_LARGEST = torch.finfo(torch.float16).max


def to_half(run: Run, request: Request) -> Run:
    """Writes `request.output`, a .safetensors file.

    Raises:
        UserError: the name is no such file's, it exists, or a parameter is too large for fp16.
    """
    path = request.output
    if path.suffix != checkpoint.SUFFIX:
        raise UserError(f"--output {path}: expected the name of a {checkpoint.SUFFIX} file")
    if path.exists():
        raise UserError(f"{path}: exists already; choose another --output")
    parameters = dict(run.field.named_parameters())
    for name, value in parameters.items():
        if value.numel() and float(value.detach().abs().max()) > _LARGEST:
            raise UserError(
                f"{path}: values of {name} are beyond {_LARGEST:.0f} and do not fit fp16; keep the run as it is"
            )
    tensors = {
        f"field.{name}": value.half() if name in parameters else value for name, value in run.field.state_dict().items()
    }
    tensors |= {f"occupancy.{name}": value for name, value in run.grid.state_dict().items()} | run.views.tensors()
    assert_finite(tensors, run.step)
    header = {"config": configuration.to_dict(run.config), "counters": {"step": run.step}, **run.views.header()}
    checkpoint.save(path, tensors, header)
    n_bytes = sum(value.numel() * 2 for value in parameters.values())
    request.report(f"{n_bytes / 1e6:.1f} MB of parameters in fp16, {path.stat().st_size / 1e6:.1f} MB in all; {path}")
    return load_scene_run(path, "a conversion")
