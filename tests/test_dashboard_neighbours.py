"""The dashboard among others: proxies, other servers on its host, other processes, clients that keep connections."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import quote, urljoin

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from streamlab import DashboardError, Pipeline, Run
from streamlab.views.dashboard import Dashboard, listen

SECONDS = 20
TOKEN = "kA3-_~.x+/=9"


def made(name: str = "shop") -> Run:
    return Pipeline(name).add("start", str.upper).run(["a", "b"], trace=True)


def connect(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=SECONDS, trust_env=False, verify=False)


# A proxy that takes off a part of the path, as those of notebook servers do


def _passed_on(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in ("transfer-encoding", "connection")}


async def _forward(request: Request) -> Response:
    client: httpx.AsyncClient = request.app.state.client
    port = request.path_params["port"]
    query = f"?{request.url.query}" if request.url.query else ""
    headers = dict(request.headers) | {"host": f"localhost:{port}"}  # its own name is none of the dashboard's
    asked = client.build_request("GET", f"http://127.0.0.1:{port}/{request.path_params['rest']}{query}", headers=headers)
    answer = await client.send(asked, stream=True)
    return StreamingResponse(
        answer.aiter_raw(), answer.status_code, _passed_on(answer.headers), background=BackgroundTask(answer.aclose)
    )


@asynccontextmanager
async def _connected(app: Starlette) -> AsyncIterator[None]:
    async with httpx.AsyncClient(timeout=SECONDS, trust_env=False, verify=False) as client:
        app.state.client = client
        yield


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    """The address of a proxy with what is below ``/user/proxy/PORT/`` from the servers on these ports."""
    app = Starlette(routes=[Route("/user/proxy/{port:int}/{rest:path}", _forward)], lifespan=_connected)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, ws="none"))
    sockets = listen(port=0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets})
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not server.started:
        assert time.monotonic() < deadline
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}/user/proxy/"
    server.should_exit = True
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_all_of_a_page_comes_through_a_proxy(proxy: str) -> None:
    run = made()
    with Dashboard(made("older"), port=0) as older, run.dashboard(port=older.port) as dashboard, connect(proxy) as client:
        for page in (f"{proxy}{dashboard.port}/", f"{proxy}{dashboard.port}/runs/2/"):
            answer = client.get(page)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            addresses = re.findall(r'(?:src|href)="([^"#:]+)"', answer.text)
            assert {"main.js", "style.css", "stats"} <= set(addresses)
            for address in addresses:
                there = urljoin(page, address)
                assert there.startswith(page)
                assert client.get(there).status_code == 200, there
            assert client.get(urljoin(page, "stats")).json() == run.stats()
        assert client.get(f"{proxy}{dashboard.port}/runs/1/stats").json()["pipeline"] == "older"


@pytest.mark.parametrize("name", ["main.js", "stream.js", "charts.js", "graph.js", "traces.js", "errors.js", "style.css"])
def test_no_file_of_the_page_has_an_address_from_the_root(proxy: str, name: str) -> None:
    with Dashboard(made(), port=0) as dashboard, connect(proxy) as client:
        text = client.get(f"{proxy}{dashboard.port}/{name}").text
    assert len(text) > 100
    asked = re.findall(r"""(?:ask|fetch|import|from|EventSource|url)\s*\(?\s*["'`]([^"'`]*)["'`]""", text)
    assert not [address for address in asked if address.startswith("/") or "://" in address]


def test_events_come_through_a_proxy_as_they_happen(proxy: str) -> None:
    leave = threading.Event()

    def lines() -> Iterator[str]:
        yield "first"
        assert leave.wait(60)
        yield "last"

    live = Pipeline("live").add("start", str).start(lines())
    with live.dashboard(port=0) as dashboard, connect(proxy) as client:
        with client.stream("GET", f"{proxy}{dashboard.port}/events", headers={"Accept": "text/event-stream"}) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            states = (json.loads(line[6:])["stats"]["state"] for line in events.iter_lines() if line.startswith("data: "))
            seen = [next(states)]
            leave.set()
            while seen[-1] != "finished":
                seen.append(next(states))
        assert seen[0] != "finished"
    live.wait(SECONDS)


def test_a_token_is_taken_off_the_address_behind_a_proxy_as_well(proxy: str) -> None:
    with Dashboard(made(), port=0, token=TOKEN) as dashboard, connect(proxy) as browser:
        page = f"{proxy}{dashboard.port}/"
        assert browser.get(page).status_code == 401
        browser.follow_redirects = True
        answer = browser.get(f"{page}?token={quote(TOKEN, safe='')}", headers={"Sec-Fetch-Mode": "navigate"})
        assert [step.status_code for step in (*answer.history, answer)] == [303, 200]
        assert str(answer.url) == page
        assert browser.get(f"{page}stats").status_code == 200  # the cookie goes to all of the proxy


# Other servers of this host: browsers send them all the cookies of it, whatever their ports


@pytest.mark.parametrize(
    "others",
    [
        "a=b; {}",
        "{}; a=b",
        'settings={{"dark": true}}; {}',
        "{}; settings={{}} x",
        "words=a b c; {}",
        "path=/; {}",
        "expires=never; {}",
        "lonely; {}",
        "=nameless; {}",
        "name=caf\xe9\xff; {}",
        "a@b[c]=d; {};",
        ";;{}",
        "streamlab-1=0000; {}",
        'quoted="a; {}',
    ],
)
def test_cookies_of_other_servers_do_not_hide_ours(others: str) -> None:
    with Dashboard(made(), port=0, token=TOKEN) as dashboard, connect(f"http://localhost:{dashboard.port}") as client:
        ours = client.get("/stats", params={"token": TOKEN}).headers["set-cookie"].partition(";")[0]
        client.cookies.clear()
        header = others.format(ours).encode("latin-1")
        assert client.get("/stats", headers=httpx.Headers([(b"Cookie", header)])).status_code == 200


# Other processes

FORKED = """
import os, sys
import streamlab

run = streamlab.run(["a"])
dashboard = run.dashboard()
child = os.fork()
if child == 0:
    joined = dashboard.running or run.dashboard() is dashboard or run.dashboard().port == dashboard.port
    run.dashboard().stop()
    os._exit(1 if joined else 0)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), dashboard.running)
dashboard.stop()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_server_is_not_joined_by_a_process_forked_from_its_own() -> None:
    words = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]  # Python warns of a fork beside threads
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "True"], done.stderr


SERVING = """
import sys
import streamlab

with streamlab.run(["a"]).dashboard(port=0) as dashboard:
    print(dashboard.port, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process() -> Iterator[int]:
    """Give the port of a dashboard of another process."""
    with subprocess.Popen([sys.executable, "-c", SERVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield int(process.stdout.readline())
        process.stdin.close()
        assert process.wait(SECONDS) == 0


def test_a_server_of_another_process_is_not_joined() -> None:
    with another_process() as port:
        with pytest.raises(DashboardError, match=f"port {port} is taken by another program"):
            made().dashboard(port=port)
        with connect(f"http://localhost:{port}") as client:
            assert [row["pipeline"] for row in client.get("/runs").json()["runs"]] == ["demo"]


# Who asks often


def test_an_answer_on_a_kept_connection_does_not_wait_for_a_receipt() -> None:
    sockets = listen(port=0)
    assert {sock.proto for sock in sockets} == {socket.IPPROTO_TCP}  # of others, asyncio does not turn off Nagle's delay
    with Dashboard(made(), sockets=sockets) as dashboard, connect(f"http://127.0.0.1:{dashboard.port}") as client:
        assert client.get("/healthz").status_code == 200
        took = []
        for _ in range(20):
            began = time.perf_counter()
            client.get("/healthz")
            took.append(time.perf_counter() - began)
    assert min(took) < 0.03  # with it, each takes 40 ms or more
