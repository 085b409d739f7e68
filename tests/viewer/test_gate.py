# SPDX-License-Identifier: Apache-2.0
"""Who may connect: pages and websockets, with and without token, through a prefix, one too many, from other sites."""

import asyncio
import gc
import logging
import socket
import threading
import time
import types
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest
from viser.infra import WebsockServer
from websockets.asyncio import server as websocket_server
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from neurfield.errors import MachineError, UserError
from neurfield.viewer import ServeOptions, Viewer, gate, server, settled, shown_run
from neurfield.viewer.look import Eye
from neurfield.viewer.page import Page
from tests.viewer.wire import WirePage


@pytest.fixture(scope="module")
def locked(run):
    with Viewer(shown_run(run), ServeOptions(port=0, token="auto", path_prefix="/a/b", max_clients=2)) as viewer:
        yield viewer


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: object) -> None:
        return None


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def cookie_of(viewer: Viewer) -> str:
    return get(viewer.url)[1]["Set-Cookie"].split(";")[0]


def test_no_page_without_the_token(locked, caplog):
    with caplog.at_level(logging.WARNING, "neurfield.viewer"):
        status, _, body = get(locked.base_url)
    assert status == HTTPStatus.FORBIDDEN and b"link that it printed" in body and b"<script" not in body
    assert "refused a page from 127.0.0.1: no token" in caplog.text
    assert get(locked.base_url + "?token=wrong")[0] == HTTPStatus.FORBIDDEN
    assert get(locked.base_url, Cookie=f"{locked.gate.cookie}=wrong")[0] == HTTPStatus.FORBIDDEN
    assert get(locked.base_url + "?token=%C3%A9")[0] == HTTPStatus.FORBIDDEN
    assert get(locked.base_url + "health")[0] == HTTPStatus.FORBIDDEN


def test_the_link_gives_a_cookie_and_loses_its_token(locked):
    status, headers, _ = get(locked.link(initialCameraFov="0.5"))
    assert status == HTTPStatus.SEE_OTHER and headers["Location"] == "?initialCameraFov=0.5"
    assert "SameSite=Strict" in headers["Set-Cookie"] and "HttpOnly" in headers["Set-Cookie"]
    status, _, body = get(locked.base_url, Cookie=cookie_of(locked))
    assert status == HTTPStatus.OK and b"<script" in body
    assert get(locked.base_url + "health", Cookie=cookie_of(locked))[2] == b"ok\n"


def test_no_websocket_without_the_token(locked, caplog):
    before = locked.gate.n_rejected
    for cookie in (None, f"{locked.gate.cookie}=wrong", "bad cookie;;="):
        with pytest.raises(InvalidStatus) as refused, WirePage(locked.base_url, cookie):
            pass
        assert refused.value.response.status_code == HTTPStatus.FORBIDDEN
    assert locked.gate.n_rejected == before + 3 and "refused a connection from 127.0.0.1" in caplog.text
    assert not locked.pages


def test_with_the_token_a_websocket_gets_pictures(locked, run):
    with WirePage(locked.base_url, cookie_of(locked)) as page:
        page.look_from(run.cameras.c2w[0])
        assert page.frame().image.shape[2] == 3


def test_another_path_is_not_the_viewers(locked):
    root = locked.base_url.removesuffix("/a/b/")
    for path in ("/", "/a/bc/", "/a"):
        assert get(root + path, Cookie=cookie_of(locked))[0] == HTTPStatus.NOT_FOUND
    assert get(locked.base_url + "../../../../etc/passwd", Cookie=cookie_of(locked))[0] == HTTPStatus.NOT_FOUND
    assert get(locked.base_url + "%2e%2e/%2e%2e/setup.py", Cookie=cookie_of(locked))[0] == HTTPStatus.NOT_FOUND


def test_one_page_too_many(locked, run):
    cookie = cookie_of(locked)
    with WirePage(locked.base_url, cookie), WirePage(locked.base_url, cookie):
        with pytest.raises(InvalidStatus) as refused, WirePage(locked.base_url, cookie):
            pass
        assert refused.value.response.status_code == HTTPStatus.SERVICE_UNAVAILABLE


