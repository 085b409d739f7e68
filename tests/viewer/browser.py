# SPDX-License-Identifier: Apache-2.0
"""A page in a real browser and what a person does with it."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 780, 520
LEFT = 440  # pixels beside the panel
MIDDLE = (260, 260)  # of that part
WAIT = 120.0  # seconds that a slow machine, which runs two pages, may take


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two pictures show different things beside the panel, not only the same more finely."""
    return bool((abs(a - b)[:, :LEFT].max(axis=2) > 40).sum() > 4000)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def without_shadows(viewer: Any) -> None:
    """Without a GPU, shadows and reflections on what can be dragged cost seconds a page; test_browser.py has them."""
    viewer._server.scene.configure_environment_map(None)
    viewer._server.scene.configure_default_lights(cast_shadow=False)


class Browser:
    """A page of its own in a browser."""

    def __init__(self, browser: Any, url: str, artefacts: Path, name: str) -> None:
        self.context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, accept_downloads=True)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self._artefacts, self._name, self.url = artefacts, name, url
        # without a GPU viser's page otherwise sinks to three quarters of its pixels a side when it has been slow
        self.response = self.page.goto(f"{url}{'&' if '?' in url else '?'}fixedDpr=1")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *exception: object) -> None:
        self.context.close()

    def picture(self) -> np.ndarray:
        """The page as it looks, `[h, w, 3]`."""
        return pixels(self.page.screenshot())

    def keep(self, what: str) -> None:
        self._file(what).write_bytes(self.page.screenshot())

    def _file(self, what: str) -> Path:
        return self._artefacts / f"{self._name}-{what}.png"

    def until(self, condition: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
        """The picture, as soon as it is as it should be."""
        end = time.monotonic() + WAIT
        while True:
            png = self.page.screenshot()
            picture = pixels(png)
            if condition(picture):
                self._file(what).write_bytes(png)
                return picture
            if time.monotonic() > end:
                self._file(f"{what}-failed").write_bytes(png)
                raise AssertionError(f"{self._name}: not within {WAIT} s: {what}; {self.errors}")
            self.page.wait_for_timeout(150)

    def soon(self, condition: Callable[[], bool]) -> bool:
        """Whether something comes true on the server, while the page goes on."""
        end = time.monotonic() + WAIT
        while not (found := condition()) and time.monotonic() < end:
            self.page.wait_for_timeout(100)
        return found

    def until_changed(self, before: np.ndarray, what: str) -> np.ndarray:
        """The picture, as soon as it shows something else than one before."""
        return self.until(lambda p: differ(p, before), what)

    def press(self, key: str) -> None:
        self.page.mouse.move(*MIDDLE)
        self.page.keyboard.press(key)

    def drag(self, dx: int, dy: int) -> None:
        self.page.mouse.move(*MIDDLE)
        self.page.mouse.down()
        self.page.mouse.move(MIDDLE[0] + dx, MIDDLE[1] + dy, steps=8)
        self.page.mouse.up()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def number(self, gui: Any, before: int, value: int) -> None:
        """Types a number over one that the panel has, and waits until the server's `gui` has it: of two inputs within
        50 ms, as no hand makes them, viser sends the last one alone."""
        self.page.locator(f'input[type="text"][value="{before}"]:visible').fill(str(value))
        self.page.keyboard.press("Tab")
        end = time.monotonic() + WAIT
        inputs = gui._gui_input_handle_from_uuid
        while not any(value in np.atleast_1d(handle.value) for handle in list(inputs.values())):
            assert time.monotonic() < end, f"{self._name}: the server has no {value}"
            self.page.wait_for_timeout(20)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def download(self, button: str) -> bytes:
        with self.page.expect_download(timeout=WAIT * 1000) as started:
            self.button(button).click()
        return Path(started.value.path()).read_bytes()
