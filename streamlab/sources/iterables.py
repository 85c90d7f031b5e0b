"""Lines that are there as Python objects: a list, a column, or anything that can be iterated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.errors import SourceError
from streamlab.identity import Mark
from streamlab.sources.items import as_chunk


class SequenceSource:
    """The items of a list, tuple, array or Series: never waits, knows how far it is.

    What is appended while it is being read is read as well. A run that goes on where another one ended wants the same items.

    >>> source = SequenceSource(["a", "b", "c"])
    >>> source.read(2).lines, round(source.progress(), 2)
    (['a', 'b'], 0.67)
    """

    kind = "list"
    blocking = False

    def __init__(self, items: Any, *, max_line_bytes: int = 1_048_576) -> None:
        self.name = type(items).__name__
        self._items = items
        self._slice = _slicer(items)
        self._max_line_bytes = max_line_bytes
        self._given = 0
        self._passed = Mark.of(b"", 0)

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` items as lines; an empty chunk at the end."""
        items = self._slice(self._given, self._given + limit)
        chunk = as_chunk(items, self.name, self._max_line_bytes)
        chunk.places = Places(self, range(self._given, self._given + len(items) + 1))
        self._given += len(items)
        return chunk

    def resume(self, position: Sequence[Any]) -> None:
        """Go on after the items of the source whose `position` this is.

        Raises:
            SourceError: there are fewer items than that, or the last one was another.
        """
        done = Mark(*position)
        what = f"has {len(self._items):,} items" if len(self._items) < done.offset else "has other items"
        if self._mark(done.offset) != done:
            raise SourceError(
                f"{self.name} {what}, and the run that is gone on with has done {done.offset:,}: give the same items,"
                " perhaps with more after them, or begin anew with another checkpoint and another output"
            )
        self._given, self._passed = done.offset, done

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through."""
        self._passed = self._mark(places.start(count))

    def position(self) -> list[Any]:
        """Return how many items have passed, and what the last one was, as plain data."""
        return list(self._passed)

    def _mark(self, count: int) -> Mark:
        last = as_chunk(self._slice(max(count - 1, 0), count), self.name, self._max_line_bytes).lines
        return Mark.of("".join(last).encode("utf-8", "surrogatepass"), count)

    def progress(self) -> float:
        """Return the share of the items that has been read."""
        return min(self._given / len(self._items), 1.0) if len(self._items) else 1.0

    def close(self) -> None:
        """Let go of the items."""
        self._items = []
        self._slice = _slicer(self._items)


def _slicer(items: Any) -> Callable[[int, int], Sequence[object]]:
    """Return how to take ``items`` from one position to another as plain Python objects."""
    by_position = getattr(items, "iloc", items)  # a pandas Series otherwise slices by its index
    for conversion in ("to_pylist", "to_list", "tolist"):  # pyarrow; polars, pandas; numpy
        if hasattr(items, conversion):
            return lambda start, stop: getattr(by_position[start:stop], conversion)()
    return lambda start, stop: by_position[start:stop]


class IterableSource:
    """The items of an iterable that may take its time: a generator, an open file, a client's messages.

    `read` returns as soon as one item has come. A reader that collects lines while others are worked on need not make
    a chunk of each: it takes `items`, and turns what has come into lines with `chunk`, many at a time.

    Attributes:
        blocking: always true.
        taken: items that the iterable has given so far.

    >>> source = IterableSource(word for word in ("a", "b"))
    >>> source.read(10).lines, source.read(10).lines, source.read(10).lines
    (['a'], ['b'], [])
    """

    kind = "iterator"
    blocking = True

    def __init__(self, iterable: Iterable[object], *, max_line_bytes: int = 1_048_576) -> None:
        self.name = type(iterable).__name__
        self.taken = 0
        self._max_line_bytes = max_line_bytes
        try:
            self._iterator = iter(iterable)
        except Exception as error:
            raise SourceError(f"{self.name} cannot be iterated: {type(error).__name__}: {error}") from error
        self._items = self._counted()

    def items(self) -> Iterator[object]:
        """Return the one iterator over the raw items.

        Raises:
            SourceError: from its ``next``, when the iterable raised.
        """
        return self._items

    def chunk(self, items: Sequence[object]) -> Chunk:
        """Return items that came from `items` as a chunk of lines."""
        return as_chunk(items, self.name, self._max_line_bytes)

    def read(self, limit: int) -> Chunk:
        """Return the next item as soon as it has come, whatever ``limit``; an empty chunk at the end.

        Raises:
            SourceError: the iterable raised; its cause is what it raised.
        """
        for item in self._items:
            return self.chunk((item,))
        return Chunk([], source=self.name)

    def progress(self) -> None:
        """Return ``None``: how many will come is not known."""
        return None

    def close(self) -> None:
        """Let go of the iterable: no item is taken any more."""
        self._items = iter(())

    def _counted(self) -> Iterator[object]:
        try:
            for item in self._iterator:
                self.taken += 1
                yield item
        except Exception as error:
            raise raised_in(self.name, self.taken, error) from error


def raised_in(name: str, line_no: int, error: Exception) -> SourceError:
    """Return the error for an iterable that raised where line ``line_no``, from 0, should have come."""
    return SourceError(f"the source ({name}) raised {type(error).__name__} at line {line_no}: {error}")
