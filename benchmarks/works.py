"""Works from file to file, and how each engine does them: one function each, a source and a target path.

``demo``    lines that hold a word are upper-cased, all are wrapped in brackets
``extract`` a regular expression takes access log lines apart, errors are kept, and counted by status
``json``    JSON objects are parsed, the slow ones kept, and written again with four of their fields

Engines that call Python functions call the same ones. Everybody writes the same bytes, which is checked.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import apart
from benchmarks.contenders import end, start, warn_if_told
from benchmarks.contenders import pipeline as demo_pipeline
from benchmarks.corpus import SEED, corpus
from data.generate import lines as generated

if TYPE_CHECKING:
    from streamlab import Pipeline

BATCH = 1024
ACCESS = (
    r"^(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r'"(?P<method>[A-Z]+) (?P<path>\S+)[^"]*" (?P<status>\d{3}) (?P<size>\S+)'
)
_ACCESS = re.compile(ACCESS)
SLOW_MS = 20
FIELDS = {"time": "str", "level": "str", "event": "str", "user": "str", "duration_ms": "int"}
KEPT = ("time", "event", "user", "duration_ms")


@dataclass(frozen=True)
class FileContender:
    """A way to do a work from a file to a file that is not there yet.

    Attributes:
        name: what the table calls it.
        run: takes the source and the target; returns None or, by its own clock, the seconds that it took.
        about: how it is set up, for people.
        package: what has to be installed for it: a Python package; with a leading ``$`` a program; with a leading ``@`` a
            peer in an environment of its own.
        share: which part of the lines it gets; less than all for those that would take minutes.
        ordered: whether what it writes is in the order that the others write it in.
        own_clock: whether the seconds that ``run`` returns count: for a peer in a process of its own, whose start and
            imports are no part of the work, as they are not for those in this process.
        strips: whether it takes blanks off both ends of a line, like it or not; it is given lines that have none.
    """

    name: str
    run: Callable[[Path, Path], float | None]
    about: str
    package: str = ""
    share: float = 1.0
    ordered: bool = True
    own_clock: bool = False
    strips: bool = False

    @property
    def installed(self) -> bool:
        """Whether it can run here."""
        if self.package.startswith("@"):
            return apart.version_of(self.package[1:]) is not None
        if self.package.startswith("$"):
            return shutil.which(self.package[1:]) is not None
        return not self.package or find_spec(self.package) is not None


@dataclass(frozen=True)
class Work:
    """What is to be done, and who does it; the first contender is the plain loop, which the others are compared with."""

    name: str
    lines: Callable[[int], list[str]]
    contenders: tuple[FileContender, ...]


# The input


def demo_lines(count: int) -> list[str]:
    """Return lines of real logs."""
    return corpus(count).lines


def access_lines(count: int) -> list[str]:
    """Return lines of a web server's log."""
    return list(generated("access", count, SEED))


def json_lines(count: int) -> list[str]:
    """Return JSON objects, without those that are cut off in the middle: not all engines can go on after one."""
    made = (line for line in generated("json", count * 2, SEED) if line.endswith("}"))
    return [line for line, _ in zip(made, range(count), strict=False)]


# The plain functions


def demo_step(line: str) -> str:
    """Do the whole of the demo's work on one line."""
    return end(warn_if_told(start(line)))


def extracted(line: str) -> dict[str, str | None] | None:
    """Take a line apart."""
    match = _ACCESS.match(line)
    return match.groupdict() if match else None


def is_error(fields: dict[str, Any] | None) -> bool:
    """Tell whether a request failed."""
    return fields is not None and fields["status"][0] in "45"


def counted(statuses: Iterable[str]) -> Iterator[str]:
    """Yield how often each status came, in the order in which they came first."""
    for status, count in Counter(statuses).items():
        yield f"{status} {count}"


def is_slow(fields: dict[str, Any]) -> bool:
    """Tell whether a request took long."""
    return bool(fields["duration_ms"] >= SLOW_MS)


def rewritten(fields: dict[str, Any]) -> str:
    """Write some of the fields."""
    return json.dumps({name: fields[name] for name in KEPT}, ensure_ascii=False, separators=(",", ":"))


# The loop


