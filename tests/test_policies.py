"""What happens to a line when a processor fails on it: every failure kind, retry, ``on_error``, timeout and limits."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import polars as pl
import pytest

from streamlab import EMIT, Pipeline, PipelineError, ProcessorFailed, Retry, Run, RunError
from streamlab.batch import Chunk
from streamlab.engine import Engine
from streamlab.policy import FAILURE_KINDS, Limits
from tests.driver import Every, FakeHost

#: Enough lines that the generated loop has taken over, and that not all of them are observed.
MANY = [f"line {i}" for i in range(3_000)]


def one(target: Any, lines: Any = ("a",), limits: dict[str, int] | None = None, **options: Any) -> Run:
    """Run lines through a single processor ``work``."""
    return Pipeline("single", **(limits or {})).add("work", target, **options).run(list(lines), trace=True)


def kinds(run: Run) -> list[str]:
    return run.errors["kind"].tolist()  # type: ignore[no-any-return]


def raises(error: type[BaseException]) -> Callable[[Any], Any]:
    def work(value: Any) -> Any:
        raise error("on purpose")

    return work


def assert_whole(run: Run, lines: list[str]) -> None:
    """Check that the ledger balances, and that every line is in the output, in the dead letters or unfinished."""
    ledger = run.ledger
    ended = ledger["emitted"] + ledger["filtered"] + ledger["absorbed"] + ledger["dead_lettered"] + ledger["in_flight"]
    assert ledger["received"] + ledger["forked"] == ended
    known = {*run.output["line_no"].dropna(), *run.dead_letters["line_no"].dropna(), *run.unfinished["line_no"]}
    assert known == set(range(ledger["received"]))
    for table in (run.dead_letters, run.unfinished):
        for number, line in zip(table["line_no"], table["line"], strict=True):
            assert line == lines[number]


# Failure kinds


def test_processing() -> None:
    run = one(raises(ValueError))
    [error] = run.errors.to_dict("records")
    assert (error["line_no"], error["processor"], error["kind"], error["error"]) == (
        0,
        "work",
        "processing",
        "ValueError",
    )
    assert (error["message"], error["line"], error["attempts"]) == ("on purpose", "a", 1)
    assert "in work" in error["traceback"]
    assert "streamlab/" not in error["traceback"].replace("tests", "")
    assert run.dead_letters[["line_no", "line", "kind", "path"]].values.tolist() == [[0, "a", "processing", "work"]]


def test_decode_and_oversize() -> None:
    run = Pipeline("p", max_line_bytes=4).add("work", str.upper).run(["a", 7, "too long", "b"], trace=True)  # type: ignore[list-item]
    assert run.output["value"].tolist() == ["A", "B"]
    assert run.errors[["line_no", "kind"]].values.tolist() == [[1, "decode"], [2, "oversize"]]
    assert run.errors["processor"].isna().all()
    assert run.metrics.loc["work", "received"] == 2
    assert run.ledger == {
        "received": 4,
        "forked": 0,
        "emitted": 2,
        "filtered": 0,
        "absorbed": 0,
        "dead_lettered": 2,
        "in_flight": 0,
    }


@pytest.mark.parametrize(
    "result", [("nowhere", 1), (EMIT, 1, 2), (), ([], 1), (None, 1), [("nowhere", 1), (EMIT, 2)]], ids=repr
)
def test_unknown_tag(result: Any) -> None:
    run = one(lambda value: result, MANY)
    assert run.state == "finished"
    assert set(kinds(run)) == {"unknown_tag"}
    assert run.ledger["dead_lettered"] == len(MANY)
    assert run.ledger["forked"] == 0


def test_a_bare_value_with_several_ways_is_an_unknown_tag() -> None:
    pipeline = Pipeline("p").add("work", str.upper, to=("a", "b")).add("a", str.upper).add("b", str.upper)
    run = pipeline.run(["x"])
    assert kinds(run) == ["unknown_tag"]
    assert "a, b" in run.errors["message"][0]


def test_a_tag_that_cannot_be_compared_is_an_unknown_tag() -> None:
    """A processor that returns two arrays as a tuple means no route."""
    pipeline = Pipeline("p").add("work", lambda value: (np.array([1, 2]), value), to=("a", EMIT)).add("a", str.upper)
    run = pipeline.run(MANY)
    assert run.state == "finished", run.exception
    assert set(kinds(run)) == {"unknown_tag"}


@pytest.mark.parametrize("max_hops", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("kind", ["bare", "tag", "async", "columnar"])
def test_max_hops(kind: str, max_hops: int) -> None:
    """Each way of visiting counts; the processor that would send it on once too often is the one to blame."""

    async def asynchronous(value: str) -> str:
        return value + "."

    target: Any = {
        "bare": lambda value: value + ".",
        "tag": lambda value: ("again", value + "."),
        "async": asynchronous,
        "columnar": pl.col("line") + ".",
    }[kind]
    pipeline = Pipeline("p", max_hops=max_hops)
    pipeline.add("again", target, to="again")
    run = pipeline.run(["x"] * 20, trace=True)
    assert kinds(run) == ["max_hops"] * 20
    assert run.metrics.loc["again", "received"] == 20 * max_hops
    assert set(run.traces["path"]) == {" > ".join(["again"] * max_hops)}


@pytest.mark.parametrize("kind", ["bare", "tag", "async", "columnar"])
def test_max_hops_in_a_chain(kind: str) -> None:
    """As many processors as max_hops are fine, one more is not."""

    async def asynchronous(value: str) -> str:
        return value + "."

    for length in (3, 4):
        pipeline = Pipeline("p", max_hops=3)
        for i in range(length):
            last = i == length - 1
            tag: Any = (lambda value: (EMIT, value)) if last else (lambda value, i=i: (f"p{i + 1}", value))
            target = {"bare": str.upper, "tag": tag, "columnar": pl.col("line") + ".", "async": asynchronous}[kind]
            pipeline.add(f"p{i}", target, to=() if last else f"p{i + 1}")
        run = pipeline.run(MANY, trace=True)
        assert run.ledger["emitted"] == (len(MANY) if length == 3 else 0), (kind, length)
        assert run.ledger["dead_lettered"] == (0 if length == 3 else len(MANY))


def test_what_an_expression_filters_goes_nowhere_and_is_no_hop_too_many() -> None:
    only_a = pl.when(pl.col("line") == "a").then(pl.col("line"))
    run = Pipeline("p", max_hops=1).add("only", only_a, to="end").add("end", str.upper).run(["a", "b"], trace=True)
    assert run.traces["fate"].tolist() == ["dead_letter", "filtered"]


def endless(value: str) -> Iterator[str]:
    while True:
        yield value


@pytest.mark.parametrize("emits", [1, 5, 10_000])
def test_max_emits(emits: int) -> None:
    closed: list[str] = []

    def work(value: str) -> Iterator[str]:
        try:
            if value == "endless":
                yield from endless(value)
            yield from [value] * emits
        finally:
            closed.append(value)

    run = Pipeline("p", max_emits=emits).add("work", work).run(["a", "endless", "b"])
    assert run.output["line_no"].tolist() == [0] * emits + [2] * emits
    assert kinds(run) == ["max_emits"]
    assert sorted(closed) == ["a", "b", "endless"], "the generator was left open"


def test_max_emits_of_a_list_and_of_an_async_generator() -> None:
    async def work(value: str) -> Any:
        while True:
            yield value

    assert kinds(one(work, limits={"max_emits": 3})) == ["max_emits"]
    assert kinds(one(lambda value: [value] * 4, limits={"max_emits": 3})) == ["max_emits"]


def test_timeout() -> None:
    """A slow call costs its line; the next one runs."""
    release = threading.Event()

    def work(value: str) -> str:
        if value == "slow":
            release.wait(5)
        return value.upper()

    try:
        run = one(work, ["a", "slow", "b"], timeout=0.1)
    finally:
        release.set()
    assert run.output["value"].tolist() == ["A", "B"]
    assert run.errors[["line_no", "kind"]].values.tolist() == [[1, "timeout"]]
    assert "0.1 s" in run.errors["message"][0]


def test_timeout_of_a_generator_and_of_async_processors() -> None:
    def slowly(value: str) -> Iterator[str]:
        time.sleep(0.3)
        yield value

    async def asleep(value: str) -> str:
        await asyncio.sleep(10 if value == "slow" else 0)
        return value

    assert kinds(one(slowly, timeout=0.05)) == ["timeout"]
    run = one(asleep, ["a", "slow", "b"], timeout=0.05)
    assert run.output["value"].tolist() == ["a", "b"]
    assert kinds(run) == ["timeout"]


def test_a_timeout_error_of_the_processor_itself_is_its_own() -> None:
    async def work(value: str) -> str:
        raise TimeoutError("the database did")

    [row] = one(work, timeout=5.0).errors[["kind", "message"]].values.tolist()
    assert row == ["processing", "the database did"]


def test_too_many_hung_calls_end_the_run() -> None:
    """Threads cannot be killed: a run abandons a few, then it fails loudly, and nothing is lost."""
    release = threading.Event()
    lines = [f"{i}" for i in range(30)]
    try:
        run = one(lambda value: release.wait(10), lines, timeout=0.01)
    finally:
        release.set()
    assert run.state == "failed"
    assert isinstance(run.exception, RunError)
    assert "hang" in str(run.exception)
    assert set(kinds(run)) <= {"timeout", "worker_died"}
    assert_whole(run, lines)


def test_worker_died() -> None:
    release = threading.Event()
    try:
        run = one(lambda value: release.wait(10), [f"{i}" for i in range(10)], timeout=0.01)
    finally:
        release.set()
    assert kinds(run)[-1] == "worker_died"


def test_sink_rejected() -> None:
    taken: list[str] = []

    def sink(value: str) -> None:
        if value == "B":
            raise ValueError("not this one")
        taken.append(value)

    run = Pipeline("p").add("work", str.upper).run(["a", "b", "c"], output=sink, trace=True)
    assert taken == ["A", "C"]
    assert run.errors[["line_no", "kind", "processor", "line"]].values.tolist() == [[1, "sink_rejected", "work", "b"]]
    assert run.traces["fate"].tolist() == ["emitted", "dead_letter", "emitted"]
    assert run.ledger["dead_lettered"] == 1
    assert run.metrics.loc["work", ["emitted", "dead_lettered"]].tolist() == [2, 1]


def test_every_kind_is_tested_here() -> None:
    with open(__file__, encoding="utf-8") as source:
        text = source.read()
    assert [kind for kind in FAILURE_KINDS if f'"{kind}"' not in text] == []


# Whatever is raised


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class OwnBase(BaseException):
    pass


RAISED = [
    SystemExit,
    RecursionError,
    GeneratorExit,
    MemoryError,
    StopIteration,
    asyncio.CancelledError,
    OwnBase,
    Unprintable,
]


@pytest.mark.parametrize("on_error", ["dead_letter", "skip", "mend"])
@pytest.mark.parametrize("where", ["function", "generator", "async", "class"])
@pytest.mark.parametrize("error", RAISED, ids=lambda error: getattr(error, "__name__", None))
def test_any_exception_costs_its_line_only(error: type[BaseException], where: str, on_error: str) -> None:
    def function(value: str) -> str:
        if value.endswith("7"):
            raise error("on purpose")
        return value.upper()

    def generator(value: str) -> Iterator[str]:
        yield function(value)

    async def asynchronous(value: str) -> str:
        return function(value)

    class Class:
        def __call__(self, value: str) -> str:
            return function(value)

    target = {"function": function, "generator": generator, "async": asynchronous, "class": Class}[where]
    pipeline = Pipeline("p").add("work", target, on_error=on_error).add("mend", lambda value: "mended " + value)
    lines = MANY[:1200]
    bad = [line for line in lines if line.endswith("7")]
    run = pipeline.run(lines)
    assert run.state == "finished", run.exception
    assert run.errors["line"].tolist() == bad
    assert set(kinds(run)) == {"processing"}
    if on_error == "mend":
        assert run.output["value"].tolist() == [f"mended {x}" if x in bad else x.upper() for x in lines]
    else:
        assert run.output["value"].tolist() == [line.upper() for line in lines if line not in bad]
        assert run.ledger["dead_lettered" if on_error == "dead_letter" else "filtered"] == len(bad)


def test_real_recursion() -> None:
    def work(value: str) -> str:
        return work(value + "x")

    run = one(work, ["a", "b"])
    assert run.errors["error"].tolist() == ["RecursionError"] * 2


@pytest.mark.parametrize("where", ["function", "generator", "async", "timeout", "class", "key", "flush"])
def test_keyboard_interrupt_stops_the_run(where: str) -> None:
    """A Ctrl-C that happens to come while a processor runs is no failure of the line."""

    def function(value: str) -> str:
        if value == "line 5":
            raise KeyboardInterrupt
        return value

    def generator(value: str) -> Iterator[str]:
        yield function(value)

    async def asynchronous(value: str) -> str:
        return function(value)

    class Class:
        def __call__(self, value: str) -> str:
            return function(value) if where == "class" else value

        def flush(self) -> list[str]:
            if where == "flush":
                raise KeyboardInterrupt
            return []

    targets = {"generator": generator, "async": asynchronous, "class": Class, "key": Class, "flush": Class}
    pipeline = Pipeline("p")
    options: dict[str, Any] = {"timeout": 5.0} if where == "timeout" else {"key": function} if where == "key" else {}
    pipeline.add("work", targets.get(where, function), on_error="skip", **options)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(MANY)
    live = pipeline.start(MANY).wait(10)
    assert live.state == "stopped"
    assert len(live.errors) == 0
    assert_whole(live, MANY)


# Retry


def flaky(failures: int, error: type[BaseException] = OSError) -> Callable[[Any], Any]:
    """Return a function that fails so many times for each value before it works."""
    left: dict[Any, int] = {}

    def work(value: Any) -> Any:
        left[value] = left.get(value, failures) - 1
        if left[value] >= 0:
            raise error(f"{left[value]} more")
        return value

    return work


def drive(pipeline: Pipeline, lines: list[str]) -> tuple[Any, FakeHost]:
    """Run one batch with a host that only notes how long it should sleep."""
    host = FakeHost()
    return Engine(pipeline, host).process(Chunk(lines), 0), host


@pytest.mark.parametrize("where", ["function", "async"])
@pytest.mark.parametrize(("failures", "attempts", "works"), [(0, 3, True), (2, 3, True), (3, 3, False), (1, 1, False)])
def test_attempts_include_the_first(where: str, failures: int, attempts: int, works: bool) -> None:
    function = flaky(failures)

    async def asynchronous(value: str) -> Any:
        return function(value)

    retry = Retry(maximum_attempts=attempts, jitter=False, initial_interval=1.0)
    pipeline = Pipeline("p").add("work", function if where == "function" else asynchronous, retry=retry)
    batch, host = drive(pipeline, ["a"])
    assert batch.emitted()[0] == (["a"] if works else [])
    made = min(failures + 1, attempts)
    assert batch.retries.get("work", 0) == made - 1
    assert [failure.attempts for failure in batch.failures] == ([] if works else [attempts])
    assert host.slept == [1.0, 2.0, 4.0][: made - 1]


def test_back_off_grows_to_its_maximum() -> None:
    retry = Retry(maximum_attempts=6, initial_interval=0.5, backoff_coefficient=3.0, maximum_interval=10.0, jitter=False)
    _, host = drive(Pipeline("p").add("work", raises(OSError), retry=retry), ["a"])
    assert host.slept == [0.5, 1.5, 4.5, 10.0, 10.0]


def test_jitter_stays_within_the_back_off() -> None:
    retry = Retry(maximum_attempts=4, initial_interval=1.0, backoff_coefficient=2.0, maximum_interval=3.0)
    _, host = drive(Pipeline("p").add("work", raises(OSError), retry=retry), [f"{i}" for i in range(200)])
    assert len(host.slept) == 600
    for attempt, bound in enumerate([1.0, 2.0, 3.0]):
        pauses = host.slept[attempt::3]
        assert all(0 <= pause <= bound for pause in pauses)
        assert max(pauses) > 0.7 * bound
        assert min(pauses) < 0.3 * bound


@pytest.mark.parametrize("error", [ValueError, TypeError, KeyError, UnicodeError])
def test_non_retryable(error: type[Exception]) -> None:
    batch, host = drive(Pipeline("p").add("work", flaky(1, error), retry=Retry()), ["a"])
    assert host.slept == []
    assert [failure.attempts for failure in batch.failures] == [1]


def test_non_retryable_comes_up_later() -> None:
    def work(value: str) -> str:
        calls.append(value)
        raise ValueError("never") if len(calls) > 1 else OSError("perhaps")

    calls: list[str] = []
    batch, _ = drive(Pipeline("p").add("work", work, retry=Retry(maximum_attempts=5)), ["a"])
    assert len(calls) == 2
    assert [(failure.attempts, failure.error) for failure in batch.failures] == [(2, "ValueError")]


def test_system_exit_is_retried_and_unknown_tags_are_not() -> None:
    batch, _ = drive(Pipeline("p").add("work", flaky(2, SystemExit), retry=Retry()), ["a"])
    assert batch.emitted()[0] == ["a"]
    batch, host = drive(Pipeline("p").add("work", lambda value: ("nowhere", value), retry=Retry()), ["a"])
    assert [failure.kind for failure in batch.failures] == ["unknown_tag"]
    assert host.slept == []


def test_a_generator_that_raises_is_tried_again_from_the_start() -> None:
    once = flaky(1)

    def work(value: str) -> Iterator[str]:
        yield "first"
        yield once(value)

    batch, _ = drive(Pipeline("p").add("work", work, retry=Retry()), ["a"])
    assert batch.emitted()[0] == ["first", "a"]


@pytest.mark.parametrize("observed", ["all", "none"])
@pytest.mark.parametrize("where", ["function", "async", "timeout"])
def test_each_attempt_and_the_handler_get_the_value_as_it_was(where: str, observed: str) -> None:
    """Processors that change the dict they are given, before they fail."""
    got: list[dict[str, Any]] = []

    def change(fields: dict[str, Any]) -> Any:
        got.append({"a": fields["a"], "list": list(fields["list"])})
        fields["a"] = "changed"
        fields["list"].append("changed")
        raise OSError("after the damage")

    async def asynchronous(fields: dict[str, Any]) -> Any:
        change(fields)

    pipeline = Pipeline("p")
    pipeline.add("parse", lambda line: {"a": line, "list": []}, to="work")
    target: Any = asynchronous if where == "async" else change
    retry = Retry(maximum_attempts=3, initial_interval=0.0)
    timeout = 5.0 if where == "timeout" else None
    pipeline.add("work", target, to=EMIT, retry=retry, on_error="mend", timeout=timeout)
    pipeline.add("mend", lambda fields: fields)
    host = FakeHost()
    engine = Engine(pipeline, host, observe_all=True)
    if observed == "none":
        engine._sampler = Every(0)
    batch = engine.process(Chunk(["x", "y"]), 0)
    assert got == [{"a": line, "list": []} for line in "xy" for _ in range(3)]
    assert batch.emitted()[0] == [{"a": "x", "list": []}, {"a": "y", "list": []}]
    if observed == "all":
        assert [hop.value for hop in batch.hops[0]] == ["x", *[{"a": "x", "list": []}] * 2]


@pytest.mark.parametrize(
    "options",
    [{"maximum_attempts": 0}, {"initial_interval": -1}, {"maximum_interval": -1}, {"backoff_coefficient": 0.5}],
)
def test_a_retry_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|negative"):
        Retry(**options)


@pytest.mark.parametrize("name", ["max_hops", "max_emits", "max_line_bytes"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})
    with pytest.raises(PipelineError, match=f"'p'.*{name}"):
        Pipeline("p", **{name: 0})


# on_error


def test_dead_letter_is_the_default_and_keeps_the_line_whole() -> None:
    pipeline = Pipeline("p").add("cut", lambda line: line[:2], to="work").add("work", raises(ValueError))
    run = pipeline.run(MANY)
    assert run.dead_letters["line"].tolist() == MANY
    assert set(run.dead_letters["path"]) == {"cut > work"}
    assert_whole(run, MANY)


def test_skip_is_filtered_and_an_error() -> None:
    run = one(raises(ValueError), MANY, on_error="skip")
    assert run.metrics.loc["work", ["filtered", "dead_lettered", "errors"]].tolist() == [len(MANY), 0, len(MANY)]
    assert len(run.dead_letters) == 0
    assert len(run.errors) == len(MANY)


def test_a_handler_takes_the_failed_value() -> None:
    pipeline = Pipeline("p").add("cut", lambda line: line[5:], to="work")
    pipeline.add("work", raises(ValueError), on_error="mend").add("mend", lambda value: f"mended {value}")
    run = pipeline.run(MANY, trace=True)
    assert run.output["value"].tolist() == [f"mended {i}" for i in range(len(MANY))]
    assert set(run.traces["path"]) == {"cut > work > mend"}
    assert run.metrics.loc["work", ["emitted", "errors", "dead_lettered"]].tolist() == [len(MANY), len(MANY), 0]
    assert len(run.dead_letters) == 0


def test_a_handler_that_fails_and_one_that_is_its_own() -> None:
    pipeline = Pipeline("p").add("work", raises(ValueError), on_error="mend").add("mend", raises(OSError))
    assert pipeline.run(["a"]).errors[["processor", "error"]].values.tolist() == [
        ["work", "ValueError"],
        ["mend", "OSError"],
    ]
    run = one(raises(ValueError), on_error="work", limits={"max_hops": 4})
    assert (len(run.errors), run.ledger["dead_lettered"]) == (4, 1)


def test_the_handler_of_an_expression_gets_its_value_whole() -> None:
    got: list[Any] = []
    pipeline = Pipeline("p").add("parse", lambda line: {"line": line}, to="work")
    pipeline.add("work", pl.col("nowhere"), on_error="mend").add("mend", lambda value: got.append(value))
    pipeline.run(["a", "b"])
    assert got == [{"line": "a"}, {"line": "b"}]


def test_one_bad_row_of_an_expression_costs_only_itself() -> None:
    lines = ["1", "x", "3", "", "5"] * 100
    run = one(pl.col("line").str.to_integer() + 1, lines)
    assert run.output["value"].tolist() == [2, 4, 6] * 100
    assert run.dead_letters["line"].tolist() == ["x", ""] * 100


def test_expressions_over_fields_take_bytes_that_were_not_text() -> None:
    pipeline = Pipeline("p").add("parse", lambda line: {"f": line}, to="mark").add("mark", pl.col("f") + "!")
    assert pipeline.run(["a", "caf\udce9"]).output["value"].tolist() == ["a!", "caf\udce9!"]


def test_a_list_is_one_value_of_an_expression_wherever_it_stands() -> None:
    words = pl.col("line").str.split(" ")
    straight = Pipeline("p").add("split", words).run(["a b"])
    loop = Pipeline("p").add("split", words, on_error="back").add("back", str.upper, to="split").run(["a b"])
    assert straight.output["value"].tolist() == loop.output["value"].tolist() == [["a", "b"]]


def stopping(where: str) -> Any:
    """Return a processor that fails on line 1500."""

    def function(value: str) -> str:
        if value == "line 1500":
            raise ValueError("no further")
        return value.upper()

    async def asynchronous(value: str) -> str:
        return function(value)

    def generator(value: str) -> Iterator[str]:
        yield function(value)

    return {"function": function, "async": asynchronous, "generator": generator}[where]


@pytest.mark.parametrize("trace", [True, "hops"])
@pytest.mark.parametrize("where", ["function", "async", "generator"])
def test_stop_fails_the_run_and_loses_nothing(where: str, trace: Any) -> None:
    pipeline = Pipeline("logs").add("work", stopping(where), to="end", on_error="stop").add("end", lambda v: f"[{v}]")
    run = pipeline.run(MANY, trace=trace)
    assert run.state == "failed"
    assert isinstance(run.exception, ProcessorFailed)
    assert isinstance(run.exception.__cause__, ValueError)
    for part in ("'logs'", "'work'", "line 1500", "no further"):
        assert part in str(run.exception)
    assert run.dead_letters[["line_no", "line"]].values.tolist() == [[1500, "line 1500"]]
    assert_whole(run, MANY)
    if where != "async":  # there the others of the batch have been started
        assert run.output["value"].tolist() == [f"[{line.upper()}]" for line in MANY[:1500]]
        later = run.unfinished["line_no"].tolist()
        assert later == list(range(1501, 1501 + len(later)))


def test_stop_among_branches() -> None:
    """The branches beside the one that failed are still standing."""
    pipeline = Pipeline("p").add("split", lambda line: list(line), to="work")
    pipeline.add("work", lambda value: 1 // (value != "b") and value, on_error="stop")
    run = pipeline.run(["abc", "aaa"])
    assert run.state == "failed"
    assert run.output["value"].tolist() == ["a"]
    assert run.ledger["in_flight"] == 1
    assert run.unfinished["line_no"].tolist() == [0]
    assert_whole(run, ["abc"])


def test_stop_at_flush() -> None:
    class Bad:
        def __call__(self, value: str) -> None: ...

        def flush(self) -> list[str]:
            raise ValueError("nothing left")

    run = one(Bad, ["a", "b"], on_error="stop")
    assert run.state == "failed"
    assert "at end of input" in str(run.exception)
    assert run.ledger["absorbed"] == 2


def test_a_flush_goes_on_after_a_value_that_failed() -> None:
    class Several:
        def __call__(self, value: str) -> None: ...

        def flush(self) -> list[Any]:
            def broken() -> Iterator[str]:
                raise SystemExit
                yield

            return ["first", broken(), "last"]

    run = one(Several)
    assert run.output["value"].tolist() == ["first", "last"]
    assert kinds(run) == ["processing"]


def test_failed_is_sticky() -> None:
    run = one(raises(ValueError), on_error="stop")
    run.stop()
    run.resume()
    assert run.wait().state == "failed"
    with pytest.raises(RunError, match="failed"):
        run.pause()


# What a processor is given and gives, when it is odd


def test_calls_that_came_back_do_not_count_as_hung() -> None:
    """Ten timeouts in a run, one after the other: a thread has ended long before the eighth after it."""

    def slow(line: str) -> str:
        if line == "slow":
            time.sleep(0.3)
        return line

    run = one(slow, ["slow", "quick"] * 10, timeout=0.15)
    assert run.state == "finished"
    assert set(kinds(run)) == {"timeout"}
    assert run.errors["line"].tolist().count("slow") == 10


@pytest.mark.parametrize("made", [object(), {1, 2}, 10**40, {"a": object()}, [[object()]], b"x"])
def test_an_object_that_is_no_column_is_no_end_of_the_run(made: Any) -> None:
    pipeline = Pipeline("p").add("make", lambda line: ("upper", made) if line == "odd" else line, to="upper")
    run = pipeline.add("upper", pl.col("line").str.to_uppercase()).run(["a", "odd", "b"])
    assert run.state == "finished"
    assert [value for value in run.output["value"] if isinstance(value, str)] == ["A", "B"]
    assert_whole(run, ["a", "odd", "b"])


async def asynchronous(prefix: str, line: str) -> str:
    return prefix + line


def test_a_partial_of_an_async_function_is_async() -> None:
    run = one(functools.partial(asynchronous, "!"), ["a"])
    assert run.output["value"].tolist() == ["!a"]


def test_a_coroutine_that_nobody_would_await_is_a_failure() -> None:
    run = one(lambda line: asynchronous("!", line), ["a"])
    assert run.errors["message"].str.contains("async def").all()
    assert run.ledger["dead_lettered"] == 1


def test_an_async_flush_is_refused() -> None:
    class Late:
        def __call__(self, value: str) -> None: ...

        async def flush(self) -> str:
            return "late"

    with pytest.raises(PipelineError, match="flush must be a plain function"):
        Pipeline("p").add("late", Late)


class Tag(StrEnum):
    END = "end"


def test_enum_tags() -> None:
    pipeline = Pipeline("p").add("start", lambda line: (Tag.END, line), to=[Tag.END]).add("end", str.upper)
    run = pipeline.run(["a"] * 3, trace=True)
    assert run.traces["path"].tolist() == ["start > end"] * 3
    assert run.latest_traces()[0]["path"] == ["start", "end"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": None}, "to=None"),
        ({"to": 5}, "to=5"),
        ({"on_error": ["x"]}, "on_error"),
        ({"timeout": "2"}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"concurrency": "x"}, "concurrency"),
    ],
)
def test_options_that_are_wrong_are_told_where_they_are_given(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=rf"pipeline 'p', processor 'a': .*{said}"):
        Pipeline("p").add("a", str.upper, **options)


def test_one_exception_class_is_as_good_as_several() -> None:
    assert Retry(non_retryable=ValueError).non_retryable == (ValueError,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exception classes"):
        Retry(non_retryable="ValueError")  # type: ignore[arg-type]


class Leaves:
    """Its code asks for the end of the program wherever it can."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise SystemExit

    def __str__(self) -> str:
        raise SystemExit


