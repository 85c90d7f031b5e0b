"""What the engine asks of the world around it: the time, a pause, and to run what may block.

The engine itself reads no clock, starts no thread and waits for nothing; a runner gives it a `Host`, and a test gives it
one whose clock stands still.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

#: Where a process leaves `MARKS` numbers.
Marks = memoryview | list[int]
#: Numbers that a process keeps where its crew sees them, whatever becomes of it: the row of its job that it is at,
#: `WAITING` or `BETWEEN`; which of its processors it has called last, -1 for none; how manyth call of that processor this
#: is for the row; and the nanosecond of `Host.clock` by which the call must have ended, 0 for any.
ROW, CALLED, TIMES, UNTIL = range(4)
MARKS = 4
#: No row: the process waits for a job, or is at a job and at none of its rows.
WAITING, BETWEEN = -2, -1


@dataclass(frozen=True, slots=True)
class Lost:
    """What is known of a job whose process has died, or was ended because a call took too long.

    Attributes:
        row: the row of the job that it was at, if it was at one.
        call: the processor that it had called last, by number, and how manyth call of it this was for the row.
        overdue: whether that call was to have ended by then.
    """

    row: int | None = None
    call: tuple[int, int] | None = None
    overdue: bool = False


class Crew(Protocol):
    """Processes that each do what a `streamlab.segments.station.Station` does.

    Attributes:
        size: how many there are.
    """

    size: int

    def work(self, number: int, job: bytes) -> Callable[[], bytes | Lost]:
        """Give a job to a process, which does one after the other. A process that is lost is replaced.

        Returns:
            What waits for the answer.
        """
        ...


class Host(Protocol):
    """Clock, sleep and concurrency, as a runner provides them."""

    def clock(self) -> float:
        """Return monotonic seconds."""
        ...

    def now(self) -> float:
        """Return the time of day in seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts; returns early when the run is asked to stop."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait as `sleep` does, for an async processor."""
        ...

    def within(self, seconds: float, call: Callable[[Any], Any], value: Any, what: str) -> Any:
        """Return ``call(value)``, or raise a `Refusal` of kind ``timeout`` that names ``what`` after ``seconds``."""
        ...

    def crew(self, setup: bytes) -> Crew:
        """Return the processes for a segment, started when needed."""
        ...

    def gather(self, calls: Iterable[Callable[[], Awaitable[Any]]], limit: int) -> list[Any]:
        """Await all, at most ``limit`` at a time, started in order; return results in order. What they raise, it raises."""
        ...
