"""Following what is away for a while, moved elsewhere, or gone on with after a stop: nothing lost, doubled or torn."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamlab.sources.following import catalogue
from tests.followed import append, follow, following, kinds, nothing_comes, read_and_stop, rotate
from tests.waiting import until


@pytest.mark.parametrize("half", ["", "ha"])
def test_who_writes_to_a_rotated_file_is_waited_for_after_a_stop_too(tmp_path: Path, half: str) -> None:
    log = tmp_path / "app.log"
    log.write_text(f"one\n{half}")
    with following(follow(log, grace=5.0)) as reading:
        reading.wait_for(1)
        rotate(log)
        assert nothing_comes(reading, 0.3)
        position = reading.source.position()
    with following(follow(log, position=position, grace=5.0)) as reading:
        assert nothing_comes(reading, 0.5)
        append(tmp_path / "app.log.1", "lf\n")
        reading.wait_for(1)
    assert reading.lines == [f"{half}lf"]


def test_a_folder_that_appears_late_after_a_stop_is_gone_on_with(tmp_path: Path) -> None:
    folder, away = tmp_path / "logs", tmp_path / "away"
    folder.mkdir()
    log = folder / "app.log"
    log.write_text("one\ntwo\n")
    position = read_and_stop(log, count=2)
    folder.rename(away)
    with following(follow(log, position=position)) as reading:
        assert nothing_comes(reading, 1.0)  # longer than the grace
        append(away / "app.log", "three\n")
        away.rename(folder)
        reading.wait_for(1)
        assert nothing_comes(reading)
    assert reading.lines == ["three"]


def test_a_folder_that_is_away_for_a_moment_is_not_read_again(tmp_path: Path) -> None:
    folder, away = tmp_path / "logs", tmp_path / "away"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.log").write_text(f"{number}\n")
    with following(follow(folder, open_files=4)) as reading:
        reading.wait_for(8)
        assert nothing_comes(reading)
        folder.rename(away)
        assert nothing_comes(reading, 1.5)
        away.rename(folder)
        assert nothing_comes(reading, 1.5)
        append(folder / "5.log", "more\n")
        reading.wait_for(9)
    assert sorted(reading.lines) == [*map(str, range(8)), "more"]


def test_a_file_that_is_removed_and_written_anew_is_read_also_if_it_gets_the_same_inode(tmp_path: Path) -> None:
    logs = [tmp_path / f"{number}.log" for number in range(8)]
    for log in logs:
        log.write_text("start\n")
    with following(follow(tmp_path, open_files=4)) as reading:
        for times in range(2, 6):
            reading.wait_for(8 * (times - 1))
            assert nothing_comes(reading)
            for log in logs:
                log.unlink()
            assert nothing_comes(reading, 1.5)
            for log in logs:
                log.write_text("start\n")
            reading.wait_for(8 * times)
    assert reading.lines == ["start"] * 40


@pytest.mark.parametrize("stopped", [True, False])
def test_what_is_renamed_into_another_followed_folder_is_not_read_again(tmp_path: Path, stopped: bool) -> None:
    logs = [tmp_path / f"{name}.log" for name in "abcdefgh"]
    for log in logs:
        log.write_text(f"{log.stem}\n")
    (tmp_path / "old").mkdir()
    where = tmp_path / "**" / "*"
    position = None
    source = follow(where, open_files=4)
    if stopped:
        position = read_and_stop(where, count=8)
        source = follow(where, position=position, open_files=4)
    with following(source) as reading:
        if not stopped:
            reading.wait_for(8)
            assert nothing_comes(reading)
        for log in logs:
            log.rename(tmp_path / "old" / f"{log.name}.1")
            log.write_text(f"{log.stem} again\n")
        reading.wait_for(8 if stopped else 16)
        assert nothing_comes(reading, 1.5)
    assert sorted(reading.lines) == sorted([f"{log.stem} again" for log in logs] + ([] if stopped else [*"abcdefgh"]))


def test_a_link_that_leads_to_itself_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\nha")
    with following(follow(tmp_path)) as reading:
        reading.wait_for(1)
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "b.log").write_text("two\n")
        reading.wait_for(2)
        assert nothing_comes(reading)
        append(tmp_path / "a.log", "lf\n")
        reading.wait_for(3)
    assert reading.lines == ["one", "two", "half"]


@pytest.mark.parametrize("stopped", [True, False])
def test_zeros_before_what_a_writer_goes_on_with_after_a_truncation_are_left_out(tmp_path: Path, stopped: bool) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"x" * 600_000 + b"\n")
    with following(follow(log)) as reading:
        reading.wait_for(1)
        os.truncate(log, 0)
        until(lambda: bool(reading.source.notices))
        time.sleep(0.3)  # it is known to be empty
        position = reading.source.position()
        if not stopped:
            with log.open("r+b", buffering=0) as writer:
                writer.write(b"\0" * 600_001 + b"two\n")  # a file system without holes
            reading.wait_for(2)
            assert reading.lines[1] == "two"
    if stopped:
        with log.open("r+b", buffering=0) as writer:
            writer.seek(600_001)
            writer.write(b"two\n")
        with following(follow(log, position=position)) as reading:
            reading.wait_for(1)
        assert reading.lines == ["two"]


def test_a_long_half_line_is_found_in_the_copy_of_a_file_that_was_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n" + "h" * 100_000)
    source = follow(log)
    assert source.read(10).lines == ["one"]
    with following(source) as reading:
        assert nothing_comes(reading)
        shutil.copy(log, tmp_path / "copy")
        append(tmp_path / "copy", "end\n")
        (tmp_path / "copy").rename(tmp_path / "app.log.1")
        os.truncate(log, 0)
        append(log, "n" * 150_000 + "\n")
        reading.wait_for(2)
        assert nothing_comes(reading)
    assert [line[:2] + line[-3:] for line in reading.lines] == ["hhend", "nnnnn"]


def test_what_was_written_and_rotated_while_stopped_is_read_also_if_there_was_no_file_before(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    (tmp_path / "app.log.7").write_text("old\n")
    os.utime(tmp_path / "app.log.7", (1e9, 1e9))
    with following(follow(log)) as reading:
        assert nothing_comes(reading)
        position = reading.source.position()
    log.write_text("one\n")
    rotate(log)
    log.write_text("two\n")
    with following(follow(log, position=position)) as reading:
        reading.wait_for(2)
        assert nothing_comes(reading)
    assert reading.lines == ["one", "two"]


def test_a_new_name_that_was_rotated_before_it_was_looked_at_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a\n")
    with following(follow(tmp_path / "*.log")) as reading:
        reading.wait_for(1)
        (tmp_path / "new.log.1").write_text("one\n")
        (tmp_path / "new.log").write_text("two\n")
        (tmp_path / "other.log.1").write_text("old\n")
        os.utime(tmp_path / "other.log.1", (1e9, 1e9))
        (tmp_path / "other.log").write_text("other\n")
        reading.wait_for(4)
        assert nothing_comes(reading)
    assert [line for line in reading.lines if line != "other"] == ["a", "one", "two"]


def test_rotated_files_are_found_after_the_clock_was_set_back(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    later = time.time() + 3600
    os.utime(log, (later, later))
    source = follow(log)
    assert source.read(10).lines == ["one"]
    rotate(log)
    log.write_text("two\n")
    rotate(log)
    log.write_text("three\n")
    with following(source) as reading:
        reading.wait_for(2)
        assert nothing_comes(reading)
    assert reading.lines == ["two", "three"]


LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def leased(path: Path) -> Iterator[Callable[[], object]]:
    """Lease a file, as a file server does, until what is given is called: to open it says EAGAIN."""
    command = [sys.executable, "-c", LEASE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        if holder.stdout.readline() != "held\n":
            pytest.skip("files cannot be leased here")
        yield holder.stdin.close


def test_a_rotated_file_that_cannot_be_opened_for_a_moment_is_waited_for_without_haste(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    position = read_and_stop(log, count=1)
    rotate(log)
    log.write_text("two\n")
    rotate(log)
    log.write_text("three\n")
    with leased(tmp_path / "app.log.1") as let_go, following(follow(log, position=position, grace=60.0)) as reading:
        start = time.process_time()
        assert nothing_comes(reading, 2.0)
        assert time.process_time() - start < 1.0
        let_go()
        reading.wait_for(2)
    assert reading.lines == ["two", "three"]
    assert kinds(reading.source) == ["unreadable"]


def test_a_rotated_file_that_cannot_be_opened_for_long_holds_nothing_up_and_comes_later(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    position = read_and_stop(log, count=1)
    rotate(log)
    log.write_text("two\n")
    rotate(log)
    with leased(tmp_path / "app.log.1"):
        log.write_text("three\n")
        position = read_and_stop_at(log, position, ["three"])
        append(log, "four\n")
        position = read_and_stop_at(log, position, ["four"])
    with following(follow(log, position=position)) as reading:
        reading.wait_for(1)
        assert nothing_comes(reading)
        append(log, "five\n")
        reading.wait_for(2)
    assert reading.lines == ["two", "five"]


def read_and_stop_at(log: Path, position: Any, lines: list[str]) -> Any:
    with following(follow(log, position=position)) as reading:
        reading.wait_for(len(lines))
        assert nothing_comes(reading)
    assert reading.lines == lines
    return reading.source.position()


@pytest.mark.parametrize("text", ["", "# header\n", "# header\nand\n"])
def test_what_the_next_file_begins_like_is_read_when_it_is_known_not_to_become_a_copy(tmp_path: Path, text: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    position = read_and_stop(log, count=1)
    rotate(log)
    log.write_text(text)
    rotate(log)
    log.write_text("# header\nand\nmore\n")
    expected = sorted([*text.splitlines(), "# header", "and", "more", *(["late"] if not text else [])])
    with following(follow(log, position=position)) as reading:
        if not text:
            reading.wait_for(3)
            append(tmp_path / "app.log.1", "late\n")
        reading.wait_for(len(expected))
        assert nothing_comes(reading, 1.0)
        position = reading.source.position()
    assert sorted(reading.lines) == expected
    with following(follow(log, position=position)) as reading:
        assert nothing_comes(reading, 1.0)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_long_copy_of_what_the_next_file_begins_like_is_not_read_and_said_to_be_one(tmp_path: Path, stopped: bool) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    with following(follow(log)) as reading:
        reading.wait_for(1)
        position = reading.source.position()
        if not stopped:
            rotate(log)
            assert nothing_comes(reading)
            log.write_text("".join(f"{number}\n" for number in range(1000)))
            shutil.copy(log, tmp_path / "app.log.bak")
            append(log, "end\n")
            reading.wait_for(1002)
            assert nothing_comes(reading, 2.0)
            assert reading.lines[1:] == [*map(str, range(1000)), "end"]
    if stopped:
        rotate(log)
        log.write_text("".join(f"{number}\n" for number in range(1000)))
        shutil.copy(log, tmp_path / "app.log.bak")
        append(log, "end\n")
        with following(follow(log, position=position)) as reading:
            reading.wait_for(1001)
            assert nothing_comes(reading, 2.0)
        assert reading.lines == [*map(str, range(1000)), "end"]
        assert kinds(reading.source) == ["copy"]


def test_a_file_that_the_system_has_lost_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.log").write_text("one\n")
    source = follow(tmp_path)
    lost = set()
    real = os.fstat

    def stale(descriptor: int) -> os.stat_result:
        if descriptor in lost:
            lost.discard(descriptor)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", stale)
    with following(source) as reading:
        reading.wait_for(1)
        lost.update(int(name) for name in os.listdir("/proc/self/fd") if file_of(name) == str(tmp_path / "app.log"))
        until(lambda: not lost)
        append(tmp_path / "app.log", "two\n")
        reading.wait_for(2)
    assert reading.lines == ["one", "two"]
    assert kinds(reading.source) == ["unreadable"]


def file_of(descriptor: str) -> str:
    return os.path.realpath(f"/proc/self/fd/{descriptor}")


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is gone forgotten soon."""
    monkeypatch.setattr("streamlab.sources.following.register.REMEMBERED", 0.5)
    monkeypatch.setattr("streamlab.sources.following.catalogue.REMEMBERED", 0.5)
    monkeypatch.setattr("streamlab.sources.follow.FORGET", 0.1)


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("where", ["app.log", "*.log"])
def test_an_archive_with_a_time_of_its_own_is_not_read_when_its_original_has_been_forgotten(
    tmp_path: Path, where: str
) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    with following(follow(tmp_path / where)) as reading:
        reading.wait_for(1)
        rotate(log)
        assert nothing_comes(reading, 1.0)
        (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(b"one\n"))
        (tmp_path / "app.log.1").unlink()
        assert nothing_comes(reading, 3.0)
        log.write_text("two\n")
        reading.wait_for(2)
        assert nothing_comes(reading, 1.0)
        rotate(log)
        log.write_text("three\n")
        reading.wait_for(3)
        assert nothing_comes(reading, 1.0)
    assert reading.lines == ["one", "two", "three"]


