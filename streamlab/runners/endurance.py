"""Going on when output cannot be written for now: wait, try again, and say so; or fail, if that is what was asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from streamlab.errors import Outage

T = TypeVar("T")

OnOutage = Literal["fail", "wait"]
#: Seconds between two attempts: at first, and at most.
FIRST, LONGEST = 0.05, 1.0
#: Seconds that are tried on after the run was asked to stop.
LAST = 2.0


class Endurance:
    """Makes calls that may meet an `Outage`.

    Args:
        on_outage: ``"wait"`` to try until it works, ``"fail"`` to raise, unless the outage says to wait.
        stopping: set when the run is asked to stop: then it is not tried for long.
        tell: is called with what is wrong, at each failed attempt, and with ``None`` when it has worked after all.
    """

    def __init__(
        self, on_outage: OnOutage, stopping: threading.Event, tell: Callable[[str | None], None] = lambda text: None
    ) -> None:
        self._waits = on_outage == "wait"
        self._stopping = stopping
        self.tell = tell
        self._ended = threading.Event()

    def end(self) -> None:
        """Try nothing once more from now on: who has to wait is told why at once."""
        self._ended.set()

    def call(self, function: Callable[[], T]) -> T:
        """Return what a function returns, perhaps after some attempts.

        Raises:
            Outage: it is not to wait, or was asked to stop meanwhile, or `end` was called.
        """
        try:
            return function()
        except Outage as outage:
            if not self._worth_waiting(outage):
                raise
        import tenacity  # 50 ms to import: only for who has to wait

        until: float | None = None

        def given_up(state: tenacity.RetryCallState) -> bool:
            nonlocal until
            if self._ended.is_set():
                return True
            if self._stopping.is_set():
                until = until or time.monotonic() + LAST
            return until is not None and time.monotonic() > until

        def told(state: tenacity.RetryCallState) -> None:
            assert state.outcome is not None
            self.tell(str(state.outcome.exception()))

        result = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._worth_waiting),
            wait=tenacity.wait_exponential(multiplier=FIRST, max=LONGEST),
            stop=given_up,
            sleep=lambda seconds: self._pause(seconds),
            before_sleep=told,
            reraise=True,
        )(function)
        self.tell(None)
        return result

    def _worth_waiting(self, error: BaseException) -> bool:
        return isinstance(error, Outage) and (self._waits or error.waits)

    def _pause(self, seconds: float) -> None:
        if self._stopping.is_set():
            time.sleep(min(seconds, FIRST * 2))
        else:
            self._stopping.wait(seconds)
