"""Outputs handed to a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import SinkError


class CallableSink:
    """Calls a function with each output, in order; an exception from it refuses that output only.

    >>> seen = []
    >>> CallableSink(seen.append).write(["a", "b"], np.array([0, 1]))
    []
    >>> seen
    ['a', 'b']
    """

    def __init__(self, function: Callable[[Any], object]) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            raise SinkError(f"{self.name} is an async function, which nothing would await: pass a plain function")
        self._function = function

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> list[tuple[int, BaseException]]:
        """Call the function with each value; return the positions where it raised, with what it raised."""
        refused: list[tuple[int, BaseException]] = []
        function = self._function
        for position, value in enumerate(values):
            try:
                came = function(value)
                if inspect.iscoroutine(came):
                    came.close()
                    raise TypeError("the output function returned a coroutine, which nothing would await")
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # sys.exit in it is no end of the run
                refused.append((position, error))
        return refused

    def close(self) -> None:
        """Do nothing: the function is the caller's."""
