"""HTML of pipelines, runs and lines: what people's text says is text, and numbers are those of the tables."""

from __future__ import annotations

import html
import math
import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from streamlab import EMIT, Pipeline, Run, processors
from streamlab.views import markup, values
from streamlab.views.letters import escaped
from streamlab.views.numbers import compact, micros, percent, short
from tests.graphs import Enough, Plan, inputs, plans
from tests.payloads import payloads

TAGS = {"div", "span", "style", "details", "summary", "h4", "table", "thead", "tbody", "tr", "th", "td", "br"}
TAGS |= {"code", "mark", "s", "b", "i", "svg", "g", "path", "rect", "circle", "text", "title"}
ATTRIBUTES = {"class", "style", "title", "open", "xmlns", "role", "aria-label", "viewbox", "width", "height", "d", "x", "y"}
ATTRIBUTES |= {"cx", "cy", "r", "rx", "transform", "fill", "opacity", "stroke", "stroke-width", "stroke-dasharray"}
ATTRIBUTES |= {"stroke-linejoin", "font-family", "font-size", "font-weight", "text-anchor"}


class Read(HTMLParser):
    """HTML as a browser has it: its text, titles and tables; what is not expected in it fails the test."""

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.said: list[str] = []
        self.titles: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        assert text is not None
        text.encode()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES
        assert not any("url" in (value or "") for name, value in attrs if name in ("style", "fill", "stroke"))
        self.titles += [value or "" for name, value in attrs if name in ("title", "aria-label")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag != "br" and self.get_starttag_text()[-2:] != "/>":  # type: ignore[index]
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "rect") or self.open[-1] == tag:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] != "style":
            self.said.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def unexpected(self, data: str) -> None:
        raise AssertionError(data)

    handle_comment = handle_decl = handle_pi = unknown_decl = unexpected  # type: ignore[assignment]

    @property
    def text(self) -> str:
        return "".join(self.said)

    def table(self, *head: str) -> list[list[str]]:
        """Return the rows of the one table whose head begins so."""
        (found,) = (table for table in self.tables if table[0][: len(head)] == list(head))
        return found[1:]


# Text


def told_of(payload: str) -> tuple[Run, list[Read]]:
    """Return a run with a text wherever people's text may be, and what is shown of it."""
    first = payload.replace(" > ", ">") if payload.strip() else f"_{payload}"
    last = f"{first}2"
    pipeline = Pipeline(payload)

    def start(line: str) -> Any:
        if line.startswith("!"):
            raise ValueError(payload)
        return last, {payload: line, "its list": [payload]}

    pipeline.add(first, start, to=(last, EMIT)).add(last, lambda fields: fields | {"its text": payload, payload: "other"})
    run = pipeline.run([payload.lstrip("!"), f"!{payload}"], trace="hops")
    shown = (pipeline._repr_html_(), run._repr_html_(), *(run.trace(at)._repr_html_() for at in range(2)))
    return run, [Read(text) for text in shown]


def assert_text(payload: str) -> None:
    run, (graph, picture, line, failed) = told_of(payload)
    assert run.ledger["emitted"] == run.ledger["dead_lettered"] == 1
    if len(payload) > 60 or re.search("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", payload):
        return  # cut, or shown as escapes
    first, last = run.pipeline.processors
    good, bad = (run.trace(at).line for at in range(2))  # without the newlines that it may end in
    assert graph.text.startswith(payload)
    assert picture.text.startswith(payload)
    assert [row[0] for row in picture.table("processor", "received")] == [first, last]
    assert f"ValueError: {payload}" in failed.text
    assert failed.text.startswith(f"line 1{bad}")
    assert {good, bad} <= set(picture.titles)
    assert line.text.startswith(f"line 0{good}")
    (_, _, made, *_), (_, _, changed, *_) = line.table("processor", "value")
    assert made == f"→ {last} {{{payload}: {good}, its list: {[payload]!r}}}"
    assert changed == f"→ emitted {{{payload}: other, its list: {[payload]!r}, its text: {payload}}}"


