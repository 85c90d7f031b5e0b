"""Following files: rotation, truncation, removal, compression, halves of lines, many files; with real files and writers."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import logging.handlers
import lzma
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from streamlab.errors import SourceError
from streamlab.sources import Resumable, Source
from streamlab.sources.follow import FollowSource
from tests.faults import Following, copies_and_truncations, following, outcome, rotations, writing
from tests.waiting import resources, until

#: Seconds after which nothing more is expected of a file.
GRACE = 0.3
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}
PACKED = pytest.mark.parametrize("end", PACK)
ALONE_OR_NOT = pytest.mark.parametrize("where", ["app.log", "app.log*", ""], ids=["file", "glob", "folder"])


def follow(*where: Path, position: Any = None, **options: Any) -> FollowSource:
    source = FollowSource(where, **{"grace": GRACE, **options})
    if position is not None:
        source.resume(json.loads(json.dumps(position)))
    return source


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def kinds(source: FollowSource) -> list[str]:
    return [notice.kind for notice in source.notices]


def nothing_comes(reading: Following, seconds: float = 2 * GRACE) -> bool:
    """Wait, and tell whether no line came meanwhile."""
    count = len(reading.lines)
    time.sleep(seconds)
    return len(reading.lines) == count


def read_and_stop(*where: Path, count: int, position: Any = None) -> Any:
    """Read so many lines, let them pass, and return the position."""
    with following(follow(*where, position=position)) as reading:
        reading.wait_for(count)
    assert len(reading.lines) == count
    return reading.source.position()


# Protocol


def test_it_is_a_source_that_waits_and_can_go_on(tmp_path: Path) -> None:
    source = FollowSource([tmp_path / "app.log"])
    assert isinstance(source, Source) and isinstance(source, Resumable)
    assert source.blocking and source.progress() is None
    assert source.name == str(tmp_path / "app.log")
    assert FollowSource(["a", "b", "c"]).name == "a and 2 more"
    with pytest.raises(SourceError, match="at least one path"):
        FollowSource([])


def test_close_ends_a_read_that_waits_and_lets_go_of_everything(tmp_path: Path) -> None:
    before = resources()
    (tmp_path / "app.log").write_text("one\n")
    with following(follow(tmp_path / "app.log")) as reading:
        reading.wait_for(1)
        start = time.monotonic()
        reading.source.close()
        until(lambda: resources()[1] == before[1], 5)
        assert time.monotonic() - start < 5
    assert reading.source.read(10).lines == []
    reading.source.close()
    assert resources() == before


def test_places_lead_back_to_the_lines(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\nthree\n")
    source = follow(log)
    chunk = source.read(2)
    assert chunk.lines == ["one", "two"]
    assert chunk.source == str(log)
    assert chunk.places is not None
    assert [chunk.places.start(index) for index in range(3)] == [0, 4, 8]
    assert source.read(5).lines == ["three"]
    source.passed(chunk.places, 1)
    position = source.position()
    source.close()
    again = follow(log, position=position)
    assert again.read(5).lines == ["two", "three"]
    again.close()


def test_lines_are_those_of_any_file(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"caf\xc3\xa9\r\n\xff\n" + b"x" * 2000 + b"\nend\n")
    source = follow(log, max_line_bytes=1000)
    chunk = source.read(10)
    assert chunk.lines == ["café", "\udcff", "x" * 1000, "end"]
    assert [(mark.position, mark.kind) for mark in chunk.rejected] == [(2, "oversize")]
    source.close()


# Halves of lines


def test_half_a_line_a_pause_and_the_rest_are_one_line(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\nhal")
    with following(follow(log)) as reading:
        reading.wait_for(1)
        assert nothing_comes(reading, 4 * GRACE)
        append(log, "f a l")
        assert nothing_comes(reading, GRACE)
        append(log, "ine\n")
        reading.wait_for(2)
    assert reading.lines == ["one", "half a line"]


def test_half_a_line_at_the_end_is_left_for_the_next_run(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\nhal")
    position = read_and_stop(log, count=1)
    append(log, "f\n")
    with following(follow(log, position=position)) as reading:
        reading.wait_for(1)
    assert reading.lines == ["half"]


@pytest.mark.parametrize("how", ["rotated", "removed", "truncated"])
def test_the_last_half_of_a_file_that_is_over_is_a_line(tmp_path: Path, how: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\nhal")
    with following(follow(log)) as reading:
        reading.wait_for(1)
        if how == "rotated":
            log.rename(tmp_path / "app.log.1")
            append(tmp_path / "app.log.1", "f")
        elif how == "removed":
            log.unlink()
        else:
            until(lambda: reading.source._register is not None and log.stat().st_size == 7)
            time.sleep(0.2)  # it has read the half, which a truncation would take away
            os.truncate(log, 0)
        append(log, "two\n")
        reading.wait_for(3)
    assert reading.lines == ["one", "half" if how == "rotated" else "hal", "two"]


# Rotation by renaming


@ALONE_OR_NOT
def test_rotations_at_full_speed_lose_double_and_tear_nothing(tmp_path: Path, where: str) -> None:
    result = rotations(tmp_path, count=12, rate=5_000, lines=500, where=where, grace=GRACE)
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


def rotate(log: Path, keep: int = 9) -> None:
    """Rename app.log.1 to app.log.2 and so on, and app.log to app.log.1."""
    for index in reversed(range(1, keep)):
        for end in ("", ".gz"):
            if (old := Path(f"{log}.{index}{end}")).exists():
                old.rename(f"{log}.{index + 1}{end}")
    log.rename(f"{log}.1")


def test_a_writer_goes_on_in_the_renamed_file_for_a_moment(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("w", buffering=1) as writer, following(follow(log)) as reading:
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
        (tmp_path / name).write_bytes(PACK[".gz"](b"old\n") if name.endswith(".gz") else b"old\n")
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


# Writers as they are


def python_writer(folder: Path, setup: str, lines: int) -> subprocess.CompletedProcess[str]:
    """Run a process that logs numbered lines with the handler that ``setup`` makes."""
    code = f"""
    import gzip, logging, logging.handlers, os, shutil, time
    {setup}
    log = logging.getLogger("app")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    for number in range(1, {lines}):
        log.info("%d %s", number, "x" * (number % 97))
        time.sleep(0.0005)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=folder, capture_output=True, text=True
    )