def test_pages_that_come_at_once_are_counted_before_they_are_in():
    async def page(connection, request):
        await asyncio.sleep(0.2)  # shaking hands

    class WebsockServer:
        async def serve(self, connection):
            await connection.wait_closed()

    rules = gate.Gate(max_clients=2)
    rules.open()
    handler = WebsockServer().serve

    async def come() -> None:
        start = lambda: websocket_server.serve(handler, "127.0.0.1", 0, process_request=page)  # noqa: E731
        async with gate.guarded(rules, start) as listening:
            url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            came = await asyncio.gather(*(connect(url) for _ in range(4)), return_exceptions=True)
            refused = [one for one in came if isinstance(one, InvalidStatus)]
            assert [one.response.status_code for one in refused] == [HTTPStatus.SERVICE_UNAVAILABLE] * 2
            for one in came:
                if not isinstance(one, InvalidStatus):
                    await one.close()
            with pytest.raises(TimeoutError):  # leaves before it is in
                await asyncio.wait_for(connect(url).__aenter__(), 0.1)
            assert rules.n_clients == 1
            await asyncio.sleep(0.3)
            assert rules.n_clients == 0

    asyncio.run(come())


def test_a_server_that_cannot_be_guarded_is_stopped(run, monkeypatch):
    monkeypatch.setattr(gate, "websocket_server", types.SimpleNamespace(serve=None))  # viser asks another one
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(MachineError, match="opens its port in an unknown way"):
        Viewer(shown_run(run), ServeOptions(port=port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_page_that_comes_while_the_viewer_is_made_waits_for_it(run, monkeypatch, caplog):
    """As one that connects again and again while stages of a training follow each other on one port."""
    options, start, listening, seen = settled(ServeOptions(port=0)), WebsockServer.start, threading.Event(), []

    def slow(self: WebsockServer) -> None:
        start(self)
        listening.set()
        time.sleep(1.0)  # the port is open, and viser's server has no scene yet

    def look() -> None:
        assert listening.wait(30)
        with WirePage(f"http://127.0.0.1:{options.port}/") as page:
            page.look_from(run.cameras.c2w[0])
            seen.append(page.frame())

    monkeypatch.setattr(WebsockServer, "start", slow)
    early = threading.Thread(target=look, daemon=True)
    early.start()
    with caplog.at_level(logging.WARNING), Viewer(shown_run(run), options):
        early.join(timeout=60)
    assert seen and not caplog.records


def test_a_viewer_that_cannot_start_ends_with_its_error_and_lets_nobody_wait(run, monkeypatch):
    options, seen, came = settled(ServeOptions(port=0)), [], threading.Event()

    def look() -> None:
        came.set()
        seen.append(get(f"http://127.0.0.1:{options.port}/"))

    def fails(viewer: Viewer) -> None:
        page.start()
        assert came.wait(10)
        time.sleep(0.3)  # it waits now
        raise MachineError("no more threads")

    page = threading.Thread(target=look, daemon=True)
    monkeypatch.setattr(Viewer, "_prepare", fails)
    start = time.monotonic()
    with pytest.raises(MachineError, match="no more threads"):
        Viewer(shown_run(run), options)
    page.join(timeout=5)
    assert time.monotonic() - start < 5
    status, _, body = seen[0]
    assert status == HTTPStatus.SERVICE_UNAVAILABLE and body == b"The viewer could not start.\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", options.port), timeout=5).close()


def test_a_page_that_is_gone_before_it_is_made_is_closed(viewer, run, monkeypatch):
    entered, gone, made = threading.Event(), threading.Event(), []

    class Late(Page):
        def __init__(self, *arguments):
            entered.set()
            assert gone.wait(10)
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(server, "Page", Late)
    with WirePage(viewer.base_url) as page:
        page.look_from(run.cameras.c2w[0])
        assert entered.wait(10)
    end = time.monotonic() + 10
    while viewer._server.get_clients() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)  # _leave has been called
    gone.set()
    while not (made and made[0].closed.is_set()) and time.monotonic() < end:
        time.sleep(0.01)
    assert made[0].closed.is_set() and not made[0].session._thread.is_alive() and not viewer.pages


