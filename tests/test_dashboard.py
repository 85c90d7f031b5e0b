"""The dashboard: real servers, real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import streamlab
from streamlab import DashboardError, Pipeline, Run
from streamlab.failures import ERROR_COLUMNS
from streamlab.metrics import LEDGER, METRIC_COLUMNS
from streamlab.story import HOP_COLUMNS
from streamlab.traces import TRACE_COLUMNS
from streamlab.views.dashboard import Dashboard, listen
from tests.served import connect
from tests.waiting import resources

LINES = ["info: a", "warn: b", "bad: c", "info: \udcff d"]


def graph() -> Pipeline:
    pipeline = Pipeline("shop <b>")

    @pipeline.processor(to=("warn", "end"))
    def start(line: str) -> tuple[str, str]:
        if line.startswith("bad"):
            raise ValueError(f"no good: {line}")
        return ("warn" if line.startswith("warn") else "end"), line

    @pipeline.processor(to="end")
    def warn(line: str) -> str:
        return line.upper()

    @pipeline.processor
    def end(line: str) -> dict[str, Any]:
        return {"line": line, "load": math.nan, "tags": {"x"}}

    return pipeline


@pytest.fixture(scope="module")
def run() -> Run:
    return graph().run(LINES, trace=True)


@pytest.fixture(scope="module")
def client(run: Run) -> Iterator[httpx.Client]:
    with Dashboard(run, port=0) as dashboard, connect(dashboard) as client:
        yield client


def test_stats_are_those_of_the_run(client: httpx.Client, run: Run) -> None:
    answer = client.get("/stats")
    assert answer.headers["content-type"] == "application/json"
    stats = answer.json()
    assert list(stats) == ["pipeline", "state", "uptime_s", "lines", "processors"]
    assert (stats["pipeline"], stats["state"]) == ("shop <b>", "finished")
    assert tuple(stats["lines"]) == LEDGER
    assert stats["lines"] == run.ledger
    assert list(stats["processors"]) == ["start", "warn", "end"]
    assert all(tuple(row) == METRIC_COLUMNS for row in stats["processors"].values())
    assert stats["processors"]["start"]["dead_lettered"] == 1
    assert stats == run.stats()


def test_traces_newest_first_and_no_more_than_asked_for(client: httpx.Client) -> None:
    traces = client.get("/trace").json()["traces"]
    assert all(tuple(row) == TRACE_COLUMNS for row in traces)
    assert [row["line_no"] for row in traces] == [3, 2, 1, 0]
    assert [row["path"] for row in traces] == [["start", "end"], ["start"], ["start", "warn", "end"], ["start", "end"]]
    assert [row["fate"] for row in traces] == ["emitted", "dead_letter", "emitted", "emitted"]
    assert traces[0]["output"] == {"line": "info: \udcff d", "load": None, "tags": "{'x'}"}
    assert [row["line_no"] for row in client.get("/trace?limit=2").json()["traces"]] == [3, 2]


def test_more_than_a_thousand_rows_are_never_sent() -> None:
    run = streamlab.run([f"info: {n}" for n in range(1500)], trace=True, trace_limit=1500)
    with run.dashboard(port=0) as dashboard, connect(dashboard) as client:
        rows = {limit: len(client.get(f"/trace{limit}").json()["traces"]) for limit in ("", "?limit=1000", "?limit=9999")}
    assert rows == {"": 100, "?limit=1000": 1000, "?limit=9999": 1000}


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "", "1.5", "9" * 5000])
@pytest.mark.parametrize("path", ["/trace", "/errors"])
def test_a_limit_that_is_none_is_refused(client: httpx.Client, path: str, limit: str) -> None:
    answer = client.get(path, params={"limit": limit})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "limit"]


def test_one_line(client: httpx.Client, run: Run) -> None:
    told = client.get("/trace/1").json()
    assert list(told) == ["line_no", "line", "branches", "hops", "note"]
    assert (told["line_no"], told["line"], told["note"]) == (1, "warn: b", "")
    assert [row["path"] for row in told["branches"]] == [["start", "warn", "end"]]
    assert all(tuple(hop) == HOP_COLUMNS for hop in told["hops"])
    assert [hop["processor"] for hop in told["hops"]] == ["start", "warn", "end"]
    assert told["hops"][1]["outputs"] == [{"to": "end", "value": "WARN: B"}]
    assert "no good" in client.get("/trace/2").json()["hops"][0]["error"]


@pytest.mark.parametrize("number", ["4", "-1", "99999999999999999999"])
def test_a_line_that_is_not_there(client: httpx.Client, number: str) -> None:
    answer = client.get(f"/trace/{number}")
    assert answer.status_code == 404
    assert answer.json() == {"detail": f"there is no line {number}: this run has received 4 lines, numbered from 0"}


def test_a_line_number_that_is_none(client: httpx.Client) -> None:
    assert client.get("/trace/first").status_code == 422


def test_a_run_without_traces_says_so() -> None:
    with streamlab.run(["a"]).dashboard(port=0) as dashboard, connect(dashboard) as client:
        assert client.get("/trace").json() == {"traces": []}
        assert client.get("/trace/0").json() == {"detail": "this run keeps no traces; run with trace=True"}


class Shy:
    def __repr__(self) -> str:
        raise ValueError("not for you")


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


ODD = {
    "shy": Shy(),
    "large": 10**5000,
    "small": -(10**5000),
    "endless": ENDLESS,
    "keys": {Shy(): {b"k": "\ud800"}},
    "infinite": math.inf,
    "bytes": b"\xff",
    "type": object,
}


@pytest.mark.parametrize("name", ODD)
def test_a_value_that_json_cannot_say_spoils_nothing(name: str) -> None:
    run = Pipeline("odd").add("make", lambda line: ODD[name] if line == "odd" else line).run(["odd", "even"], trace=True)
    with run.dashboard(port=0) as dashboard, connect(dashboard) as client:
        assert [row["line"] for row in client.get("/trace").json()["traces"]] == ["even", "odd"]
        assert client.get("/trace/0").json()["line"] == "odd"


def test_errors(client: httpx.Client) -> None:
    errors = client.get("/errors").json()["errors"]
    assert [tuple(row) for row in errors] == [ERROR_COLUMNS]
    assert (errors[0]["line_no"], errors[0]["processor"], errors[0]["kind"]) == (2, "start", "processing")
    assert (errors[0]["error"], errors[0]["message"], errors[0]["line"]) == ("ValueError", "no good: bad: c", "bad: c")


def test_errors_newest_first() -> None:
    run = graph().run([f"bad {n}" for n in range(200)])
    with run.dashboard(port=0) as dashboard, connect(dashboard) as client:
        assert [row["line_no"] for row in client.get("/errors?limit=3").json()["errors"]] == [199, 198, 197]
        assert len(client.get("/errors").json()["errors"]) == 100


def test_graph(client: httpx.Client) -> None:
    told = client.get("/graph").json()
    assert told["entry"] == "start"
    assert [(node["name"], node["received"]) for node in told["nodes"]] == [("start", 4), ("warn", 1), ("end", 3)]
    edges = {(edge["from"], edge["to"]): edge["count"] for edge in told["edges"]}
    assert edges == {(None, "start"): 4, ("start", "warn"): 1, ("start", "end"): 2, ("warn", "end"): 1, ("end", None): 3}


def test_the_page_asks_nothing_of_other_servers(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    addresses = re.findall(r'(?:src|href)="([^"]*)"', answer.text)
    assert {"main.js", "style.css", "stats", "trace", "errors", "graph", "metrics", "healthz"} <= set(addresses)
    for address in addresses:
        assert address.startswith(("#", "data:")) or client.get(f"/{address}").status_code == 200
        assert "://" not in address.removeprefix("data:image/svg+xml,%3Csvg xmlns='http://")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health(client: httpx.Client, path: str) -> None:
    assert client.get(path).json() == {"status": "ok", "state": "finished"}

    def lines() -> Iterator[str]:
        yield "info: a"
        raise OSError("the cable \udcff is out")

    failed = graph().run(lines())
    assert failed.state == "failed"
    with failed.dashboard(port=0) as dashboard, connect(dashboard) as other:
        answer = other.get(path)
        assert answer.status_code == 503
        assert (answer.json()["status"], answer.json()["state"]) == ("failed", "failed")
        assert "the cable \udcff is out" in answer.json()["reason"]


def test_a_live_run_is_seen_as_it_goes() -> None:
    go_on = threading.Event()

    def lines() -> Iterator[str]:
        yield from LINES
        assert go_on.wait(30)
        yield "info: last"

    with graph().start(lines(), trace=True) as live, live.dashboard(port=0) as dashboard, connect(dashboard) as client:
        assert live.dashboard() is dashboard
        deadline = time.monotonic() + 30
        while (stats := client.get("/stats").json())["lines"]["received"] < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (stats["state"], stats["lines"]["received"]) == ("running", 4)
        assert client.get("/healthz").json() == {"status": "ok", "state": "running"}
        go_on.set()
        live.wait(30)
        assert client.get("/stats").json()["state"] == "finished"
        assert client.get("/trace?limit=1").json()["traces"][0]["line"] == "info: last"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/nowhere", "/../etc/passwd", "/trace/0/1"])
def test_nothing_else_is_there(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"GET /stats HTTP/1.1\r\n\r\n", b"GET /stats HTTP/1.0\r\n\r\n"])
def test_requests_that_are_none(run: Run, request_: bytes) -> None:
    with Dashboard(run, port=0) as dashboard:
        with socket.create_connection(("127.0.0.1", dashboard.port), timeout=10) as sock:
            sock.sendall(request_)
            assert b" 400 " in sock.recv(4096)
        with connect(dashboard) as client:
            assert client.get("/healthz").status_code == 200


# The server


def test_its_attributes(run: Run) -> None:
    dashboard = Dashboard(run, port=0)
    assert dashboard.running
    assert dashboard.url == f"http://localhost:{dashboard.port}"
    assert repr(dashboard) == f"Dashboard({dashboard.url})"
    dashboard.stop()
    dashboard.stop()
    assert not dashboard.running
    assert repr(dashboard) == f"Dashboard({dashboard.url}, stopped)"
    with pytest.raises(httpx.ConnectError), connect(dashboard) as client:
        client.get("/")


def test_both_addresses_of_localhost_answer(run: Run) -> None:
    with Dashboard(run, port=0) as dashboard:
        for address in ("127.0.0.1", "[::1]") if _has_ipv6() else ("127.0.0.1",):
            assert httpx.get(f"http://{address}:{dashboard.port}/healthz", trust_env=False).status_code == 200


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_without_a_port_the_next_free_one_is_taken(run: Run) -> None:
    with Dashboard(run) as first, Dashboard(run) as second:
        assert 8000 <= first.port < second.port <= 8100
    with Dashboard(run) as third:
        assert third.port == first.port


def test_a_port_that_was_asked_for_and_is_taken(run: Run) -> None:
    with Dashboard(run, port=0) as first:
        with pytest.raises(DashboardError, match=f"port {first.port} is taken"):
            Dashboard(run, port=first.port)
        assert first.running
    with Dashboard(run, port=first.port) as again:
        assert again.port == first.port


@pytest.mark.skipif(not _has_ipv6(), reason="there is no IPv6 here")
def test_a_port_that_is_taken_on_the_other_address_of_localhost(run: Run) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DashboardError, match=f"port {port} is taken"):
            Dashboard(run, port=port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_ports_that_do_not_exist(run: Run, port: int) -> None:
    with pytest.raises(DashboardError, match=f"port {port} does not exist"):
        Dashboard(run, port=port)


def test_a_port_can_be_held_before_there_is_a_run(run: Run) -> None:
    sockets = listen(port=0)
    with Dashboard(run, sockets=sockets) as dashboard, connect(dashboard) as client:
        assert dashboard.port == sockets[0].getsockname()[1]
        assert client.get("/healthz").status_code == 200
    assert all(sock.fileno() == -1 for sock in sockets)


def test_a_dashboard_of_the_run_is_made_anew_after_a_stop() -> None:
    run = streamlab.run(["a"])
    first = run.dashboard(port=0)
    first.stop()
    with run.dashboard(port=0) as second:
        assert second is not first
        assert second.running


def test_it_starts_inside_a_running_event_loop(run: Run) -> None:
    async def cell() -> int:
        with Dashboard(run, port=0) as dashboard:
            async with httpx.AsyncClient(base_url=dashboard.url, trust_env=False) as client:
                return (await client.get("/healthz")).status_code

    assert asyncio.run(cell()) == 200


def test_a_start_that_fails_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def startup(self: object, sockets: object = None) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr("uvicorn.Server.startup", startup)
    sockets = listen(port=0)
    with pytest.raises(DashboardError, match=r"did not start on port \d+: none left"):
        Dashboard(run, sockets=sockets)
    assert all(sock.fileno() == -1 for sock in sockets)


def test_starts_and_stops_leave_nothing(run: Run) -> None:
    with Dashboard(run, port=0) as dashboard:
        port = dashboard.port
    before = resources()
    for count in range(100):  # five times as many in the soak
        with Dashboard(run, port=port) as dashboard:
            if count % 10 == 0:
                with connect(dashboard) as client:
                    assert client.get("/healthz").status_code == 200
    assert all(now <= then for now, then in zip(resources(), before, strict=True))
    for sock in listen(port=port):
        sock.close()


def test_stop_does_not_wait_for_who_has_a_connection_open(run: Run) -> None:
    before = resources()
    dashboard = Dashboard(run, port=0)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(dashboard))
        assert client.get("/stats").status_code == 200  # and the connection is kept
        half = stack.enter_context(socket.create_connection(("127.0.0.1", dashboard.port)))
        half.sendall(b"GET /stats HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        dashboard.stop()
        assert time.monotonic() - began < 3
    assert resources() == before


def test_stops_from_several_threads(run: Run) -> None:
    dashboard = Dashboard(run, port=0)
    threads = [threading.Thread(target=dashboard.stop) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not dashboard.running


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_without_its_packages(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; import streamlab; streamlab.run(['a']).dashboard()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("streamlab.errors.DashboardError: the dashboard needs FastAPI and uvicorn")
    assert 'pip install "streamlab[dashboard]"' in last


def test_streamlab_does_without_them_until_it_is_asked() -> None:
    program = "import sys, json, streamlab; streamlab.run(['a'], trace=True); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not {"fastapi", "uvicorn", "starlette", "click"} & set(json.loads(done.stdout))