def test_payloads_are_text_wherever_they_are() -> None:
    for payload in payloads():
        assert_text(payload)


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_text_is_text_wherever_it_is(text: str) -> None:
    assert_text(text)


def test_why_a_run_failed_is_said_as_text() -> None:
    for payload in payloads()[::7]:
        run = Pipeline("p").add("start", lambda line, said=payload: int(said + "x"), on_error="stop").run(["a"])
        shown = Read(run._repr_html_())
        assert run.reason is not None
        assert escaped(run.reason) in run._repr_html_()
        assert "failed" in shown.said[:3]


# What changed

words = st.sampled_from(["warn", "info", " ", "  ", "<b>", "</mark>", "<s>", "&amp;", "&", '"', "'", "\n", "日本", "é", "1"])
letters = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=6)
sentences = st.lists(words | letters, max_size=25).map("".join)


def without(marked: str, dropped: str, kept: str) -> str:
    """Return what a marked text says without what one tag is about, and with what the other is about."""
    text = re.sub(f"<{dropped}>.*?</{dropped}>", "", marked, flags=re.DOTALL)
    return html.unescape(re.sub(f"</?{kept}>|</?code>", "", text))


@given(sentences, sentences)
@example("", "")
@example("a b", "")
@example("x" * 1000, "x" * 999)
def test_what_is_marked_and_struck_out_is_what_came_and_what_is_gone(before: str, after: str) -> None:
    marked = values.changed(before, after)
    assert without(marked, "s", "mark") == after
    assert without(marked, "mark", "s") == before
    assert ("<s>" in marked or "<mark>" in marked) is (before != after)
    Read(marked)


@given(sentences)
def test_long_text_that_changed_is_marked_also_beyond_what_is_shown(text: str) -> None:
    long = f"{text} {'y' * values.LONG}"
    for before, after in ((long, long[: values.LONG]), (long, long + "z"), (long[: values.LONG], long)):
        assert values.changed(before, after).startswith("<code><mark>")
    assert "<mark>" not in values.changed(long, long)


items = st.sampled_from([0, 1, 2, "", "1", "x", None, True, 1.0, 1.5, [1], ["1"], {"k": 1}, {"k": 2}])
fields = st.dictionaries(st.sampled_from(["a", "b", "<c>", 4, None]), items)


@given(fields, fields)
@example({"a": "1"}, {"a": 1})
@example({"a": 1}, {"a": True})
def test_marked_fields_are_those_that_changed_or_came(before: dict[Any, Any], after: dict[Any, Any]) -> None:
    marked = values.changed(before, after)
    Read(marked)
    shown = marked.removeprefix("<code>{").removesuffix("}</code>").split(", ") if before or after else []
    names = [re.sub("<[^>]*>", "", part).split(": ")[0] for part in shown]
    gone = [name for name in before if name not in after]
    assert list(map(html.unescape, names)) == [str(name) for name in [*after, *gone]]
    for part, name in zip(shown, [*after, *gone], strict=True):
        same = name in before and name in after
        if same and (type(before[name]), before[name]) == (type(after[name]), after[name]):
            assert "<" not in part
        elif same:
            assert ": <mark>" in part
            assert part.endswith("</mark>")
        else:
            assert part.startswith("<mark>" if name in after else "<s>")


def test_numbers_are_written_as_they_are() -> None:
    assert values.value(math.nan) == "<code>nan</code>"
    assert values.changed({"a": math.nan}, {"a": None}) == "<code>{a: <mark>None</mark>}</code>"
    assert values.changed(1, True) == "<mark><code>True</code></mark>"
    assert values.changed(2, 2) == "<code>2</code>"


# Numbers


def spaced(fate: str) -> str:
    return fate.replace("_", " ")


