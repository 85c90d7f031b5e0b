"""A followed name: what was written under it, and what its rotated files are called."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field

from streamlab.sources.following.generations import Generation


@dataclass(slots=True, eq=False)
class Lineage:
    """A followed name, and what was written under it.

    Attributes:
        name: the path.
        queue: the generations that are not over, oldest first.
        current: the one that is at the name now.
        last: the youngest that there was.
        since: when what was last seen at the name had been written to, in nanoseconds since 1970: what is older is no news.
        given: whether the name was given as such, and not found by a glob or in a folder.
        absent: since when there is no file, by the monotonic clock.
        folder: the folder where its files are; not that of a link.
        base: what rotated names are made of.
    """

    name: str
    given: bool = False
    queue: deque[Generation] = field(default_factory=deque)
    current: Generation | None = None
    last: Generation | None = None
    since: int = 0
    absent: float | None = None
    folder: str = ""
    base: str = ""

    def settle(self, generation: Generation) -> None:
        """Take note that a generation is at the name."""
        self.current = self.last = generation
        self.since = generation.modified

    def find_home(self) -> None:
        """Find where the name leads to."""
        path = os.path.realpath(self.name) if os.path.islink(self.name) else self.name
        self.folder, self.base = os.path.split(path)
