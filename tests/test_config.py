"""Pipelines written as YAML: what they make, and what is said of those that are wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from streamlab import EMIT, Pipeline, PipelineError, processors
from streamlab.config import load_pipeline
from streamlab.policy import Limits, Retry

ROOT = Path(__file__).parents[1]
STEPS = """
from collections import Counter
imported = []
class Ids:
    seen = Counter()
    def __call__(self, value):
        self.seen[value] += 1
        return f"{value} {self.seen[value]}"
async def slow(value):
    return value
def loud(value):
    return value.upper()
def fail(value):
    raise ValueError(value)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with a Python file in it; what is imported from there is forgotten again."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "steps.py").write_text(STEPS)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def load(folder: Path, text: str, name: str = "logs.yaml") -> Pipeline:
    (folder / name).write_text(text, encoding="utf-8")
    return load_pipeline(str(folder / name))


def outputs(pipeline: Pipeline, lines: list[str]) -> list[Any]:
    return pipeline.run(lines).output["value"].tolist()


# What can be written


def test_a_pipeline_of_built_ins(folder: Path) -> None:
    pipeline = load(
        folder,
        """
        pipeline: logs
        max_hops: 7
        processors:
          - name: start
            use: upper
            to: end
            on_error: skip
          - {name: end, use: number, with: {start: 10}, to: EMIT}
        """,
    )
    assert (pipeline.name, pipeline.limits) == ("logs", Limits(max_hops=7))
    assert [(p.name, p.target, p.to, p.on_error) for p in pipeline.processors.values()] == [
        ("start", processors.upper(), ("end",), "skip"),
        ("end", processors.number(start=10), (EMIT,), "dead_letter"),
    ]
    assert outputs(pipeline, ["a", "b"]) == ["10\tA", "11\tB"]


def test_python_processors_with_their_options(folder: Path) -> None:
    """Files are looked for beside the YAML file, modules there as well."""
    pipeline = load(
        folder,
        """
        processors:
          - name: slow
            use: ./steps.py:slow
            to: [ids, EMIT]
            timeout: 2
            concurrency: 3
            retry: {maximum_attempts: 5, initial_interval: 0.1, non_retryable: [OSError]}
            on_error: ids
          - name: ids
            use: steps.py:Ids
            key: user
          - {name: upper, use: "builtins:ascii"}
        """,
    )
    slow, ids, ascii_ = pipeline.processors.values()
    assert pipeline.name == "logs"
    assert (slow.kind, slow.to, slow.timeout, slow.concurrency, slow.on_error) == ("async", ("ids", EMIT), 2, 3, "ids")
    assert slow.retry == Retry(maximum_attempts=5, initial_interval=0.1, non_retryable=(OSError,))
    assert (ids.kind, ids.key) == ("stateful", "user")
    assert ascii_.target is ascii
    assert slow.target.__globals__ is ids.target.__call__.__globals__, "a file is imported once"


def test_parts_that_are_written_once_and_used_twice(folder: Path) -> None:
    pipeline = load(
        folder,
        """
        processors:
          - &loud {name: a, use: steps:loud, retry: &again {maximum_attempts: 2}, on_error: skip, to: b}
          - {<<: *loud, name: b, to: c}
          - {name: c, use: steps:loud, retry: *again}
        """,
    )
    assert [(p.name, p.to, p.on_error) for p in pipeline.processors.values()] == [
        ("a", ("b",), "skip"),
        ("b", ("c",), "skip"),
        ("c", (), "dead_letter"),
    ]
    assert {p.retry for p in pipeline.processors.values()} == {Retry(maximum_attempts=2)}
    assert outputs(pipeline, ["x"]) == ["X"]


def test_a_built_in_of_ones_own(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from dataclasses import dataclass\nfrom streamlab.processors import Columnar\nfrom streamlab.processors.columnar"
        " import Outcome\n@dataclass(frozen=True)\nclass add(Columnar):\n    text: str\n    def apply(self, column):\n"
        "        return Outcome(column.with_field(None, column.text() + self.text))\n"
    )
    pipeline = load(folder, "processors: [{name: a, use: ./own.py:add, with: {text: '!'}}]")
    assert outputs(pipeline, ["x"]) == ["x!"]
    with pytest.raises(PipelineError, match=re.escape("text must be text, not 5; in quotes it would be text: '5'")):
        load(folder, "processors: [{name: a, use: ./own.py:add, with: {text: 5}}]")


