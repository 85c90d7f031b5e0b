"""``python -m benchmarks.peer_pathway WORK SOURCE TARGET``: do a work in pathway; print the seconds it took.

Runs in an environment that has pathway but not streamlab (`benchmarks.apart`). The clock begins once everything is
imported: building the graph, reading, working and writing are timed.

Pathway is at its best like this, tried in version 0.33: all functions of a line in one step, as a ``udf`` that is declared
deterministic; with one thread; filters and counts its own; and lines written by a function that subscribes, as its writers
for CSV and JSON would add columns. It takes blanks off both ends of each line that it reads, and does not keep the order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pathway as pw  # type: ignore[import-not-found]  # it is in an environment of its own

from benchmarks.works import demo_step, extracted, is_error, is_slow, rewritten

NOTHING = ""  # what a function gives for a line that is not kept


def failed_status(line: str) -> str:
    """Take a line apart; return its status if the request failed."""
    fields = extracted(line)
    return fields["status"] or NOTHING if fields and is_error(fields) else NOTHING


def slow_rewritten(line: str) -> str:
    """Parse a line; return it written again if the request took long."""
    fields = json.loads(line)
    return rewritten(fields) if is_slow(fields) else NOTHING


def _each(source: Path, function: Callable[[str], str]) -> Any:
    """Return a table of one column, ``value``, with what the function makes of each line."""
    lines = pw.io.plaintext.read(source, mode="static")
    return lines.select(value=pw.udf(function, return_type=str, deterministic=True)(lines.data))


def _kept(table: Any) -> Any:
    """Return the rows that are not nothing."""
    return table.filter(table.value != NOTHING)


def _write(table: Any, target: Path) -> None:
    """Write the values as lines."""
    out = target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n")

    def write(key: Any, row: dict[str, str], time: int, is_addition: bool) -> None:
        out.write(row["value"] + "\n")

    pw.io.subscribe(table, write, on_end=out.close)


def demo(source: Path, target: Path) -> None:
    """Build the work."""
    _write(_each(source, demo_step), target)


def extract(source: Path, target: Path) -> None:
    """Build the work. Counts may come more than once, the older ones being taken back: the last ones are written."""
    failed = _kept(_each(source, failed_status))
    counts: dict[str, int] = {}

    def update(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition:
            counts[row["value"]] = row["count"]

    def write() -> None:
        target.write_text("".join(f"{status} {count}\n" for status, count in counts.items()), encoding="utf-8")

    pw.io.subscribe(failed.groupby(failed.value).reduce(failed.value, count=pw.reducers.count()), update, on_end=write)


def json_(source: Path, target: Path) -> None:
    """Build the work."""
    _write(_kept(_each(source, slow_rewritten)), target)


BUILDERS = {"demo": demo, "extract": extract, "json": json_}


def main() -> int:
    """Run as a program; return the exit code."""
    work, source, target = sys.argv[1:]
    begin = perf_counter()
    BUILDERS[work](Path(source), Path(target))
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, default_logging=False)
    print(perf_counter() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
