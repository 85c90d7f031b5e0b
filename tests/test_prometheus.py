"""What Prometheus scrapes, read by Prometheus' own parser: it says what the tables say, and its ledger balances alone."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from hypothesis import assume, given, settings
from prometheus_client.parser import text_string_to_metric_families

from streamlab import EMIT, Pipeline, Retry, Run
from streamlab.demo import demo
from streamlab.runners import State
from streamlab.runners.host import LocalHost
from streamlab.views.dashboard.prometheus import CONTENT_TYPE, exposition
from streamlab.views.points import BOUNDS
from tests.graphs import Enough, Plan, inputs, plans

GRAFANA = Path(__file__).parent.parent / "docs" / "grafana.json"
DURATIONS = ("streamlab_component_processing_duration_seconds", "streamlab_pipeline_end_to_end_duration_seconds")
#: Columns of the metrics table, and what says the same; of several series of one processor, their sum.
SAME = {
    "received": "received_events_total",
    "forked": "forked_events_total",
    "emitted": "sent_events_total",
    "absorbed": "absorbed_events_total",
    "dead_lettered": "dead_lettered_events_total",
    "in_flight": "in_flight_events",
    "errors": "errors_total",
    "retries": "retries_total",
}

Labels = frozenset[tuple[str, str]]


class Scrape:
    """The series of one scrape, none of which is there twice."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.series: dict[tuple[str, Labels], float] = {}
        for sample in (sample for family in self.families for sample in family.samples):
            series = sample.name, frozenset(sample.labels.items())
            assert series not in self.series
            self.series[series] = sample.value

    def of(self, name: str, **labels: str) -> float:
        """Return the sum of a component's series with these labels."""
        return sum(self.all(f"streamlab_component_{name}", **labels).values())

    def all(self, name: str, **labels: str) -> dict[Labels, float]:
        found = {labelled: value for (known, labelled), value in self.series.items() if known == name}
        return {labelled: value for labelled, value in found.items() if labels.items() <= dict(labelled).items()}

    def components(self, kind: str) -> list[str]:
        received = self.all("streamlab_component_received_events_total", component_kind=kind)
        return [dict(labelled)["component_id"] for labelled in received]

    def balances(self) -> bool:
        """Tell whether the ledger holds, as can be told from the scrape alone: of each component, and in all."""
        for id in self.components("processor"):
            came = self.of("received_events_total", component_id=id) + self.of("forked_events_total", component_id=id)
            names = ("sent_events_total", "discarded_events_total", "absorbed_events_total", "in_flight_events")
            if came != sum(self.of(name, component_id=id) for name in names):
                return False
        for id in (*self.components("processor"), *self.components("sink")):
            if self.of("received_events_total", component_id=id) != self.of("sent_events_total", output=id):
                return False
        read = self.of("received_events_total", component_kind="source")
        went = [self.of(name, component_kind="source") for name in ("sent_events_total", "discarded_events_total")]
        ended = [self.of(name) for name in ("discarded_events_total", "absorbed_events_total", "in_flight_events")]
        emitted = self.of("received_events_total", component_kind="sink")
        return read == sum(went) and read + self.of("forked_events_total") == emitted + sum(ended)


def scrape(run: Run) -> Scrape:
    return Scrape(exposition(run).decode("utf-8"))


def every() -> Pipeline:
    """Return a pipeline in which a line may come to every end."""
    pipeline = Pipeline("every", max_line_bytes=1000)

    @pipeline.processor(to=("skips", "hands", "end"), retry=Retry(maximum_attempts=2, initial_interval=0.0))
    def start(line: str) -> Any:
        match line[0]:
            case "b":
                raise OSError(line)
            case "n":
                return None
            case "t":
                return line, line
            case "f":
                return [("end", line), (EMIT, line)]
        return {"s": "skips", "h": "hands"}.get(line[0], "end"), line

    @pipeline.processor(on_error="skip")
    def skips(line: str) -> str:
        raise KeyError(line)

    @pipeline.processor(on_error="end")
    def hands(line: str) -> str:
        raise RuntimeError(line)

    @pipeline.processor
    class end:
        def __call__(self, line: str) -> str | None:
            return None if line.endswith("absorb") else line

        def flush(self) -> list[str]:
            return ["left"]

    return pipeline


EVERY = ["bad", "none", "tag", "fork", "skip", "hand", "hand absorb", "plain", "x" * 2000]


def agree(run: Run) -> Scrape:
    """Check that a scrape says what the metrics table says, and return it."""
    told, metrics, ledger = scrape(run), run.metrics, run.ledger
    for processor, row in metrics.iterrows():
        at = {"component_kind": "processor", "component_id": str(processor)}
        for column, name in SAME.items():
            assert told.of(name, **at) == row[column], (processor, column)
        assert told.of("discarded_events_total", **at) == row["filtered"] + row["dead_lettered"]
        on_purpose = told.of("discarded_events_total", **at, intentional="true")
        assert on_purpose + told.of("discarded_events_total", **at, reason="error") == row["filtered"]
        timed = told.of("processing_duration_seconds_count", **at)
        assert timed == metrics.attrs["timed"].get(processor, 0)
    assert told.components("processor") == list(metrics.index)
    assert told.of("received_events_total", component_kind="source") == ledger["received"]
    assert told.of("received_events_total", component_kind="sink") == ledger["emitted"]
    assert told.of("dead_lettered_events_total") == ledger["dead_lettered"]
    assert told.balances()
    return told


