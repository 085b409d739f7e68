# SPDX-License-Identifier: Apache-2.0
"""`neurfield train` with a method whose field is made from a teacher: the teacher is trained first."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neurfield.cli._console import figures, next_steps, resuming_training, say
from neurfield.cli._stages import Stages
from neurfield.cli.convert import resuming
from neurfield.cli.view import go_on, watched
from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.request import Request
from neurfield.data.load import locate
from neurfield.errors import UserError
from neurfield.files import cannot_write
from neurfield.run import Run, load_scene_run
from neurfield.training.method import DistillConfig, MethodConfig, RunConfig, load_method
from neurfield.training.run_folder import TIME_FORMAT, make_free, new_run
from neurfield.training.session import Session
from neurfield.training.trainer import StepReport
from neurfield.viewer.options import ServeOptions

if TYPE_CHECKING:
    from neurfield.cli.train import TrainOptions


@dataclass(frozen=True)
class Plan:
    """What each stage of one command does.

    Attributes:
        teacher: how the teacher is trained: its own preset, its share of the budget, nothing measured.
        teacher_path: its run folder.
        student: of the conversion, with the rest of the budget.
        eval_split: views on which the student is measured.
        serve: where pages watch; None: nobody does.
    """

    teacher: "TrainOptions"
    teacher_path: Path
    student: Request
    eval_split: str
    serve: ServeOptions | None = None

    def distil(self) -> int:
        """Makes the student of the teacher that was trained and measures it; with pages, shows it until Ctrl-C."""
        with ExitStack() as stack:
            request = dataclasses.replace(self.student, report=say, progress=Stages(stack).update)
            if self.serve is not None:
                request = dataclasses.replace(request, watch=self._watch)
            made = to_kilonerf(load_scene_run(self.teacher_path, "a conversion"), request)
        if made is None:
            print(f"continue with: {self._convert()}")
            return 1
        print(f"step {made.step}; {made.path}", flush=True)
        if self.serve is None:
            self._measure(made)
            print(next_steps(self.student.output), flush=True)
            return 0
        from neurfield.viewer import Viewer, shown_run

        with Viewer(shown_run(made), self.serve) as viewer:
            with viewer.turns:
                self._measure(made, viewer.turns.pass_on)
            go_on(viewer)
        return 0

    def _measure(self, made: Run, on_part: Callable[[], None] = lambda: None) -> None:
        if made.views.splits.get(self.eval_split):
            result = made.evaluate(self.eval_split, progress=lambda part: on_part())
            print(f"{self.eval_split}: {figures(result)}, {result['seconds_per_view']:.3f} s a view", flush=True)

    @contextmanager
    def _watch(self, made: Run, session: Session) -> Iterator[Callable[[StepReport], None]]:
        assert self.serve is not None
        with watched(made, None, session, self.serve, is_first=False, is_last=False) as live:
            yield live.on_step

    def explain(self, code: int) -> int:
        """Says how to go on after an interruption in the teacher; returns `code`."""
        train = resuming_training(str(self.teacher.data), self.teacher_path, self.teacher)
        print(f"interrupted in the teacher; continue with: {train} && {self._convert()}")
        return code

    def release(self) -> None:
        """Removes the folders of the stages, and those of their method and experiment, where nothing has come into
        them."""
        for path in (self.teacher_path, self.student.output):
            with suppress(OSError):
                for folder in (path, *path.parents[:2]):
                    folder.rmdir()

    def _convert(self) -> str:
        return resuming(self.teacher_path, "kilonerf", self.student)


def plan(options: "TrainOptions", method: MethodConfig, distill: DistillConfig) -> Plan:
    """Divides the budget, in seconds or in steps, between teacher, distillation and fine-tuning.

    The distillation takes what --set names for it; else up to a quarter of what the teacher leaves. Folders that are
    named by the time are made, so that no other command takes them: see `Plan.release`.

    Raises:
        UserError: both budgets are given, the teacher gets no step, the distillation leaves nothing to the
            fine-tuning, or the teacher's method is none or has the name of the student's.
    """
    seconds, steps = options.max_seconds, options.max_num_iterations
    if seconds is not None and steps is not None:
        raise UserError(
            f"--method {method.name} trains in stages: give --max-seconds or --max-num-iterations, not both"
        )
    named = {assignment.partition("=")[0] for assignment in options.set} & {"distill.seconds", "distill.iterations"}
    overrides, teacher_seconds, teacher_steps = tuple(options.set), seconds, steps
    if seconds is not None:
        teacher_seconds = distill.teacher_share * seconds
        rest = seconds - teacher_seconds
        if distill.iterations:
            seconds = rest / 2  # how long those steps take is not known
        else:
            part = distill.seconds if named else min(distill.seconds, rest / 4)
            _check_rest("distill.seconds", part, rest)
            overrides, seconds = (*overrides, f"distill.seconds={part}"), rest - part
    elif steps is not None:
        teacher_steps = int(distill.teacher_share * steps)
        if teacher_steps < 1:
            raise UserError(f"--max-num-iterations: of {steps} none is the teacher's; give a larger number")
        left = steps - teacher_steps
        if named and not distill.iterations:
            steps = left
        else:
            share = distill.iterations if named else max(left // 4, 1)
            _check_rest("distill.iterations", share, left)
            overrides, steps = (*overrides, f"distill.iterations={share}"), left - share
    teacher_name = load_method(distill.teacher).name  # of a file, too; nothing is trained for one that is none
    if teacher_name == method.name:
        raise UserError(
            f"distill.teacher: its runs are named {teacher_name}, as those of its student; name another method"
        )
    name = options.experiment_name or locate(options.data, options.load)[1]
    serve = None
    if options.vis == "viewer":
        from neurfield.viewer import settled

        serve = settled(options.serve)  # one link for all stages
    stamp = options.timestamp or time.strftime(TIME_FORMAT)
    paths = [new_run(options.output_dir, name, kind, stamp).path for kind in (teacher_name, method.name)]
    if options.timestamp is None:
        try:
            paths = make_free(*paths)
        except OSError as error:
            raise cannot_write(paths[0], error, "--output-dir") from None
    teacher = dataclasses.replace(
        options, method=distill.teacher, set=(), timestamp=paths[0].name, max_seconds=teacher_seconds,
        max_num_iterations=teacher_steps, eval_split="none", seconds_per_eval=None, serve=serve or options.serve,
    )  # fmt: skip
    student = Request(
        output=paths[1],
        method=options.method,
        overrides=overrides,
        max_seconds=seconds,
        max_num_iterations=steps,
        seed=RunConfig.seed if options.seed is None else options.seed,
        device=options.device,
    )
    return Plan(teacher, paths[0], student, options.eval_split, serve)


@contextmanager
def stages_named(method: MethodConfig) -> Iterator[None]:
    """Adds to an error about a missing run of a method with a teacher how its first stages go on."""
    try:
        yield
    except UserError as error:
        if method.distill is None:
            raise
        raise UserError(
            f"{error}; a teacher goes on with --method {method.distill.teacher} --resume, a distillation with "
            "neurfield convert TEACHER --to kilonerf --output RUN --resume"
        ) from None


def _check_rest(key: str, part: float, rest: float) -> None:
    if part > rest:
        raise UserError(
            f"--set {key}={part:g}: of the budget the teacher leaves {rest:g} for distillation and fine-tuning; take "
            "less, or a larger budget"
        )
