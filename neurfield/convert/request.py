# SPDX-License-Identifier: Apache-2.0
"""What all conversions are asked."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurfield.run import Run
    from neurfield.training.session import Session
    from neurfield.training.trainer import StepReport

    Watch = Callable[[Run, Session], AbstractContextManager[Callable[[StepReport], None]]]


@dataclass(frozen=True)
class Request:
    """A conversion.

    Attributes:
        output: folder or file of the new run.
        method: preset or YAML file of what is trained on the way; None: that of the converter.
        overrides: single values of it.
        data: where the images are now; None: where they were.
        max_seconds, max_num_iterations: budget of the training on images; both None: the method's.
        seed: of all random numbers.
        device: where networks are trained: `cpu`, `cuda` or `auto`, where a resumed one was begun, else CUDA
            where it can be used.
        resume: continue a conversion that was interrupted.
        overwrite: replace what an earlier conversion has made there.
        report: takes a line for the user.
        progress: takes the name of a stage, its finished part and a text.
        watch: a context around each training, given what is being made and the training's session; gives what is called
            after each step.
    """

    output: Path
    method: str | None = None
    overrides: tuple[str, ...] = ()
    data: str | None = None
    max_seconds: float | None = None
    max_num_iterations: int | None = None
    seed: int = 42
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    report: Callable[[str], None] = lambda line: None
    progress: Callable[[str, float, str], None] = lambda stage, part, text: None
    watch: "Watch" = lambda run, session: nullcontext(lambda report: None)
