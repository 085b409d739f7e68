# SPDX-License-Identifier: Apache-2.0
"""Long work that a page asks for: a bar that tells how far it is, and a button that ends it."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from neurfield.viewer.session import Cancelled

if TYPE_CHECKING:
    from neurfield.viewer.page import Page


class Job:
    """Adds the bar and the button where the panel has come to; both are seen only while work goes on."""

    def __init__(self, page: "Page", cancel: str = "Cancel") -> None:
        self._page, gui = page, page.client.gui
        self._cancelled = threading.Event()
        self._bar = gui.add_progress_bar(0.0, visible=False)
        self._cancel = gui.add_button(cancel, visible=False)
        self._cancel.on_click(page.guarded(self._cancelled.set))

    def start(self, work: Callable[[], None]) -> None:
        """Runs work in a thread of its own; one for each page at a time.

        Raises:
            UserError: the page has work going on.
        """

        def run() -> None:
            self._cancelled.clear()
            self._bar.value, self._bar.visible, self._cancel.visible = 0.0, True, True
            try:
                work()
            finally:
                self._bar.visible = self._cancel.visible = False

        self._page.start(run)

    def step(self, part: float) -> None:
        """The part that is done; raises Cancelled when the work is not wanted any more."""
        if self._cancelled.is_set() or self._page.closed.is_set():
            raise Cancelled
        self._bar.value = min(max(100 * part, 0.0), 100.0)

    def step_in_turn(self, part: float) -> None:
        """The same within a turn of computing, which others may have in between."""
        self.step(part)
        self._page.viewer.turns.pass_on()