def test_routes_and_expressions(folder: Path) -> None:
    """EMIT is a target also in what a built-in is told; expressions are SQL."""
    pipeline = load(
        folder,
        """
        processors:
          - name: start
            use: route
            with: {cases: {warn: loud, info: EMIT}, default: long}
            to: [loud, EMIT, long]
          - {name: loud, use: upper}
          - name: long
            use: route
            with: {cases: [["length(line) > 5", EMIT], ["length(line) > 3", loud]], by: expression}
        """,
    )
    assert pipeline.processors["start"].to == ("loud", EMIT, "long")
    assert outputs(pipeline, ["info: a", "warn: b", "error c", "oops", "so"]) == ["info: a", "WARN: B", "error c", "OOPS"]


@dataclass(frozen=True)
class computed(processors.Columnar):
    """A built-in whose arguments are of all kinds."""

    what: Mapping[str, pl.Expr | int]
    pairs: Sequence[tuple[str, float]] = ()
    kind: Literal["a", "b"] = "a"
    call: Callable[[str], str] | None = None


def test_arguments_of_all_kinds(folder: Path) -> None:
    use = f"processors: [{{name: a, use: '{__name__}:computed', with: %s}}]"

    def of(arguments: str) -> Any:
        return load(folder, use % arguments).processors["a"].target

    made = of("{what: {x: a + 1, n: 2}, pairs: [[a, 1], [b, 2.5]], kind: b}")
    assert str(made.what["x"]) == str(pl.sql_expr("a + 1"))
    assert (made.what["n"], made.pairs, made.kind) == (2, [("a", 1), ("b", 2.5)], "b")
    for arguments, said in [
        ("{what: {x: a +}}", "what: 'a +' is no expression in SQL"),
        ("{what: [x]}", "what must be a mapping, not a list"),
        ("{what: {1: x}}", "what must be a mapping with each key text, not a mapping"),
        ("{what: {x: [1]}}", "what must be a mapping with each value an expression, in SQL or a whole number"),
        ("{what: {}, pairs: [[a]]}", "pairs must be a list with each item a list of 2, not a list"),
        ("{what: {}, kind: c}", "kind must be 'a' or 'b', not 'c'"),
        ("{what: {}, kind: EMIT}", "kind must be 'a' or 'b', not 'EMIT'"),
        ("{what: {}, call: c}", "call must be null, not 'c'"),
    ]:
        with pytest.raises(PipelineError, match=re.escape(f"line 1, processor 'a': {said}")):
            of(arguments)


def test_arguments_of_any_number(folder: Path) -> None:
    pipeline = load(
        folder,
        """
        processors:
          - {name: more, use: with_fields, with: {size: length(line), expressions: line IS NULL}, to: some}
          - {name: some, use: select, with: {names: [size, line]}}
        """,
    )
    assert pipeline.run(["hot"]).output[["size", "line"]].to_dict("records") == [{"size": 3, "line": "hot"}]
    for arguments, said in [
        ("use: select, with: {names: a}", "names must be a list, not 'a'"),
        ("use: select, with: {names: [1]}", "names must be a list with each item text"),
        ("use: select", "select: names=() must be at least one field"),
        ("use: with_fields, with: {size: 1}", "size must be text or an expression, in SQL, not 1"),
        ("use: with_fields, with: {size: '1 +'}", "with_fields: "),
    ]:
        with pytest.raises(PipelineError, match=re.escape(f"line 1, processor 'a': {said}")):
            load(folder, f"processors: [{{name: a, {arguments}}}]")


# What is wrong is told, with its line

