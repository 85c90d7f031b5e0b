"""Dead letters, to be run once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.dead_letters import line_of
from streamlab.failures import Letter


class LetterSource:
    """The lines of dead letters; what fails again stays the letter that it was, with more attempts.

    Args:
        letters: gives them, from the first, each time it is called; the same each time.
        name: what to call them in messages.

    >>> LetterSource(lambda: iter([{"line": "info: a"}])).read(10).lines
    ['info: a']
    """

    blocking = False

    def __init__(self, letters: Callable[[], Iterator[Mapping[str, Any]]], name: str = "dead letters") -> None:
        self.name = name
        self._letters = letters
        self._left = letters()
        self._passed = 0

    def read(self, limit: int) -> Chunk:
        """Return the lines of the next 1 to ``limit`` letters; an empty chunk at the end."""
        letters = [Letter(fields) for fields in islice(self._left, limit)]
        return Chunk([line_of(letter.fields) for letter in letters], source=self.name, places=Places(self, letters))

    def resume(self, position: int) -> None:
        """Leave so many letters out."""
        self._left = islice(self._letters(), position, None)
        self._passed = position

    def passed(self, places: Places, count: int) -> None:
        """Take note that ``count`` letters more are through."""
        self._passed += count

    def position(self) -> int:
        """Return how many letters are through."""
        return self._passed

    def progress(self) -> None:
        """Return ``None``: they are not counted beforehand."""
        return None

    def close(self) -> None:
        """Let go of the letters."""
        self._left = iter(())
