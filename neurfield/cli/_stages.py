# SPDX-License-Identifier: Apache-2.0
"""Progress of a task with several stages, one line after the other."""

from contextlib import ExitStack

from neurfield.cli._console import Progress


class Stages:
    """Shows the stage that was named last; `stack` ends the last one."""

    def __init__(self, stack: ExitStack):
        self._stack, self._name = stack, ""

    def update(self, stage: str, part: float, text: str = "") -> None:
        """How far a stage is (0 ... 1), and a short text."""
        if stage != self._name:
            self._stack.close()
            self._name, self._progress = stage, self._stack.enter_context(Progress(stage, part))
        self._progress.update(part, text)
