"""Following files that are rotated by renaming: while they are followed, and while nobody looks."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults import rotations
from tests.followed import ALONE_OR_NOT, append, follow, following, kinds, nothing_comes, read_and_stop, rotate
from tests.waiting import until


@ALONE_OR_NOT
def test_rotations_at_full_speed_lose_double_and_tear_nothing(tmp_path: Path, where: str) -> None:
    result = rotations(tmp_path, count=12, rate=5_000, lines=500, where=where)
    assert (result.lost, result.doubled, result.torn, result.disordered) == (0, 0, 0, 0)


@ALONE_OR_NOT
def test_rotations_in_bursts_while_many_files_are_renamed_come_in_order(tmp_path: Path, where: str) -> None:
    # Names lead to other files from one moment to the next: between being listed, looked at and opened.
    result = rotations(tmp_path, count=300, rate=10**9, lines=5, keep=200, burst=10, where=where)
    assert (result.lost, result.doubled, result.torn, result.disordered) == (0, 0, 0, 0)


def test_several_rotations_between_two_looks(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("0\n")
    source = follow(log)
    assert source.read(10).lines == ["0"]
    for number in range(1, 6):
        append(log, f"{number}\n")
        rotate(log)
        append(log, f"{number} and a half\n")
    got: list[str] = []
    while len(got) < 10:
        got += source.read(1).lines
    source.close()
    assert got == [line for number in range(1, 6) for line in (f"{number}", f"{number} and a half")]


def test_a_writer_goes_on_in_the_renamed_file_for_a_moment(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("w", buffering=1) as writer, following(follow(log, grace=10.0)) as reading:
        writer.write("one\n")
        reading.wait_for(1)
        log.rename(tmp_path / "app.log.1")
        writer.write("two\n")
        reading.wait_for(2)
        append(log, "new\n")
        reading.wait_for(3)
        writer.write("late\n")
        reading.wait_for(4)
    assert reading.lines == ["one", "two", "new", "late"]


def test_files_that_were_rotated_before_are_not_read(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    for name in ("app.log.1", "app.log.2.gz", "app-20250101.log"):
        (tmp_path / name).write_bytes(gzip.compress(b"old\n") if name.endswith(".gz") else b"old\n")
    log.write_text("one\n")
    with following(follow(log)) as reading:
        reading.wait_for(1)
        rotate(log)
        append(log, "two\n")
        reading.wait_for(2)
        assert nothing_comes(reading)
    assert reading.lines == ["one", "two"]


def test_rotation_of_another_file_with_a_name_alike_is_not_taken_for_it(tmp_path: Path) -> None:
    log, other = tmp_path / "app.log", tmp_path / "app-errors.log"
    log.write_text("one\n")
    other.write_text("other\n")
    with following(follow(log)) as reading:
        reading.wait_for(1)
        for path in (log, other):
            rotate(path)
        append(other, "other\n")
        append(log, "two\n")
        reading.wait_for(2)
        assert nothing_comes(reading)
    assert reading.lines == ["one", "two"]


@ALONE_OR_NOT
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("names", ["numbers", "packed", "dates", "dates inside"])
def test_rotated_while_stopped(tmp_path: Path, where: str, times: int, names: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\n")
    if where == "app.log*" and names == "dates inside":
        where = "app*.log"
    where_all = tmp_path / where
    with following(follow(where_all)) as reading:
        reading.wait_for(2)
    source = follow(where_all)
    chunk = source.read(10)
    assert chunk.places is not None
    source.passed(chunk.places, 1)
    position = source.position()
    source.close()
    expected = ["two"]
    for number in range(times):
        append(log, f"end of {number}\n")
        expected.append(f"end of {number}")
        if names == "dates":
            log.rename(tmp_path / f"app.log-2025010{number}")
        elif names == "dates inside":
            log.rename(tmp_path / f"app-2025-01-0{number}.log")
        else:
            rotate(log)
            if names == "packed":
                subprocess.run(["gzip", f"{log}.1"], check=True)
    append(log, "current\n")
    with following(follow(where_all, position=position)) as reading:
        reading.wait_for(len(expected) + 1)
        assert nothing_comes(reading)
    assert sorted(reading.lines) == sorted([*expected, "current"])
    if where == "app.log":
        assert reading.lines == [*expected, "current"]
    assert not reading.source.notices


@ALONE_OR_NOT
@pytest.mark.parametrize("counted", ["up", "down, and packed late, at a time of its own"])
def test_which_was_rotated_first_is_told_by_names_and_times_together(tmp_path: Path, where: str, counted: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    position = read_and_stop(tmp_path / where, count=1)
    now = time.time()
    first, second = ("app.log.1", "app.log.2") if counted == "up" else ("app.log.2", "app.log.1")
    log.rename(tmp_path / "app.log.3")
    for name, text, when in ((first, "two\n", now + 1), (second, "three\n", now + 2), ("app.log", "four\n", now + 3)):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (when, when))
    if counted != "up":
        (tmp_path / f"{first}.gz").write_bytes(gzip.compress((tmp_path / first).read_bytes()))
        (tmp_path / first).unlink()
        os.utime(tmp_path / f"{first}.gz", (now + 4, now + 4))
    with following(follow(tmp_path / where, position=position)) as reading:
        reading.wait_for(3)
        assert nothing_comes(reading)
    assert reading.lines == ["two", "three", "four"]


@pytest.mark.parametrize("more", ["", "three\n"])
def test_what_was_deleted_before_it_was_read_to_its_end_is_said(tmp_path: Path, more: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\n")
    source = follow(log)
    chunk = source.read(10)
    assert chunk.places is not None
    source.passed(chunk.places, 1 if more else 2)
    position = source.position()
    source.close()
    append(log, more)
    (tmp_path / "new").write_text("new\n")  # while the other one is there, so that it does not get its inode
    log.unlink()
    (tmp_path / "new").rename(log)
    with following(follow(log, position=position)) as reading:
        reading.wait_for(1)
        until(lambda: bool(reading.source.notices))
    assert reading.lines == ["new"]
    notice = reading.source.notices[0]
    assert notice.kind == "vanished"
    assert notice.where == str(log)
    assert notice.lost_bytes == (4 if more else 0)
    assert more or "cannot be known" in notice.message


def test_rotated_more_often_than_files_are_kept_is_said(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("0\n")
    source = follow(log)
    assert source.read(10).lines == ["0"]
    for number in range(1, 5):
        rotate(log, keep=2)
        append(log, f"{number}\n")
    assert [source.read(1).lines for _ in range(3)] == [["2"], ["3"], ["4"]]
    assert kinds(source) == ["vanished"]
    source.close()


def test_a_new_file_in_a_reused_inode_is_read_whole(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    inode = log.stat().st_ino
    position = read_and_stop(log, count=1)
    for number in range(100):
        log.unlink()
        log.write_text(f"another {number}\n")
        if log.stat().st_ino == inode:
            break
    else:
        pytest.skip("this file system does not give the same inode again")
    with following(follow(log, position=position)) as reading:
        reading.wait_for(1)
    assert reading.lines == [f"another {number}"]


@ALONE_OR_NOT
@pytest.mark.parametrize("text", ["one\ntwo\n", "a line\n" * 1000], ids=["short", "long"])
def test_a_file_that_was_put_back_from_a_backup_meanwhile_is_gone_on_with(tmp_path: Path, where: str, text: str) -> None:
    log = tmp_path / "app.log"
    log.write_text(text)
    position = read_and_stop(tmp_path / where, count=text.count("\n"))
    shutil.copy(log, tmp_path / ".backup")
    (tmp_path / ".backup").rename(log)
    append(log, "more\n")
    with following(follow(tmp_path / where, position=position)) as reading:
        reading.wait_for(1)
        assert nothing_comes(reading)
        append(log, "last\n")
        reading.wait_for(2)
    assert reading.lines == ["more", "last"]
    assert not reading.source.notices
