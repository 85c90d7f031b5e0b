"""Who makes a pipeline go, behind the `Runner` protocol.

``local``     the runner: a thread of this process, in which a run's work is done
``work``      the life of a run, whoever works on lines: the engine of this process (``embedded``), or workers (``cluster``)
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

from streamlab.journal import Journal

State = Literal["starting", "running", "paused", "draining", "finished", "stopped", "failed"]
#: States in which nothing happens any more.
ENDED: tuple[State, ...] = ("finished", "stopped", "failed")


class Runner(Protocol):
    """One execution: feeds the engine from the source, drains it into the sink, and keeps the journal."""

    @property
    def exception(self) -> BaseException | None:
        """Why it failed."""
        ...

    @property
    def waiting(self) -> str | None:
        """What it waits for before it can go on, while its output cannot be written; ``None`` while it need not."""
        ...

    @property
    def state(self) -> State:
        """Where it is; of `ENDED` it never leaves again."""
        ...

    def start(self) -> None:
        """Begin, in the background."""
        ...

    def run(self) -> None:
        """Begin, and return at the end; Ctrl-C stops the run and is raised again."""
        ...

    def pause(self) -> None:
        """Stop taking lines from the source until `resume`."""
        ...

    def resume(self) -> None:
        """Go on after `pause`."""
        ...

    def stop(self) -> None:
        """Ask for the end: lines that were taken from the source are brought to theirs, state is flushed."""
        ...

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end, at most ``timeout`` seconds; tell whether it has come."""
        ...

    def uptime(self) -> float:
        """Return the seconds that it has been running, to its end if it has ended."""
        ...

    def progress(self) -> float | None:
        """Return the share of the source that has been read and worked on, if its size is known."""
        ...

    def reading(self) -> AbstractContextManager[Journal]:
        """Give the journal to read, between two batches."""
        ...
