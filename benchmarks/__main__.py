"""``python -m benchmarks``: measure everything in one run, print ratios beside their targets, save them as JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.contenders import CONTENDERS, FILE_CONTENDERS, Contender, FileContender, loop
from benchmarks.corpus import corpus
from benchmarks.latency import latency
from benchmarks.measure import Timing, Trial, interleave
from benchmarks.report import Report, as_text, save

WARM_UP_LINES = 2000
LATENCY = "latency"
C = TypeVar("C", bound=Contender | FileContender)


class OutputDiffers(Exception):
    """A contender did not give what the loop gave: its time means nothing."""


def _check(name: str, expected: list[str], ordered: bool, outputs: list[str]) -> None:
    """Raise unless ``outputs`` are the expected ones, in order or, for those that do not keep it, in any."""
    if outputs != expected and (ordered or sorted(outputs) != sorted(expected)):
        raise OutputDiffers(f"{name} gave {len(outputs):,} outputs that are not the {len(expected):,} of the loop")


def _trial(contender: Contender, lines: list[str], expected: list[str]) -> Trial:
    """Prepare a contender, after a small run of it that pays for its imports."""
    share = max(1, round(len(lines) * contender.share))
    own = lines if share == len(lines) else lines[:share]
    wanted = expected if own is lines else expected[:share]
    contender.run(own[:WARM_UP_LINES])
    return Trial(
        contender.name, share, partial(contender.run, own), partial(_check, contender.name, wanted, contender.ordered)
    )


def _file_trial(contender: FileContender, source: Path, count: int, expected: bytes) -> Trial:
    """Prepare a contender that goes from file to file; each output is compared, then taken away."""
    target = source.with_name(f"{contender.name}.out")

    def check(_: object) -> None:
        written = target.read_bytes()
        target.unlink()
        if written != expected:
            raise OutputDiffers(f"{contender.name} wrote {len(written):,} bytes that are not the ones of the loop")

    return Trial(contender.name, count, partial(contender.run, source, target), check)


def _say(text: str) -> None:
    """Tell how far things are."""
    print(text, file=sys.stderr, flush=True)


def _measure(
    lines: list[str], contenders: Sequence[Contender], files: Sequence[FileContender], rounds: int
) -> dict[str, Timing]:
    """Time all contenders, those in memory first."""
    expected = loop(lines)
    trials = [_trial(contender, lines, expected) for contender in contenders]
    timings = interleave(trials, rounds, lambda number: _say(f"in memory, round {number} of {rounds}"))
    if not files:
        return timings
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "lines.log")
        source.write_bytes(_encoded(lines))
        wanted = _encoded(expected)
        trials = [_file_trial(contender, source, len(lines), wanted) for contender in files]
        return timings | interleave(trials, rounds, lambda number: _say(f"file to file, round {number} of {rounds}"))


def _encoded(lines: list[str]) -> bytes:
    """Return lines as a file has them."""
    return ("\n".join(lines) + "\n").encode(errors="surrogateescape")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [contender.name for contender in (*CONTENDERS, *FILE_CONTENDERS)] + [LATENCY]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast is streamlab, against what?")
    parser.add_argument("--lines", type=int, default=1_000_000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help=f"measure only this one, or those whose names begin so, and the loop; may be repeated: {', '.join(names)}",
    )
    options = parser.parse_args(arguments)
    if options.lines < 1 or options.rounds < 1:
        parser.error("--lines and --rounds must be 1 or more")
    for only in options.only or ():
        if not any(name.startswith(only) for name in names):
            parser.error(f"--only {only}: there is no such contender; there are {', '.join(names)}")
    return options


def _chosen(contenders: Sequence[C], only: tuple[str, ...]) -> list[C]:
    """Return the contenders asked for, and before them the loop, the first, that they are compared with."""
    chosen = [one for one in contenders[1:] if one.name.startswith(only)]
    return [contenders[0], *chosen] if chosen or contenders[0].name.startswith(only) else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; return the exit code."""
    options = _options(arguments)
    only = tuple(options.only or ("",))
    wanted, files = _chosen(CONTENDERS, only), _chosen(FILE_CONTENDERS, only)
    contenders = [one for one in wanted if one.installed]

    material = corpus(options.lines)
    timings = _measure(material.lines, contenders, files, options.rounds)
    delay = None
    if LATENCY.startswith(only):
        _say("latency")
        delay = latency()
    skipped = [one.name for one in wanted if not one.installed]
    report = Report(options.lines, material.origin, options.rounds, timings, skipped, delay)
    print(as_text(report))
    print(f"\nsaved as benchmarks/results/{save(report).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
