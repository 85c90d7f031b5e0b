"""Outputs as lines on standard output, or on any stream that is open already."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from streamlab.appending import write_all
from streamlab.errors import SinkError
from streamlab.sinks.text import encoded, visible


class StreamSink:
    """Writes a line for each output and flushes after each batch; the stream stays open, it is the caller's.

    Bytes come out as they went in. On a terminal, control characters other than tab are shown as escapes instead, as a
    log line could otherwise change the terminal's colours, title or keys.

    Args:
        stream: where to write; by default standard output.

    >>> StreamSink().write(["warn: disk", {"free": 0}], np.array([0, 1]))
    warn: disk
    {"free":0}
    []
    """

    def __init__(self, stream: IO[Any] | None = None) -> None:
        self._stream: IO[Any] = sys.stdout if stream is None else stream
        self.name = "stdout" if self._stream is sys.stdout else str(getattr(self._stream, "name", "stream"))
        self._finish = visible if _is_terminal(self._stream) else None
        self._binary = _bytes_below(self._stream)
        self.takes_encoded = self._finish is None

    columns = True

    def files(self) -> list[str | int]:
        """Return the stream's descriptor, if it has one: it may lead to a file."""
        try:
            return [self._stream.fileno()]
        except (AttributeError, OSError, ValueError):  # a notebook's; text in memory; closed
            return []

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        """Write and flush one batch; return what could not be made text.

        Raises:
            SinkError: the stream takes no more; its cause is a `BrokenPipeError` when the reader has gone (``| head``).
        """
        data, refused = encoded(values, self._finish)
        try:
            if self._binary is None:  # a notebook's, or a StringIO: it takes text only, and not every text
                self._stream.write(bytes(data).decode("utf-8", "replace"))
            self._stream.flush()  # with bytes: what was printed before comes first
            if self._binary is not None:
                write_all(self._binary, data)
        except BrokenPipeError as error:
            raise SinkError(f"{self.name} is closed at its other end") from error
        except (OSError, ValueError) as error:  # ValueError: the stream has been closed here
            raise SinkError(f"{self.name} cannot be written: {error}") from error
        return refused

    def close(self) -> None:
        """Do nothing: all is flushed, and the stream is the caller's."""


def _bytes_below(stream: IO[Any]) -> IO[bytes] | None:
    """Return where bytes can be written to without a buffer that would keep them, should the write fail."""
    if hasattr(stream, "encoding") and not hasattr(stream, "buffer"):
        return None
    binary: IO[bytes] = getattr(stream, "buffer", stream)
    return getattr(binary, "raw", binary)


def _is_terminal(stream: IO[Any]) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no such question to a minimal stream; closed
        return False
