# SPDX-License-Identifier: Apache-2.0
"""The viewer: a web server that shows a stage, and the data it was trained on, to any number of pages."""

import asyncio
import atexit
import contextlib
import errno
import logging
import secrets
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import viser

from neurfield.errors import UserError
from neurfield.viewer import linked
from neurfield.viewer.gate import LOOPBACK, TOKEN, Gate, guarded
from neurfield.viewer.look import Look
from neurfield.viewer.options import ServeOptions
from neurfield.viewer.pace import Pace
from neurfield.viewer.page import Page
from neurfield.viewer.session import LAST_STEP, Cancelled
from neurfield.viewer.shown import Shown
from neurfield.viewer.stage import Picture
from neurfield.viewer.turns import Turns

if TYPE_CHECKING:
    from neurfield.viewer.live import Live

log = logging.getLogger("neurfield.viewer")
# a page may vanish at any moment, its picture under way: nothing is wrong then, and nobody is to be told
warnings.filterwarnings("ignore", "Queued a .* on a closed connection", UserWarning)
_STATISTICS_INTERVAL = 0.5
_PORTS_TRIED = 100
_SMALL = (64, 48)  # pixels of a picture that nobody sees


class Viewer:
    """Serves pages until `close`, which the end of the program calls as well: Python ends threads when it ends, and one
    that comes back from native code then takes the process with it.

    Args:
        shown: see there.
        options: see ServeOptions.
        live: a training that pages may pause and end.

    Attributes:
        url: what to open, with the token where there is one.
        far_url: the same from another machine; None: the viewer listens on loopback only.

    Raises:
        UserError: the port is in use, or the address is not one of this machine.
        MachineError: viser's server cannot be guarded; it has been stopped.
    """

    def __init__(self, shown: Shown, options: ServeOptions | None = None, live: "Live | None" = None) -> None:
        options = options or ServeOptions()
        self.shown, self.live = shown, live
        self.turns = live.turns if live else Turns()
        self.pace = Pace(live.is_training if live else lambda: False)
        self.pages: dict[int, Page] = {}
        self._entering = threading.Lock()  # held while `pages` is compared with who is connected
        self._closed = threading.Event()
        self.gate = Gate(_token(options), options.path_prefix.rstrip("/"), options.max_clients)
        port = _free_port(options)
        with _quiet():
            self._server = guarded(
                self.gate, lambda: viser.ViserServer(options.host, port, label=shown.name, verbose=False)
            )
        try:
            self._be_whole(options.host, port)
        except BaseException:
            self._closed.set()
            self.gate.give_up()
            with _quiet():
                self._server.stop()
            raise
        self.gate.open()

    def link(self, look: Mapping[str, float] | None = None, **query: str) -> str:
        """A link to the viewer, with the token where there is one; `look` as neurfield.viewer.linked has it."""
        if self.gate.token is not None:
            query = {TOKEN: self.gate.token, **query}
        return self.base_url + linked.path_of(look or {}) + ("?" + urlencode(query, safe=",") if query else "")

    def wait(self) -> None:
        """Until `close`, or Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while not self._closed.wait(1.0):
                pass

    def refresh(self) -> None:
        """The field has changed for good: all pages draw it anew."""
        for page in list(self.pages.values()):
            page.refresh()

    def close(self) -> None:
        """Drops all work for pages, waits until it has ended, and stops serving."""
        if self._closed.is_set():
            return
        with self._entering:
            self._closed.set()
        for page in list(self.pages.values()):
            page.close()
        self._warming_up.join(timeout=LAST_STEP)
        with _quiet():
            self._server.stop()
        atexit.unregister(self.close)

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _be_whole(self, asked_host: str, port: int) -> None:
        self.gate.port = self._server.get_port()
        if port and self.gate.port != port:  # taken since we looked
            raise UserError(_in_use(port))
        host = "127.0.0.1" if asked_host in ("0.0.0.0", "") else asked_host
        host = f"[{host}]" if ":" in host else host
        self.base_url = f"http://{host}:{self.gate.port}{self.gate.prefix}/"
        self.url = self.link()
        self.far_url = None if asked_host in LOOPBACK else self.url
        if asked_host in ("0.0.0.0", "::", ""):
            self.far_url = self.url.replace(host, _own_address(), 1)
        self._prepare()

    def _prepare(self) -> None:
        server = self._server
        # viser can hand a page on through a host outside; this viewer never does
        server.request_share_url = lambda verbose=True: None  # type: ignore[method-assign]
        server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium", dark_mode=True)
        home = self.shown.home
        server.scene.set_up_direction(home.up)
        server.initial_camera.position = home.position
        server.initial_camera.look_at = home.target
        server.initial_camera.up = home.up
        server.initial_camera.fov = home.fov
        server.initial_camera.near, server.initial_camera.far = 0.003 * home.scale, 300.0 * home.scale
        server.on_client_connect(self._enter)
        server.on_client_disconnect(self._leave)
        threading.Thread(target=self._tick, name="neurfield-viewer-statistics", daemon=True).start()
        self._warming_up = threading.Thread(target=self._warm_up, name="neurfield-viewer-warm-up", daemon=True)
        self._warming_up.start()
        atexit.register(self.close)

    def _warm_up(self) -> None:
        """Paints a small picture while the first page is loaded: of a GPU the first one waits for its kernels."""
        if self.shown.stage is None:
            return

        def keep_if_open(part: float) -> None:
            if self._closed.is_set():
                raise Cancelled

        # whatever is wrong is said on the page that asks for a picture
        with contextlib.suppress(Exception), self.turns:
            keep_if_open(0.0)
            Picture.of(self.shown.stage.paint(self.shown.home.camera(*_SMALL), Look(), keep_if_open, False))

    async def _enter(self, client: viser.ClientHandle) -> None:
        # only here, in the task of the connection, is known with which link it came
        await asyncio.to_thread(self._open, client, linked.parsed(linked.TEXT.get()))

    def _open(self, client: viser.ClientHandle, look: Mapping[str, float]) -> None:
        page = Page(client, self, look)
        with self._entering:
            stays = client.client_id in self._server.get_clients() and not self._closed.is_set()
            if stays:
                self.pages[client.client_id] = page
        if not stays:  # gone while the page was made: nobody closes it later
            page.close()
            return
        page.build()

    async def _leave(self, client: viser.ClientHandle) -> None:
        if not self._closed.is_set():  # else `close` drops the page, where a program ends without a thread to be had
            await asyncio.to_thread(self._drop, client)

    def _drop(self, client: viser.ClientHandle) -> None:
        with self._entering:
            page = self.pages.get(client.client_id)
        if page is not None:
            page.close()
            self.pages.pop(client.client_id, None)  # not before: `close` waits for the threads of those that are there

    def _tick(self) -> None:
        while not self._closed.wait(_STATISTICS_INTERVAL):
            for page in list(self.pages.values()):
                page.tick()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what viser says: where it listens, in a banner that names no token, and that it has stopped."""
    console = import_module("rich").get_console()
    was, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = was


