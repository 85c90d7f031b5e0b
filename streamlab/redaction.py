"""Covering what nobody is to read, before anything is kept of a line: in traces, errors and dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from streamlab.batch import Batch, Hop
from streamlab.columns import columns_of
from streamlab.errors import RunError
from streamlab.failures import Failure
from streamlab.processors import redact as patterns_of
from streamlab.processors.columnar import Outcome

Redact = str | Sequence[str] | Callable[[str], str]
_KEPT = (type(None), bool, int, float)


class Redactor:
    """Covers parts of text.

    Args:
        redact: names of patterns or regular expressions, as `streamlab.processors.redact` has them, one or several; or a
            function of a text that returns it with what is to be covered covered.

    Raises:
        RunError: a pattern is wrong.

    >>> Redactor(["email", "key=[^ ]+"]).texts(["anna@example.org key=7 ok"])
    ['*** *** ok']
    """

    def __init__(self, redact: Redact) -> None:
        self._function = redact if callable(redact) else None
        try:
            names = (redact,) if isinstance(redact, str) else () if callable(redact) else tuple(redact)
            self._patterns = None if callable(redact) else patterns_of(*names)
        except (ValueError, TypeError) as error:
            raise RunError(f"redact={redact!r}: {error}") from error

    def texts(self, texts: Sequence[str]) -> list[str]:
        """Return texts with what is to be covered covered."""
        if self._patterns is None:
            return [self._one(text) for text in texts]
        covered = list(texts)
        for rows, column in columns_of(texts):
            outcome = self._patterns.apply(column)
            assert isinstance(outcome, Outcome)
            for row, text in zip(rows, outcome.column.to_list(), strict=True):
                covered[row] = text
        return covered

    def _one(self, text: str) -> str:
        assert self._function is not None
        try:
            return str(self._function(text))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # better nothing than what it would have covered
            return f"<redacted: the function raised {type(error).__name__}>"  # what it says may be what is to be covered

    def failure(self, failure: Failure) -> Failure:
        """Return a failure as it may be kept."""
        return _failure(failure, lambda text: self.texts([text])[0])

    def batch(self, batch: Batch, *, traced: bool) -> Batch:
        """Return a batch as it may be kept; unless it is ``traced``, only its failures are."""
        seen: dict[str, str] = {}

        def collect(text: str) -> str:
            seen[text] = text
            return text

        self._mapped(batch, collect, traced)
        seen.update(zip(seen, self.texts(list(seen)), strict=True))
        return self._mapped(batch, seen.__getitem__, traced)

    def _mapped(self, batch: Batch, cover: Callable[[str], str], traced: bool) -> Batch:
        failures = [_failure(failure, cover) for failure in batch.failures]
        if not traced:
            return replace(batch, failures=failures)
        return replace(
            batch,
            failures=failures,
            lines=[cover(line) for line in batch.lines],
            values=[_value(value, cover) for value in batch.values],
            hops={index: [_hop(hop, cover) for hop in hops] for index, hops in batch.hops.items()},
        )


def _failure(failure: Failure, cover: Callable[[str], str]) -> Failure:
    texts = {name: cover(getattr(failure, name)) for name in ("line", "message", "traceback")}
    return replace(failure, **texts)  # type: ignore[arg-type]  # these are text


def _hop(hop: Hop, cover: Callable[[str], str]) -> Hop:
    outs = [(to, _value(value, cover)) for to, value in hop.outs]
    error = None if hop.error is None else cover(hop.error)
    return replace(hop, value=_value(hop.value, cover), outs=outs, error=error)


def _value(value: Any, cover: Callable[[str], str]) -> Any:
    """Return a value with all text in it covered; of an object that is more than data, what its ``repr`` says."""
    if isinstance(value, str):
        return cover(value)
    if isinstance(value, _KEPT):
        return value
    if type(value) is dict:
        return {_value(key, cover): _value(item, cover) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_value(item, cover) for item in value)
    try:
        return cover(repr(value))
    except Exception as error:  # its own code
        return f"<{type(value).__name__} whose repr() raises {type(error).__name__}>"