@pytest.fixture(params=["moved", "unmounted"])
def away_and_back(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Path, Callable[[], object], Callable[[], object]]]:
    """Return a folder, and what takes it away and brings it back; when it is unmounted, what it was mounted on is there."""
    folder, away = tmp_path / "logs", tmp_path / "away"
    if request.param == "moved":
        folder.mkdir()
        yield folder, lambda: folder.rename(away), lambda: away.rename(folder)
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:  # another file system
        disk = Path(other, "disk")
        disk.mkdir()
        folder.symlink_to(disk)

        def unmount() -> None:
            disk.rename(Path(other, "away"))
            folder.rename(away)
            folder.mkdir()

        def mount() -> None:
            Path(other, "away").rename(disk)
            folder.rmdir()
            away.rename(folder)

        yield folder, unmount, mount


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_folder_that_is_away_for_long_is_not_read_again(
    away_and_back: tuple[Path, Callable[[], object], Callable[[], object]], stopped: bool
) -> None:
    folder, leave, come_back = away_and_back
    for number in range(8):
        (folder / f"{number}.log").write_text(f"{number}\n")
    with following(follow(folder, open_files=4)) as reading:
        reading.wait_for(8)
        assert nothing_comes(reading)
        leave()
        assert nothing_comes(reading, 4.0)
        if not stopped:
            come_back()
            assert nothing_comes(reading, 1.5)
            append(folder / "5.log", "more\n")
            reading.wait_for(9)
        position = reading.source.position()
    if stopped:
        with following(follow(folder, position=position, open_files=4)) as reading:
            assert nothing_comes(reading, 4.0)
            come_back()
            assert nothing_comes(reading, 1.5)
            append(folder / "5.log", "more\n")
            reading.wait_for(1)
    assert sorted(reading.lines) == [*([] if stopped else map(str, range(8))), "more"]


