# SPDX-License-Identifier: Apache-2.0
"""`neurfield convert`: turns a trained run into another one."""

import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from neurfield.cli._console import say
from neurfield.cli._stages import Stages
from neurfield.convert import CONVERTERS
from neurfield.convert.request import Request
from neurfield.registry import lookup
from neurfield.run import load, load_scene_run
from neurfield.training.device import resolve_device

_ABOUT = "; ".join(f"{name}: {converter.about}" for name, converter in CONVERTERS.items()) + "."


@dataclass(frozen=True)
class ConvertOptions:
    run: tyro.conf.Positional[Path]
    """Run folder or .safetensors file."""
    to: Annotated[str, tyro.conf.arg(metavar="|".join(CONVERTERS), help=_ABOUT)]
    output: Path
    """Run folder or file that is made."""
    method: str | None = None
    """Preset or YAML file of the new field and its training; default: kilonerf."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Override the method: --set field.longest=8 distill.seconds=60"""
    max_seconds: float | None = None
    """Budget of the fine-tuning on the images; default: the method's."""
    max_num_iterations: int | None = None
    """The same in steps."""
    data: Path | None = None
    """Where the images are now; default: where they were when the run was trained."""
    seed: int = 42
    """Of all random numbers."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks are trained: auto is CUDA where it can be used, and for --resume where it was begun."""
    resume: bool = False
    """Continue a conversion that was interrupted, with the settings that it was begun with."""
    overwrite: bool = False
    """Replace what an earlier conversion has made at OUTPUT."""


def run(options: ConvertOptions) -> int:
    converter = lookup(CONVERTERS, options.to, "conversion")
    resolve_device(options.device, None if converter.trains else f"--to {options.to} trains nothing")
    with ExitStack() as stack:
        request = Request(
            output=options.output,
            method=options.method,
            overrides=tuple(options.set),
            data=str(options.data) if options.data else None,
            max_seconds=options.max_seconds,
            max_num_iterations=options.max_num_iterations,
            seed=options.seed,
            device=options.device,
            resume=options.resume,
            overwrite=options.overwrite,
            report=say,
            progress=Stages(stack).update,
        )
        what = f"--to {options.to}"
        trained = load(options.run) if converter.takes_signals else load_scene_run(options.run, what)
        made = converter.convert(trained, request)
    if made is None:
        print(f"continue with: {resuming(options.run, options.to, request)}")
        return 1
    print(f"step {made.step}; {made.path}")
    return 0


def resuming(run: Path, to: str, request: Request) -> str:
    """The command that goes on with a conversion."""
    words: list[object] = ["neurfield", "convert", run, "--to", to, "--output", request.output]
    for flag, value in (
        ("--method", request.method),
        ("--max-seconds", request.max_seconds),
        ("--max-num-iterations", request.max_num_iterations),
        ("--data", request.data),
        ("--seed", request.seed),
        ("--device", None if request.device == "auto" else request.device),
        *(("--set", assignment) for assignment in request.overrides),
    ):
        if value is not None:
            words += [flag, value]
    return shlex.join(map(str, [*words, "--resume"]))