def _read(source: Path) -> Iterator[str]:
    with source.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            yield line.removesuffix("\n")


def _write(target: Path, lines: Iterable[str]) -> None:
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as out:
        for line in lines:
            out.write(line + "\n")


def demo_loop(source: Path, target: Path) -> None:
    """Do it in a hand-written loop that records nothing."""
    _write(target, map(demo_step, _read(source)))


def extract_loop(source: Path, target: Path) -> None:
    """Do it in a hand-written loop that records nothing."""
    errors = (fields for fields in map(extracted, _read(source)) if is_error(fields))
    _write(target, counted(fields["status"] for fields in errors if fields))  # type: ignore[misc]


def json_loop(source: Path, target: Path) -> None:
    """Do it in a hand-written loop that records nothing."""
    _write(target, (rewritten(fields) for fields in map(json.loads, _read(source)) if is_slow(fields)))


# streamlab


def _run(pipeline: Pipeline, source: Path, target: Path) -> None:
    done = pipeline.run(source, trace=True, output=target)
    if done.state != "finished":
        raise RuntimeError(f"streamlab: {done.exception}")


def demo_functions(source: Path, target: Path) -> None:
    """Run it in streamlab with the plain functions."""
    _run(demo_pipeline(), source, target)


def demo_builtins(source: Path, target: Path) -> None:
    """Run it in streamlab with built-ins."""
    from streamlab import Pipeline, processors

    pipeline = Pipeline("demo")
    pipeline.add("start", processors.route({"error": "warn"}, default="end"))
    pipeline.add("warn", processors.upper(), to="end")
    _run(pipeline.add("end", processors.template("[{line}]")), source, target)


def extract_builtins(source: Path, target: Path) -> None:
    """Run it in streamlab with built-ins."""
    from streamlab import Pipeline, processors

    pipeline = Pipeline("extract")
    pipeline.add("extract", processors.extract(ACCESS), to="errors", on_error="skip")
    pipeline.add("errors", processors.keep("^[45]", by="matches", field="status"), to="count")
    pipeline.add("count", processors.count(by="status"), to="text")
    _run(pipeline.add("text", processors.template("{key} {count}")), source, target)


def extract_functions(source: Path, target: Path) -> None:
    """Run it in streamlab with the plain functions."""
    from streamlab import Pipeline

    class Count:
        def __init__(self) -> None:
            self.counts: Counter[str] = Counter()

        def __call__(self, fields: dict[str, str]) -> None:
            self.counts[fields["status"]] += 1

        def flush(self) -> Iterator[str]:
            for status, count in self.counts.items():
                yield f"{status} {count}"

    pipeline = Pipeline("extract")
    pipeline.add("extract", extracted, to="errors")
    pipeline.add("errors", lambda fields: fields if is_error(fields) else None, to="count")
    _run(pipeline.add("count", Count), source, target)


def json_builtins(source: Path, target: Path) -> None:
    """Run it in streamlab with built-ins."""
    from streamlab import Pipeline, processors

    pipeline = Pipeline("json")
    pipeline.add("parse", processors.parse_json(FIELDS), to="slow")
    pipeline.add("slow", processors.keep(f"duration_ms >= {SLOW_MS}", by="expression"), to="select")
    pipeline.add("select", processors.select(*KEPT), to="write")
    _run(pipeline.add("write", processors.to_json()), source, target)


def json_functions(source: Path, target: Path) -> None:
    """Run it in streamlab with the plain functions."""
    from streamlab import Pipeline

    pipeline = Pipeline("json")
    pipeline.add("parse", json.loads, to="slow")
    pipeline.add("slow", lambda fields: fields if is_slow(fields) else None, to="write")
    _run(pipeline.add("write", rewritten), source, target)


# Polars alone, with no ledger


def demo_polars(source: Path, target: Path) -> None:
    """Do it in one lazy query."""
    import polars as pl

    line = pl.col("line")
    warned = pl.when(line.str.contains("error", literal=True)).then(line.str.to_uppercase()).otherwise(line)
    query = pl.scan_lines(source, name="line").select(pl.format("[{}]", warned))
    query.sink_csv(target, include_header=False, quote_style="never")


