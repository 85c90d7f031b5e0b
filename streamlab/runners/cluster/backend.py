"""What a run needs of a distributed engine. `streamlab.runners.cluster.dask` has it of Dask; others may follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from streamlab.crew import WorkerInfo

#: A task that was submitted: it can be an argument of another one, alone or in a list, which then has its result.
Handle = Any


class Gone(Exception):
    """The connection to the engine was lost, and all tasks with it."""


class Killed(Exception):
    """A task has ended the process of each worker that began with it.

    Attributes:
        name: the task's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@runtime_checkable
class Backend(Protocol):
    """Has functions called on workers.

    Attributes:
        name: what to call it in messages.
    """

    name: str

    def open(self) -> None:
        """Make ready, or connect once more after `Gone`.

        Raises:
            Gone: it is not there; it may be later.
            RunError: it cannot be used.
        """
        ...

    def listen(self, topic: str, tell: Callable[[str, int], None]) -> None:
        """Have a function called, in any thread, with a worker's name and how many lines more it has worked on.

        Args:
            topic: tells this run from others on the same engine.
            tell: the function.
        """
        ...

    def workers(self) -> Sequence[WorkerInfo]:
        """Return the workers that are there.

        Raises:
            Gone: the connection was lost.
            RunError: one has another version of streamlab.
        """
        ...

    def submit(self, name: str, function: Callable[..., Any], *args: Any, home: WorkerInfo | None = None) -> Handle:
        """Have a function called on a worker.

        Args:
            name: of the task, unique.
            function: called with the arguments, the worker's name (``worker``), and if it takes that, what tells how far
                it is (``say``).
            args: what it is called with.
            home: the one worker that is to do it; by default any is.

        Raises:
            Gone: the connection was lost.
        """
        ...

    def put(self, data: bytes) -> Handle:
        """Bring data to a worker, to be an argument of a task; if it is lost with the worker, the task fails with `Gone`."""
        ...

    def item(self, handle: Handle, key: Any) -> Handle:
        """Return the task that gives one item of the result of another one, where that is."""
        ...

    def done(self, handle: Handle) -> bool:
        """Tell whether a task has ended, with a result or without."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until a task ends, at most so long."""
        ...

    def results(self, handles: Sequence[Handle]) -> list[Any]:
        """Return the results of tasks that have ended.

        Raises:
            Gone: the connection was lost.
            Killed: a task ends the processes of workers.
            Exception: what a task raised.
        """
        ...

    def release(self, handles: Sequence[Handle]) -> None:
        """Forget the results of tasks that have ended, as soon as others that need them have ended too."""
        ...

    def cancel(self, handles: Sequence[Handle]) -> None:
        """Forget tasks, also those that have not ended, and all that need them."""
        ...

    def close(self) -> None:
        """Let go of it; more than once is fine."""
        ...
