"""What is to be covered is in nothing that is kept or shown of a run; the output is as ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamlab import Pipeline
from streamlab.errors import RunError
from streamlab.redaction import Redactor

SECRET = "anna@example.org"


class Card:
    def __repr__(self) -> str:
        return f"Card({SECRET})"


def leaky(columnar: bool = False, **options: Any) -> Pipeline:
    """Return a pipeline that has a secret wherever it can be."""
    pipeline = Pipeline("leaky")
    if columnar:
        return pipeline.add("upper", pl.col("line").str.replace("anna", "Anna"))

    @pipeline.processor(to=("end", "objects"), **options)
    def start(line: str) -> Any:
        if "fail" in line:
            raise ValueError(f"{line}: not this one")
        return ("objects" if "object" in line else "end"), {"line": line, SECRET: [line, (line, 1)]}

    pipeline.add("objects", lambda value: Card(), to="end")
    pipeline.add("end", lambda value: str(value))
    return pipeline


LINES = [f"ok {SECRET}", f"fail {SECRET}", f"object {SECRET}", f"bytes \udcff {SECRET}"] * 3


def everything(run: Any) -> str:
    """Return all that a run tells of itself, as text."""
    tables = [run.traces, run.errors, run.dead_letters, run.unfinished, run.history, run.notices]
    stories = [repr(run.trace(number)) + run.trace(number)._repr_html_() for number in range(len(run.traces))]
    views = [run.latest_traces(), run.latest_errors(), run.overview(), run._repr_html_(), repr(run), run.reason]
    return "".join([*(table.to_csv(errors="surrogatepass") for table in tables), *stories, *map(str, views)])


@pytest.mark.parametrize("redact", ["email", ["email"], lambda text: text.replace(SECRET, "***")])
@pytest.mark.parametrize("columnar", [False, True])
def test_a_secret_is_in_nothing_that_is_kept(tmp_path: Path, redact: Any, columnar: bool) -> None:
    run = leaky(columnar).run(LINES, trace="hops", redact=redact, dead_letters=tmp_path / "letters")
    assert SECRET not in everything(run) and "***" in everything(run)
    kept = [*(tmp_path / "letters").glob("*.jsonl")]
    assert all(SECRET not in path.read_text() for path in kept)
    if not columnar:
        assert len(run.dead_letters) == 3 and json.loads(kept[0].read_text().splitlines()[0])["line"] == "fail ***"
    expected = leaky(columnar).run(LINES)
    assert run.output["value"].tolist() == expected.output["value"].tolist()
    assert run.ledger == expected.ledger
    assert SECRET in everything(leaky(columnar).run(LINES, trace="hops"))


def test_what_ends_a_run_is_covered_too() -> None:
    run = leaky(on_error="stop").run(LINES, trace=True, redact="email")
    assert run.state == "failed" and "not this one" in str(run.reason)
    assert SECRET not in everything(run)
    assert len(run.unfinished) > 0


def test_without_traces_failures_are_covered() -> None:
    run = leaky().run(LINES, redact="email")
    assert set(run.errors["line"]) == {"fail ***"}


def test_a_function_that_fails_hides_all() -> None:
    def broken(text: str) -> str:
        raise RuntimeError(f"broken: {text}")

    run = leaky().run(LINES, trace=True, redact=broken)
    assert SECRET not in everything(run)
    assert "the function raised RuntimeError" in run.traces["line"].iloc[0]


@pytest.mark.parametrize("wrong", ["(", [], "emial", 7, [7]])
def test_patterns_that_are_wrong_are_refused(wrong: Any) -> None:
    with pytest.raises(RunError, match="redact="):
        leaky().run(LINES, redact=wrong)


def test_texts_with_odd_characters_are_covered() -> None:
    assert Redactor("b+").texts(["abc", "\udcffb", "\ud800 b", "", "\0b"]) == [
        "a***c",
        "\udcff***",
        "\ud800 ***",
        "",
        "\0***",
    ]


@pytest.mark.parametrize("queue", [True, False])
def test_what_comes_of_a_replay_is_covered_too(tmp_path: Path, queue: bool) -> None:
    run = leaky().run(LINES, dead_letters=tmp_path)
    assert SECRET in everything(run)
    again = leaky().replay(tmp_path if queue else run.dead_letters, trace="hops", redact="email")
    assert again.ledger["dead_lettered"] == 3 and SECRET not in everything(again)
    if queue:
        assert all(SECRET not in path.read_text() for path in tmp_path.glob("*.jsonl"))
