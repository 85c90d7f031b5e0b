"""Where outputs go. One module a kind; add yours by writing a class with the `Sink` protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import IO, Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamlab.addresses import is_address
from streamlab.errors import SinkError


@runtime_checkable
class Sink(Protocol):
    """Takes outputs, in order, a batch at a time.

    Attributes:
        name: what to call it in messages.

    A sink that has an attribute ``columns`` which is true gets a `streamlab.columns.Column` where there is one; others get
    lists only. If ``any_thread`` is true too, large ones are written by another thread than the run's while the run goes on;
    never are there two calls at a time. One with ``takes_encoded`` writes lines of text, and may be given them as bytes
    (`streamlab.sinks.text.Encoded`).
    """

    name: str

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Sequence[tuple[int, BaseException]]:
        """Take one batch.

        Args:
            values: the outputs, ``str``, ``dict`` or any object.
            line_no: for each of them the line it came from; -1 for what a ``flush`` gave.

        Returns:
            The positions in ``values`` that were refused, rising, each with the reason: these become dead letters.

        Raises:
            Outage: not for now; nothing of the batch has been taken, or it may be taken twice. It may be written again.
            SinkError: nothing can be written any more; the run fails.
        """
        ...

    def close(self) -> None:
        """Write what is left and let go; more than once is fine."""
        ...


@runtime_checkable
class OnFiles(Protocol):
    """A sink that writes to files: they are not to be read by the same run."""

    def files(self) -> list[str | int]:
        """Return their paths, or descriptors."""
        ...


@runtime_checkable
class Finishing(Protocol):
    """A sink that has something left to write when all outputs have come."""

    def finish(self) -> None:
        """Write it.

        Raises:
            Outage: it cannot for now; it is called again, if the run is to wait.
        """
        ...


@runtime_checkable
class Durable(Protocol):
    """What a sink has beside `Sink` if nothing in it is lost or doubled when a run goes on from a checkpoint."""

    def begin(self) -> None:
        """Begin anew; called before ``write``, unless `resume` is.

        Raises:
            SinkError: there is something already.
        """
        ...

    def mark(self) -> Any:
        """Return how far it is after all that was written, as plain data; called between two calls of ``write``."""
        ...

    def sync(self) -> None:
        """See to it that all before the last `mark` survives a crash; called from another thread, while writing goes on.

        Raises:
            SinkError: it cannot be known that it does.
        """
        ...

    def resume(self, mark: Any, *, ended: bool = False) -> None:
        """Take back all that was written after a `mark` of an earlier sink of the same place; called before ``write``.

        Args:
            mark: as `mark` gave it.
            ended: whether the run whose last mark it is came to its end: what is there beyond it is not its own.

        Raises:
            SinkError: what is there is not what was there at the mark.
        """
        ...


@runtime_checkable
class Publishing(Protocol):
    """A `Durable` sink that shows what it has only when that is committed: about once a second, or with each checkpoint."""

    def publish(self, mark: Any) -> None:
        """Show all that was there at a mark, which lasts by now; called after ``sync``, in the same thread.

        What a crash came before is shown by ``resume``.

        Args:
            mark: the last one that ``mark`` gave; it may be given more than once.

        Raises:
            Outage: it cannot be shown for now; it is called again, if the run is to wait.
            SinkError: it cannot be shown.
        """
        ...


@runtime_checkable
class InFolder(Protocol):
    """A sink that writes to files in a folder, under names of its own: they are not to be read by the same run.

    Attributes:
        folder: the path of the folder.
    """

    folder: str

    def writes(self, name: str) -> bool:
        """Tell of a name in the folder whether it is of a file of the sink."""
        ...


class PartWriter(Protocol):
    """Writes parts of an output on its own, out of sight; can be pickled, to be used in another process."""

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Sequence[tuple[int, BaseException]]:
        """Take one batch, as `Sink.write` does; errors are the same."""
        ...

    def close(self) -> list[str]:
        """See to it that all of it survives a crash, and return the names of the parts; none if nothing was written.

        Raises:
            Outage: not for now; it may be closed again.
            SinkError: it cannot be known that it survives.
        """
        ...


@runtime_checkable
class Parting(Protocol):
    """A sink whose output others can write, in parts."""

    def writer(self) -> PartWriter:
        """Return what writes parts in any process; each is to have its own. Called after ``begin`` or ``resume``."""
        ...

    def adopt(self, names: Sequence[str]) -> None:
        """Take in parts after all that there is by now, in this order; they belong to the next ``mark``.

        Args:
            names: as `PartWriter.close` returned them.

        Raises:
            SinkError: one of them is not there, not of this sink, or was taken in before; then none of them is.
        """
        ...


@runtime_checkable
class Settling(Protocol):
    """What a `Durable` sink has besides if it cannot take back what it has written: it holds it back until it is saved.

    Its `Durable.mark` has the outputs that are held back: a later sink writes them, if this one did not come to it.
    """

    def settle(self, mark: Any) -> None:
        """Take note that a `mark` is saved: nothing before it will be asked for to be taken back.

        Called with a checkpoint only, the first time before anything is written, and from another thread, while writing
        goes on; never two calls at a time.

        Raises:
            Outage: it cannot be written for now; it is called again.
            SinkError: it cannot be written.
        """
        ...


def open_sink(output: object) -> Sink:
    """Return the sink that ``output`` stands for; if it is `Durable`, it is to begin or to resume yet.

    Args:
        output: a ``str`` or ``Path`` (a new file; ``"-"`` is standard output; a new folder of Parquet files, if it ends with
            ``.parquet``, or of files of lines, if it ends with ``/``), an address (``"redis://..."``, see
            `ADDRESSES`), an object with the `Sink` protocol, an
            open file or stream, or a function that is called with each output. A file that is there and not empty is
            only replaced with ``FileSink(path, overwrite=True)``, and so are parts in a folder.

    Raises:
        SinkError: nothing can be written there.
    """
    if isinstance(output, str) and is_address(output):
        return _of_address(output)
    if isinstance(output, (str, os.PathLike)):
        return _of_path(os.fspath(output))
    if hasattr(output, "writelines"):  # an open file; asked before Sink, as it has a name, write and close too
        from streamlab.sinks.stdout import StreamSink

        return StreamSink(cast("IO[Any]", output))
    if isinstance(output, Sink) and not isinstance(output, type):
        return output
    if callable(output) and not isinstance(output, type):
        from streamlab.sinks.callables import CallableSink

        return CallableSink(output)
    kind = f"the class {output.__name__}" if isinstance(output, type) else type(output).__name__
    raise SinkError(f"{kind} is no sink: pass a path, a function, or an object with name, write and close")


def _of_path(path: str) -> Sink:
    if path == "-":
        from streamlab.sinks.stdout import StreamSink

        return StreamSink()
    if path.rstrip(os.sep).lower().endswith(".parquet"):
        from streamlab.sinks.parquet import ParquetSink

        return ParquetSink(path)
    if path.endswith(os.sep):
        from streamlab.sinks.parts import FileParts

        return FileParts(path)
    from streamlab.sinks.files import FileSink

    return FileSink(path)


#: Modules and their classes with a method ``of_address``, by the scheme of the address.
ADDRESSES = {
    "redis": ("redis", "RedisSink"),
    "rediss": ("redis", "RedisSink"),
    "nats": ("nats", "NatsSink"),
    "tls": ("nats", "NatsSink"),
    "kafka": ("kafka", "KafkaSink"),
    "kafkas": ("kafka", "KafkaSink"),
}


def _of_address(address: str) -> Sink:
    scheme = address.partition("://")[0]
    if scheme not in ADDRESSES:
        known = ", ".join(f"{name}://" for name in ADDRESSES)
        raise SinkError(f"{address!r} is an address of no known kind; known are {known}")
    module, name = ADDRESSES[scheme]
    made: Sink = getattr(import_module(f"{__name__}.{module}"), name).of_address(address)
    return made