def settled(options: ServeOptions) -> ServeOptions:
    """The same with a port and a token that are chosen now, for several viewers one after the other."""
    port = _free_port(options)
    if port == 0:
        with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as probe:
            probe.bind((options.host, 0))
            port = probe.getsockname()[1]
    return replace(options, port=port, next_port=False, token=_token(options))


def _own_address() -> str:
    """The address of this machine that others are most likely to reach, or its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of nobody: says which way out is taken, and sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _token(options: ServeOptions) -> str | None:
    if options.token is not None and options.token != "auto":
        return options.token
    needed = options.token == "auto" or options.host not in LOOPBACK
    return secrets.token_hex(16) if needed else None


def _free_port(options: ServeOptions) -> int:
    """The port to take; viser itself would silently take another."""
    if options.port == 0:
        return 0
    last = min(options.port + (_PORTS_TRIED if options.next_port else 1), 65536)
    for port in range(options.port, last):
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.host, port))
            except PermissionError:
                raise UserError(f"port {port} may not be used without privileges; choose --port above 1023") from None
            except socket.gaierror:
                raise UserError(f"--host {options.host}: not an address of this machine") from None
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise UserError(f"--host {options.host}: not an address of this machine") from None
                continue
            return port
    raise UserError(_in_use(options.port))


def _in_use(port: int) -> str:
    return f"port {port} is in use; choose another --port, or --next-port to take the next free one"