def assert_run(run: Run) -> None:
    """What a run's picture shows is what its tables say."""
    picture = run._repr_html_()
    shown = Read(picture)
    terms = re.findall(r'<span><b>([\d,]+)</b><span class="faint">(?:<i[^>]*></i>)?([a-z ]+)</span>', picture)
    assert {name.replace(" ", "_"): int(count.replace(",", "")) for count, name in terms} == run.ledger
    rows = run.stats()["processors"]
    for row, (name, told) in zip(shown.table("processor"), rows.items(), strict=True):
        counts = [compact(run.metrics.loc[name, column]) for column in (*markup.LEDGER, "errors", "retries")]
        times = [micros(told[f"{column}_us"]) for column in ("mean", "p50", "p95", "p99")]
        assert row == [name, *counts, *times, short(told["lines_per_s"])]
    paths = run.overview()["paths"]
    if paths:
        assert shown.table("count", "share") == [
            [f"{row['count']:,}", percent(row["share"]), arrows(row["path"].split(" > ")), f"● {spaced(row['fate'])}"]
            for row in paths[: markup.ROWS]
        ]
    assert ("more in run.paths" in shown.text) is (len(paths) > markup.ROWS)
    traces = shown.table("line no", "line", "path")
    assert [(int(row[0]), row[2], row[3]) for row in traces] == [
        (row["line_no"], arrows(row["path"]), f"● {spaced(row['fate'])}") for row in run.latest_traces(markup.ROWS)
    ]
    if len(run.errors):
        errors = shown.table("line no", "processor", "kind")
        assert [row[2] for row in errors] == [row["kind"] for row in run.latest_errors(markup.ROWS)]


def arrows(path: list[str]) -> str:
    return " → ".join(path) if any(path) else "(before the pipeline)"


@settings(max_examples=25)
@given(plans(), inputs())
def test_a_run_shows_what_its_tables_say(plan: Plan, lines: list[str]) -> None:
    try:
        run = plan.build(3_000)[0].run(lines, trace="hops")
    except Enough:
        reject()
    assert_run(run)
    for line in run.latest_lines(3):
        shown = Read(line._repr_html_())
        for way, branch in zip(line.ways, line.branches, strict=True):
            assert f"{arrows(list(way))} → {spaced(branch['fate'])}" in shown.text
        hops = shown.table("processor", "value") if line.recorded else []
        assert [(row[0], row[3], row[4]) for row in hops] == [
            (row["processor"], micros(row["duration_us"]), str(row["attempts"])) for row in line.hop_rows()
        ]


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=30), max_size=50, unique=True), gone=st.sets(st.integers(0, 49)))
def test_workers_are_shown_with_what_they_did(names: list[str], gone: set[int]) -> None:
    """Some of them, if there are many; whatever they are called."""
    zero = {"address": "tcp://10.0.0.5:1", "threads": 2, "memory": 2_500_000, "estimate": 7}
    rows: list[dict[str, Any]] = [
        zero | {"worker": name, "here": at not in gone, "lines": 100 * at, "errors": at % 2, "time_s": 0.5 * at}
        for at, name in enumerate(names)
    ]
    overview = Pipeline("p").add("start", str.upper).run(["a"]).overview() | {"workers": rows, "estimate": 1_234_567}
    overview["stats"]["state"] = "running"
    shown = Read(markup.crew(overview))
    assert ("≈ 1.23M lines worked on, 1 committed" in shown.text) is bool(names)
    assert shown.text.count("of the work") == min(len(names), markup.WORKERS)
    assert (f"{len(names) - markup.WORKERS} more in run.workers" in shown.text) is (len(names) > markup.WORKERS)
    assert shown.text.count("gone · ") >= len([at for at in gone if at < min(len(names), markup.WORKERS)])
    overview["stats"]["state"] = "finished"
    assert "≈" not in Read(markup.crew(overview)).text


def test_what_keeps_state_is_said_to_be_in_one_place_or_by_key() -> None:
    class count:
        def __call__(self, line: str) -> str:
            return line

    pipeline = (
        Pipeline("p").add("plain", str.upper, to="all").add("all", count, to="each").add("each", count, key=len, to="few")
    )
    pipeline.add("few", processors.head(3), to="way").add("way", processors.upper())
    states = [None, "one", "by key", "one", None]
    assert [node["state"] for node in pipeline.describe()["nodes"]] == states
    told = [title for title in Read(pipeline._repr_html_()).said if "on error" in title]
    assert ["in one place" in title for title in told] == [state == "one" for state in states]
    assert {"stateful, in one place", "stateful, by key", "columnar, in one place"} <= set(Read(pipeline._repr_html_()).said)
    drawn = pipeline.mermaid()
    assert 'p1["all<br/>in one place"]' in drawn
    assert 'p2["each<br/>by key"]' in drawn
    assert 'p4["way"]' in drawn