def test_a_late_write_to_a_rotated_file_does_not_change_the_order_that_numbers_give(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("0\n")
    position = read_and_stop(log, count=1)
    for number in range(1, 6):
        rotate(log)
        log.write_text(f"{number}\n")
        time.sleep(0.02)
    append(tmp_path / "app.log.3", "2, late\n")
    with following(follow(log, position=position)) as reading:
        reading.wait_for(6)
    assert reading.lines == ["1", "2", "2, late", "3", "4", "5"]


def test_what_is_rotated_just_when_an_archive_of_an_older_one_is_found_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    opened: list[str] = []
    real = catalogue.open_file

    def rotating(path: str, *key: Any) -> int:
        opened.append(path)
        if len(opened) == 2:
            log.rename(tmp_path / "app.log.1")
            log.write_text("")
        return real(path, *key)

    with following(follow(log)) as reading:
        reading.wait_for(1)
        rotate(log)
        log.write_text("")
        assert nothing_comes(reading, 1.0)
        with reading.source._guard:  # it looks at nothing meanwhile
            monkeypatch.setattr(catalogue, "open_file", rotating)
            append(log, "two\n")
            time.sleep(0.05)
            (tmp_path / "app.log.2.gz").write_bytes(gzip.compress(b"one\n"))
            (tmp_path / "app.log.1").unlink()
        reading.wait_for(2)
        assert nothing_comes(reading, 1.0)
    assert reading.lines == ["one", "two"]
    assert len(opened) >= 2


def with_a_beginning(folder: Path) -> tuple[Path, Any]:
    """Make a rotated file, never seen before, that the current one begins like; return that, and a position before both."""
    log = folder / "app.log"
    log.write_text("x\n")
    position = read_and_stop(log, count=1)
    log.rename(folder / "app.log.2")
    (folder / "app.log.1").write_text("# header\none\n")
    log.write_text("# header\none\ntwo\n")
    return log, position


@pytest.mark.parametrize("stopped", [False, True])
def test_a_file_that_gets_the_inode_of_one_that_is_to_be_read_later_is_not_taken_for_it(
    tmp_path: Path, stopped: bool
) -> None:
    log, position = with_a_beginning(tmp_path)
    with following(follow(log, position=position, grace=3.0)) as reading:
        reading.wait_for(3)
        position = reading.source.position()
        if not stopped:
            (tmp_path / "app.log.1").rename(tmp_path / "private.txt")  # as if it had been removed, and its inode used again
            until(lambda: kinds(reading.source) == ["vanished"])
            assert nothing_comes(reading, 4.0)
    if stopped:
        (tmp_path / "app.log.1").rename(tmp_path / "private.txt")
        with following(follow(log, position=position)) as reading:
            assert nothing_comes(reading, 1.0)
        assert kinds(reading.source) == ["vanished"] and not reading.lines


def test_a_file_that_is_packed_while_it_may_still_be_a_copy_is_read(tmp_path: Path) -> None:
    log, position = with_a_beginning(tmp_path)
    with following(follow(log, position=position, grace=2.0)) as reading:
        reading.wait_for(3)
        (tmp_path / "app.log.1.gz").write_bytes(gzip.compress((tmp_path / "app.log.1").read_bytes()))
        (tmp_path / "app.log.1").unlink()
        reading.wait_for(5)
        assert nothing_comes(reading)
    assert reading.lines == ["# header", "one", "two", "# header", "one"]
    assert kinds(reading.source) == []


def test_a_file_that_differs_in_its_middle_from_what_the_next_one_begins_with_is_read(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("x\n")
    position = read_and_stop(log, count=1)
    log.rename(tmp_path / "app.log.2")
    banner, idle = "banner\n" * 300, "idle\n" * 300
    (tmp_path / "app.log.1").write_text(f"{banner}order 4711\n{idle}")
    log.write_text(f"{banner}order 4712\n{idle}end\n")
    with following(follow(log, position=position)) as reading:
        reading.wait_for(1203)
        assert nothing_comes(reading)
    assert {"order 4711", "order 4712"} <= set(reading.lines) and len(reading.lines) == 1203
