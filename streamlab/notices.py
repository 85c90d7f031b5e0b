"""What happened beside the lines: to a source, a sink or the run itself, and what was lost by it."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

NOTICE_COLUMNS = ("time", "kind", "where", "message", "lost_lines", "lost_bytes", "count")

#: The kinds, for who looks for one.
NOTICE_KINDS = (
    "listening",  # a source that was given by an address can be sent lines from now on
    "truncated",  # a file was cut off while it was followed, or since it was last read
    "vanished",  # a file was removed before all of it was read
    "copy",  # a file is taken for a copy of what is read elsewhere, and is not read
    "replaced",  # a file holds something else than what was read of it before
    "continued",  # a last line without its end has got more, and comes once more, whole; a replay goes on
    "dropped",  # a bounded buffer was full, and lines were not taken
    "disconnected",  # a source or sink cannot be reached for now
    "reconnected",  # it can again
    "taken back",  # output that came after the last checkpoint, which is made anew
    "waiting",  # output cannot be written for now
    "hanging",  # a processor has been at a line for long
    "pickled",  # state is saved in a way that only its own folder is to be trusted with
    "unreadable",  # a file may not be read
    "left",  # letters that a replay or a purge leaves where they are, and lines that are no letters
)


_NUMBER = re.compile(r"[0-9][0-9.,]*")


@dataclass(slots=True)
class Notice:
    """One thing that happened.

    Attributes:
        kind: one of `NOTICE_KINDS`.
        where: to what: a path, an address, a processor.
        message: what to know, for people.
        lost_lines: how many lines are known to be lost; 0 also where it cannot be known.
        lost_bytes: how many bytes are.
        count: how often it happened; a notice that is like the last one, but for numbers, is counted with it.
        time: when it happened last, seconds since the epoch.
        number: rises with each notice that is told, or counted with an earlier one.
    """

    kind: str
    where: str
    message: str
    lost_lines: int = 0
    lost_bytes: int = 0
    count: int = 1
    time: float = field(default_factory=time.time)
    number: int = 0

    @property
    def text(self) -> str:
        """The message, with how many lines were lost, as often as it happened."""
        return self.message if not self.lost_lines else f"{self.message} ({self.lost_lines:,} lines lost)"


@dataclass(slots=True)
class Notices:
    """The last notices, and what was lost in all.

    Attributes:
        lost_lines: lines that are known to be lost.
        lost_bytes: bytes that are.
        total: how many were told.
    """

    recent: deque[Notice] = field(default_factory=lambda: deque(maxlen=1000))
    lost_lines: int = 0
    lost_bytes: int = 0
    total: int = 0

    def extend(self, notices: Iterable[Notice]) -> None:
        """Take notices in."""
        for notice in notices:
            self.lost_lines += notice.lost_lines
            self.lost_bytes += notice.lost_bytes
            self.total += 1
            last = self.recent[-1] if self.recent else None
            if last is not None and _like(last) == _like(notice):
                last.message, last.time = notice.message, notice.time
                last.lost_lines += notice.lost_lines
                last.lost_bytes += notice.lost_bytes
                last.count += notice.count
                last.number = self.total
            else:
                notice.number = self.total
                self.recent.append(notice)


def _like(notice: Notice) -> tuple[str, str, str]:
    return notice.kind, notice.where, _NUMBER.sub("0", notice.message)
