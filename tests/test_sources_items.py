"""Lists, columns, generators and async iterators as sources."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.batch import Chunk
from streamlab.errors import SourceError
from streamlab.sources import Source, open_source
from streamlab.sources.asynchronous import AsyncSource
from streamlab.sources.items import as_chunk
from streamlab.sources.iterables import IterableSource, SequenceSource
from tests.test_sources_files import drain, drain_until_error


def bare(line: str) -> str:
    if line.endswith("\r\n"):
        return line[:-2]
    return line[:-1] if line.endswith("\n") else line


TEXT = st.text(alphabet=st.sampled_from("ab\r\n\u2028\x85\0é€😀\udcff\ud800"), max_size=8)


@given(st.lists(st.one_of(TEXT, st.binary(max_size=8)), max_size=8))
def test_items_are_lines_without_one_end(items: list[str | bytes]) -> None:
    texts = [item if isinstance(item, str) else item.decode("utf-8", "surrogateescape") for item in items]
    chunk = as_chunk(items, "", 1000)
    assert chunk.lines == [bare(text) for text in texts]
    assert not chunk.rejected


@given(st.lists(TEXT, max_size=8), st.integers(1, 20))
def test_too_long_text_is_cut_at_so_many_bytes(items: list[str], most: int) -> None:
    chunk = as_chunk(items, "", most)
    expected = [bare(item).encode("utf-8", "surrogatepass") for item in items]
    assert [mark[0] for mark in chunk.rejected] == [n for n, raw in enumerate(expected) if len(raw) > most]
    for line, raw, item in zip(chunk.lines, expected, items, strict=True):
        assert line == (bare(item) if len(raw) <= most else raw[:most].decode("utf-8", "surrogateescape"))


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_what_is_not_text_is_rejected_and_kept_as_text() -> None:
    chunk = as_chunk(["a\n", 7, None, {"b": 1}, "c", Odd(), b"\xff\n", memoryview(b"d")], "", 1000)
    assert chunk.lines == ["a", "7", "None", "{'b': 1}", "c", "<Odd whose str() raises RuntimeError>", "\udcff", "d"]
    assert [mark[:2] for mark in chunk.rejected] == [(at, "decode") for at in (1, 2, 3, 5)]
    assert chunk.rejected[0].message == "is an int, not text: 7"
    assert chunk.rejected[1].message == "is a NoneType, not text: None"


@pytest.mark.parametrize(
    "items",
    [
        ["a", "b", "c"],
        ("a", "b", "c"),
        np.array(["a", "b", "c"]),
        np.array([b"a", b"b", b"c"]),
        pd.Series(["a", "b", "c"], index=[2, 1, 0]),
        pd.Series(["a", "b", "c"], dtype=object, index=list("xyz")),
        pl.Series(["a", "b", "c"]),
        pd.Index(["a", "b", "c"]),
    ],
    ids=lambda items: type(items).__module__ + "." + type(items).__name__,
)
def test_sequences_never_wait_and_know_how_far_they_are(items: Any) -> None:
    source = open_source(items)
    assert not source.blocking
    assert source.progress() == 0.0
    assert source.read(2).lines == ["a", "b"]
    assert source.progress() == pytest.approx(2 / 3)
    chunk = source.read(2)
    assert (chunk.lines, list(chunk.rejected), chunk.source) == (["c"], [], source.name)
    assert source.progress() == 1.0
    assert source.read(2).lines == []
    source.close()
    assert source.read(2).lines == []


def test_a_list_that_grows_while_it_is_read() -> None:
    lines = ["a"]
    source = SequenceSource(lines)
    assert source.read(5).lines == ["a"]
    lines.append("b")
    assert source.read(5).lines == ["b"]
    assert SequenceSource([]).progress() == 1.0


@pytest.mark.parametrize("items", [deque(["a", "b"]), {"a": 1, "b": 2}.keys(), io.StringIO("a\nb\n"), io.BytesIO(b"a\r\nb")])
def test_other_iterables_give_an_item_at_a_time(items: Any) -> None:
    source = open_source(items)
    assert source.blocking
    assert source.progress() is None
    assert [source.read(10).lines for _ in range(3)] == [["a"], ["b"], []]


def test_a_generator_is_asked_for_no_more_than_was_read() -> None:
    asked = []

    def lines() -> Iterator[str]:
        for n in range(3):
            asked.append(n)
            yield f"line {n}"

    source = open_source(lines())
    assert source.read(100).lines == ["line 0"]
    assert asked == [0]
    source.close()
    assert source.read(100).lines == []


def test_raw_items_can_be_collected_and_turned_into_lines_together() -> None:
    source = IterableSource(iter(["a\n", 7, "c"]))
    assert list(source.items()) == ["a\n", 7, "c"]
    assert source.taken == 3
    assert source.chunk(["a\n", 7, "c"]).lines == ["a", "7", "c"]


def broken() -> Iterator[str]:
    yield "a"
    yield "b"
    raise ValueError("bad luck")


async def broken_async() -> AsyncIterator[str]:
    for line in broken():
        yield line


@pytest.mark.parametrize("make", [broken, broken_async])
def test_what_an_iterable_raises_comes_after_its_lines_and_names_the_next(make: Any) -> None:
    source = open_source(make())
    lines, error = drain_until_error(source)
    assert lines == ["a", "b"]
    assert "raised ValueError at line 2: bad luck" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert source.read(10).lines == []
    source.close()


class RaisesStopIteration:
    def __getitem__(self, index: int) -> str:
        if index == 2:
            raise StopIteration
        return f"item {index}"

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(10))


class RefusesToIterate:
    def __iter__(self) -> Iterator[str]:
        raise LookupError("not today")


def test_stop_iteration_ends_and_an_iterable_that_refuses_says_why() -> None:
    assert drain(open_source(RaisesStopIteration())) == ["item 0", "item 1"]
    with pytest.raises(SourceError, match="LookupError: not today"):
        open_source(RefusesToIterate())


def test_ctrl_c_in_a_generator_is_not_an_error_of_the_source() -> None:
    def lines() -> Iterator[str]:
        yield "a"
        raise KeyboardInterrupt

    source = open_source(lines())
    source.read(1)
    with pytest.raises(KeyboardInterrupt):
        source.read(1)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (7, "an int is no source of lines"),
        (None, "a NoneType is no source"),
        ({"a": 1}, "list(fields.values())"),
        (b"a\nb\n", "a path as text, or a list of lines"),
        (pd.DataFrame({"line": ["a"]}), 'frame["line"]'),
        (pl.DataFrame({"line": ["a"]}), 'frame["line"]'),
        (broken, "call it, broken()"),
        (SequenceSource, "an instance of it: SequenceSource(...)"),
    ],
)
def test_what_has_no_lines_is_refused_with_what_to_pass(source: object, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(source)
    assert says in str(caught.value)


class Mine:
    name = "mine"
    blocking = False

    def read(self, limit: int) -> Chunk:
        return Chunk([])

    def progress(self) -> float | None:
        return None

    def close(self) -> None:
        """Nothing."""


def test_a_source_is_taken_as_it_is() -> None:
    mine = Mine()
    assert open_source(mine) is mine
    for made in (SequenceSource(["a"]), IterableSource(iter("")), AsyncSource(broken_async())):
        assert isinstance(made, Source)


def test_async_items_that_are_there_come_together_and_others_are_waited_for() -> None:
    async def lines() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        await asyncio.sleep(0.05)
        yield "c"
        yield "d"

    source = open_source(lines())
    assert [source.read(10).lines for _ in range(3)] == [["a", "b"], ["c", "d"], []]
    source.close()


def test_an_async_source_respects_the_limit_and_closes_its_iterator() -> None:
    cleaned = []

    async def lines() -> AsyncIterator[str]:
        try:
            for n in range(100):
                yield str(n)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    source = open_source(lines())
    assert source.read(3).lines == ["0", "1", "2"]
    assert source.read(3).lines == ["3", "4", "5"]
    source.close()
    source.close()
    assert cleaned == [True]
    assert source.read(3).lines == []


def test_close_ends_an_async_read_that_waits_in_another_thread() -> None:
    waits = threading.Event()

    async def lines() -> AsyncIterator[str]:
        yield "a"
        waits.set()
        await asyncio.sleep(3600)

    async def close_inside_a_running_loop() -> None:
        source.close()

    source = open_source(lines())
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.extend(drain(source)))
    reader.start()
    assert waits.wait(5)
    asyncio.run(close_inside_a_running_loop())
    reader.join(5)
    assert not reader.is_alive()
    assert read == ["a"]