GOOD = "pipeline: logs\nprocessors:\n  - name: start\n    use: upper\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", None, "there is nothing in it"),
        ("- a\n- b", 1, "here should be a mapping, with keys and values, not a list"),
        ("processors", 1, "here should be a mapping, with keys and values, not 'processors'"),
        ("a: [", 1, "this is no YAML that can be read"),
        ("a: b: c", 1, "mapping values are not allowed here"),
        ("pipeline: a\n--- \npipeline: b", 2, "but found another document"),
        ("pipeline: logs", 1, "there must be a key 'processors'"),
        ("pipeline: logs\nprocessors: []", 2, "there must be at least one processor"),
        ("pipeline: logs\nprocessors: {a: b}", 2, "here should be a list, not a mapping"),
        ("pipeline: logs\nprocesors: []", 2, "there is no key 'procesors' here; did you mean 'processors'?"),
        ("pipeline: 7\nprocessors: []", 1, "pipeline must be text, not 7; in quotes it would be text: '7'"),
        ("pipeline: on\nprocessors: []", 1, "pipeline must be text, not on; in quotes it would be text: 'on'"),
        (GOOD + "pipeline: again", 5, "'pipeline' is there twice; first in line 1"),
        (GOOD + "    use: lower", 5, "'use' is there twice; first in line 4"),
        (GOOD + "    with: {field: a, field: b}", 5, "'field' is there twice; first in line 5"),
        (GOOD + "    too: end", 5, "there is no key 'too' here; did you mean 'to'?"),
        (GOOD + "    [a]: end", 5, "there is no key"),
        (
            GOOD + "    to: ende\n  - {name: end, use: upper}",
            5,
            "processor 'start': 'ende' is no processor; did you mean 'end'?",
        ),
        (GOOD + "    to: emit", 5, "processor 'start': 'emit' is no processor"),
        (GOOD + "    to: 5", 5, "processor 'start': to must be EMIT or text or a list, not 5"),
        (
            GOOD + "    to: [a, [b]]",
            5,
            "processor 'start': to must be EMIT or text or a list with each item EMIT or text, not a list",
        ),
        (GOOD + "    to: [start, EMIT]", 3, "can go to one processor"),
        (GOOD + "    on_error: ski", 5, "processor 'start': on_error: 'ski' is no processor; did you mean 'skip'?"),
        (GOOD + "    on_error: no", 5, "processor 'start': on_error must be text, not no; in quotes it would be text: 'no'"),
        (GOOD + "    timeout: 2", 3, "timeout= does not apply to a columnar processor"),
        (GOOD + "    timeout: 2 s", 5, "processor 'start': timeout must be a number or null, not '2 s'"),
        (GOOD + "    timeout: true", 5, "processor 'start': timeout must be a number or null, not true"),
        (GOOD + "    concurrency: 1.5", 5, "processor 'start': concurrency must be a whole number, not 1.5"),
        (GOOD + "    concurrency: true", 5, "processor 'start': concurrency must be a whole number, not true"),
        (GOOD + "    retry: 3", 5, "processor 'start': here should be a mapping, with keys and values, not 3"),
        (
            GOOD + "    retry:\n      maximum_attempt: 3",
            6,
            "no key 'maximum_attempt' here; did you mean 'maximum_attempts'?",
        ),
        (GOOD + "    retry: {maximum_attempts: 0}", 5, "processor 'start': retry: maximum_attempts is 0"),
        (
            GOOD + "    retry: {non_retryable: [Nonsense]}",
            5,
            "non_retryable must be a list with each item the name of an exception",
        ),
        (GOOD + "    with: {feld: a}", 5, "processor 'start': there is no key 'feld' here; did you mean 'field'?"),
        (GOOD + "    with:\n      field: 5", 6, "processor 'start': field must be text or null, not 5; in quotes"),
        (GOOD + "    with: [a]", 5, "processor 'start': here should be a mapping, with keys and values, not a list"),
        (GOOD + "    with: !!python/object/apply:os.system [ls]", 5, "here should be a mapping"),
        (GOOD + "    with: {field: !!python/object/apply:os.getcwd []}", 5, "could not determine a constructor for the tag"),
        (GOOD + "    with: {field: 2026-02-30}", 5, "this cannot be read: day is out of range for month"),
        (GOOD + "  - name: start\n    use: upper", 5, "there is one of this name already"),
        (GOOD + "  - use: upper", 5, "a processor must have a key 'name'"),
        (GOOD + "  - name: end", 5, "a processor must have a key 'use'"),
        (GOOD + "  - {name: EMIT, use: upper}", 5, "EMIT is where values leave the pipeline"),
        (GOOD + "  - {name: end, use: uper}", 5, "processor 'end': there is no built-in 'uper'; did you mean 'upper'?"),
        (GOOD + "  - {name: end, use: columnar}", 5, "processor 'end': there is no built-in 'columnar'"),
        (GOOD + "  - {name: end, use: head}", 5, "processor 'end': head must be told 'n'"),
        (GOOD + "  - {name: end, use: head, with: {n: -1}}", 5, "processor 'end': head: n=-1 must be 0 or more"),
        (GOOD + "  - {name: end, use: head, with: {n: '1'}}", 5, "processor 'end': n must be a whole number, not '1'"),
        (GOOD + "  - {name: end, use: ./steps.py:laud}", 5, "there is no 'laud' in ./steps.py; did you mean 'loud'?"),
        (GOOD + "  - {name: end, use: ./step.py:loud}", 5, "there is no file"),
        (GOOD + "  - {name: end, use: no.such:loud}", 5, "there is no module 'no.such'"),
        (GOOD + "  - {name: end, use: ./steps.py:imported}", 5, "processor 'end': [] is a list: neither a function"),
        (
            GOOD + "  - {name: end, use: ./steps.py:loud, with: {a: 1}}",
            5,
            "'with' is for built-ins, and ./steps.py:loud is none",
        ),
        ("max_hops: 0\n" + GOOD, 1, "max_hops is 0; it must be a whole number, at least 1"),
        ("a: &a [*a]\nprocessors: []", 1, "there is no key 'a' here"),
        (GOOD + "    with: {field: &a [*a]}", 5, "found unconstructable recursive node"),
        (GOOD + f"    with: {{field: {'[' * 300}{']' * 300}}}", 5, "this cannot be read: maximum recursion depth"),
        ("[" * 5000, None, "there are too many levels in it"),
        ("a: \x01", None, "this is no YAML that can be read"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder: Path, text: str, line: int | None, said: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load(folder, text)
    message = str(caught.value)
    assert said in message
    place = folder / "logs.yaml"
    assert message.startswith(f"{place}, line {line}" if line else f"{place}: ")


def test_files_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(PipelineError, match=r"there is no file '.*log\.yaml'; did you mean '.*logs\.yaml'"):
        load(folder, GOOD)
        load_pipeline(str(folder / "log.yaml"))
    with pytest.raises(PipelineError, match="a YAML file is one pipeline; leave :main out"):
        load_pipeline("logs.yaml:main")
    (folder / "raw.yml").write_bytes(b"pipeline: caf\xe9")
    with pytest.raises(PipelineError, match=r"raw\.yml.*this is no YAML that can be read"):
        load_pipeline(str(folder / "raw.yml"))


def test_a_laugh_does_not_take_all_memory(folder: Path) -> None:
    """A list of ten lists of ten lists and so on, of which YAML makes as many objects as are written."""
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(PipelineError, match="there is no key 'a0' here"):
        load(folder, "\n".join(levels))


def test_the_file_in_the_samples() -> None:
    lines = (ROOT / "data" / "sample.log").read_text(encoding="utf-8").splitlines()
    loud = [line if line.startswith("info") else line.upper() for line in lines]
    assert any(line not in lines for line in loud)
    assert outputs(load_pipeline(str(ROOT / "data" / "logs.yaml")), lines) == [f"[{line}]" for line in loud]


# The command line


def streamlab(*args: str, cwd: Path, stdin: bytes = b"") -> tuple[str, str, int]:
    program = [sys.executable, "-m", "streamlab", *args]
    done = subprocess.run(program, input=stdin, capture_output=True, timeout=60, cwd=cwd, text=False)
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def test_running_a_file(folder: Path) -> None:
    load(folder, GOOD)
    assert streamlab("run", "--pipeline", "logs.yaml", "--no-dashboard", "-q", cwd=folder, stdin=b"a\n") == ("A\n", "", 0)


def test_validating(folder: Path) -> None:
    load(folder, GOOD + "    to: a\n  - {name: a, use: ./steps.py:loud, to: end}\n  - {name: end, use: upper}")
    out, err, code = streamlab("validate", "logs.yaml", "streamlab.demo:demo", cwd=folder)
    assert (err, code) == ("", 0)
    assert out.splitlines() == [
        "logs.yaml: pipeline 'logs': 3 processors, 3 segments",
        "streamlab.demo:demo: pipeline 'demo': 3 processors, 1 segment",
    ]


def test_validating_what_is_wrong(folder: Path) -> None:
    """Each problem is told, and what is right as well."""
    load(folder, GOOD)
    (folder / "bad.yaml").write_text(GOOD + "    to: start2")
    (folder / "dangling.py").write_text("from streamlab import Pipeline\np = Pipeline('p').add('a', str.upper, to='b')\n")
    out, err, code = streamlab("validate", "bad.yaml", "dangling.py", "12345678.yaml", "logs.yaml", cwd=folder)
    assert (out, code) == ("logs.yaml: pipeline 'logs': 1 processor, 1 segment\n", 2)
    assert err.splitlines() == [
        "streamlab: error: bad.yaml, line 5, processor 'start': 'start2' is no processor; did you mean 'start'?",
        "streamlab: error: pipeline 'p', processor 'a': to='b' is no processor; known: a",
        "streamlab: error: there is no file '12345678.yaml'",
    ]


def test_validating_nothing(folder: Path) -> None:
    out, err, code = streamlab("validate", cwd=folder)
    assert (out, code) == ("", 2)
    assert "Missing argument 'PIPELINE...'" in err


def test_the_graph(folder: Path) -> None:
    load(folder, GOOD)
    assert streamlab("validate", "--mermaid", "logs.yaml", cwd=folder)[0].splitlines() == [
        "%% logs.yaml: pipeline 'logs': 1 processor, 1 segment",
        "flowchart LR",
        '    source([source]) --> p0["start"]',
        "    p0 --> output([output])",
    ]
