"""What was measured, as tables beside what the project asks for, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.apart import version_of
from benchmarks.contenders import CONTENDERS
from benchmarks.growth import WAYS, Growth
from benchmarks.latency import Latency
from benchmarks.measure import Ratio, Timing, cost, speed, times
from benchmarks.start import ABOUT, DEMO, OTHER_IMPORTS, OTHER_PROCESS, OWN_IMPORT_AFTER
from benchmarks.workers import HEAVY
from benchmarks.works import WORKS

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("streamlab", "polars", "pandas", "bytewax", "reactivex", "streamz")
APART = ("pathway",)
LARGE, TENTH = 10_000_000, 1_000_000


@dataclass(frozen=True)
class Report:
    """Everything that one run of the benchmarks found.

    Attributes:
        lines: how many lines the corpus had.
        origin: where they were from.
        rounds: how often each contender ran.
        timings: by contender, in the order of the table.
        skipped: contenders that are not installed.
        latency: at several rates; empty when it was not measured.
        growth: several sizes, each way; empty when it was not measured.
        starts: what fresh interpreters took, in seconds, by what they did; empty when it was not measured.
    """

    lines: int
    origin: str
    rounds: int
    timings: Mapping[str, Timing]
    skipped: Sequence[str]
    latency: Sequence[Latency]
    growth: Sequence[Growth]
    starts: Mapping[str, Timing]


@dataclass(frozen=True)
class Target:
    """What the project asks for, and what was measured.

    Attributes:
        text: what is asked for.
        wanted: the bound, in the words of the table.
        median: what was measured, of the medians, in the words of the table.
        best: the same of the best times; empty when there is no such thing.
        met: whether the medians keep to the bound.
    """

    text: str
    wanted: str
    median: str
    best: str
    met: bool


def _at_least(text: str, bound: float, ratio: Ratio) -> Target:
    """Return a target that a speed has to reach."""
    return Target(text, f">= {bound:.2f}", f"{ratio.median:.2f}", f"{ratio.best:.2f}", ratio.median >= bound)


def _at_most(text: str, bound: float, ratio: Ratio) -> Target:
    """Return a target that a cost must not pass."""
    return Target(text, f"<= {bound:.0%}", f"{ratio.median:+.1%}", f"{ratio.best:+.1%}", ratio.median <= bound)


def _within(text: str, bound: float, ratio: Ratio) -> Target:
    """Return a target for how many times as long something may take."""
    return Target(text, f"<= {bound:.2f}", f"{ratio.median:.2f}", f"{ratio.best:.2f}", ratio.median <= bound)


def targets(report: Report) -> list[Target]:
    """Compare what was measured with what the project asks for; what was not measured is left out."""
    found: list[Target] = []
    timings = report.timings

    def fast(text: str, bound: float, name: str, *others: str) -> None:
        """Ask for a speed against the fastest of others."""
        measured = [timings[other] for other in others if other in timings]
        if name in timings and measured:
            found.append(_at_least(text, bound, speed(timings[name], min(measured, key=lambda timing: timing.median))))

    fast("(a) functions; the loop is 1.0", 0.8, "streamlab-on", "loop")
    peers = ("bytewax", "bytewax-branch", "bytewax-testing", "streamz", "reactivex")
    fast("(a) functions; the best peer is 1.0", 1.9, "streamlab-on", *peers)
    fast("(b) demo by built-ins; bytewax is 1.0", 6.0, "demo: streamlab", "demo: bytewax")
    fast("(b) demo by built-ins; streamz is 1.0", 50.0, "demo: streamlab", "demo: streamz")
    fast("(b) demo by built-ins; mawk is 1.0", 1.0, "demo: streamlab", "demo: mawk")
    for mark, work in (("c", "extract"), ("d", "json")):
        best = [f"{work}: {peer}" for peer in ("bytewax", "pathway", "streamz", "reactivex")]
        fast(f"({mark}) {work}; the best peer is 1.0", 8.0, f"{work}: streamlab", *best)
        fast(f"({mark}) {work}; Polars alone is 1.0", 0.7, f"{work}: streamlab", f"{work}: polars")
    off = timings.get("streamlab-off")
    for mode, name, bound in (("True", "streamlab-on", 0.03), ('"all"', "streamlab-all", 0.08)):
        if off and name in timings:
            found.append(_at_most(f"(e) trace={mode} costs, over trace=False", bound, cost(timings[name], off)))
    for delay in report.latency:
        text = f"(f) p99 from read to output, {delay.rate:,.0f} lines/s"
        found.append(Target(text, "< 10 ms", f"{delay.p99_ms:.2f} ms", "", delay.p99_ms < 10))
    fast("(h) two workers; one is 1.0", 1.7, "workers: 2", "workers: 1")
    return found + _growth_targets(report.growth) + _start_targets(report.starts)


def _growth_targets(growth: Sequence[Growth]) -> list[Target]:
    """Compare ten million lines with one million: the time of a line, and the peak of memory."""
    found = []
    for way in WAYS:
        sizes = {one.lines: one for one in growth if one.name == way}
        if LARGE in sizes and TENTH in sizes:
            large, tenth = sizes[LARGE], sizes[TENTH]
            text = f"growth, {way}: {{}}, {LARGE:,} lines over {TENTH:,}"
            found.append(_within(text.format("time of a line"), 1.25, times(large, tenth)))
            memory = Ratio(large.peak_mb / tenth.peak_mb - 1, min(large.peaks_mb) / min(tenth.peaks_mb) - 1)
            found.append(_at_most(text.format("peak of memory"), 0.10, memory))
    return found


def _start_targets(starts: Mapping[str, Timing]) -> list[Target]:
    """Compare what a start takes with what others take."""
    if not starts:
        return []
    imports, demo = times(starts[OWN_IMPORT_AFTER], starts[OTHER_IMPORTS]), times(starts[DEMO], starts[OTHER_PROCESS])
    return [
        _within("start: importing streamlab beyond pandas and polars, which are 1.0", 0.35, imports),
        _within("start: the demo's first line; importing polars is 1.0", 2.0, demo),
    ]


def _timing_rows(timings: Mapping[str, Timing], skipped: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the table of contenders, its head first."""
    abouts = {contender.name: contender.about for contender in CONTENDERS}
    abouts |= {f"{work.name}: {one.name}": one.about for work in WORKS for one in work.contenders}
    abouts |= {contender.name: contender.about for contender in HEAVY}
    rows = [("contender", "median s/1M", "best s/1M", "lines/s", "speed", "at best", "")]
    for name, timing in timings.items():
        group, colon, _ = name.rpartition(": ")
        base = timings.get(f"{group}{colon}loop")
        ratio = speed(timing, base) if base else None
        rows.append(
            (
                name,
                f"{timing.median * 1e6:.3f}",
                f"{timing.best * 1e6:.3f}",
                f"{1 / timing.median:,.0f}",
                f"{ratio.median:.2f}" if ratio else "-",
                f"{ratio.best:.2f}" if ratio else "-",
                abouts.get(name, ""),
            )
        )
    return rows + [(name, *"-----", "not installed: skipped") for name in skipped]


