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

from benchmarks.contenders import CONTENDERS, FILE_CONTENDERS
from benchmarks.latency import Latency
from benchmarks.measure import Ratio, Timing, cost, speed

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("streamlab", "bytewax", "streamz")


@dataclass(frozen=True)
class Report:
    """Everything that one run of the benchmarks found.

    Attributes:
        lines: how many lines the corpus had.
        origin: where they were from.
        rounds: how often each contender ran.
        timings: by contender, in the order of the table.
        skipped: contenders that are not installed.
        latency: ``None`` when it was not measured.
    """

    lines: int
    origin: str
    rounds: int
    timings: Mapping[str, Timing]
    skipped: Sequence[str]
    latency: Latency | None


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


def targets(timings: Mapping[str, Timing], delay: Latency | None) -> list[Target]:
    """Compare what was measured with what the project asks for; what was not measured is left out."""
    found = []
    on = timings.get("streamlab-on")
    if on and "loop" in timings:
        found.append(_at_least("trace=True, the loop is 1.0", 0.65, speed(on, timings["loop"])))
    if on:
        peers = [timing for name, timing in timings.items() if name.startswith("bytewax")]
        found += [_at_least(f"trace=True, {peer.name} is 1.0", 1.6, speed(on, peer)) for peer in peers]
    if on and "streamlab-off" in timings:
        off = timings["streamlab-off"]
        found.append(_at_most("trace=True costs, over trace=False", 0.05, cost(on, off)))
        if "streamlab-all" in timings:
            found.append(_at_most('trace="all" costs, over trace=False', 0.10, cost(timings["streamlab-all"], off)))
    if delay:
        met = delay.p99_ms < 10
        found.append(Target("p99 from read to output, 100 lines/s", "< 10 ms", f"{delay.p99_ms:.2f} ms", "", met))
    return found


def _timing_rows(timings: Mapping[str, Timing], skipped: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the table of contenders, its head first."""
    abouts = {contender.name: contender.about for contender in (*CONTENDERS, *FILE_CONTENDERS)}
    rows = [("contender", "median s/1M", "best s/1M", "lines/s", "speed", "at best", "")]
    for name, timing in timings.items():
        base = timings.get("file-loop" if name.startswith("file-") else "loop")
        ratio = speed(timing, base) if base else None
        rows.append(
            (
                name,
                f"{timing.median * 1e6:.3f}",
                f"{timing.best * 1e6:.3f}",
                f"{1 / timing.median:,.0f}",
                f"{ratio.median:.2f}" if ratio else "-",
                f"{ratio.best:.2f}" if ratio else "-",
                abouts[name],
            )
        )
    return rows + [(name, *"-----", "not installed: skipped") for name in skipped]


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
    return found


def as_text(report: Report) -> str:
    """Return the report as people read it."""
    versions = ", ".join(f"{package} {number}" for package, number in _versions().items())
    setting = f"{report.lines:,} lines of {report.origin}; {report.rounds} interleaved rounds; {os.cpu_count()} CPUs"
    parts = [f"{setting}; {versions}"]
    if report.timings:
        parts.append(_table(_timing_rows(report.timings, report.skipped)))
    if delay := report.latency:
        times = f"p50 {delay.p50_ms:.2f} ms, p99 {delay.p99_ms:.2f} ms, worst {delay.worst_ms:.2f} ms"
        parts.append(f"latency of {delay.lines} lines: {times}")
    if found := targets(report.timings, report.latency):
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
        "latency": asdict(report.latency) if report.latency else None,
        "targets": [asdict(target) for target in targets(report.timings, report.latency)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return path
