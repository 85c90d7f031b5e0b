"""What the engine asks of the world around it: the time, a pause, and to run what may block.

The engine itself reads no clock, starts no thread and waits for nothing; a runner gives it a `Host`, and a test gives it
one whose clock stands still.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol


class Crew(Protocol):
    """Processes that each do what a `streamlab.segments.parallel.Station` does.

    Attributes:
        size: how many there are.
    """

    size: int

    def work(self, number: int, job: bytes) -> Callable[[], bytes | None]:
        """Give a job to a process, which does one after the other.

        Returns:
            What waits for the answer; that is ``None`` when the process has died of the job. It is replaced then.
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
