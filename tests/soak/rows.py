"""The rows of the long tests: each has a name, and takes the share of its count that is to be done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: A row's name, and what runs it: it takes the share of its count, and returns what was found, in words.
ROWS: dict[str, Callable[[float], str]] = {}


def row(name: str) -> Callable[[Callable[[float], str]], Callable[[float], str]]:
    """Add a row."""

    def add(function: Callable[[float], str]) -> Callable[[float], str]:
        ROWS[name] = function
        return function

    return add


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="streamlab-soak-") as made:
        yield Path(made)


def counted(share: float, full: int, least: int = 1) -> int:
    return max(int(full * share), least)


def tested(times: int, file: str, *names: str) -> str:
    """Run tests of the suite so many times; return what is to be said of them."""
    passed = 0
    for _ in range(times):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", " or ".join(names)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=os.getcwd())
        assert done.returncode == 0, done.stdout[-3000:]
        passed += int(re.search(r"(\d+) passed", done.stdout)[1])  # type: ignore[index]
    return f"{times} {'time' if times == 1 else 'times'}, {passed} tests of `{file}` passed"
