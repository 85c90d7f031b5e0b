"""Files that are read to their end, and what of them the next run reads: what is new, once, and never torn."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.notices import Notice
from streamlab.sources import Source, open_source
from streamlab.sources.files import FileSource

#: More than what tells files apart at their beginning.
LONG = "".join(f"line {number} that is a bit longer than short ones are\n" for number in range(100))
PLAIN_OR_PACKED = pytest.mark.parametrize("end", ["", ".gz"], ids=["plain", "packed"])


def write(path: Path, text: str, *, time: int = 0) -> None:
    """Write a file, packed if its name says so."""
    path.write_bytes(gzip.compress(text.encode(), mtime=time) if path.suffix == ".gz" else text.encode())


def replace(path: Path, text: str) -> None:
    """Put another file in the place of one, as ``cp`` and ``mv``, rsync and editors do."""
    inode = path.stat().st_ino
    new = path.with_name(f".new{path.suffix}")
    write(new, text, time=1)
    new.rename(path)
    assert path.stat().st_ino != inode


def opened(where: Path | list[Path], position: Any = None) -> FileSource:
    """Return a source that goes on at a position which was saved meanwhile, if there is one."""
    source: Source = open_source(where)
    assert isinstance(source, FileSource)
    if position is not None:
        source.resume(json.loads(json.dumps(position)))
    return source


def read(source: FileSource, passing: int | None = None) -> list[str]:
    """Read all lines, of which so many pass; all by default."""
    lines: list[str] = []
    while (chunk := source.read(7)).lines:
        assert chunk.places is not None
        room = len(chunk.lines) if passing is None else min(len(chunk.lines), passing - len(lines))
        if room > 0:
            source.passed(chunk.places, room)
        lines += chunk.lines
    return lines


def went_on(where: Path | list[Path], position: Any) -> tuple[list[str], list[Notice], Any]:
    """Read what is new; return it, what was said, and the position after it."""
    with closing(opened(where, position)) as source:
        return read(source), list(source.notices), source.position()


def position_after(where: Path | list[Path], passing: int | None = None) -> Any:
    with closing(opened(where)) as source:
        read(source, passing)
        return source.position()


@PLAIN_OR_PACKED
@pytest.mark.parametrize("text", ["one\ntwo\n", LONG], ids=["short", "long"])
def test_a_file_that_was_replaced_by_one_with_the_same_and_more_is_gone_on_with(tmp_path: Path, end: str, text: str) -> None:
    path = tmp_path / f"app.log{end}"
    write(path, text)
    position = position_after(path)
    replace(path, text)
    assert went_on(path, position)[:2] == ([], [])
    replace(path, text + "three\n")
    lines, said, position = went_on(path, position)
    assert (lines, said) == (["three"], [])
    replace(path, text + "three\nfour\n")
    assert went_on(path, position)[:2] == (["four"], [])


@PLAIN_OR_PACKED
def test_a_file_that_was_written_anew_is_read_whole_though_it_begins_as_it_did(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"app.log{end}"
    write(path, LONG + "old\n" * 500)
    position = position_after(path)
    text = LONG + "a line of another length, and more of them than there were\n" * 500
    write(path, text)
    lines, said, position = went_on(path, position)
    assert lines == text.splitlines()
    [notice] = said
    assert notice.where == str(path)
    assert f"{len(LONG) + 2000:,} bytes" in notice.message
    assert "from its beginning" in notice.message
    assert went_on(path, position)[:2] == ([], [])


@PLAIN_OR_PACKED
def test_a_file_that_has_become_shorter_is_read_whole(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"app.log{end}"
    write(path, LONG)
    position = position_after(path)
    write(path, LONG[:200] + "\n")
    lines, said, _ = went_on(path, position)
    assert lines == LONG[:200].splitlines()
    assert ["from its beginning" in notice.message for notice in said] == [True]


def test_files_that_were_rotated_are_known_by_whatever_they_are_called(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, LONG)
    (tmp_path / "app.log.1").write_text("older\n")
    position = position_after(tmp_path)
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    with log.open("a") as file:
        file.write("late\n")
    log.rename(tmp_path / "app.log.1")
    write(log, LONG + "new\n")  # begins as the other one did
    lines, said, position = went_on(tmp_path, position)
    assert sorted(lines) == sorted([*LONG.splitlines(), "new", "late"])
    assert said == []
    assert went_on(tmp_path, position)[:2] == ([], [])


def test_a_file_in_another_ones_place_is_told_of_when_that_one_is_nowhere(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, LONG)
    position = position_after(log)
    log.rename(tmp_path / "app.log.1")
    log.write_text("new\n")
    lines, said, _ = went_on(log, position)
    assert lines == ["new"]
    assert [(notice.where, f"{len(LONG):,} bytes" in notice.message) for notice in said] == [(str(log), True)]


def test_files_with_the_same_content_are_apart(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text("one\ntwo\n")
    position = position_after(tmp_path, 3)
    assert went_on(tmp_path, position)[:2] == (["two", "one", "two"], [])
    (tmp_path / "d").write_text("one\ntwo\n")
    assert went_on(tmp_path, position_after([tmp_path / name for name in "abc"]))[:2] == (["one", "two"], [])


def test_two_names_of_one_file_and_a_name_given_twice(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n")
    os.link(tmp_path / "a", tmp_path / "b")
    where = [tmp_path / "a", tmp_path / "a", tmp_path / "b"]
    position = position_after(where)
    assert went_on(where, position)[:2] == ([], [])
    with (tmp_path / "a").open("a") as file:
        file.write("two\n")
    lines, said, position = went_on(where, position)
    assert (lines, said) == (["two"] * 3, [])
    assert went_on(where, position)[:2] == ([], [])


def test_a_file_is_the_same_by_another_path_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "app.log"
    path.write_text("one\n")
    position = position_after(path)
    replace(path, "one\ntwo\n")
    monkeypatch.chdir(tmp_path)
    assert went_on(Path("app.log"), position)[:2] == (["two"], [])


@PLAIN_OR_PACKED
@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ("", []),
        ("\n", []),
        ("\r\n", []),
        ("\nfour\n", ["four"]),
        ("\r\nfour\n", ["four"]),
        ("\n\nfour\n", ["", "four"]),
        ("ee\nfour\n", ["three", "four"]),
        ("ee", ["three"]),
    ],
)
def test_a_last_line_without_its_end_that_is_continued_comes_once_more_whole(
    tmp_path: Path, end: str, more: str, lines: list[str]
) -> None:
    path = tmp_path / f"app.log{end}"
    text = f"{LONG}two\nthr"
    write(path, text)
    with closing(opened(path)) as source:
        assert read(source)[-2:] == ["two", "thr"]
        position = source.position()
    write(path, text + more)
    came, said, position = went_on(path, position)
    assert came == lines
    assert [(notice.where, "whole" in notice.message) for notice in said] == [(str(path), True)] * ("three" in lines)
    assert went_on(path, position)[:2] == ([], [])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.sampled_from([0, 1, 30, 700, 1500]), max_size=12),
    more=st.lists(st.sampled_from([0, 1, 30, 700, 1500]), max_size=4),
    share=st.floats(0, 1),
    anew=st.booleans(),
    end=st.sampled_from(["", ".gz"]),
)
def test_each_line_comes_once(tmp_path: Path, sizes: list[int], more: list[int], share: float, anew: bool, end: str) -> None:
    path = tmp_path / f"app.log{end}"
    path.unlink(missing_ok=True)
    lines = [f"{number}{'x' * size}" for number, size in enumerate(sizes + more)]
    text = "".join(f"{line}\n" for line in lines[: len(sizes)])
    write(path, text)
    count = int(share * len(sizes))
    position = position_after(path, count)
    (replace if anew else write)(path, "".join(f"{line}\n" for line in lines))
    assert went_on(path, position)[:2] == (lines[count:], [])


def test_a_position_has_all_files_at_any_moment(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.log").write_text("one\n")
    position = position_after(tmp_path)
    source = opened(tmp_path, position)
    incomplete: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            found = len(source.position())
            if found != len(position):
                incomplete.append(found)

    looking = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        looking.start()
        assert read(source) == []
    finally:
        ended.set()
        looking.join()
        sys.setswitchinterval(interval)
    assert incomplete == []


def test_a_run_goes_on_with_a_file_that_came_back_from_a_backup(tmp_path: Path) -> None:
    log, out, state = tmp_path / "app.log", tmp_path / "out", tmp_path / "state"
    pipeline = Pipeline("copy").add("copy", str)
    log.write_text(LONG)
    pipeline.run(log, output=out, checkpoint=state)
    shutil.copy(log, tmp_path / "backup")
    log.unlink()
    shutil.copy(tmp_path / "backup", log)
    with log.open("a") as file:
        file.write("more\n")
    run = pipeline.run(log, output=out, checkpoint=state)
    assert out.read_text() == f"{LONG}more\n"
    assert len(run.notices) == 0


def test_a_packed_file_of_small_parts_of_which_more_was_read_than_passed(tmp_path: Path) -> None:
    path = tmp_path / "app.log.gz"
    lines = [f"line {number}" for number in range(60)]
    path.write_bytes(b"".join(gzip.compress(f"{line}\n".encode()) for line in lines))
    for passing in (1, 7, 25, 59, 60):
        position = position_after(path, passing)
        assert went_on(path, position)[:2] == (lines[passing:], [])


@PLAIN_OR_PACKED
def test_a_shorter_file_of_the_same_repeated_line_is_another_one(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"app.log{end}"
    write(path, "alive\n" * 1000)
    position = position_after(path)
    replace(path, "alive\n" * 300)
    lines, said, position = went_on(path, position)
    assert lines == ["alive"] * 300
    assert [notice.kind for notice in said] == ["replaced"]
    write(path, "alive\n" * 301)
    assert went_on(path, position)[:2] == (["alive"], [])


def test_a_run_goes_on_with_a_file_by_another_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "linked").symlink_to("logs")
    monkeypatch.chdir(tmp_path)
    log = Path("logs/app.log")
    pipeline = Pipeline("copy").add("copy", str)
    expected = ""
    for where in ("logs/app.log", "./logs/app.log", str(log.absolute()), "logs", "logs/*.log", "linked/app.log"):
        with log.open("a") as file:
            file.write(f"{where}\n")
        expected += f"{where}\n"
        run = pipeline.run(where, output="out", checkpoint="state")
        assert Path("out").read_text() == expected
        assert len(run.notices) == 0


def test_files_that_are_gone_are_known_for_long_and_not_for_ever(tmp_path: Path) -> None:
    inbox, away = tmp_path / "in", tmp_path / "away"
    inbox.mkdir()
    away.mkdir()
    position = None
    lengths = []
    for day in range(6):
        for old in inbox.iterdir():
            old.rename(away / old.name)
        for number in range(500):
            (inbox / f"{day}-{number:03}").write_text(f"{day} {number}\n")
        lines, said, position = went_on(inbox, position)
        assert (len(lines), said) == (500, [])
        lengths.append(len(position))
    assert lengths == [500, 1000, 1500, 1500, 1500, 1500]
    for day in (4, 3):  # what is still known is not read again when it comes back
        (away / f"{day}-123").rename(inbox / f"{day}-123")
        assert went_on(inbox, position)[:2] == ([], [])
    (away / "2-123").rename(inbox / "2-123")
    assert went_on(inbox, position)[:2] == (["2 123"], [])
