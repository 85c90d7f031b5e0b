"""What is lost while a driver asks for it: it is told as a lost connection, and nothing is waited for in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamlab import Pipeline
from streamlab.crew import WorkerInfo
from streamlab.errors import CheckpointError, RunError
from streamlab.runners.cluster.backend import Gone
from tests.inline import Inline
from tests.waiting import until

pytest.importorskip("distributed")

from streamlab.runners.cluster.dask import DaskBackend, _version


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give an event loop that runs in a thread, as that of a client does."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def connected(**client: Any) -> DaskBackend:
    """Return a backend that has a client, one that does only what is given."""
    backend = DaskBackend("tcp://127.0.0.1:1")
    backend._client = SimpleNamespace(**({"status": "running"} | client))
    return backend


class Handle:
    """A task that has ended, as long as its result is there."""

    def __init__(self) -> None:
        self.there = True

    def done(self) -> bool:
        return self.there


def test_results_that_were_lost_with_a_worker_are_not_waited_for(loop: asyncio.AbstractEventLoop) -> None:
    handle = Handle()

    async def gather(*_: Any, **__: Any) -> None:
        handle.there = False  # Dask has found out, and waits until another worker has done it, which may be never
        await asyncio.sleep(60)

    backend = connected(gather=gather, loop=SimpleNamespace(asyncio_loop=loop))
    with pytest.raises(Gone, match="lost with the worker"):
        backend.results([handle])


def test_results_come_as_they_are(loop: asyncio.AbstractEventLoop) -> None:
    async def gather(handles: list[Any], **_: Any) -> list[int]:
        return [1] * len(handles)

    backend = connected(gather=gather, loop=SimpleNamespace(asyncio_loop=loop))
    assert backend.results([Handle(), Handle()]) == [1, 1]


def test_what_a_task_raised_is_raised(loop: asyncio.AbstractEventLoop) -> None:
    async def gather(*_: Any, **__: Any) -> None:
        raise KeyError("of the user's")

    backend = connected(gather=gather, loop=SimpleNamespace(asyncio_loop=loop))
    with pytest.raises(KeyError):
        backend.results([Handle()])


@pytest.mark.parametrize("error", [AttributeError("'NoneType' object has no attribute 'who_has'"), RuntimeError("closed")])
def test_a_client_that_is_closed_meanwhile_has_lost_its_connection(error: Exception) -> None:
    def info(**_: Any) -> None:
        backend._client.status = "closed"
        raise error

    backend = connected(scheduler_info=info)
    with pytest.raises(Gone):
        backend.workers()


WORKER = {"name": "one", "nthreads": 1}


class Joining:
    """A client of a cluster whose workers come one after the other, each with an answer when it is asked for its version."""

    def __init__(self, *answers: Any) -> None:
        self.status = "running"
        self.answers = {f"tcp://10.0.0.{number}:1": answer for number, answer in enumerate(answers)}
        self.there = 1
        self.asked: list[str] = []

    def scheduler_info(self, **_: Any) -> dict[str, Any]:
        return {"workers": dict.fromkeys([*self.answers][: self.there], WORKER)}

    def run(self, function: Callable[[], Any], workers: list[str], **_: Any) -> dict[str, Any]:
        self.asked += workers
        return {address: self.answers[address] for address in workers}


def test_a_worker_is_asked_for_its_version_once_when_it_joins() -> None:
    backend = connected()
    backend._client = client = Joining(_version(), _version(), ("0.0.0", "3.11"))
    for client.there in (1, 1, 2, 2):
        assert len(backend.workers()) == client.there
    assert client.asked == ["tcp://10.0.0.0:1", "tcp://10.0.0.1:1"]
    client.there = 3
    with pytest.raises(RunError, match=r"worker tcp://10\.0\.0\.2:1 has streamlab 0\.0\.0 and Python 3\.11"):
        backend.workers()


def test_a_worker_that_has_no_streamlab_is_told_of() -> None:
    backend = connected()
    backend._client = Joining(ModuleNotFoundError("No module named 'streamlab'"))
    with pytest.raises(
        RunError, match="cannot import streamlab: No module named 'streamlab'; install the same version there"
    ):
        backend.workers()


def test_a_worker_that_is_gone_has_no_wrong_version() -> None:
    backend = connected()
    backend._client = Joining(OSError("Address removed."))
    assert len(backend.workers()) == 1


class Late(Inline):
    """A cluster whose workers come later."""

    def workers(self) -> Sequence[WorkerInfo]:
        return super().workers() if self.count else []


def test_a_run_waits_for_the_first_worker_and_says_so() -> None:
    late = Late(0)
    run = Pipeline("p").add("upper", str.upper).start(["a"], cluster=late)
    until(lambda: run.state == "paused")
    assert run.reason == "this process has no workers"
    late.count = 1
    assert run.wait(20).output["value"].tolist() == ["A"]


def test_tables_of_a_run_on_a_cluster_have_their_columns_without_rows_too() -> None:
    run = Pipeline("p").add("upper", str.upper).run(["a"], cluster=Inline(), trace=True)
    assert {"source", "place", "worker"} <= {*run.errors} & {*run.traces}
    assert run.errors.empty and run.latest_errors() == []
    failed = Pipeline("p").add("number", int).run(["a"], cluster=Inline())
    assert failed.latest_errors()[0]["worker"] == failed.errors["worker"][0] == "w0"
    assert "worker" not in Pipeline("p").add("number", int).run(["a"]).latest_errors()[0]


def test_resume_asks_for_what_was_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "in.log").write_text("mail a@b.example\n")
    pipeline = Pipeline("p").add("number", int)
    given = {"output": tmp_path / "out.log", "checkpoint": tmp_path / "state"}
    first = pipeline.run(tmp_path / "in.log", cluster=Inline(), partitions=3, redact=["email"], **given)
    assert "a@b.example" not in first.errors["line"][0]
    (tmp_path / "in.log").write_text("mail a@b.example\nand c@d.example\n")
    with pytest.raises(CheckpointError, match=r"does not say what cluster= was.*give it again, resume\(..., cluster=...\)"):
        pipeline.resume(tmp_path / "state")
    run = pipeline.resume(tmp_path / "state", cluster=None)
    assert run.ledger["received"] == 2
    assert "d.example" not in run.errors["line"].iloc[-1]  # what is covered is remembered
    run = pipeline.resume(tmp_path / "state", redact=str.upper)
    with pytest.raises(CheckpointError, match="does not say what redact= was"):
        pipeline.resume(tmp_path / "state")


class Away(Inline):
    """A cluster that is lost after some tasks, and does not come back."""

    def open(self) -> None:
        super().open()
        if self.opened > 1:
            self._lost = True
            raise Gone("there is no scheduler")

    def submit(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._lost |= name.split("-")[4] == "3"  # the fourth epoch
        return super().submit(name, function, *args, **options)


def test_a_run_that_waits_for_its_cluster_can_be_stopped_and_gone_on_with(tmp_path: Path) -> None:
    lines = [f"line {number}\n" for number in range(100)]
    (tmp_path / "in.log").write_text("".join(lines))
    given = {"output": tmp_path / "out.log", "checkpoint": tmp_path / "checkpoint"}
    pipeline = Pipeline("p").add("upper", str.upper)
    live = pipeline.start(tmp_path / "in.log", cluster=Away(), epoch_lines=10, **given)
    until(lambda: live.state == "paused")
    live.stop()
    live.wait(5)
    assert (live.state, live.exception) == ("stopped", None)
    run = pipeline.run(tmp_path / "in.log", **given)
    assert run.ledger["received"] == len(lines)
    assert (tmp_path / "out.log").read_text() == "".join(lines).upper()


class Count:
    """Tells at the end how many have come."""

    seen = 0

    def __call__(self, line: str) -> None:
        self.seen += 1

    def flush(self) -> Iterator[int]:
        yield self.seen


def test_a_run_that_cannot_come_to_its_end_says_so_at_once() -> None:
    live = Pipeline("p").add("count", Count).start(map(str, range(100)), cluster=Away(), epoch_lines=10)
    until(lambda: live.state == "paused")
    live.stop()
    live.wait(5)
    assert live.state == "failed"
    assert isinstance(live.exception, RunError) and "with checkpoint=" in str(live.exception)
    assert len(live.notices) < 10