ZIPPED = """
    def rotator(source, target):
        with open(source, "rb") as plain, gzip.open(target, "wb") as packed:
            shutil.copyfileobj(plain, packed)
        os.remove(source)
    handler.rotator, handler.namer = rotator, lambda name: name + ".gz"
"""
HANDLERS = {
    "size": 'handler = logging.handlers.RotatingFileHandler("app.log", maxBytes=8000, backupCount=30)',
    "time": 'handler = logging.handlers.TimedRotatingFileHandler("app.log", when="S", backupCount=30)',
    "size, packed": 'handler = logging.handlers.RotatingFileHandler("app.log", maxBytes=8000, backupCount=30)' + ZIPPED,
}


@ALONE_OR_NOT
@pytest.mark.parametrize("handler", HANDLERS)
def test_the_rotating_handlers_of_python(tmp_path: Path, where: str, handler: str) -> None:
    (tmp_path / "app.log").write_text("0 \n")
    with following(follow(tmp_path / where)) as reading:
        reading.wait_for(1)
        python_writer(tmp_path, HANDLERS[handler], 2_000)
        reading.wait_for(2_000)
        assert nothing_comes(reading, 4 * GRACE)
    result = outcome(reading.lines, 2_000)
    assert (result.lost, result.doubled, result.torn) == (0, 0, 0)
    assert len(os.listdir(tmp_path)) > 1


LOGROTATE = shutil.which("logrotate") or os.environ.get("LOGROTATE")


