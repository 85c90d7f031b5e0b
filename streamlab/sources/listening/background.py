"""A thread with an event loop of its own, in which a source receives."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

#: Seconds that the thread may take to begin, and to end.
START_SECONDS, CLOSE_SECONDS = 10.0, 5.0


class Background:
    """Runs a coroutine in a thread, from the moment it is made until it ends, or `close`.

    Args:
        name: of the thread.
        work: is called with an event that says that the end is near; cancelled by `close`.
        ended: is called at the end, in the thread, with what was raised if anything was.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[asyncio.Event], Awaitable[None]],
        ended: Callable[[BaseException | None], object],
    ) -> None:
        self._work = work
        self._ended = ended
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._ready.wait(START_SECONDS)

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called in the event loop, from any thread; after the end nothing happens."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Say that the end is near, and return at once."""
        if self._stopping is not None:
            self.call(self._stopping.set)

    def close(self) -> None:
        """Cancel the work, and return when the thread has ended; more than once is fine."""
        if self._task is not None:
            self.call(self._task.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as raised:  # told to who reads, in another thread
            error = raised
        finally:
            self._ready.set()
            self._ended(error)

    async def _main(self) -> None:
        self._loop, self._stopping, self._task = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
        self._ready.set()
        await self._work(self._stopping)
