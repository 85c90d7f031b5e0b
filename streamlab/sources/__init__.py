"""Where lines come from. One module a kind; add yours by writing a class with the `Source` protocol.

`open_source` chooses: a ``str`` or ``Path`` is a file, a glob or a folder, ``"-"`` is standard input, a ``str`` with
``://`` is the address of something to listen to or to take from, an object with the `Source` protocol is taken as it is, an
async iterator or any other iterable gives the lines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterable, Generator, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable

from streamlab.addresses import is_address
from streamlab.batch import Chunk, Places
from streamlab.errors import SourceError
from streamlab.notices import Notice
from streamlab.sources.own import Own


@runtime_checkable
class Source(Protocol):
    """Gives consecutive lines, a chunk at a time.

    Attributes:
        name: what to call it in messages (``"data/sample.log"``, ``"stdin"``, ``"list"``).
        blocking: whether `read` may wait for lines that are not there yet (a pipe, a generator). Then the runner reads
            it ahead, so that lines which have come are not held up by one which has not.
    """

    name: str
    blocking: bool

    def read(self, limit: int) -> Chunk:
        """Return the next 1 to ``limit`` lines as soon as there are any; an empty chunk at the end.

        Raises:
            SourceError: lines cannot be read.
        """
        ...

    def progress(self) -> float | None:
        """Return the share that has been read, from 0.0 to 1.0; ``None`` when the size is not known."""
        ...

    def close(self) -> None:
        """Let go of files and connections; more than once is fine."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """What a source has beside `Source` when a run can go on where another one ended; its chunks have `Chunk.places`.

    It may have a ``kind`` too: what sources of its class are called when another run's was of another class.

    `passed`, `position` and `acknowledge` are called from other threads than `read`.
    """

    def resume(self, position: Any) -> None:
        """Go on where the source was whose `position` this is; called before anything is read.

        Raises:
            SourceError: it cannot.
        """
        ...

    def passed(self, places: Places, count: int) -> None:
        """Take note that the first ``count`` lines of a chunk are through: the sink has what came of them."""
        ...

    def position(self) -> Any:
        """Return where to go on after the lines that have passed: plain data (text, numbers, lists, dicts)."""
        ...


@runtime_checkable
class Acknowledging(Protocol):
    """What a source has besides when it is to be told that lines need not be kept for it any more, as a broker does."""

    def acknowledge(self, position: Any) -> None:
        """Take note that what had passed at a `position` is safe: outputs, dead letters and counters are on disk.

        Without a checkpoint it is called about once a second, when the sink has taken what came of them.
        """
        ...


class Part(Protocol):
    """Some of the lines of a source, to be read apart from the others, perhaps on another machine; it can be pickled."""

    def chunks(self, *, max_line_bytes: int, columns: bool) -> Generator[Chunk, None, Any]:
        """Yield the lines in chunks, and return where they end, for `Splitting.finished`: plain data.

        Raises:
            BrokenOff: there is no more of them, though there should be; those before have been given.
            SourceError: they cannot be read.
        """
        ...


@runtime_checkable
class Splitting(Protocol):
    """What a source has beside `Source` when parts of it can be read apart from each other, by several readers."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        ...

    def split(self, lines: int, parts: int) -> Sequence[Part]:
        """Return what is to be read next, in order: about so many lines, in about so many parts; empty if nothing is there.

        Raises:
            SourceError: it cannot be looked at.
        """
        ...

    def finished(self, part: Any, end: Any) -> None:
        """Take note that a part is through, and where it ended, as its ``chunks`` returned it; called in order."""
        ...


@runtime_checkable
class Sparing(Protocol):
    """What a source has besides when it might read what the run writes: it does not."""

    def leave_out(self, own: Own) -> None:
        """Leave out what the run itself writes; called before anything is read, and before `Resumable.resume`.

        Raises:
            SourceError: there is nothing else.
        """
        ...


@runtime_checkable
class Listening(Protocol):
    """What a source has besides when lines are sent to it, and nobody keeps those that have come."""

    def stop_receiving(self) -> None:
        """Take in no more; ``read`` gives what has come, and then an empty chunk. Called from another thread than it."""
        ...


def notices_of(source: object) -> list[Notice]:
    """Take the notices away that a source (or sink) has in its ``notices``, a deque, if it has one."""
    notices: deque[Notice] = getattr(source, "notices", deque())
    return [notices.popleft() for _ in range(len(notices))]


