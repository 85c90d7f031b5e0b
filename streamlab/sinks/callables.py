"""Outputs handed to a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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
        if inspect.iscoroutinefunction(function):
            raise SinkError(f"{self.name} is an async function, which nothing would await: pass a plain function")
        self._function = function

    def write(self, values: list[Any], line_no: NDArray[np.int64]) -> list[tuple[int, Exception]]:
        """Call the function with each value; return the positions where it raised, with what it raised."""
        refused: list[tuple[int, Exception]] = []
        function = self._function
        for position, value in enumerate(values):
            try:
                function(value)
            except Exception as error:
                refused.append((position, error))
        return refused

    def close(self) -> None:
        """Do nothing: the function is the caller's."""
