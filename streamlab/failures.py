"""What went wrong with a line: one record a failure, kept for the errors table and the dead letters."""

from __future__ import annotations

import traceback as tracebacks
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, TracebackType
from typing import Any

ERROR_COLUMNS = ("line_no", "time", "processor", "kind", "error", "message", "line", "attempts", "traceback")
#: What a run on a cluster tells besides, of failures and of lines: where they were in the source, and who had them.
CLUSTER_COLUMNS = ("source", "place", "worker")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that is replayed: where its line is.

    Attributes:
        fields: what it says, see `streamlab.letters.LetterFields`.
    """

    fields: Mapping[str, Any]


#: Where a line is in its source: a number of bytes, the number of an item, the name of a message; in dead letters: a letter.
Place = int | str | Letter


@dataclass(slots=True)
class Failure:
    """One value that a processor, the source or the sink failed on.

    Attributes:
        line_no: the line it came from; ``None`` for what went wrong at ``flush``.
        time: seconds since the epoch.
        processor: whose visit failed; ``None`` for a line that did not get as far as the entry.
        kind: one of `streamlab.policy.FAILURE_KINDS`.
        error: name of the exception's class.
        message: what it says.
        line: the line, whole.
        attempts: how often the processor tried.
        traceback: the user's part of it, as text; empty when no code of theirs was involved.
        source: where the line came from.
        place: where in the source; ``None`` when that is not known.
        path: the processors it had visited, ``start > warn``.
        dead: whether it became a dead letter (not skipped, nor handled by another processor).
        number: of a dead letter, how many came before it in the run, and in those that it goes on with.
        worker: on a cluster, who found it.
    """

    line_no: int | None
    time: float
    processor: str | None
    kind: str
    error: str
    message: str
    line: str
    attempts: int = 1
    traceback: str = ""
    source: str = ""
    place: Place | None = None
    path: str = ""
    dead: bool = True
    number: int = -1
    worker: str = ""

    def row(self) -> dict[str, Any]:
        """Return all there is, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def where(self, pipeline: str) -> str:
        """Return one sentence for people: pipeline, processor, line number and what happened."""
        processor = f", processor {self.processor!r}" if self.processor is not None else ""
        line = f", line {self.line_no}" if self.line_no is not None else ", at end of input"
        return f"pipeline {pipeline!r}{processor}{line}: {self.error}: {self.message}"


#: Characters of lines, messages and tracebacks that are kept of failures, beside their number.
KEPT_TEXT = 64 * 1024 * 1024
#: Dead letters that a run keeps in memory when it has somewhere else to put them, or may go on for ever.
KEPT_LETTERS = 10_000


class Last:
    """The last failures: so many, and so much text of them.

    Args:
        count: how many to keep; ``None`` for all, whatever they hold.
    """

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._failures: deque[Failure] = deque()
        self._text = 0

    def extend(self, failures: Iterable[Failure]) -> None:
        """Take failures in, and let the oldest go."""
        for failure in failures:
            self._failures.append(failure)
            self._text += _size(failure)
        while self._count is not None and (
            len(self._failures) > self._count or (self._text > KEPT_TEXT and len(self._failures) > 1)
        ):
            self._text -= _size(self._failures.popleft())

    def __len__(self) -> int:
        return len(self._failures)

    def __iter__(self) -> Iterator[Failure]:
        return iter(self._failures)

    def __reversed__(self) -> Iterator[Failure]:
        return reversed(self._failures)

    def copy(self) -> list[Failure]:
        """Return them as they are now, oldest first."""
        return list(self._failures)


def _size(failure: Failure) -> int:
    return len(failure.line) + len(failure.message) + len(failure.traceback)


@dataclass(slots=True)
class Failures:
    """The last failures, all dead letters (or the last ones, with ``keep``), and how many there were.

    Attributes:
        keep: dead letters to keep; ``None`` for all of them.
    """

    keep: int | None = None
    total: int = 0
    dead: int = 0
    recent: Last = field(default_factory=lambda: Last(10_000))
    letters: Last = field(init=False)

    def __post_init__(self) -> None:
        self.letters = Last(self.keep)

    def extend(self, failures: Sequence[Failure]) -> list[Failure]:
        """Take in what failed in a batch; return the dead letters among it."""
        self.recent.extend(failures)
        self.total += len(failures)
        letters = [failure for failure in failures if failure.dead]
        for number, failure in enumerate(letters, self.dead):
            failure.number = number
        self.letters.extend(letters)
        self.dead += len(letters)
        return letters


def text_of(error: BaseException) -> str:
    """Return what an exception says; its ``__str__`` is the user's code too."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        return f"<{type(error).__name__} whose str() raises {type(second).__name__}>"


_formatted: dict[tuple[tuple[str, CodeType, int], ...], str] = {}


def traceback_text(error: BaseException) -> str:
    """Return the part of a traceback that is the user's, as text.

    Formatting one from scratch costs tens of microseconds, and a broken processor fails on every line from the same
    place: so the text of a place is kept.
    """
    last = "".join(tracebacks.format_exception_only(error))  # several lines, with notes or for a syntax error
    if error.__cause__ is not None or error.__context__ is not None:
        return "".join(tracebacks.format_exception(error))
    frames = [(frame.tb_frame.f_code, frame.tb_lineno) for frame in _frames(error.__traceback__)]
    place = tuple((code.co_filename, code, line) for code, line in frames)  # equal code may come from two files
    text = _formatted.get(place)
    if text is None:
        summary = [tracebacks.FrameSummary(file, line, code.co_name) for file, code, line in place]
        text = "".join(tracebacks.StackSummary.from_list(summary).format())
        if len(_formatted) > 1000:
            _formatted.clear()
        _formatted[place] = text
    return f"Traceback (most recent call last):\n{text}{last}" if place else ""


def _frames(traceback: TracebackType | None) -> list[TracebackType]:
    """Return the entries from the first one that is not streamlab's own."""
    entries: list[TracebackType] = []
    while traceback is not None:
        own = traceback.tb_frame.f_globals.get("__name__", "").startswith("streamlab.")
        if entries or not own:
            entries.append(traceback)
        traceback = traceback.tb_next
    return entries
