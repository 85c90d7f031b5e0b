"""Several runs on one server: what each has of it, how long, and that none is kept longer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import streamlab
from streamlab import DashboardError, Pipeline, Run
from streamlab.views.dashboard import Dashboard
from streamlab.views.dashboard.feed import Feed
from streamlab.views.dashboard.runs import Runs
from tests.waiting import until

SECONDS = 20


def ended(name: str = "p") -> Run:
    return Pipeline(name).add("start", str).run([name])


def get(dashboard: Dashboard, path: str) -> httpx.Response:
    return httpx.get(f"http://localhost:{dashboard.port}{path}", timeout=SECONDS, trust_env=False)


def name_at(dashboard: Dashboard, path: str) -> Any:
    return get(dashboard, path).json()["pipeline"]


def numbers(dashboard: Dashboard) -> list[int]:
    return [row["number"] for row in get(dashboard, "/runs").json()["runs"]]


def assert_free(port: int) -> None:
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=SECONDS):
            pass


@pytest.fixture
def first() -> Iterator[Dashboard]:
    """A server on a port of its own, with one run, named "one"."""
    with ended("one").dashboard(port=0) as dashboard:
        yield dashboard


class Going:
    """A run that goes on until it is let go."""

    def __init__(self, name: str) -> None:
        self.leave = threading.Event()
        self.run = Pipeline(name).add("start", str).start(self._lines())

    def _lines(self) -> Iterator[str]:
        yield "first"
        assert self.leave.wait(60)

    def end(self) -> None:
        self.leave.set()
        self.run.wait(SECONDS)


def test_a_new_run_joins_the_server_on_its_port(first: Dashboard) -> None:
    second = ended("two").dashboard(port=first.port)
    assert second is not first
    assert second.port == first.port
    assert first.running and second.running
    second.stop()


def test_the_newest_run_is_at_the_root_and_each_below_its_number(first: Dashboard) -> None:
    second, third = (ended(name).dashboard(port=first.port) for name in ("two", "three"))
    assert name_at(first, "/stats") == "three"
    assert [name_at(first, f"/runs/{number}/stats") for number in (1, 2, 3)] == ["one", "two", "three"]
    assert get(first, "/runs/1/").text == get(first, "/").text
    assert get(first, "/runs/1/main.js").status_code == 200
    third.stop()
    assert name_at(first, "/stats") == "two"
    second.stop()
    assert name_at(first, "/stats") == "one"


def test_runs_lists_them_oldest_first(first: Dashboard) -> None:
    going = Going("two")
    with going.run.dashboard(port=first.port):
        told = get(first, "/runs").json()
        going.end()
        after = get(first, "/runs").json()
    assert told == {
        "runs": [
            {"number": 1, "pipeline": "one", "state": "finished"},
            {"number": 2, "pipeline": "two", "state": told["runs"][1]["state"]},
        ]
    }
    assert told["runs"][1]["state"] in ("starting", "running")
    assert after["runs"][1]["state"] == "finished"


@pytest.mark.parametrize("path", ["/runs/2/stats", "/runs/2/events", "/runs/2/metrics", "/runs/99999999999999999999/stats"])
def test_a_run_that_is_not_there_is_told_so(first: Dashboard, path: str) -> None:
    answer = get(first, path)
    assert answer.status_code == 404
    assert "is not here; /runs lists those that are" in answer.json()["detail"]


@pytest.mark.parametrize("number", ["0", "-1", "one", "1.5", "9" * 5000])
def test_a_run_s_number_is_a_whole_one_from_1(first: Dashboard, number: str) -> None:
    assert get(first, f"/runs/{number}/stats").status_code == 422


def test_numbers_are_not_given_twice(first: Dashboard) -> None:
    ended("two").dashboard(port=first.port).stop()
    with ended("three").dashboard(port=first.port):
        assert numbers(first) == [1, 3]
        assert get(first, "/runs/2/stats").status_code == 404


def test_a_second_call_gives_the_same_dashboard() -> None:
    run = ended()
    with run.dashboard(port=0) as dashboard:
        assert run.dashboard() is dashboard
        assert run.dashboard(port=dashboard.port) is dashboard
        assert numbers(dashboard) == [1]


def test_a_run_on_two_servers_is_on_each() -> None:
    run = ended()
    with run.dashboard(port=0) as one, run.dashboard(port=0) as other:
        assert one is not other
        assert one.port != other.port
        assert name_at(one, "/stats") == name_at(other, "/stats") == "p"


def test_without_a_port_any_server_of_this_process_on_that_host_is_joined(first: Dashboard) -> None:
    with ended("two").dashboard() as second:
        assert second.port == first.port
    with ended("three").dashboard(host="127.0.0.2") as third:
        assert third.url == f"http://127.0.0.2:{third.port}"
        assert numbers(first) == [1]


@pytest.mark.parametrize("options", [{"token": "T"}, {"names": ["lab.example"]}, {"host": "127.0.0.2"}, {"port": 0}])
def test_what_was_asked_for_otherwise_has_a_server_of_its_own(first: Dashboard, options: dict[str, Any]) -> None:
    with ended("two").dashboard(**options) as second:
        assert second._server is not first._server
        assert numbers(first) == [1]
        assert first.running and second.running


@pytest.mark.parametrize("options", [{"token": "T"}, {"names": ["lab.example"]}])
def test_a_port_of_ours_is_taken_for_who_asks_for_something_else_there(first: Dashboard, options: dict[str, Any]) -> None:
    with pytest.raises(DashboardError, match=f"port {first.port} is taken"):
        ended("two").dashboard(port=first.port, **options)
    assert numbers(first) == [1]


def test_what_fits_in_token_and_names_is_joined() -> None:
    with ended("one").dashboard(port=0, token="T", names=["a.example", "b.example"]) as one:
        with ended("two").dashboard(port=one.port, token="T", names=["b.example"]) as two:
            assert two._server is one._server
        with pytest.raises(DashboardError, match="is taken"):
            ended("three").dashboard(port=one.port, token="t")


def test_a_port_that_another_program_has_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = ended()
        with pytest.raises(DashboardError, match=f"port {port} is taken by another program"):
            run.dashboard(port=port)
    with run.dashboard(port=port) as dashboard:
        assert dashboard.port == port


def test_the_end_of_a_with_block_ends_its_dashboard_and_no_other(first: Dashboard) -> None:
    with Pipeline("two").add("start", str).start(["a"]) as run:
        second = run.dashboard(port=first.port)
        assert numbers(first) == [1, 2]
    assert not second.running
    assert first.running
    assert numbers(first) == [1]


def test_the_end_of_a_with_block_frees_the_port_of_a_server_of_its_own() -> None:
    with Pipeline("p").add("start", str).start(["a"]) as run:
        dashboard = run.dashboard(port=0)
        assert get(dashboard, "/healthz").status_code == 200
    assert not dashboard.running
    assert_free(dashboard.port)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_server_stops_with_its_last_run(order: tuple[int, ...]) -> None:
    before = threading.active_count()
    shown = [ended("p0").dashboard(port=0)]
    port = shown[0].port
    shown += [ended(f"p{number}").dashboard(port=port) for number in (1, 2)]
    assert threading.active_count() == before + 1
    left = {0, 1, 2}
    for number in order:
        shown[number].stop()
        shown[number].stop()
        left.discard(number)
        assert [dashboard.running for dashboard in shown] == [other in left for other in range(3)]
        if left:
            assert numbers(shown[0]) == [other + 1 for other in sorted(left)]
            assert name_at(shown[0], "/stats") == f"p{max(left)}"
    assert threading.active_count() == before
    assert_free(port)
    with ended("again").dashboard(port=port) as again:
        assert numbers(again) == [1]


def test_a_run_that_is_shown_again_is_shown_first(first: Dashboard) -> None:
    run = ended("two")
    run.dashboard(port=first.port).stop()
    with ended("three").dashboard(port=first.port), run.dashboard(port=first.port) as again:
        assert again.running
        assert name_at(first, "/stats") == "two"


def test_the_address_is_the_root_while_a_run_is_the_newest(first: Dashboard) -> None:
    root = f"http://localhost:{first.port}"
    assert first.url == root
    with ended("two").dashboard(port=first.port) as second:
        assert (first.url, second.url) == (f"{root}/runs/1/", root)
        assert get(first, httpx.URL(first.url).path).status_code == 200
        assert repr(first) == f"Dashboard({root}/runs/1/)"
    assert first.url == root


def test_the_address_has_the_token_also_below_a_number() -> None:
    with ended("one").dashboard(port=0, token="a/b c") as one, ended("two").dashboard(port=one.port, token="a/b c") as two:
        root = f"http://localhost:{one.port}"
        assert (one.url, two.url) == (f"{root}/runs/1/?token=a%2Fb%20c", f"{root}/?token=a%2Fb%20c")
        with httpx.Client(trust_env=False, timeout=SECONDS, follow_redirects=True) as client:
            assert client.get(one.url).status_code == 200
            assert client.get(f"{root}/runs/1/stats").json()["pipeline"] == "one"


def test_ended_runs_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.views.dashboard.runs.MOST_ENDED", 3)
    shown = [ended("p1").dashboard(port=0)]
    shown += [ended(f"p{number}").dashboard(port=shown[0].port) for number in range(2, 7)]
    assert numbers(shown[0]) == [4, 5, 6]
    assert [dashboard.running for dashboard in shown] == [False] * 3 + [True] * 3
    for dashboard in shown[:3]:
        dashboard.stop()
        assert repr(dashboard).endswith("stopped)")
    assert numbers(shown[-1]) == [4, 5, 6]
    for dashboard in shown[3:]:
        dashboard.stop()
    assert_free(shown[0].port)


def test_runs_that_go_on_stay_however_many_have_ended_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.views.dashboard.runs.MOST_ENDED", 2)
    going = [Going("live 1"), Going("live 2")]
    with going[0].run.dashboard(port=0) as first, going[1].run.dashboard(port=first.port):
        for number in range(10):
            ended(f"p{number}").dashboard(port=first.port)
        assert numbers(first) == [1, 2, 11, 12]
        for one in going:
            one.end()
        last = ended("last").dashboard(port=first.port)
        assert numbers(first) == [12, 13]
        last.stop()
        ended("more").dashboard(port=first.port).stop()
    first._server.stop()  # runs whose dashboards nobody has any more would be shown until the process ends
    assert_free(first.port)


def test_a_run_that_is_shown_no_more_is_not_kept(first: Dashboard) -> None:
    run = ended("two")
    gone = weakref.ref(run)
    dashboard = run.dashboard(port=first.port)
    for path in ("stats", "trace", "errors", "graph", "paths", "metrics", "figures", "drawing", "healthz", ""):
        assert get(first, f"/runs/2/{path}").status_code == 200
    dashboard.stop()
    del run, dashboard
    assert collected(gone)


def collected(gone: weakref.ref[Run]) -> bool:
    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    until(is_gone)
    return True


def test_a_run_whose_events_were_read_is_not_kept(first: Dashboard) -> None:
    run = ended("two")
    gone = weakref.ref(run)
    dashboard = run.dashboard(port=first.port)
    with httpx.stream("GET", f"http://localhost:{first.port}/runs/2/events", trust_env=False) as answer:
        assert next(answer.iter_lines()).startswith("retry")
    feed = first._server._server.config.app.state.feed
    until(lambda: feed.readers == 0 and feed._pulse is None)  # nobody looks any more
    dashboard.stop()
    del run, dashboard
    assert collected(gone)


def test_events_of_a_run_end_when_it_is_shown_no_more(first: Dashboard) -> None:
    with ended("two").dashboard(port=first.port) as second:
        address = f"http://localhost:{first.port}/runs/2/events"
        with httpx.stream("GET", address, trust_env=False, timeout=SECONDS) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry")
            second.stop()
            for _ in lines:
                pass  # to the end, which comes
    assert first.running


def test_events_end_also_of_a_run_that_was_shown_for_a_moment_only() -> None:
    async def read() -> list[bytes]:
        runs = Runs(ended("one"), ended("two"))
        events = Feed(runs).events(2)
        assert (await anext(events)).startswith(b"retry")
        runs.remove(2)  # before anybody has looked which runs there are
        return [event async for event in events]

    assert asyncio.run(asyncio.wait_for(read(), 5)) == []


def test_a_run_that_made_room_is_not_kept(first: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamlab.views.dashboard.runs.MOST_ENDED", 2)
    run = ended("two")
    gone = weakref.ref(run)
    run.dashboard(port=first.port)
    assert get(first, "/stats").status_code == 200
    del run
    last = [ended(name).dashboard(port=first.port) for name in ("three", "four")]
    assert collected(gone)
    for dashboard in last:
        dashboard.stop()
    first._server.stop()  # its own run had to go as well


def test_runs_from_many_threads_are_all_on_one_server(first: Dashboard) -> None:
    shown: list[Dashboard] = []

    def show(number: int) -> None:
        shown.append(ended(f"p{number}").dashboard(port=first.port))

    threads = [threading.Thread(target=show, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert numbers(first) == list(range(1, 12))
    assert {dashboard.port for dashboard in shown} == {first.port}
    for dashboard in shown:
        dashboard.stop()
    assert numbers(first) == [1]


def test_streamlab_run_is_shown_as_others_are(first: Dashboard) -> None:
    with streamlab.run(["warn: hot"]).dashboard(port=first.port):
        assert list(get(first, "/stats").json()["processors"]) == ["start", "warn", "end"]


def test_what_is_asked_while_a_dashboard_stops_is_answered_about_its_run_or_not_at_all() -> None:
    run = streamlab.run(["warn: hot"])
    codes = set()
    for _ in range(20):
        dashboard = Dashboard(run, port=0)
        began = threading.Barrier(4)

        def hammer(url: str = dashboard.url, began: threading.Barrier = began) -> None:
            with httpx.Client() as client, contextlib.suppress(httpx.TransportError):
                client.get(f"{url}/stats")
                began.wait()
                while True:
                    codes.add(client.get(f"{url}/stats").status_code)

        askers = [threading.Thread(target=hammer) for _ in range(3)]
        for asker in askers:
            asker.start()
        began.wait()
        time.sleep(0.02)
        dashboard.stop()
        for asker in askers:
            asker.join()
    assert codes == {200}
