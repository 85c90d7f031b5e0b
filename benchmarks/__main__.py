"""``python -m benchmarks``: measure everything in one run, print ratios beside their targets, save them as JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.alone import alone
from benchmarks.contenders import CONTENDERS, Contender, loop
from benchmarks.corpus import corpus
from benchmarks.growth import GROWTH, growth
from benchmarks.latency import Latency, latency
from benchmarks.measure import Timing, Trial, interleave
from benchmarks.picture import draw
from benchmarks.report import Report, as_text, save
from benchmarks.start import START, start
from benchmarks.workers import WORKERS, workers
from benchmarks.works import WORKS, FileContender, Work

WARM_UP_LINES = 2000
LATENCY = "latency"
PARTS = (LATENCY, WORKERS, GROWTH, START)
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


def _file_trials(work: Work, chosen: Sequence[FileContender], count: int, folder: Path) -> list[Trial]:
    """Prepare the contenders of a work that goes from file to file; each output is compared, then taken away."""
    lines = work.lines(count)
    sources: dict[tuple[int, bool], tuple[Path, list[bytes]]] = {}
    trials = []
    for one in chosen:
        kind = share, strips = max(1, round(count * one.share)), one.strips
        if kind not in sources:
            source = folder / f"{work.name}-{share}{'-stripped' if strips else ''}.log"
            source.write_bytes(_encoded([line.strip() for line in lines[:share]] if strips else lines[:share]))
            target = source.with_suffix(".expected")
            work.contenders[0].run(source, target)
            sources[kind] = source, target.read_bytes().splitlines(keepends=True)
        source, expected = sources[kind]
        target = folder / f"{work.name}-{one.name}.out"
        name = f"{work.name}: {one.name}"
        check = partial(_check_file, name, target, expected, one.ordered)
        action = partial(one.run, source, target) if one.own_clock else partial(alone, work.name, one.name, source, target)
        trials.append(Trial(name, share, action, check, own_clock=True))
    return trials


def _check_file(name: str, target: Path, expected: list[bytes], ordered: bool, _: object) -> None:
    written = target.read_bytes().splitlines(keepends=True)
    target.unlink()
    if written != expected and (ordered or sorted(written) != sorted(expected)):
        raise OutputDiffers(f"{name} wrote {len(written):,} lines that are not the {len(expected):,} of the loop")


def _say(text: str) -> None:
    """Tell how far things are."""
    print(text, file=sys.stderr, flush=True)


def _measure(lines: list[str], contenders: Sequence[Contender], rounds: int) -> dict[str, Timing]:
    """Time all contenders in memory."""
    if not contenders:
        return {}
    expected = loop(lines)
    trials = [_trial(contender, lines, expected) for contender in contenders]
    return interleave(trials, rounds, lambda number: _say(f"in memory, round {number} of {rounds}"))


def _measure_files(work: Work, chosen: Sequence[FileContender], count: int, rounds: int) -> dict[str, Timing]:
    """Time the contenders of a work from file to file."""
    if not chosen:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        trials = _file_trials(work, chosen, count, Path(folder))
        return interleave(trials, rounds, lambda number: _say(f"{work.name}, file to file, round {number} of {rounds}"))


def _encoded(lines: list[str]) -> bytes:
    """Return lines as a file has them."""
    return ("\n".join(lines) + "\n").encode(errors="surrogateescape")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [one.name for one in CONTENDERS] + [f"{work.name}: {one.name}" for work in WORKS for one in work.contenders]
    names += PARTS
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast is streamlab, against what?")
    parser.add_argument(
        "--lines",
        type=int,
        default=1_000_000,
        metavar="N",
        help="how many; growth goes to ten times as many (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help=f"measure only this one, or those whose names begin so, and the loop; may be repeated: {', '.join(names)}",
    )
    parser.add_argument("--draw", action="store_true", help="draw docs/benchmarks.svg")
    options = parser.parse_args(arguments)
    if options.lines < 1 or options.rounds < 1:
        parser.error("--lines and --rounds must be 1 or more")
    for only in options.only or ():
        if not any(name.startswith(only) for name in names):
            parser.error(f"--only {only}: there is no such contender; there are {', '.join(names)}")
    return options


def _chosen(contenders: Sequence[C], only: tuple[str, ...], prefix: str = "") -> list[C]:
    """Return the contenders asked for, and before them the loop, the first, that they are compared with."""
    chosen = [one for one in contenders[1:] if f"{prefix}{one.name}".startswith(only)]
    return [contenders[0], *chosen] if chosen or f"{prefix}{contenders[0].name}".startswith(only) else []


def _latency() -> list[Latency]:
    """Measure the latency at a slow rate and at a fast one."""
    found = []
    for rate in (100.0, 10_000.0):
        _say(f"latency at {rate:,.0f} lines/s")
        found.append(latency(rate))
    return found


def _measured(options: argparse.Namespace) -> Report:
    """Measure what was asked for."""
    only = tuple(options.only or ("",))
    lines, rounds = options.lines, options.rounds
    wanted = _chosen(CONTENDERS, only)
    material = corpus(lines)
    timings = _measure(material.lines, [one for one in wanted if one.installed], rounds)
    skipped = [one.name for one in wanted if not one.installed]
    for work in WORKS:
        chosen = _chosen(work.contenders, only, f"{work.name}: ")
        skipped += [f"{work.name}: {one.name}" for one in chosen if not one.installed]
        timings |= _measure_files(work, [one for one in chosen if one.installed], lines, rounds)
    parts = [part for part in PARTS if part.startswith(only)]
    if WORKERS in parts:
        timings |= workers(lines, rounds, _say)
    return Report(
        lines,
        material.origin,
        rounds,
        timings,
        skipped,
        latency=_latency() if LATENCY in parts else [],
        growth=growth(10 * lines, rounds, _say) if GROWTH in parts and sys.platform == "linux" else [],
        starts=start(rounds, _say) if START in parts else {},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; return the exit code."""
    options = _options(arguments)
    report = _measured(options)
    print(as_text(report))
    print(f"\nsaved as benchmarks/results/{save(report).name}")
    if options.draw:
        print(f"drawn as {draw(report.timings)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