class Goodbye(Exception):
    __str__ = Leaves.__str__


def test_system_exit_in_the_code_of_values_and_errors_ends_nothing() -> None:
    def fail(value: Any) -> Any:
        raise Goodbye

    pipeline = Pipeline("p").add("make", lambda line: Leaves(), to="fail").add("fail", fail, retry=Retry(2, 0.0))
    run = pipeline.run(["a", "b"], trace="hops")
    assert run.state == "finished"
    assert run.ledger["dead_lettered"] == 2


def test_a_class_that_leaves_when_it_is_made_is_a_mistake_in_the_pipeline() -> None:
    class Bad:
        def __init__(self) -> None:
            raise SystemExit("no")

        def __call__(self, value: str) -> str:
            return value

    with pytest.raises(PipelineError, match="cannot be instantiated"):
        one(Bad, ["a"])


def test_a_traceback_names_the_file_of_its_own_processor() -> None:
    """The same function in two files: code objects are equal whatever file they are from."""
    told = []
    for file in ("one.py", "other.py"):
        scope: dict[str, Any] = {}
        exec(compile("def work(line):\n    raise ValueError(line)\n", file, "exec"), scope)
        told.append(one(scope["work"], ["a"]).errors["traceback"][0])
    assert '"one.py", line 2' in told[0]
    assert '"other.py", line 2' in told[1]
