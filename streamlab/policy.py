"""What happens when a processor fails: retry, then ``on_error``; and the limits that keep every line finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FAILURE_KINDS = (
    "decode",  # a line is not text
    "oversize",  # a line is longer than max_line_bytes
    "processing",  # a processor raised
    "timeout",  # a processor took longer than its timeout
    "unknown_tag",  # a processor routed to where it may not
    "max_hops",  # a value went round more than max_hops processors
    "max_emits",  # a processor made more than max_emits values of one
    "worker_died",  # the process or thread that ran a processor is gone
    "sink_rejected",  # the sink refused the output
)

#: What ``on_error`` may be, besides the name of a processor that takes the failed value.
ON_ERROR = ("dead_letter", "skip", "stop")


class Refusal(Exception):
    """The engine's own reason to fail a value: its ``kind`` is one of `FAILURE_KINDS`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Exhausted(Refusal):
    """The engine's reason to fail a value and to end the run: no later value could be processed either."""


def kind_of(error: BaseException) -> str:
    """Return the failure kind of an exception: that of a `Refusal`, else ``"processing"``.

    >>> kind_of(ValueError("no number")), kind_of(Refusal("timeout", "took longer than 2 s"))
    ('processing', 'timeout')
    """
    return error.kind if isinstance(error, Refusal) else "processing"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one value may cost.

    Attributes:
        max_hops: processors that one branch may visit; loops in the graph are allowed, endless ones are not.
        max_emits: values that a processor may make of one.
        max_line_bytes: length of a line in bytes, without its end.
    """

    max_hops: int = 100
    max_emits: int = 10_000
    max_line_bytes: int = 1_048_576

    def __post_init__(self) -> None:
        for name in ("max_hops", "max_emits", "max_line_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number, at least 1")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and with what pauses, a processor tries a value again before it counts as failed.

    The pause before attempt *n + 1* is ``initial_interval * backoff_coefficient ** (n - 1)`` seconds, at most
    ``maximum_interval``; with ``jitter`` a random share of it, so that many runs do not knock at once ("full jitter",
    Brooker, *Exponential Backoff and Jitter*, AWS Architecture Blog, 2015). Each attempt gets the value as it was.

    Attributes:
        maximum_attempts: attempts in all, the first included.
        initial_interval: seconds.
        backoff_coefficient: at least 1.
        maximum_interval: seconds.
        jitter: whether pauses are random.
        non_retryable: exception classes that a second attempt would only raise again.

    Example:
        >>> Retry(maximum_attempts=5, initial_interval=0.1).maximum_attempts
        5
    """

    maximum_attempts: int = 3
    initial_interval: float = 0.5
    backoff_coefficient: float = 2.0
    maximum_interval: float = 10.0
    jitter: bool = True
    non_retryable: tuple[type[BaseException], ...] = field(default=(ValueError, TypeError, KeyError, UnicodeError))

    def __post_init__(self) -> None:
        numbers = (self.maximum_attempts, self.initial_interval, self.backoff_coefficient, self.maximum_interval)
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise ValueError(f"attempts, intervals and backoff_coefficient must be numbers, not {numbers}")
        kinds = (self.non_retryable,) if isinstance(self.non_retryable, type) else tuple(self.non_retryable)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ValueError(f"non_retryable={self.non_retryable!r} must hold exception classes")
        object.__setattr__(self, "non_retryable", kinds)
        if self.maximum_attempts < 1:
            raise ValueError(f"maximum_attempts is {self.maximum_attempts}; it counts the first one, so at least 1")
        if self.initial_interval < 0 or self.maximum_interval < 0 or self.backoff_coefficient < 1:
            raise ValueError("intervals must not be negative, and backoff_coefficient must be at least 1")

    def retryable(self, error: BaseException) -> bool:
        """Tell whether a second attempt may help: not for Ctrl-C, nor for what the engine itself refuses."""
        if isinstance(error, Refusal):
            return error.kind in ("timeout", "worker_died")
        return not isinstance(error, (KeyboardInterrupt, *self.non_retryable))

    def tenacity(self) -> dict[str, Any]:
        """Return this policy as the arguments of `tenacity.Retrying` and `tenacity.AsyncRetrying`."""
        import tenacity  # 50 ms to import: only for who retries

        wait = tenacity.wait_random_exponential if self.jitter else tenacity.wait_exponential
        return {
            "stop": tenacity.stop_after_attempt(self.maximum_attempts),
            "wait": wait(multiplier=self.initial_interval, exp_base=self.backoff_coefficient, max=self.maximum_interval),
            "retry": tenacity.retry_if_exception(self.retryable),
            "reraise": True,
        }

    def again(
        self, call: Callable[[Any], Any], value: Any, error: BaseException, sleep: Callable[[float], None]
    ) -> tuple[Any, BaseException | None, int]:
        """Go on after a first attempt that raised ``error``.

        Returns:
            ``(result, None, attempts)``, or ``(None, last error, attempts)`` when none of them worked.
        """
        import tenacity

        attempts = 0

        def attempt() -> Any:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise error
            return call(value)

        try:
            result = tenacity.Retrying(sleep=sleep, **self.tenacity())(attempt)
        except BaseException as last:
            return None, last, attempts
        return result, None, attempts