def open_source(
    source: object,
    *,
    max_line_bytes: int = 1_048_576,
    columns: bool = False,
    follow: bool = False,
    split: bool = False,
) -> Source:
    """Return the source that ``source`` stands for.

    Args:
        source: a ``str`` or ``Path`` (a file, a glob, a folder), ``"-"`` (standard input), an address (``"redis://..."``,
            see `ADDRESSES`), a list of ``Path``, an object with the `Source` protocol, an async iterator, or any other
            iterable of lines.
        max_line_bytes: length in bytes above which a line is rejected as ``oversize``; a ready-made `Source` has its
            own.
        columns: whether lines of files had better come as a `streamlab.columns.Column`.
        follow: whether to go on reading files as they grow.
        split: whether files are to be read in parts, see `Splitting`.

    Raises:
        SourceError: there is nothing to read there, lines cannot be had from such an object, or it cannot be followed.

    >>> open_source(["info: a", "warn: b"]).read(10).lines
    ['info: a', 'warn: b']
    """
    if follow:
        return _followed(source, max_line_bytes)
    if isinstance(source, Source) and not isinstance(source, type):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _of_path(source, max_line_bytes, columns, split)
    if isinstance(source, AsyncIterable):
        from streamlab.sources.asynchronous import AsyncSource

        return AsyncSource(source, max_line_bytes=max_line_bytes)
    hint = _hint(source)
    if hint or not isinstance(source, Iterable):
        raise SourceError(f"{_kind(source)} is no source of lines: pass {hint or 'a path, a list or a generator'}")
    return _of_items(source, max_line_bytes, columns, split)


def _followed(source: object, max_line_bytes: int) -> Source:
    from streamlab.sources.follow import FollowSource

    paths: list[Any] = [source]
    if isinstance(source, (list, tuple)) and source and all(isinstance(item, PurePath) for item in source):
        paths = list(source)
    elif not isinstance(source, (str, os.PathLike)):
        raise SourceError(
            f"follow=True is for files, globs and folders, and {_kind(source)} is none: pass a path, or a list of Path"
        )
    for path in paths:
        if path == "-" or is_address(path):
            what = "standard input" if path == "-" else str(path)
            raise SourceError(f"{what} cannot be followed: it is read as it comes anyway; leave follow out")
    return FollowSource(paths, max_line_bytes=max_line_bytes)


#: Modules with a function, or a class with a method, ``of_address``, by the scheme of the address.
ADDRESSES = {
    "redis": ("redis", "RedisSource"),
    "rediss": ("redis", "RedisSource"),
    "nats": ("nats", "NatsSource"),
    "tls": ("nats", "NatsSource"),
    "kafka": ("kafka", "KafkaSource"),
    "kafkas": ("kafka", "KafkaSource"),
    "syslog+tcp": ("syslog", "SyslogSource"),
    "syslog+udp": ("syslog", "SyslogSource"),
    "http": ("http", "HttpSource"),
}


def _of_address(address: str, max_line_bytes: int) -> Source:
    scheme = address.partition("://")[0]
    if scheme not in ADDRESSES:
        known = ", ".join(f"{name}://" for name in ADDRESSES)
        raise SourceError(f"{address!r} is an address of no known kind; known are {known}")
    module, name = ADDRESSES[scheme]
    made: Source = getattr(import_module(f"{__name__}.{module}"), name).of_address(address, max_line_bytes=max_line_bytes)
    return made


def _of_path(path: str | os.PathLike[str], max_line_bytes: int, columns: bool, split: bool) -> Source:
    from streamlab.sources.locate import find_files
    from streamlab.sources.stdin import StdinSource

    if isinstance(path, str) and is_address(path):
        return _of_address(path, max_line_bytes)
    if path == "-":
        return StdinSource(max_line_bytes=max_line_bytes)
    return _of_files(find_files(path), os.fspath(path), max_line_bytes, columns, split)


def _of_files(paths: Sequence[str], name: str | None, max_line_bytes: int, columns: bool, split: bool) -> Source:
    from streamlab.sources.files import FileSource

    files = FileSource(paths, name=name, max_line_bytes=max_line_bytes, columns=columns)
    if not split or files.blocking:
        return files
    from streamlab.sources.ranges import SplitFiles

    return SplitFiles(paths, name=name, max_line_bytes=max_line_bytes)


def _of_items(items: Iterable[Any], max_line_bytes: int, columns: bool, split: bool) -> Source:
    from streamlab.sources.iterables import IterableSource, SequenceSource
    from streamlab.sources.locate import find_files

    if isinstance(items, (list, tuple)) and items and all(isinstance(item, PurePath) for item in items):
        files = [file for path in items for file in find_files(path)]
        return _of_files(files, None, max_line_bytes, columns, split)
    sliceable = isinstance(items, Sequence) and not isinstance(items, deque)
    if sliceable or (hasattr(items, "__len__") and any(hasattr(items, name) for name in ("iloc", "to_list", "tolist"))):
        return SequenceSource(items, max_line_bytes=max_line_bytes)
    return IterableSource(items, max_line_bytes=max_line_bytes)


def _hint(source: object) -> str:
    """Return what to pass instead of an object that looks as if it had lines to give, but has not; or ``""``."""
    if isinstance(source, type):
        return f"an instance of it: {source.__name__}(...)"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "a path as text, or a list of lines: data.split(b'\\n') for bytes in memory"
    if isinstance(source, Mapping):
        return "a list of its lines, such as list(fields.values())"
    if type(source).__name__ in ("DataFrame", "LazyFrame"):
        return 'one of its columns: frame["line"]'
    if callable(source) and not isinstance(source, Iterable):
        return f"what it returns: call it, {getattr(source, '__name__', 'function')}()"
    return ""


def _kind(source: object) -> str:
    name = source.__name__ if isinstance(source, type) else type(source).__name__
    return f"{'the class' if isinstance(source, type) else 'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
