# SPDX-License-Identifier: Apache-2.0
"""`neurfield eval`: PSNR and SSIM of a trained run on a split, as JSON."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from neurfield.cli._console import Progress
from neurfield.files import atomic_write, refuse_existing
from neurfield.run import load


@dataclass(frozen=True)
class EvalOptions:
    run: tyro.conf.Positional[Path]
    """Run folder or .safetensors file."""
    split: str = "test"
    """Views to measure."""
    output: Path | None = None
    """JSON file, replaced if it exists; default: standard output."""
    data: Path | None = None
    """Where the images are now; default: where they were when the run was trained."""


def run(options: EvalOptions) -> int:
    if options.output:
        refuse_existing(options.output, overwrite=True)
    trained = load(options.run)
    with Progress(f"measure {options.split}") as progress:
        data = str(options.data) if options.data else None
        result = trained.evaluate(options.split, lambda i, n, _: progress.update(i / n), data)
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
        print(f"PSNR {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f}, written to {options.output}")
    return 0
