"""The real world, for the engine: clocks, sleep, threads and processes beside the run's, an event loop for what waits."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from streamlab.policy import Exhausted, Refusal
from streamlab.runners.hands import Hands
from streamlab.runners.processes import Processes

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

#: Hung threads that a run can bear; Python cannot kill one.
MAX_ABANDONED = 8


class LocalHost:
    """The host of a local run; but for the clock it is called from the run's thread.

    Args:
        stopping: set when the run is asked to stop: pauses between attempts end early.
        workers: processes for segments that run in several.
    """

    def __init__(self, stopping: threading.Event, workers: int = 1) -> None:
        self._stopping = stopping
        self._workers = workers
        self._crews: dict[bytes, Processes] = {}
        self._ahead: Hands | None = None
        self._aside: Hands | None = None
        self._loop: asyncio.Runner | None = None
        self._caller: Caller | None = None
        self._abandoned: list[Caller] = []

    clock = staticmethod(time.perf_counter)
    now = staticmethod(time.time)

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts, or until the run is asked to stop."""
        self._stopping.wait(seconds)

    async def pause(self, seconds: float) -> None:
        """Wait as `sleep` does, and let other values go on meanwhile."""
        import asyncio  # takes long to import: only for who awaits

        end = time.perf_counter() + seconds
        while not self._stopping.is_set() and (left := end - time.perf_counter()) > 0:
            await asyncio.sleep(min(left, 0.1))

    def within(self, seconds: float, call: Callable[[Any], Any], value: Any, what: str) -> Any:
        """Return ``call(value)`` from a thread of its own; abandon the thread when it takes longer than ``seconds``.

        Raises:
            Refusal: of kind ``timeout``; of kind ``worker_died``, which ends the run, while `MAX_ABANDONED` threads hang.
        """
        self._abandoned = [caller for caller in self._abandoned if caller.hangs()]
        if len(self._abandoned) >= MAX_ABANDONED:
            raise Exhausted("worker_died", f"was not run: {MAX_ABANDONED} calls hang already, and threads cannot be killed")
        if self._caller is None:
            self._caller = Caller()
        done, result, error = self._caller.call(call, value, seconds)
        if not done:
            self._abandoned.append(self._caller)
            self._caller = None
            raise Refusal("timeout", f"took longer than {seconds:g} s")
        if error is not None:
            raise error
        return result

    def gather(self, calls: Iterable[Callable[[], Awaitable[Any]]], limit: int) -> list[Any]:
        """Await all, at most ``limit`` at a time, started in order; return results in order."""
        import asyncio

        if self._loop is None:
            self._loop = asyncio.Runner()
        return self._loop.run(_all(list(calls), limit))

    def crew(self, setup: bytes) -> Processes:
        """Return the processes for a segment, the same for the same setup."""
        if setup not in self._crews:
            self._crews[setup] = Processes(setup, self._workers, self._stopping)
        return self._crews[setup]

    def ahead(self, call: Callable[[], T]) -> Future[T]:
        """Begin a call in one of several threads: native code runs on as many cores."""
        if self._ahead is None:
            self._ahead = Hands(cores(), "streamlab-columns")
        return self._ahead.begin(call)

    def aside(self, call: Callable[[], T]) -> Future[T]:
        """Begin a call in a thread that makes such calls one after the other."""
        if self._aside is None:
            self._aside = Hands(1, "streamlab-writer")
        return self._aside.begin(call)

    def hangs(self) -> bool:
        """Tell whether a call that was given up is still going on."""
        return any(caller.hangs() for caller in self._abandoned)

    def close(self) -> None:
        """End the event loop, the threads and the processes."""
        for hands in (self._ahead, self._aside):
            if hands is not None:
                hands.close()
        for crew in self._crews.values():
            crew.close()
        if self._loop is not None:
            self._loop.close()
        if self._caller is not None:
            self._caller.close()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _all(calls: list[Callable[[], Awaitable[Any]]], limit: int) -> list[Any]:
    import asyncio

    results: list[Any] = [None] * len(calls)
    waiting = iter(enumerate(calls))

    async def worker() -> None:
        for index, call in waiting:
            results[index] = await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limit, len(calls))):
            group.create_task(worker())
    return results


class Caller:
    """A thread that makes calls for another one, which waits for it no longer than it likes.

    Attributes:
        thread: the thread.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[Any], Any], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="streamlab-timeout", daemon=True)
        self.thread.start()

    def hangs(self) -> bool:
        """Tell whether a thread that was abandoned is still at its call."""
        return self.thread.is_alive()

    def _serve(self) -> None:
        while (job := self._calls.get()) is not None:
            call, value = job
            answer: tuple[Any, BaseException | None]
            try:
                answer = call(value), None
            except BaseException as error:  # handed to who waits
                answer = None, error
            self._answers.put(answer)

    def call(self, call: Callable[[Any], Any], value: Any, seconds: float) -> tuple[bool, Any, BaseException | None]:
        """Return whether it was done in time, the result, and what was raised."""
        self._calls.put((call, value))
        try:
            result, error = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.close()  # so that the thread ends, should the call ever return
            return False, None, None
        return True, result, error

    def close(self) -> None:
        """End the thread, once its call has come back."""
        self._calls.put(None)
