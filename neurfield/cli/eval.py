# SPDX-License-Identifier: Apache-2.0
"""`neurfield eval`: figures of a trained run, as JSON: PSNR and SSIM of a split, IoU of a shape."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from neurfield.cli._console import Progress, figures
from neurfield.cli._train_signal import summary
from neurfield.errors import UserError
from neurfield.files import atomic_write, refuse_existing
from neurfield.run import load
from neurfield.signal_run import SignalRun


@dataclass(frozen=True)
class EvalOptions:
    run: tyro.conf.Positional[Path]
    """Run folder or .safetensors file."""
    split: str = "test"
    """Views to measure, of a scene."""
    rays_per_pixel: Literal[1, 4, 9, 16] | None = None
    """Of a scene: rays whose mean is a pixel (default: as the run was trained)."""
    output: Path | None = None
    """JSON file, replaced if it exists; default: standard output."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the field is evaluated: auto is CUDA where it can be used."""
    data: Path | None = None
    """Where the images are now; default: where they were when the run was trained."""


def run(options: EvalOptions) -> int:
    if options.output:
        refuse_existing(options.output, overwrite=True)
    trained = load(options.run)
    if options.rays_per_pixel is not None:
        if isinstance(trained, SignalRun):
            raise UserError(f"--rays-per-pixel is for scenes, and {options.run} is none; leave it out")
        trained.renderer.rays_per_pixel = options.rays_per_pixel
    data = str(options.data) if options.data else None
    trained.to(options.device)
    with Progress("measure") as progress:
        if isinstance(trained, SignalRun):
            result = trained.evaluate(data, progress.update)
            told = summary(trained, result)
        else:
            result = trained.evaluate(options.split, data, progress.update)
            told = figures(result)
    report: dict[str, Any] = {
        "experiment_name": trained.config.experiment_name,
        "method_name": trained.config.method.name,
        "checkpoint": str(trained.path),
        "step": trained.step,
        **result,
    }
    text = json.dumps(report, indent=2) + "\n"
    if options.output is None:
        sys.stdout.write(text)
    else:
        with atomic_write(options.output) as file:
            file.write(text.encode())
        print(f"{told}, written to {options.output}")
    return 0
