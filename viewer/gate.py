# SPDX-License-Identifier: Apache-2.0
"""Who may connect: decided before viser sees a request, for pages and websockets alike.

viser has no hook for requests, so its server is built while `websockets.asyncio.server.serve`, which it calls once, is
replaced by ours; nothing else of viser is touched. Should a later viser open its port in another way, `guarded` notices
that it was not asked, stops the server and raises, so that the viewer never runs unguarded.

The token comes with the link once (`?token=`), is moved into a cookie that no other site can send (SameSite=Strict),
and is compared in constant time. Without a token only loopback is served, and a websocket only to pages whose own
address is loopback: otherwise any page in the user's browser could reach the viewer.
"""

import asyncio
import contextlib
import hmac
import http
import http.cookies
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import websockets.asyncio.server as websocket_server
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from neurfield.errors import MachineError
from neurfield.viewer import linked

log = logging.getLogger("neurfield.viewer")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TOKEN = "token"  # in the link
_BUILDING = threading.Lock()
_WAIT = 0.01  # seconds between looks


@dataclass
class Gate:
    """Rules for connections to one server.

    Attributes:
        token: None: whoever reaches the port may come in.
        prefix: path that the page is served under, "" or "/something".
        max_clients: pages at a time.
        max_message: bytes of one message from a page.
        port: of the server, once it is known; part of the cookie's name, since cookies are shared by ports.
        n_clients: connections that were let through and have not ended, those still shaking hands among them.
    """

    token: str | None = None
    prefix: str = ""
    max_clients: int = 16
    max_message: int = 2 << 20
    port: int = 0
    n_clients: int = 0
    n_rejected: int = 0
    last_rejected: list[str] = field(default_factory=list)
    _is_open: bool | None = None  # None: not known yet

    def open(self) -> None:
        """The server is whole. Its port answers before: requests wait until now, lest viser fails on its own halves."""
        self._is_open = True

    def give_up(self) -> None:
        """The server will never be whole: requests wait no longer."""
        self._is_open = False

    async def is_open(self) -> bool:
        """Whether the server is whole, as soon as that is known."""
        while self._is_open is None:
            await asyncio.sleep(_WAIT)
        return self._is_open

    @property
    def cookie(self) -> str:
        return f"neurfield_viewer_{self.port}"

    def answer(self, peer: str, request: Request) -> Response | None:
        """What to answer instead of viser; None lets the request through, its path without the prefix and the look."""
        target = urlsplit(request.path)
        is_socket = _is_socket(request)
        if target.path != self.prefix and not target.path.startswith(self.prefix + "/"):
            return _page(http.HTTPStatus.NOT_FOUND, f"The viewer is at {self.prefix}/ on this port.")
        query = dict(parse_qsl(target.query))
        given = query.pop(TOKEN, None)
        if self.token is not None:
            known = self._has_cookie(request)
            if not known and not _same(given, self.token):
                reason = "a wrong token" if given or request.headers.get("Cookie") else "no token"
                return self._reject(peer, reason, is_socket)
            if given and not is_socket:  # out of the address bar, histories and screenshots
                return self._redirect("?" + urlencode(query) if query else ".")
        elif is_socket and not _is_local(request.headers):
            return self._reject(peer, f"a page of {request.headers.get('Origin')}", is_socket)
        if is_socket and self.n_clients >= self.max_clients:
            full = _page(http.HTTPStatus.SERVICE_UNAVAILABLE, "The viewer has as many pages as it serves.")
            return self._reject(peer, f"more than {self.max_clients} pages", is_socket, full)
        request.path = linked.taken_out(target.path[len(self.prefix) :] or "/")
        if request.path == "/health" and not is_socket:
            return _page(http.HTTPStatus.OK, "ok")
        return None

    def enter(self) -> None:
        """Counts the connection that the running task serves until that task has ended, however it does."""
        task = asyncio.current_task()
        assert task is not None
        self.n_clients += 1
        task.add_done_callback(self._leave)

    def _leave(self, task: object) -> None:
        self.n_clients -= 1

    def _has_cookie(self, request: Request) -> bool:
        cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        with contextlib.suppress(http.cookies.CookieError):
            cookies.load("; ".join(request.headers.get_all("Cookie")))
        morsel = cookies.get(self.cookie)
        return morsel is not None and _same(morsel.value, self.token)

    def _redirect(self, target: str) -> Response:
        response = _page(http.HTTPStatus.SEE_OTHER, "")
        response.headers["Location"] = target  # relative: a proxy may have taken a prefix away
        response.headers["Set-Cookie"] = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        return response

    def _reject(self, peer: str, reason: str, is_socket: bool, response: Response | None = None) -> Response:
        self.n_rejected += 1
        line = f"refused {'a connection' if is_socket else 'a page'} from {peer}: {reason}"
        self.last_rejected = [*self.last_rejected[-19:], line]
        log.warning("viewer: %s", line)
        return response or _page(
            http.HTTPStatus.FORBIDDEN,
            "This viewer wants its token: open the link that it printed when it started.",
        )


def _same(given: str | None, token: str | None) -> bool:
    return given is not None and token is not None and hmac.compare_digest(given.encode(), token.encode())


def _is_socket(request: Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _is_local(headers: Headers) -> bool:
    """Whether the page that opens a websocket comes from this machine; programs send no origin."""
    origin = headers.get("Origin")
    return origin is None or urlsplit(origin).hostname in LOOPBACK


def _page(status: http.HTTPStatus, text: str) -> Response:
    body = f"{text}\n".encode()
    headers = Headers(
        {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Connection": "close"}
    )
    return Response(status, status.phrase, headers, body)


@contextlib.asynccontextmanager
async def _settled(serving: contextlib.AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """A server that leaves nothing undone: viser ends its loop amid answers to messages, and asyncio complains."""
    async with serving as server:
        yield server
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class _Stoppable(Protocol):
    def stop(self) -> None: ...


S = TypeVar("S", bound=_Stoppable)


def guarded(gate: Gate, start: Callable[[], S]) -> S:
    """The server of viser that `start` gives, which asks `gate`.

    Raises:
        MachineError: it does not; it has been stopped.
    """
    asked = threading.Event()
    original = websocket_server.serve

    def serve(handler: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if "WebsockServer" not in getattr(handler, "__qualname__", ""):
            return original(handler, *arguments, **options)  # somebody else's server
        asked.set()
        page = options.pop("process_request")

        async def process_request(connection: Any, request: Request) -> Response | None:
            if not await gate.is_open():
                return _page(http.HTTPStatus.SERVICE_UNAVAILABLE, "The viewer could not start.")
            peer = connection.remote_address
            response = gate.answer(peer[0] if peer else "?", request)
            if response is None:
                if _is_socket(request):  # counted from here, lest many at once shake hands and all come in
                    gate.enter()
                response = page(connection, request)
                if inspect.isawaitable(response):
                    response = await response
            return response

        options["max_size"] = gate.max_message
        return _settled(original(handler, *arguments, process_request=process_request, **options))

    with _BUILDING:
        websocket_server.serve = serve  # type: ignore[assignment, misc]
        try:
            server = start()
        except BaseException:
            gate.give_up()
            raise
        finally:
            websocket_server.serve = original  # type: ignore[misc]
    if not asked.is_set():
        server.stop()
        raise MachineError("this version of viser opens its port in an unknown way; install the one neurfield names")
    return server