def test_what_is_undone_when_the_server_ends_is_no_complaint(run, caplog):
    answered = threading.Event()

    async def answer() -> None:  # to a message, which viser does not wait for
        answered.set()
        await asyncio.sleep(60)

    def serve() -> None:
        with Viewer(shown_run(run), ServeOptions(port=0)) as viewer:
            loop = viewer._server.get_event_loop()
            loop.call_soon_threadsafe(lambda: loop.create_task(answer()) and None)
            assert answered.wait(30)
        assert loop.is_closed()

    with caplog.at_level(logging.ERROR, "asyncio"):
        serve()
        gc.collect()
    assert not caplog.messages


def test_other_sites_do_not_reach_a_viewer_without_token(viewer):
    for origin in ("http://evil.example", "https://localhost.evil.example", "http://pages.example", "null"):
        with pytest.raises(InvalidStatus) as refused, WirePage(viewer.base_url, origin=origin):
            pass
        assert refused.value.response.status_code == HTTPStatus.FORBIDDEN
    for origin in ("http://localhost:1234", "http://127.0.0.1:7007", None):
        with WirePage(viewer.base_url, origin=origin):
            pass


def test_a_message_that_is_too_long_ends_its_connection_only(viewer, run):
    with WirePage(viewer.base_url) as page:
        page.look_from(run.cameras.c2w[0])
        page.frame()
        page.socket.send(b"x" * (viewer.gate.max_message + 1))
        with pytest.raises(Exception, match=r"1009|message too big|no close frame"):
            while True:
                page.messages(10)
    with WirePage(viewer.base_url) as page:
        page.look_from(run.cameras.c2w[0])
        page.frame()


@pytest.mark.parametrize(
    "values",
    [
        {"fov": float("nan")},
        {"fov": 0.0},
        {"wxyz": (0.0, 0.0, 0.0, 0.0)},
        {"position": (float("inf"), 0.0, 0.0)},
        {"image_height": 10**9},
        {"image_width": 0},
    ],
)
def test_cameras_that_are_none_are_ignored(viewer, run, values):
    with WirePage(viewer.base_url) as page:
        page.look_from(run.cameras.c2w[0])
        page.frame()
        (served,) = viewer.pages.values()
        before = served.eye
        wrong = {
            "type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, 1.0), "fov": 0.7,
            "near": 0.01, "far": 10.0, "image_height": 100, "image_width": 100, "look_at": (0.0, 0.0, 0.0),
            "up_direction": (0.0, 0.0, 1.0),
        }  # fmt: skip
        page.send(**(wrong | values))
        page.look_from(run.cameras.c2w[1])
        page.frame()
        assert isinstance(served.eye, Eye) and served.eye != before and served.eye.width == 320


def test_the_token_is_asked_for_away_from_loopback(run):
    with Viewer(shown_run(run), ServeOptions(host="0.0.0.0", port=0)) as viewer:
        assert viewer.gate.token is not None and viewer.gate.token in viewer.url
        assert get(viewer.base_url)[0] == HTTPStatus.FORBIDDEN
    with Viewer(shown_run(run), ServeOptions(port=0)) as viewer:
        assert viewer.gate.token is None and "token" not in viewer.url


def test_a_port_in_use(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is in use; choose another --port, or --next-port"):
            Viewer(shown_run(run), ServeOptions(port=port))
        with Viewer(shown_run(run), ServeOptions(port=port, next_port=True)) as viewer:
            assert port < viewer.gate.port <= port + 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70000}, "--port must be 0 ... 65535"),
        ({"path_prefix": "x"}, "--path-prefix must begin with /"),
        ({"token": "a b"}, "--token needs"),
        ({"max_clients": 0}, "--max-clients"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        ServeOptions(**options)


def test_the_link_for_other_machines(locked, run):
    assert locked.far_url is None
    with Viewer(shown_run(run), ServeOptions(host="0.0.0.0", port=0)) as viewer:
        assert viewer.url.startswith("http://127.0.0.1:") and viewer.far_url
        assert viewer.far_url.partition(f":{viewer.gate.port}/")[2] == viewer.url.partition(f":{viewer.gate.port}/")[2]
        assert get(viewer.far_url)[0] == HTTPStatus.SEE_OTHER
