"""What is lost while a driver asks for it: it is told as a lost connection, and nothing is waited for in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from streamlab.runners.cluster.backend import Gone

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


def test_a_worker_that_is_gone_has_no_wrong_version() -> None:
    def run(function: Callable[[], Any], **_: Any) -> dict[str, Any]:
        return {"tcp://10.0.0.1:1": OSError("Address removed."), "tcp://10.0.0.2:1": _version()}

    connected(run=run)._check_versions()