@pytest.mark.skipif(LOGROTATE is None, reason="there is no logrotate here (apt-get install logrotate)")
@ALONE_OR_NOT
@pytest.mark.parametrize(
    "options", ["copytruncate", "copytruncate compress", "create compress", "create delaycompress compress dateext"]
)
def test_logrotate(tmp_path: Path, where: str, options: str) -> None:
    assert LOGROTATE is not None
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o755)
    log = folder / "app.log"
    lines = "\n".join(
        ["rotate 20", "size 1", "missingok", *options.split(), *(["dateformat -%s"] if "dateext" in options else [])]
    )
    (tmp_path / "rotate.conf").write_text(f"{log} {{\n{lines}\n}}\n")
    (tmp_path / "rotate.conf").chmod(0o644)
    log.write_text("0 \n")
    number = 1
    with following(follow(folder / where)) as reading:
        reading.wait_for(1)
        for _ in range(4):
            for _ in range(200):
                append(log, f"{number} {'x' * (number % 97)}\n")
                number += 1
            command = [LOGROTATE, "-f", "-s", str(tmp_path / "status"), str(tmp_path / "rotate.conf")]
            subprocess.run(command, check=True, capture_output=True)
            if "dateext" in options:
                time.sleep(1.1)  # names have the time in seconds
        reading.wait_for(number)
        assert nothing_comes(reading, 4 * GRACE)
    result = outcome(reading.lines, number)
    assert (result.lost, result.doubled, result.torn) == (0, 0, 0)


# Truncation


@ALONE_OR_NOT
def test_copies_and_truncations_double_nothing_and_lose_what_the_system_lost(tmp_path: Path, where: str) -> None:
    result, missed = copies_and_truncations(tmp_path, count=12, rate=2_000, where=where, grace=GRACE)
    assert missed == []  # what is in any file has come
    assert (result.doubled, result.torn) == (0, 0)


