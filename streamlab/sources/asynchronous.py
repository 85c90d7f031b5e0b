"""Lines from an async iterator, driven by a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

from streamlab.batch import Chunk
from streamlab.sources.items import as_chunk, size_of
from streamlab.sources.iterables import raised_in

#: Characters of a chunk beyond which no item is added to it.
CHUNK_TEXT = 16_777_216


class AsyncSource:
    """The items of an async iterator, which runs in the thread that calls `read`, and only during that call.

    A call returns what has come: the first item is waited for, the next ones are taken while they are there at once.

    Attributes:
        blocking: always true.

    >>> async def ticks():
    ...     yield "a"
    ...     yield "b"
    >>> source = AsyncSource(ticks())
    >>> source.read(10).lines
    ['a', 'b']
    >>> source.close()
    """

    kind = "async iterator"
    blocking = True

    def __init__(self, iterable: AsyncIterable[object], *, max_line_bytes: int = 1_048_576) -> None:
        self.name = type(iterable).__name__
        self._iterator: AsyncIterator[object] = aiter(iterable)
        self._max_line_bytes = max_line_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Task[object] | None = None  # the item being waited for, perhaps since an earlier call
        self._taken = 0
        self._closed = False
        self._reading = threading.Lock()

    def read(self, limit: int) -> Chunk:
        """Return the items that have come, at most ``limit``, at least one; an empty chunk at the end.

        Raises:
            SourceError: the iterator raised; its cause is what it raised.
        """
        with self._reading:
            if self._closed:
                return Chunk([], source=self.name)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            items = self._loop.run_until_complete(self._some(limit))
        self._taken += len(items)
        return as_chunk(items, self.name, self._max_line_bytes)

    def progress(self) -> None:
        """Return ``None``: how many will come is not known."""
        return None

    def close(self) -> None:
        """Close the iterator and its loop; a `read` that waits in another thread returns an empty chunk."""
        self._closed = True
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(self._give_up)
        # A thread of its own, as the caller's may have a running loop already, as in a notebook.
        closer = threading.Thread(target=self._finish, args=(loop,), name="streamlab-close")
        closer.start()
        closer.join()

    async def _some(self, limit: int) -> list[object]:
        items: list[object] = []
        size = 0
        while len(items) < limit and size < CHUNK_TEXT:
            if self._next is None:
                self._next = asyncio.ensure_future(self._anext())
            if items:
                await asyncio.sleep(0)  # one turn of the loop: enough for an item that is there
            else:
                await asyncio.wait([self._next])
            if items and (not self._next.done() or self._next.cancelled() or self._next.exception()):
                break  # for the next call
            came, self._next = self._next, None
            try:
                items.append(came.result())
                size += size_of(items[-1])
            except (StopAsyncIteration, asyncio.CancelledError):
                break
            except Exception as error:
                raise raised_in(self.name, self._taken, error) from error
        return items

    async def _anext(self) -> object:
        return await anext(self._iterator)

    def _give_up(self) -> None:
        if self._next is not None:
            self._next.cancel()

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._reading:
            if loop.is_closed():
                return
            loop.run_until_complete(self._close_iterator())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _close_iterator(self) -> None:
        if self._next is not None:
            await asyncio.wait([self._next])
        if isinstance(self._iterator, AsyncGenerator):
            with contextlib.suppress(Exception):  # what its clean-up raises comes too late to fail a line
                await self._iterator.aclose()
