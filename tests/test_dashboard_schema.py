"""The dashboard's description of itself: every route is in it, and every answer is as it says, whatever is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import streamlab
from streamlab import Pipeline, Run
from streamlab.views.dashboard import create_app
from streamlab.views.dashboard.page import ASSETS
from streamlab.views.dashboard.runs import Runs
from tests.served import paths_of

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HOST = "http://localhost"

ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
ODD: list[Any] = [
    "\ud800 lone \udcff",
    math.nan,
    -math.inf,
    10**5000,
    {"a": {"b": [{"c": ({1, 2}, None, b"\xff")}]}, 3: {"\udcff": math.nan}, None: []},
    [[[[[[[[[[["deep"]]]]]]]]]]],
    ENDLESS,
    object,
    "<script>\x00\u2028",
]


def odd() -> Run:
    """Return a run whose values, messages and names are what JSON, HTML and UTF-8 cannot say as they are."""
    pipeline = Pipeline("shop <b> \udcff")

    @pipeline.processor(to=("make", "drop"))
    def start(line: str) -> Any:
        if line.startswith("bad"):
            raise ValueError(f"no good \udcff: {line}")
        return ("drop" if line.startswith("drop") else "make"), line

    @pipeline.processor
    def make(line: str) -> Any:
        return ODD[int(line) % len(ODD)] if line.isdigit() else line

    @pipeline.processor
    def drop(line: str) -> None:
        return None

    return pipeline.run([*map(str, range(30)), "bad \ud800", "drop it", "\udcff", "", "bad\x00"], trace=True)


def failed() -> Run:
    def lines() -> Iterator[str]:
        yield "info: a"
        yield "\udcff"
        raise OSError("the cable \udcff is out")

    run = Pipeline("shop").add("make", str.upper).run(lines(), trace=True)
    assert run.state == "failed"
    return run


def untraced() -> Run:
    return streamlab.run(["a", "warn: b"])


def empty() -> Run:
    return streamlab.run([], trace=True)


def gone() -> Runs:
    return Runs()


def described() -> dict[str, Any]:
    return create_app(Runs()).openapi()


#: What there is to ask, without the events: they do not end.
PATHS = [path for path in described()["paths"] if not path.endswith("/events")]


@pytest.fixture(scope="module")
def schemas() -> dict[Callable[[], Run | Runs], Any]:
    made: dict[Callable[[], Run | Runs], Any] = {}
    for make in (odd, failed, untraced, empty, gone):
        app = create_app(make())
        made[make] = schema = schemathesis.openapi.from_dict(app.openapi())
        schema.app = app
    return made


@pytest.mark.parametrize("make", [odd, failed, untraced, empty, gone])
@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_as_described(
    schemas: dict[Callable[[], Run | Runs], Any], path: str, make: Callable[[], Run | Runs]
) -> None:
    operation, parameters = schemas[make][path]["GET"], described()["paths"][path]["get"].get("parameters")
    cases = operation.as_strategy(GenerationMode.POSITIVE)
    if parameters:  # without any, there is nothing to be wrong
        cases |= operation.as_strategy(GenerationMode.NEGATIVE)
    broken: list[Any] = (path.endswith("z") and make is failed) * [not_a_server_error]  # 503 is what is asked of them

    @settings(max_examples=15 if parameters else 2, database=None, derandomize=True)
    @given(case=cases, here=st.booleans())
    def check(case: Case[Any], here: bool) -> None:
        if here:  # a run and a line that are there
            case.path_parameters.update({name: {"number": 1, "line_no": 0}[name] for name in case.path_parameters})
        case.call_and_validate(base_url=HOST, checks=CHECKS, excluded_checks=broken)

    check()


def test_every_route_is_described_or_a_file_of_the_page() -> None:
    paths = list(paths_of(create_app(Runs()).routes))
    files = {path for path in paths if path.rpartition("/")[2] in ASSETS}
    assert set(paths) == set(described()["paths"]) | files
    assert not set(described()["paths"]) & files
    assert len(files) == 2 * len(ASSETS)
    assert {"/", "/stats", "/events", "/runs", "/runs/{number}/stats", "/trace/{line_no}", "/healthz"} <= set(paths)


def test_refusals_are_described_too() -> None:
    for path, operations in described()["paths"].items():
        for status in ("400", "401", "403"):
            assert list(operations["get"]["responses"][status]["content"]) == ["text/plain"], path


def test_every_operation_says_what_it_answers_when_all_is_well() -> None:
    for path, operations in described()["paths"].items():
        assert list(operations) == ["get"], path
        assert operations["get"]["responses"]["200"]["content"], path


def test_what_is_below_a_run_is_described_as_at_the_root() -> None:
    paths = described()["paths"]
    for path in paths:
        if path.startswith("/runs/{number}"):
            own, at_the_root = (paths[name]["get"] for name in (path, path.removeprefix("/runs/{number}")))
            assert {"200", "404"} <= set(own["responses"]) == set(at_the_root["responses"]) | {"422"}
            names = [parameter["name"] for parameter in own["parameters"]]
            assert sorted(names) == sorted(["number", *(one["name"] for one in at_the_root.get("parameters", ()))])
