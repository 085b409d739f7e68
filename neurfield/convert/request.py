# SPDX-License-Identifier: Apache-2.0
"""What all conversions are asked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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
        resume: continue a conversion that was interrupted.
        report: takes a line for the user.
        progress: takes the name of a stage, its finished part and a text.
    """

    output: Path
    method: str | None = None
    overrides: tuple[str, ...] = ()
    data: str | None = None
    max_seconds: float | None = None
    max_num_iterations: int | None = None
    seed: int = 42
    resume: bool = False
    report: Callable[[str], None] = lambda line: None
    progress: Callable[[str, float, str], None] = lambda stage, part, text: None