@settings(max_examples=50, deadline=None)
@given(plans(), inputs())
def test_series_are_those_of_the_metrics_table_and_balance_alone(plan: Plan, lines: list[str]) -> None:
    try:
        run = plan.build(3_000)[0].run(lines)
    except Enough:
        assume(False)
        raise
    told = agree(run)
    for name in DURATIONS:
        for labelled, count in told.all(f"{name}_count").items():
            buckets = {dict(of)["le"]: value for of, value in told.all(f"{name}_bucket", **dict(labelled)).items()}
            assert [float(bound) for bound in buckets] == [*BOUNDS, math.inf]
            assert list(buckets.values()) == sorted(buckets.values())
            assert buckets["+Inf"] == count
    assert sum(told.all(f"{DURATIONS[1]}_count").values()) == run.snapshot().end_to_end.count


def test_a_line_may_come_to_every_end() -> None:
    told = agree(every().run(EVERY))
    reasons: Counter[tuple[str, ...]] = Counter()
    for labelled, count in told.all("streamlab_component_discarded_events_total").items():
        of = dict(labelled)
        reasons[of["component_id"], of["intentional"], of["reason"]] += int(count)
    assert +reasons == {
        ("source", "false", "oversize"): 1,
        ("start", "false", "processing"): 1,
        ("start", "false", "unknown_tag"): 1,
        ("start", "true", "filtered"): 1,
        ("skips", "false", "error"): 1,
    }
    assert told.of("errors_total", component_id="hands", error_type="processing") == 2
    assert told.of("retries_total", component_id="start") == 1
    assert told.of("forked_events_total", component_id="start") == told.of("forked_events_total", component_id="end") == 1
    assert told.of("absorbed_events_total", component_id="end") == 1
    assert told.of("sent_events_total", component_id="hands", output="end") == 2
    assert told.of("sent_events_total", component_id="start", output="sink") == 1


def test_every_series_is_there_with_0_before_anything_ran() -> None:
    going = threading.Event()

    def lines() -> Iterator[str]:
        going.wait(30)
        yield from EVERY[:-1]

    with every().start(lines()) as run:
        before = scrape(run)
        going.set()
        run.wait()
    after = scrape(run)
    apart = ("streamlab_build_info", "streamlab_pipeline_state", "streamlab_pipeline_uptime_seconds")
    assert {value for (name, _), value in before.series.items() if name not in apart} == {0}
    new = {series for series in after.series if series not in before.series}
    # That a processor emits by itself is declared nowhere.
    assert [(name, dict(labelled)["output"]) for name, labelled in new] == [
        ("streamlab_component_sent_events_total", "sink")
    ]


