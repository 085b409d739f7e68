# SPDX-License-Identifier: Apache-2.0
"""What commands print: lines, and progress: on a terminal one live line, elsewhere a plain one every few seconds."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurfield.errors import UserError

if TYPE_CHECKING:
    from neurfield.cli.train import TrainOptions
    from neurfield.training.trainer import Trainer

# of a scene, as they are told; those that were measured
FIGURES = {
    "psnr": "PSNR {:.2f} dB",
    "ws_psnr": "WS-PSNR {:.2f} dB",
    "ssim": "SSIM {:.4f}",
    "lpips": "LPIPS {:.4f}",
    "depth_abs_rel": "depth error {:.2%}",
}
_PLAIN_INTERVAL = 5.0  # seconds between lines where stderr is no terminal
_LIVE_INTERVAL = 0.2


def say(line: str) -> None:
    """A line of the command's report, at once also where nobody watches."""
    print(line, flush=True)


class Progress:
    """Shows `fraction` of a task and a text. Use as a context manager; `update` is cheap when nothing is due.

    Args:
        title: what is done.
        begun: the fraction that was done before, as of a run that is resumed.
    """

    def __init__(self, title: str, begun: float = 0.0):
        self._title, self._begun = title, begun
        self._live = sys.stderr.isatty()
        self._start = time.monotonic()
        self._last = (begun, self._start)  # fraction, and since when it is that
        # a plain log starts quiet: tasks of less than an interval print nothing
        self._due = self._start + (0 if self._live else _PLAIN_INTERVAL)
        self._bar: Any = None  # rich.progress.Progress, imported on a terminal only

    def __enter__(self) -> "Progress":
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar
            from rich.table import Column

            # where the line is too narrow, first the bar gives way and then the end of the text
            kept = Column(no_wrap=True, min_width=len(self._title) + len(" 100%"))
            head = TextColumn("{task.description} {task.percentage:3.0f}%", table_column=kept)
            columns = (head, BarColumn(bar_width=20), TextColumn("{task.fields[text]}"))
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=1.0, text="")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, fraction: float, text: str = "") -> None:
        """Shows how far the task is (0 ... 1) and a short text, with the remaining time by linear extrapolation.

        Where the fraction stands still, as in a part whose progress nobody knows, the remaining time is counted down.
        """
        now = time.monotonic()
        if fraction != self._last[0]:
            self._last = (fraction, now)
        if now < self._due:
            return
        self._due = now + (_LIVE_INTERVAL if self._live else _PLAIN_INTERVAL)
        done = fraction - self._begun
        since = self._last[1]
        left = (since - self._start) * (1 - fraction) / done - (now - since) if done > 0 else 0.0
        text = ", ".join(part for part in (f"{duration(left)} left" if left > 0 else "", text) if part)
        if self._bar:
            self._bar.update(self._task, completed=fraction, text=text)
        else:
            print(f"{self._title} {fraction:4.0%}  {text}", file=sys.stderr, flush=True)


def figures(result: dict[str, Any]) -> str:
    """`PSNR 33.84 dB, SSIM 0.9786`: what an evaluation of a scene has found."""
    return ", ".join(text.format(result[name]) for name, text in FIGURES.items() if name in result)


def duration(seconds: float) -> str:
    """`12 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole // 60 % 60:02d} min"


def check_begun(trainer: "Trainer") -> None:
    """Raises UserError when the budget of a new run is used up before its first step: nothing is written of it yet."""
    if trainer.step == 0 and trainer.progress >= 1:
        raise UserError(
            f"the budget was used up before the first step: the data were ready after "
            f"{duration(trainer.clock.seconds())}; nothing was learned or written; give a larger one, or smaller data"
        )


def say_steps(trainer: "Trainer", checkpoint: Path, begun_at: int) -> None:
    """What a training has done, and where it lies; `begun_at` is the step that it was continued from, or 0."""
    say(f"{trainer.step} steps in {duration(trainer.clock.seconds())}; {checkpoint}")
    if trainer.step == begun_at and not trainer.interrupted:
        say("note: the budget counts what came before, which has used it up: no step was taken; give a larger one")


def resuming_training(data: str, run: Path, options: "TrainOptions | None" = None) -> str:
    """The command that goes on with a training, with what `options` ask for beside what the run keeps of them."""
    words = ["neurfield", "train", data, "--resume", "--output-dir", str(run.parents[2])]
    words += ["--experiment-name", run.parents[1].name, "--timestamp", run.name]
    for name in ("method", "device", "eval_split", "seconds_per_eval", "vis"):
        if options is not None and (value := getattr(options, name)) != getattr(type(options), name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def next_steps(run: Path) -> str:
    """What one may want to do with a run that is trained."""
    return f"look at it: neurfield view {shlex.quote(str(run))}"


@contextmanager
def measuring(run: Path, *words: str) -> Iterator[None]:
    """Around the measuring that follows a training: who interrupts it is told that the run is kept, and which command,
    `neurfield eval RUN` with these words, measures it."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"not measured; the run is whole: {shlex.join(['neurfield', 'eval', str(run), *words])}")
        raise


def budget_text(trainer: "Trainer") -> str:
    """`60 s from the start of the command or 2000 steps`; of a continued run also what is used."""
    budget, earlier = trainer.config.budget, trainer.clock.earlier
    limits = []
    if budget.max_seconds is not None:
        used = f" in all, of which {duration(earlier)} are used" if earlier else " from the start of the command"
        limits.append(duration(budget.max_seconds) + used)
    if budget.max_num_iterations is not None:
        limits.append(f"{budget.max_num_iterations} steps")
    return " or ".join(limits)
