"""Dead letters, to be run once more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from streamlab.batch import Chunk, Places
from streamlab.dead_letters.letter import line_of
from streamlab.failures import Letter
from streamlab.notices import Notice


class LetterSource:
    """The lines of dead letters; what fails again stays the letter that it was, with more attempts.

    Args:
        letters: gives them, but for the first so many; the same each time it is called.
        name: what to call them in messages.
        notices: what is to be said of them.

    Attributes:
        notices: what had to be said.

    >>> LetterSource(lambda done: iter([{"line": "info: a"}][done:])).read(10).lines
    ['info: a']
    """

    kind = "dead letters"
    blocking = False

    def __init__(
        self,
        letters: Callable[[int], Iterator[Mapping[str, Any]]],
        name: str = "dead letters",
        notices: Iterable[Notice] = (),
    ) -> None:
        self.name = name
        self.notices: deque[Notice] = deque(notices)
        self._letters = letters
        self._left = letters(0)
        self._passed = 0

    def read(self, limit: int) -> Chunk:
        """Return the lines of the next 1 to ``limit`` letters; an empty chunk at the end."""
        letters = [Letter(fields) for fields in islice(self._left, limit)]
        return Chunk([line_of(letter.fields) for letter in letters], source=self.name, places=Places(self, letters))

    def resume(self, position: int) -> None:
        """Leave so many letters out."""
        self._left = self._letters(position)
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