def test_what_is_lost_between_copy_and_truncation_is_counted(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    source = follow(log)
    assert source.read(10).lines == ["one"]
    append(log, "two\n")
    shutil.copy(log, tmp_path / "app.log.1")
    append(log, "three\nfour\n")
    assert source.read(1).lines == ["two"]
    append(log, "five\n")
    os.truncate(log, 0)
    append(log, "new\n")
    got = [source.read(1).lines[0] for _ in range(3)]
    assert got == ["three", "four", "new"]
    assert kinds(source) == ["truncated"]
    source.close()


@pytest.mark.parametrize("copied", [True, False])
def test_truncated_while_stopped(tmp_path: Path, copied: bool) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\n")
    source = follow(log)
    chunk = source.read(10)
    assert chunk.places is not None
    source.passed(chunk.places, 1)
    position = source.position()
    source.close()
    append(log, "three\n")
    if copied:
        shutil.copy(log, tmp_path / "app.log.1")
    os.truncate(log, 0)
    append(log, "new\n")
    with following(follow(log, position=position)) as reading:
        reading.wait_for(3 if copied else 1)
        until(lambda: bool(reading.source.notices))
    assert reading.lines == (["two", "three", "new"] if copied else ["new"])
    assert [(notice.kind, notice.lost_bytes) for notice in reading.source.notices] == [("truncated", 0 if copied else 4)]


def test_truncated_and_written_beyond_where_it_was_before_anybody_looked(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    source = follow(log)
    assert source.read(10).lines == ["one"]
    os.truncate(log, 0)
    append(log, "longer than it was\nand more\n")
    assert source.read(10).lines == ["longer than it was", "and more"]
    assert kinds(source) == ["truncated"]
    source.close()


@ALONE_OR_NOT
def test_a_copy_of_which_the_original_stays_is_a_file_of_its_own(tmp_path: Path, where: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    with following(follow(tmp_path / where)) as reading:
        reading.wait_for(1)
        shutil.copy(log, tmp_path / "app.log.old")
        if where:
            append(log, "two\n")
        reading.wait_for(2 if where == "app.log" else 3 if where else 2)
        assert nothing_comes(reading)
    assert sorted(reading.lines) == (
        ["one", "two"] if where == "app.log" else ["one", "one", "two"] if where else ["one", "one"]
    )


def test_a_writer_that_does_not_append_leaves_a_hole_after_a_truncation(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("w", buffering=1) as writer, following(follow(log)) as reading:
        writer.write("x" * 10_000 + "\n")
        reading.wait_for(1)
        shutil.copy(log, tmp_path / "app.log.1")
        os.truncate(log, 0)
        time.sleep(0.1)
        writer.write("after\n")
        reading.wait_for(2)
    assert reading.lines[1] == "after"
    assert log.stat().st_size > 10_000


# Which file is which


@ALONE_OR_NOT
def test_two_files_that_begin_with_the_same_kilobyte_are_both_read(tmp_path: Path, where: str) -> None:
    if where == "app.log":
        pytest.skip("it is about several files")
    head = "".join(f"the same header, line {number}\n" for number in range(60))
    assert len(head) > 1024
    (tmp_path / "app.log").write_text(head + "one\n")
    with following(follow(tmp_path / where)) as reading:
        reading.wait_for(61)
        (tmp_path / "app.log.new").write_text(head + "two\n")
        reading.wait_for(122)
        (tmp_path / "app.log.third").write_text(head)
        reading.wait_for(182)
        append(tmp_path / "app.log.third", "three\n")
        reading.wait_for(183)
        assert nothing_comes(reading)
    assert {line for line in reading.lines if "same" not in line} == {"one", "two", "three"}


@PACKED
def test_an_archive_is_read_once_when_it_is_complete(tmp_path: Path, end: str) -> None:
    packed = PACK[end]("".join(f"{number}\n" for number in range(5_000)).encode())
    archive = tmp_path / f"old.log{end}"
    archive.write_bytes(packed[: len(packed) // 2])
    with following(follow(tmp_path)) as reading:
        assert nothing_comes(reading, 4 * GRACE)
        assert kinds(reading.source) == ["unreadable"]
        with archive.open("ab") as file:
            file.write(packed[len(packed) // 2 :])
        reading.wait_for(5_000)
        archive.rename(tmp_path / f"older.log{end}")
        assert nothing_comes(reading, 4 * GRACE)
    assert reading.lines == [str(number) for number in range(5_000)]
    with following(follow(tmp_path, position=reading.source.position())) as again:
        assert nothing_comes(again, 4 * GRACE)


@PACKED
@pytest.mark.parametrize("stopped", [False, True], ids=["going on", "stopped"])
def test_a_file_that_is_compressed_after_it_was_read_is_not_read_again(tmp_path: Path, end: str, stopped: bool) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(f"{number}\n" for number in range(2_000)))
    reading = Following(follow(tmp_path))
    with following(reading.source) as reading:
        reading.wait_for(2_000)
        if stopped:
            position = reading.source.position()
            reading.source.close()
        append(log, "the last\n")
        if not stopped:
            reading.wait_for(2_001)
        (tmp_path / f"app.log{end}").write_bytes(PACK[end](log.read_bytes()))
        log.unlink()
        if not stopped:
            assert nothing_comes(reading, 5 * GRACE)
    if stopped:
        with following(follow(tmp_path, position=position)) as reading:
            reading.wait_for(1)
            assert nothing_comes(reading, 5 * GRACE)
        assert reading.lines == ["the last"]
    assert not reading.source.notices


# Files and folders that come and go


def test_what_is_followed_may_come_late_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    with following(follow(folder / "app.log", folder / "*.txt", folder / "all")) as reading:
        assert nothing_comes(reading)
        for number in range(3):
            folder.mkdir()
            (folder / "app.log").write_text(f"a line {number}\n")
            (folder / "some.txt").write_text(f"text {number}\n")
            (folder / "all").mkdir()
            (folder / "all" / "x").write_text(f"inner {number}\n")
            (folder / "all" / ".hidden").write_text("hidden\n")
            reading.wait_for(3 * (number + 1))
            shutil.rmtree(folder)
        assert nothing_comes(reading)
    assert sorted(reading.lines) == sorted(f"{what} {n}" for what in ("a line", "text", "inner") for n in range(3))


def test_the_home_folder_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "app.log").write_text("one\n")
    source = follow(Path("~/app.log"))
    assert source.read(10).lines == ["one"]
    source.close()


def test_a_link_that_is_turned_to_another_file(tmp_path: Path) -> None:
    current = tmp_path / "current.log"
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n")
    current.symlink_to("one")
    with following(follow(current)) as reading:
        reading.wait_for(1)
        (tmp_path / "turned").symlink_to("two")
        (tmp_path / "turned").rename(current)
        reading.wait_for(2)
        append(tmp_path / "two", "three\n")
        reading.wait_for(3)
    assert reading.lines == ["one", "two", "three"]


def test_a_file_that_cannot_be_read_is_said_once_and_tried_again(tmp_path: Path) -> None:
    log, other = tmp_path / "app.log", tmp_path / "other.log"
    log.symlink_to(log)  # nobody can open it, not even root
    other.write_text("one\n")
    with following(follow(log, other)) as reading:
        reading.wait_for(1)
        assert nothing_comes(reading, 3)
        assert kinds(reading.source) == ["unreadable"]
        log.unlink()
        log.write_text("two\n")
        reading.wait_for(2)
    assert reading.lines == ["one", "two"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_said_and_tried_again(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    log.chmod(0)
    with following(follow(log)) as reading:
        until(lambda: kinds(reading.source) == ["unreadable"])
        log.chmod(0o600)
        reading.wait_for(1)


# Many files


def test_a_large_file_does_not_hold_up_a_small_one(tmp_path: Path) -> None:
    (tmp_path / "large.log").write_text("large\n" * 1_000_000)
    (tmp_path / "small.log").write_text("small\n")
    source = follow(tmp_path)
    before = 0
    while (chunk := source.read(10_000)).lines[0] != "small":
        before += len(chunk.lines)
    assert before < 100_000
    source.close()


def test_many_files_are_read_with_few_open(tmp_path: Path) -> None:
    _, before = resources()
    paths = [tmp_path / f"{number}.log" for number in range(400)]
    for path in paths:
        path.write_text(f"{path.name} first\n")
    with following(follow(tmp_path, open_files=20)) as reading:
        reading.wait_for(400)
        for path in paths:
            append(path, f"{path.name} half")
        for path in paths:
            append(path, " and half\n")
        reading.wait_for(800)
        assert resources()[1] - before < 60
        paths[7].rename(tmp_path / "7.log.1")
        append(tmp_path / "7.log.1", "late\n")
        paths[7].write_text("new\n")
        reading.wait_for(802)
        os.truncate(paths[8], 0)
        append(paths[8], "again\n")
        reading.wait_for(803)
        assert nothing_comes(reading)
    expected = [f"{path.name} {what}" for path in paths for what in ("first", "half and half")]
    assert sorted(reading.lines) == sorted([*expected, "late", "new", "again"])


# Being told, or not


@pytest.mark.parametrize("told", [True, False])
def test_it_works_without_being_told_of_changes(tmp_path: Path, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "" if told else "1")
    log = tmp_path / "app.log"
    with following(follow(tmp_path)) as reading:
        for number in range(5):
            append(log, f"{number}\n")
            reading.wait_for(number + 1)
            rotate(log)
        assert reading.source._watching.told is told
    assert reading.lines == [str(number) for number in range(5)]


def test_it_works_when_the_limit_of_watches_is_reached(tmp_path: Path) -> None:
    code = f"""
    from streamlab.sources.follow import FollowSource
    source = FollowSource([{str(tmp_path / "app.log")!r}])
    print(source.read(1).lines, source._watching.told, flush=True)
    source.close()
    """
    limits = "echo 0 > /proc/sys/user/max_inotify_instances && echo 0 > /proc/sys/user/max_inotify_watches"
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{limits} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("user namespaces are not allowed here")
    (tmp_path / "app.log").write_text("one\n")
    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "['one'] False\n"


def test_it_rests_while_nothing_happens(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.log").write_text("one\n")
    with following(follow(tmp_path)) as reading:
        reading.wait_for(50)
        time.sleep(0.5)
        before = time.process_time()
        time.sleep(2)
        assert time.process_time() - before < 0.5  # a busy loop takes 2


def test_a_log_of_this_process_may_be_followed(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "app.log")
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with following(follow(tmp_path / "app.log")) as reading:
            logging.info("one")
            reading.wait_for(1)
            assert nothing_comes(reading, 1)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def test_a_position_is_bounded_and_plain(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.touch()
    with writing(log, 1) as stop, following(follow(log)) as reading:
        reading.wait_for(1)
        stop()
        for number in range(30):
            append(log, f"{number}\n")
            rotate(log, keep=3)
        log.touch()
        until(lambda: len(json.dumps(reading.source.position())) < 30_000)