def extract_polars(source: Path, target: Path) -> None:
    """Do it in one lazy query."""
    import polars as pl

    groups = pl.col("line").str.extract_groups(ACCESS.replace("?P<", "?<"))
    query = pl.scan_lines(source, name="line").select(groups.alias("fields")).unnest("fields")
    query = query.filter(pl.col("status").str.contains("^[45]")).group_by("status", maintain_order=True).len()
    query.select(pl.format("{} {}", "status", "len")).sink_csv(target, include_header=False, quote_style="never")


def json_polars(source: Path, target: Path) -> None:
    """Do it in one lazy query."""
    import polars as pl

    schema = {name: pl.Int64 if kind == "int" else pl.String for name, kind in FIELDS.items()}
    query = pl.scan_ndjson(source, schema=schema).filter(pl.col("duration_ms") >= SLOW_MS).select(KEPT)
    query.sink_ndjson(target)


# mawk, where it can do the same


def demo_mawk(source: Path, target: Path) -> None:
    """Do it in awk."""
    _mawk('{ if (index($0, "error")) $0 = toupper($0); print "[" $0 "]" }', source, target)


def extract_mawk(source: Path, target: Path) -> None:
    """Do it in awk, by splitting at blanks rather than by the expression."""
    count = "$9 ~ /^[45]/ { if (!($9 in n)) order[++k] = $9; n[$9]++ }"
    program = count + " END { for (i = 1; i <= k; i++) print order[i], n[order[i]] }"
    _mawk(program, source, target)


def _mawk(program: str, source: Path, target: Path) -> None:
    with target.open("wb") as out:
        subprocess.run(["mawk", program, str(source)], stdout=out, check=True)


# bytewax, at its best: its file source and sink with batches, maps in a row, in the calling thread


def _bytewax(source: Path, target: Path, steps: Callable[[Any, Any], Any]) -> None:
    files, operators = import_module("bytewax.connectors.files"), import_module("bytewax.operators")
    flow = import_module("bytewax.dataflow").Dataflow("bench")
    lines = operators.input("lines", flow, files.FileSource(source, batch_size=BATCH))
    keyed = operators.map("keyed", steps(operators, lines), lambda line: ("", line))
    operators.output("output", keyed, files.FileSink(target))
    import_module("bytewax.testing").run_main(flow)


def demo_bytewax(source: Path, target: Path) -> None:
    """Run it in bytewax."""
    _bytewax(source, target, lambda op, s: op.map("end", op.map("warn", op.map("start", s, start), warn_if_told), end))


def extract_bytewax(source: Path, target: Path) -> None:
    """Run it in bytewax."""

    def steps(op: Any, lines: Any) -> Any:
        errors = op.filter("errors", op.map("extract", lines, extracted), is_error)
        counts = op.count_final("count", errors, lambda fields: fields["status"])
        return op.map("text", counts, lambda pair: f"{pair[0]} {pair[1]}")

    _bytewax(source, target, steps)


def json_bytewax(source: Path, target: Path) -> None:
    """Run it in bytewax."""
    _bytewax(
        source, target, lambda op, s: op.map("write", op.filter("slow", op.map("parse", s, json.loads), is_slow), rewritten)
    )


# streamz and reactivex: one value at a time, so a part of the lines only


def _streamz(source: Path, target: Path, steps: Callable[[Any], Any], last: Callable[[], Iterable[str]] = tuple) -> None:
    stream = import_module("streamz").Stream()
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as out:
        steps(stream).sink(lambda line: out.write(line + "\n"))
        for line in _read(source):
            stream.emit(line)
        out.writelines(line + "\n" for line in last())


def demo_streamz(source: Path, target: Path) -> None:
    """Run it in streamz."""
    _streamz(source, target, lambda stream: stream.map(start).map(warn_if_told).map(end))


def extract_streamz(source: Path, target: Path) -> None:
    """Run it in streamz."""
    statuses: list[str] = []

    def steps(stream: Any) -> Any:
        stream.map(extracted).filter(is_error).map(lambda fields: fields["status"]).sink(statuses.append)
        return import_module("streamz").Stream()

    _streamz(source, target, steps, lambda: counted(statuses))


def json_streamz(source: Path, target: Path) -> None:
    """Run it in streamz."""
    _streamz(source, target, lambda stream: stream.map(json.loads).filter(is_slow).map(rewritten))