def test_what_is_in_flight_is_received_so_that_each_scrape_balances() -> None:
    here, go_on = threading.Event(), threading.Event()

    def wait(line: str) -> str:
        here.set()
        go_on.wait(30)
        return line

    with Pipeline("slow").add("wait", wait).start(["a"]) as run:
        assert here.wait(30)
        told = scrape(run)
        go_on.set()
        run.wait()
    assert told.balances()
    assert told.of("in_flight_events") == told.of("received_events_total", component_id="wait") == 1
    assert told.of("received_events_total", component_kind="source") == 1
    assert scrape(run).of("in_flight_events") == 0


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_duration_that_is_a_bound_counts_up_to_it(bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def take(line: str) -> str:
        nonlocal now
        now = bound
        return line

    monkeypatch.setattr(LocalHost, "clock", staticmethod(lambda: now))
    told = scrape(Pipeline("exact").add("take", take).run(["a"], trace="hops"))
    for name in DURATIONS:
        counts = {dict(of)["le"]: count for of, count in told.all(f"{name}_bucket").items()}
        assert counts == {le: float(le) >= bound for le in counts}
        assert list(told.all(f"{name}_sum").values()) == [bound]


def test_odd_names_are_told_apart() -> None:
    names = [
        'quo"te',
        "back\\slash",
        "back\\name",
        "new\nline",
        "caf\udce9",
        r"caf\udce9",
        "sink",
        "source",
        "sink_",
        "ü{}=,",
    ]
    pipeline = Pipeline('odd "\\\n\udce9')
    for name, following in zip(names, [*names[1:], None], strict=True):
        pipeline.add(name, str.upper, to=following or ())
    run = pipeline.run(["a", "b"])
    told, ids = scrape(run), {name: r"caf\udce9_" if name == "caf\udce9" else name for name in names}
    assert told.balances()
    assert told.components("processor") == list(ids.values())
    rows = run.stats()["processors"]  # pandas has no text with lone surrogates in it, so there is no table
    for column, name in SAME.items():
        assert {at: told.of(name, component_id=id) for at, id in ids.items()} == {
            at: row[column] for at, row in rows.items()
        }
    assert (told.components("source"), told.components("sink")) == (["source_"], ["sink__"])
    assert told.of("sent_events_total", output=r"caf\udce9_") == told.of("sent_events_total", output="sink__") == 2
    pipelines = {value for _, labelled in told.series for name, value in labelled if name == "pipeline"}
    assert pipelines == {'odd "\\\n\\udce9'}


def test_no_content_of_a_line_is_in_it() -> None:
    lines = [f"{line} secret" for line in EVERY[:-1]] + ["secret " * 500]
    run = every().run(lines, trace="hops")
    assert len(run.errors) >= 6
    assert "secret" not in exposition(run).decode("utf-8").lower()


def reach(run: Run, state: State) -> None:
    """Wait until a run is in a state: what it is asked for, it does when it gets to it."""
    deadline = time.monotonic() + 30
    while run.state != state and time.monotonic() < deadline:
        time.sleep(0.001)
    assert run.state == state


def state_of(run: Run) -> str:
    """Return the one state that is 1."""
    states = {dict(labelled)["state"]: value for labelled, value in scrape(run).all("streamlab_pipeline_state").items()}
    assert list(states) == list(get_args(State))
    assert sorted(states.values()) == [0.0] * (len(states) - 1) + [1.0]
    [state] = [name for name, value in states.items() if value]
    return state


def test_exactly_one_state_is_1() -> None:
    going = threading.Event()

    def lines() -> Iterator[str]:
        while not going.wait(0.01):
            yield "a"

    with demo.start(lines()) as run:
        run.pause()
        reach(run, "paused")
        assert state_of(run) == "paused"
        run.resume()
        reach(run, "running")
        assert state_of(run) == "running"
        going.set()
        assert state_of(run.wait()) == "finished"
    failing = Pipeline("failing").add("end", lambda line: 1 / 0, on_error="stop").start(["a"]).wait()
    assert state_of(failing) == "failed"


def test_a_run_that_failed_balances() -> None:
    pipeline = Pipeline("failing").add("start", str.upper, to="end").add("end", lambda line: 1 // int(line), on_error="stop")
    run = pipeline.start(["1"] * 50 + ["0"] + ["1"] * 50).wait()
    assert run.state == "failed"
    agree(run)


def test_what_is_given_over_http_has_the_content_type_and_can_be_parsed() -> None:
    run = every().run(EVERY)
    with run.dashboard(port=0) as dashboard:
        answer = httpx.get(f"{dashboard.url.rstrip('/')}/metrics", timeout=10, trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert Scrape(answer.content.decode("utf-8")).series == scrape(run).series


def test_every_family_says_what_it_is_and_its_unit() -> None:
    families = scrape(demo.run([])).families
    assert all(
        re.fullmatch(r".+ in (values|attempts|seconds)\.|.+no unit\.|Always 1; .+", f.documentation) for f in families
    )
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}


# The Grafana dashboard


@pytest.fixture(scope="module")
def grafana() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(GRAFANA.read_text(encoding="utf-8"))
    return told


def test_grafana_asks_for_what_is_exposed(grafana: dict[str, Any]) -> None:
    exposed: dict[str, set[str]] = {}
    for name, labelled in scrape(demo.run([])).series:
        exposed.setdefault(name, set()).update(dict(labelled))
    targets = [target for panel in grafana["panels"] for target in panel.get("targets", [])]
    queries = [variable["query"]["query"] for variable in grafana["templating"]["list"]]
    assert len(targets) > 20
    for expr in [*(target["expr"] for target in targets), *queries]:
        asked = set(re.findall(r"\bstreamlab_\w+", expr))
        assert asked and asked <= exposed.keys(), expr
        grouped = [label.strip() for labels in re.findall(r"\bby\s*\(([^)]*)\)", expr) for label in labels.split(",")]
        chosen = re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expr) + re.findall(r"^label_values\(.*, (\w+)\)$", expr)
        assert all({*grouped, *chosen} <= exposed[name] for name in asked), expr
    for target in targets:
        grouped = re.findall(r"\w+", " ".join(re.findall(r"\bby\s*\(([^)]*)\)", target["expr"])))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(grouped), target


def test_panels_of_grafana_do_not_overlap(grafana: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in grafana["panels"]:
        x, y, w, h = (panel["gridPos"][name] for name in "xywh")
        own = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert not own & cells, panel["title"]
        assert max(column for column, _ in own) < 24
        cells |= own
    ids = [panel["id"] for panel in grafana["panels"]]
    assert len(set(ids)) == len(ids)


def test_grafana_names_no_address_and_leaves_the_data_source_open(grafana: dict[str, Any]) -> None:
    assert not re.search(r"://|localhost|\b\d+\.\d+\.\d+\.\d+\b", GRAFANA.read_text(encoding="utf-8"))
    for target in (target for panel in grafana["panels"] for target in panel.get("targets", [])):
        assert target["datasource"] == {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