def test_rows_are_bounded() -> None:
    names = [f"parse_{at}" for at in range(30)]
    pipeline = Pipeline("p").add("start", lambda line: (names[int(line) % 30], line), to=names)
    for name in names:
        pipeline.add(name, lambda line: 1 / (int(line) % 3))
    run = pipeline.run(map(str, range(1000)), trace="hops")
    assert_run(run)
    assert f"→ {names[1]} " in Read(run.trace(1)._repr_html_()).text
    assert [len(table) for table in Read(run._repr_html_()).tables] == [1 + 31, 1 + 10, 1 + 10, 1 + 10]
    small = len(Pipeline("p").add("start", str).run(["a"] * 10, trace="hops")._repr_html_())
    large = Pipeline("p").add("start", str).run(["<" * 10**6] * 10, trace="hops")
    assert len(large._repr_html_()) < small + 10 * 20_000
    assert len(large.trace(0)._repr_html_()) < small + 20_000


def test_what_is_still_being_built_has_no_html() -> None:
    assert Pipeline("p")._repr_html_() is None
    assert Pipeline("p").add("start", str, to="later")._repr_html_() is None


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_values_without_words_are_shown_as_such() -> None:
    pipeline = Pipeline("p").add("start", lambda line: {"a": Mute(), Mute(): 1}, to="end")
    run = pipeline.add("end", lambda fields: [(EMIT, Mute())]).run(["a"], trace="hops")
    for shown in (Read(run._repr_html_()), Read(run.trace(0)._repr_html_())):
        assert "<Mute that cannot be shown: RuntimeError>" in shown.text


def test_the_story_of_a_line_is_bounded_however_many_branches_it_has() -> None:
    fan = Pipeline("fan")
    fan.add("many", lambda line: [("each", f"{line} {n}") for n in range(5_000)], to="each")
    long = "long " * 1_000
    fan.add("each", lambda value: {f"field {n}": long for n in range(300)})
    run = fan.run(["x"], trace="hops")
    html = run.trace(0)._repr_html_()
    assert len(html) < 5_000_000
    story = Read(html)
    assert len(story.table("processor", "value")) == 100
    assert "4,990 more in trace.branches" in story.text
    assert "4,901 more in trace.hops" in story.text
    assert len(run._repr_html_()) < 200_000


def test_text_that_changed_wholly_is_compared_in_no_time() -> None:
    fan = Pipeline("fan")
    fan.add("many", lambda line: [("loud", f"{line} {n}") for n in range(200)], to="loud")
    fan.add("loud", str.upper)
    story = Read(fan.run(["x " * 190], trace="hops").trace(0)._repr_html_())
    assert "190 more in trace.hops" in story.text
    assert "190 more in trace.branches" in story.text


def test_long_paths_and_messages_are_cut() -> None:
    loop = Pipeline("loop", max_hops=900)
    name = "n" * 300
    loop.add(name, lambda value: (name, value), to=name)
    html = loop.run(["a"], trace=True)._repr_html_()
    assert "more …" in html
    assert len(html) < 60_000
    strict = Pipeline("strict")
    strict.add("stop", lambda line: int("x" * 1_000_000), on_error="stop")
    failed = strict.run(["a"], trace=True)
    assert len(failed._repr_html_()) < 60_000
    assert len(failed.trace(0)._repr_html_()) < 60_000


def test_what_is_no_number_is_said_wherever_it_is() -> None:
    assert values.value({"a": float("nan")}) == "<code>{a: nan}</code>"
    assert values.value([float("nan"), 1.0, ("b",)]) == "<code>[nan, 1.0, (&#x27;b&#x27;)]</code>"
