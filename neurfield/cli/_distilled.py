# SPDX-License-Identifier: Apache-2.0
"""`neurfield train` with a method whose field is made from a teacher: the teacher is trained first."""

import dataclasses
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from neurfield.cli._stages import Stages
from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.request import Request
from neurfield.data.load import locate
from neurfield.data.options import LoadOptions
from neurfield.run import load_scene_run
from neurfield.training.method import DistillConfig, MethodConfig
from neurfield.training.run_folder import new_run

if TYPE_CHECKING:
    from neurfield.cli.train import TrainOptions


def teacher_options(options: "TrainOptions", distill: DistillConfig, stamp: str) -> "TrainOptions":
    """How the teacher is trained: its own preset, its share of the budget, nothing measured."""
    seconds = None if options.max_seconds is None else distill.teacher_share * options.max_seconds
    return dataclasses.replace(
        options, method=distill.teacher, set=(), timestamp=stamp, max_seconds=seconds, eval_split="none",
        seconds_per_eval=None,
    )  # fmt: skip


def distil(options: "TrainOptions", method: MethodConfig, distill: DistillConfig, stamp: str) -> int:
    """Makes the student of the teacher that has been trained, and measures it."""
    name = options.experiment_name or locate(options.data, LoadOptions(**vars(options.load)))[1]
    teacher = new_run(options.output_dir, name, distill.teacher, stamp)
    student = new_run(options.output_dir, name, method.name, stamp)
    overrides, seconds = tuple(options.set), options.max_seconds
    if seconds is not None:
        rest = (1 - distill.teacher_share) * seconds
        part = min(distill.seconds, rest / 2)
        overrides, seconds = (*overrides, f"distill.seconds={part}"), rest - part
    with ExitStack() as stack:
        request = Request(
            output=student.path,
            method=options.method,
            overrides=overrides,
            max_seconds=seconds,
            max_num_iterations=options.max_num_iterations,
            seed=42 if options.seed is None else options.seed,
            report=lambda line: print(line, flush=True),
            progress=Stages(stack).update,
        )
        made = to_kilonerf(load_scene_run(teacher.path, "a conversion"), request)
    if made is None:
        print(f"continue with: neurfield convert {teacher.path} --to kilonerf --output {student.path} --resume")
        return 1
    print(f"step {made.step}; {made.path}")
    if made.views.splits.get(options.eval_split):
        result = made.evaluate(options.eval_split)
        psnr, ssim, each = result["psnr"], result["ssim"], result["seconds_per_view"]
        print(f"{options.eval_split}: PSNR {psnr:.2f} dB, SSIM {ssim:.4f}, {each:.3f} s a view")
    return 0


def timestamp(options: "TrainOptions") -> str:
    """One name for the folders of teacher and student."""
    return options.timestamp or time.strftime("%Y-%m-%d_%H%M%S")