def _growth_rows(growth: Sequence[Growth]) -> list[tuple[str, ...]]:
    """Return the table of sizes, its head first."""
    rows: list[tuple[str, ...]] = [("growth", "lines", "median s", "s/1M", "best s/1M", "peak MB", "")]
    for one in growth:
        seconds, line, best = one.median * one.lines, one.median * 1e6, one.best * 1e6
        figures = (f"{seconds:.3f}", f"{line:.3f}", f"{best:.3f}", f"{one.peak_mb:.1f}")
        rows.append((one.name, f"{one.lines:,}", *figures, WAYS[one.name].about))
    return rows


def _start_rows(starts: Mapping[str, Timing]) -> list[tuple[str, ...]]:
    """Return the table of fresh interpreters, its head first."""
    rows: list[tuple[str, ...]] = [("start", "median ms", "best ms", "")]
    for name, one in starts.items():
        rows.append((name, f"{one.median * 1e3:.0f}", f"{one.best * 1e3:.0f}", ABOUT[name]))
    return rows


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay rows out in columns: the first and the last to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _versions() -> dict[str, str]:
    """Return the versions of what was measured, as far as it is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {peer: number for peer in APART if (number := version_of(peer))}


def as_text(report: Report) -> str:
    """Return the report as people read it."""
    versions = ", ".join(f"{package} {number}" for package, number in _versions().items())
    setting = f"{report.lines:,} lines of {report.origin}; {report.rounds} interleaved rounds; {os.cpu_count()} CPUs"
    parts = [f"{setting}; {versions}"]
    if report.timings:
        parts.append(_table(_timing_rows(report.timings, report.skipped)))
    for delay in report.latency:
        times = f"p50 {delay.p50_ms:.2f} ms, p99 {delay.p99_ms:.2f} ms, worst {delay.worst_ms:.2f} ms"
        parts.append(f"latency at {delay.rate:,.0f} lines/s: {times}")
    if report.growth:
        parts.append(_table(_growth_rows(report.growth)))
    if report.starts:
        parts.append(_table(_start_rows(report.starts)))
    if found := targets(report):
        rows = [(one.text, one.wanted, one.median, one.best, "met" if one.met else "MISSED") for one in found]
        parts.append(_table([("target", "wanted", "median", "at best", ""), *rows]))
    return "\n\n".join(parts)


def save(report: Report, folder: Path = RESULTS) -> Path:
    """Write the report as JSON into a folder, named by the time; return the file."""
    figures = {
        "lines": report.lines,
        "origin": report.origin,
        "rounds": report.rounds,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "versions": _versions(),
        "timings": [asdict(timing) for timing in report.timings.values()],
        "skipped": list(report.skipped),
        "latency": [asdict(delay) for delay in report.latency],
        "growth": [asdict(one) for one in report.growth],
        "starts": [asdict(timing) for timing in report.starts.values()],
        "targets": [asdict(target) for target in targets(report)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return path
