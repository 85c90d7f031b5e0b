"""The lines that everything is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from data.generate import lines as generated

LOGHUB = Path(__file__).resolve().parents[2] / "shared" / "data" / "loghub"
SEED = 7


@dataclass(frozen=True)
class Corpus:
    """Lines, and where they are from.

    Attributes:
        lines: without their ends; every one an object of its own, as a file would give them.
        origin: where they are from, for people.
    """

    lines: list[str]
    origin: str


def corpus(count: int, folder: Path = LOGHUB) -> Corpus:
    """Return ``count`` lines: the logs of ``folder``, over and over; generated ones when it is not there."""
    paths = sorted(folder.glob("*.log"))
    if not paths:
        return Corpus(list(generated("app", count, SEED)), f"data/generate.py, kind app, seed {SEED}")
    once = _mixed([_lines(path) for path in paths])
    text = "\n".join(once) + "\n"
    return Corpus((text * (count // len(once) + 1)).split("\n")[:count], f"{len(paths)} loghub files, {len(once):,} lines")


def _lines(path: Path) -> list[str]:
    """Return a file's lines as streamlab reads them: ended by a line feed, one carriage return before it taken off."""
    lines = path.read_bytes().decode(errors="surrogateescape").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _mixed(files: list[list[str]]) -> list[str]:
    """Return the lines of several files in turn, so that each batch has some of all."""
    return [line for line in chain.from_iterable(zip_longest(*files)) if line is not None]
