"""Bad input: bytes that are no text, lines that are too long, JSON that breaks parsers, a sink that is slow; the rest flows.

What is done here a few times, ``python -m tests.faults_processing`` does at full count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamlab import Pipeline, processors
from streamlab.config import BUILTINS
from tests import faults_processing as faults


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return list(faults.fuzz_lines(3_000, seed=1))


@pytest.mark.parametrize("name", ["demo", *faults.ON_TEXT, *faults.ON_FIELDS])
def test_bytes_of_any_kind(name: str, lines: list[bytes], tmp_path: Path) -> None:
    faults.fuzzed(name, lines, tmp_path)


def test_all_built_ins_are_among_them() -> None:
    assert {*faults.ON_TEXT, *faults.ON_FIELDS} == set(BUILTINS)


def test_bytes_of_any_kind_come_back_from_processes(lines: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"".join(line + b"\n" for line in lines))
    run = Pipeline("p").add("it", lambda line: line).run(tmp_path / "in", output=tmp_path / "out", workers=2)
    assert run.state == "finished"
    faults.assert_accounted_for(run, len(lines))
    assert (tmp_path / "out").read_bytes().split(b"\n")[:-1] == [faults.bare(line) for line in lines]


#: Bytes by which memory may grow: for what is read at a time, and what is kept of the line.
ROOM = 24 << 20


@pytest.mark.parametrize("how", ["file", "stdin", "generator"])
def test_a_line_of_100_mb_and_ten_short_ones(how: Any, tmp_path: Path) -> None:
    size = 100 << 20
    grown = faults.long_line(how, size, tmp_path)
    assert grown < ROOM + (0 if how != "generator" else 2 * size), f"{grown / 1e6:.0f} MB"


# JSON that breaks parsers

DEEP = 100_000
HOSTILE = {
    "nested": '{"a": 1, "b": ' + "[" * DEEP + "]" * DEEP + "}",
    "nested objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "nested and not closed": '{"a": 1, "b": ' + "[" * DEEP,
    "long integer": '{"a": ' + "9" * 5_000 + "}",
    "long integer elsewhere": '{"a": 1, "b": -' + "9" * 5_000 + "}",
}
NOT_A_NUMBER = {
    "NaN": '{"a": NaN}',
    "NaN elsewhere": '{"a": 1, "b": [{"c":  NaN }]}',
    "Infinity": '{"a": 1, "b": [1 , -Infinity]}',
}


@pytest.mark.parametrize("name", [*HOSTILE, *NOT_A_NUMBER])
@pytest.mark.parametrize(
    "parser", [processors.parse_json(), processors.parse_json({"a": "int"}), json.loads], ids=["any", "fields", "loads"]
)
def test_json_that_breaks_parsers(parser: Any, name: str) -> None:
    """It is a dead letter, and the lines beside it are read. Python's own reader takes NaN, so a function with it does."""
    takes = parser is json.loads and name in NOT_A_NUMBER
    text = (HOSTILE | NOT_A_NUMBER)[name]
    good = [f'{{"a": {n}}}' for n in range(20)]
    run = (
        Pipeline("p").add("parse", parser, to="a").add("a", lambda value: value["a"]).run([*good, text, *good], trace="all")
    )
    assert run.state == "finished"
    assert run.errors[["line_no", "processor", "kind"]].values.tolist() == ([] if takes else [[20, "parse", "processing"]])
    assert [value for number, value in run.output.values.tolist() if number != 20] == [*range(20), *range(20)]
    assert run.dead_letters["line"].tolist() == ([] if takes else [text])
    faults.assert_accounted_for(run, 41)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_value_that_is_nested_too_deep(isolation: Any, tmp_path: Path) -> None:
    """From a function to a built-in, to a sink, and from a process: where it cannot be worked on, it is a dead letter."""
    pipeline = Pipeline("p").add("make", lambda line: {"a": nested(50_000) if line == "deep" else line}, to="write")
    run = pipeline.add("write", processors.to_json()).run(["a", "deep", "b"], isolation=isolation)
    assert run.state == "finished", run.exception
    assert run.output["value"].tolist() == ['{"a":"a"}', '{"a":"b"}']
    assert run.errors["line_no"].tolist() == [1]
    run = (
        Pipeline("p")
        .add("make", lambda line: {"a": nested(50_000) if line == "deep" else line})
        .run(["a", "deep", "b"], isolation=isolation, output=tmp_path / f"{isolation}.jsonl")
    )
    assert run.state == "finished", run.exception
    assert (tmp_path / f"{isolation}.jsonl").read_text() == '{"a":"a"}\n{"a":"b"}\n'
    assert run.errors["line_no"].tolist() == [1]


# Processors in processes: what they raise and emit


class OwnBase(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no bytes")


RAISED = [SystemExit, GeneratorExit, RecursionError, MemoryError, StopIteration, OwnBase, Unprintable, Unpicklable]


def test_any_exception_in_a_process_costs_its_line_only() -> None:
    """All kinds in one run; each is what is told of its line."""

    def work(line: str) -> str:
        number = int(line)
        if number % 3 == 1:
            raise RAISED[number // 3 % len(RAISED)]("on purpose")
        return line

    lines = [str(n) for n in range(300)]
    run = Pipeline("p").add("work", work).run(lines, isolation="process", trace="all")
    assert run.state == "finished", run.exception
    bad = [n for n in range(300) if n % 3 == 1]
    assert run.errors["line_no"].tolist() == bad
    assert run.errors["error"].tolist() == [RAISED[n // 3 % len(RAISED)].__name__ for n in bad]
    assert run.output["value"].tolist() == [line for line in lines if int(line) % 3 != 1]
    faults.assert_accounted_for(run, 300)


def test_what_is_emitted_without_end_in_a_process_costs_its_line() -> None:
    def endless(line: str) -> Iterator[str]:
        while True:
            yield line
            if line != "17":
                return

    lines = [str(n) for n in range(40)]
    run = Pipeline("p", max_emits=1_000).add("endless", endless).run(lines, isolation="process")
    assert run.errors[["line_no", "kind"]].values.tolist() == [[17, "max_emits"]]
    assert run.output["value"].tolist() == [line for line in lines if line != "17"]


# A slow sink, and letting go


def test_a_slow_sink_holds_the_source_up() -> None:
    """Few lines are taken from the source before the sink can have them; once it is fast, batches grow again at once."""
    sink = faults.slow_sink(1.0, per_second=200.0)
    assert sink.ahead < 2_000
    large = next(n for n, size in enumerate(sink.sizes) if size >= 1_000)
    assert large < 50  # batches


def test_starts_and_stops_leave_nothing_behind(tmp_path: Path) -> None:
    faults.start_and_stop(30, tmp_path)
