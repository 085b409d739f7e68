# SPDX-License-Identifier: Apache-2.0
"""`neurfield eval`: figures of a trained run, as JSON: PSNR and SSIM of a split, IoU of a shape."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from neurfield.cli._console import Progress
from neurfield.cli._train_signal import summary
from neurfield.files import atomic_write, refuse_existing
from neurfield.run import load
from neurfield.signal_run import SignalRun


@dataclass(frozen=True)
class EvalOptions:
    run: tyro.conf.Positional[Path]
    """Run folder or .safetensors file."""
    split: str = "test"
    """Views to measure, of a scene."""
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
    data = str(options.data) if options.data else None
    trained.to(options.device)
    with Progress("measure") as progress:
        if isinstance(trained, SignalRun):
            result = trained.evaluate(data, progress.update)
            told = summary(trained, result)
        else:
            result = trained.evaluate(options.split, progress.update, data)
            told = f"PSNR {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f}"
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