def _reactivex(source: Path, target: Path, steps: Callable[[Any, Any], Any]) -> None:
    rx, operators = import_module("reactivex"), import_module("reactivex.operators")
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as out:
        failed: list[Exception] = []
        steps(rx.from_iterable(_read(source)), operators).subscribe(
            on_next=lambda line: out.write(line + "\n"), on_error=failed.append
        )
    for error in failed:
        raise error


def demo_reactivex(source: Path, target: Path) -> None:
    """Run it in reactivex."""
    _reactivex(source, target, lambda s, op: s.pipe(op.map(start), op.map(warn_if_told), op.map(end)))


def extract_reactivex(source: Path, target: Path) -> None:
    """Run it in reactivex."""
    rx = import_module("reactivex")
    _reactivex(
        source,
        target,
        lambda s, op: s.pipe(
            op.map(extracted),
            op.filter(is_error),
            op.map(lambda fields: fields["status"]),
            op.to_list(),
            op.flat_map(lambda statuses: rx.from_iterable(counted(statuses))),
        ),
    )


def json_reactivex(source: Path, target: Path) -> None:
    """Run it in reactivex."""
    _reactivex(source, target, lambda s, op: s.pipe(op.map(json.loads), op.filter(is_slow), op.map(rewritten)))


# pathway, in a process of its own: see `benchmarks.peer_pathway`


def _pathway(work: str, about: str, strips: bool = False) -> FileContender:
    run = partial(apart.run, "pathway", work)
    return FileContender("pathway", run, about, "@pathway", ordered=False, own_clock=True, strips=strips)


_SLOW_PEERS = 0.05
WORKS = (
    Work(
        "demo",
        demo_lines,
        (
            FileContender("loop", demo_loop, "a hand-written loop that records nothing"),
            FileContender("streamlab", demo_builtins, "built-ins, trace=True"),
            FileContender("streamlab-functions", demo_functions, "Python functions, trace=True"),
            FileContender("polars", demo_polars, "one lazy query, no ledger", "polars"),
            FileContender("mawk", demo_mawk, "one program", "$mawk"),
            FileContender("bytewax", demo_bytewax, "maps in a row, batches of 1024", "bytewax"),
            _pathway("demo", "one udf, subscribe; its own process and clock; lines stripped", strips=True),
            FileContender("reactivex", demo_reactivex, "maps in a row", "reactivex", _SLOW_PEERS),
            FileContender("streamz", demo_streamz, "maps in a row", "streamz", _SLOW_PEERS),
        ),
    ),
    Work(
        "extract",
        access_lines,
        (
            FileContender("loop", extract_loop, "a hand-written loop that records nothing"),
            FileContender("streamlab", extract_builtins, "built-ins, trace=True"),
            FileContender("streamlab-functions", extract_functions, "Python functions, trace=True"),
            FileContender("polars", extract_polars, "one lazy query, no ledger", "polars"),
            FileContender("mawk", extract_mawk, "splits at blanks instead", "$mawk"),
            FileContender("bytewax", extract_bytewax, "map, filter, count_final", "bytewax", ordered=False),
            _pathway("extract", "one udf, filter, groupby, subscribe; its own process and clock"),
            FileContender("reactivex", extract_reactivex, "map, filter, to_list", "reactivex", _SLOW_PEERS),
            FileContender("streamz", extract_streamz, "map, filter, sink", "streamz", _SLOW_PEERS),
        ),
    ),
    Work(
        "json",
        json_lines,
        (
            FileContender("loop", json_loop, "a hand-written loop that records nothing"),
            FileContender("streamlab", json_builtins, "built-ins, trace=True"),
            FileContender("streamlab-functions", json_functions, "Python functions, trace=True"),
            FileContender("polars", json_polars, "one lazy query, no ledger", "polars"),
            FileContender("bytewax", json_bytewax, "map, filter, map", "bytewax"),
            _pathway("json", "one udf, filter, subscribe; its own process and clock"),
            FileContender("reactivex", json_reactivex, "map, filter, map", "reactivex", _SLOW_PEERS),
            FileContender("streamz", json_streamz, "map, filter, map", "streamz", _SLOW_PEERS),
        ),
    ),
)
