"""Sources that follow files, read by a thread; and what is done to the files."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from streamlab.sources.follow import FollowSource
from tests.waiting import until

#: Seconds after which nothing more is expected of a file, where that is waited for.
GRACE = 0.2
#: A file is followed alone, or with the names that it is rotated to.
ALONE_OR_NOT = pytest.mark.parametrize("where", ["app.log", "app.log*", ""], ids=["file", "glob", "folder"])


@dataclass
class Following:
    """A source that is read by a thread.

    Attributes:
        source: what is read.
        lines: the lines so far.
        sources: where each came from.
    """

    source: FollowSource
    lines: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    error: BaseException | None = None

    def read(self) -> None:
        try:
            while (chunk := self.source.read(5_000)).lines:
                assert chunk.places is not None
                self.lines += chunk.lines
                self.sources += [chunk.source] * len(chunk.lines)
                self.source.passed(chunk.places, len(chunk.lines))
        except BaseException as error:
            self.error = error

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        until(lambda: len(self.lines) >= count or self.error is not None, seconds)
        assert self.error is None


@contextmanager
def following(source: FollowSource) -> Iterator[Following]:
    """Read a source in a thread, and close it in the end."""
    reading = Following(source)
    thread = threading.Thread(target=reading.read)
    thread.start()
    try:
        yield reading
    finally:
        source.close()
        thread.join(10)
    assert not thread.is_alive()
    assert reading.error is None


def follow(*where: Path, position: Any = None, **options: Any) -> FollowSource:
    """Return a source that goes on at a position, which was saved meanwhile, if there is one."""
    source = FollowSource(where, **{"grace": GRACE, **options})
    if position is not None:
        source.resume(json.loads(json.dumps(position)))
    return source


def read_and_stop(*where: Path, count: int) -> Any:
    """Read so many lines, let them pass, and return the position."""
    with following(follow(*where)) as reading:
        reading.wait_for(count)
    assert len(reading.lines) == count
    return reading.source.position()


def kinds(source: FollowSource) -> list[str]:
    """Return the kinds of what was said."""
    return [notice.kind for notice in source.notices]


def nothing_comes(reading: Following, seconds: float = 2 * GRACE) -> bool:
    """Wait, and tell whether no line came meanwhile."""
    count = len(reading.lines)
    time.sleep(seconds)
    return len(reading.lines) == count


def append(path: Path, text: str) -> None:
    """Write to the end of a file."""
    with path.open("a") as file:
        file.write(text)


def shift(log: Path, keep: int = 9) -> None:
    """Rename app.log.1 to app.log.2 and so on."""
    for index in reversed(range(1, keep)):
        for end in ("", ".gz"):
            if (old := Path(f"{log}.{index}{end}")).exists():
                old.rename(f"{log}.{index + 1}{end}")


def rotate(log: Path, keep: int = 9) -> None:
    """Rename app.log.1 to app.log.2 and so on, and app.log to app.log.1."""
    shift(log, keep)
    log.rename(f"{log}.1")
