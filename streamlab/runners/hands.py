"""Threads that make calls for a run, and do not keep the interpreter from ending while one of them hangs."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds that a call which is under way has to end when the threads are closed.
END_SECONDS = 2.0


class Call(Future[T]):
    """A call that a thread makes for somebody who waits for its result.

    Attributes:
        thread: the thread that is at it, while one is.
    """

    thread: int | None = None


class Hands:
    """A few threads that make calls in the order in which they are given.

    Those of `concurrent.futures` are waited for when the interpreter ends, for ever if a user's function hangs in one.

    >>> hands = Hands(2, "adders")
    >>> hands.begin(lambda: 1 + 2).result()
    3
    >>> hands.close()
    """

    def __init__(self, size: int, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Call[Any]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=f"{name}-{n}", daemon=True) for n in range(size)]
        for thread in self._threads:
            thread.start()

    def begin(self, call: Callable[[], T]) -> Call[T]:
        """Have a call made as soon as a thread is free."""
        future: Call[T] = Call()
        self._calls.put((call, future))
        return future

    def _serve(self) -> None:
        while (job := self._calls.get()) is not None:
            call, future = job
            future.thread = threading.get_ident()
            try:
                result = call()
            except BaseException as error:  # raised to who asks for the result
                future.thread = None
                future.set_exception(error)
            else:
                future.thread = None
                future.set_result(result)
            del job, call, future  # they hold a batch

    def close(self) -> None:
        """End the threads; calls that none of them has begun with are not made, and one that hangs is left alone."""
        with contextlib.suppress(queue.Empty):
            while (job := self._calls.get_nowait()) is not None:
                job[1].cancel()
        for _ in self._threads:
            self._calls.put(None)
        until = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
