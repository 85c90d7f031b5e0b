"""Following files that are copied, truncated and compressed: nothing is read twice, and what was lost is said."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from tests.faults import copies_and_truncations
from tests.followed import ALONE_OR_NOT, GRACE, append, follow, following, kinds, nothing_comes, read_and_stop, rotate, shift
from tests.waiting import until

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}
PACKED = pytest.mark.parametrize("end", PACK)


@ALONE_OR_NOT
def test_copies_and_truncations_double_nothing_and_lose_what_the_system_lost(tmp_path: Path, where: str) -> None:
    result, missed = copies_and_truncations(tmp_path, count=12, rate=2_000, where=where)
    assert missed == []  # what is in any file has come
    assert (result.doubled, result.torn) == (0, 0)


def test_archives_of_others_do_not_hold_up_a_file_that_was_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    with following(follow(tmp_path, grace=0.5)) as reading:
        reading.wait_for(1)
        os.truncate(log, 0)
        append(log, "two\n")
        for number in range(40):  # one more before the one before has been quiet for long enough
            (tmp_path / f"other-{number}.log.gz").write_bytes(gzip.compress(b"other %d\n" % number))
            time.sleep(0.1)
        assert "two" in reading.lines
        reading.wait_for(42)


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
        writer.write("after\n")
        reading.wait_for(2)
    assert reading.lines[1] == "after"
    assert log.stat().st_size > 10_000


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
        assert nothing_comes(reading, 3 * GRACE)
        assert kinds(reading.source) == ["unreadable"]
        with archive.open("ab") as file:
            file.write(packed[len(packed) // 2 :])
        reading.wait_for(5_000)
        archive.rename(tmp_path / f"older.log{end}")
        assert nothing_comes(reading, 3 * GRACE)
    assert reading.lines == [str(number) for number in range(5_000)]
    with following(follow(tmp_path, position=reading.source.position())) as again:
        assert nothing_comes(again, 3 * GRACE)


@PACKED
def test_a_file_that_is_compressed_after_it_was_read_is_not_read_again(tmp_path: Path, end: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(f"{number}\n" for number in range(2_000)))
    with following(follow(tmp_path)) as reading:
        reading.wait_for(2_000)
        compress(log, end)
        assert nothing_comes(reading, 3 * GRACE)
    assert not reading.source.notices


@PACKED
def test_of_a_file_that_is_compressed_while_nobody_looks_the_rest_is_read(tmp_path: Path, end: str) -> None:
    log = tmp_path / "app.log"
    log.write_text("".join(f"{number}\n" for number in range(2_000)))
    position = read_and_stop(tmp_path, count=2_000)
    append(log, "the last\n")
    compress(log, end)
    with following(follow(tmp_path, position=position)) as reading:
        reading.wait_for(1)
        assert nothing_comes(reading, 3 * GRACE)
    assert reading.lines == ["the last"]
    assert not reading.source.notices


@ALONE_OR_NOT
@pytest.mark.parametrize("passed", [0, 1, 2])
@pytest.mark.parametrize("removed", [True, False])
def test_what_has_not_passed_of_a_file_that_was_compressed_is_read_in_its_archive(
    tmp_path: Path, where: str, passed: int, removed: bool
) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\n")
    source = follow(tmp_path / where)
    chunk = source.read(10)
    assert chunk.places is not None
    source.passed(chunk.places, passed)
    rotate(log)
    packed = Path(f"{log}.1.gz")
    packed.write_bytes(gzip.compress(Path(f"{log}.1").read_bytes()))
    if removed:
        Path(f"{log}.1").unlink()
    time.sleep(2 * GRACE)  # nobody reads until the archive is known to be complete
    log.write_text("three\n")
    assert source.read(10).lines == ["three"]
    position = source.position()
    source.close()
    with following(follow(tmp_path / where, position=position)) as reading:
        reading.wait_for(3 - passed)
        assert nothing_comes(reading, 3 * GRACE)
        assert reading.lines == ["one", "two", "three"][passed:]
        assert not reading.source.notices
    with following(follow(tmp_path / where, position=reading.source.position())) as again:
        assert nothing_comes(again, 3 * GRACE)
    assert not again.lines


@ALONE_OR_NOT
@pytest.mark.parametrize("passed", [0, 1, 2])
def test_what_has_not_passed_of_a_file_that_was_cut_off_is_read_in_a_copy_that_comes_later(
    tmp_path: Path, where: str, passed: int
) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\ntwo\n")
    aside = tmp_path.parent / f"{tmp_path.name}.aside"
    shutil.copy(log, aside)
    source = follow(tmp_path / where, grace=5.0)
    chunk = source.read(10)
    assert chunk.places is not None
    source.passed(chunk.places, passed)
    os.truncate(log, 0)
    log.unlink()
    with following(source) as reading:
        assert nothing_comes(reading, 0.5)  # it is known to be cut off
        aside.rename(f"{log}.1")
        assert nothing_comes(reading, 1.5)
        position = source.position()
    with following(follow(tmp_path / where, position=position)) as reading:
        reading.wait_for(2 - passed)
        assert nothing_comes(reading)
        assert reading.lines == ["one", "two"][passed:]
    with following(follow(tmp_path / where, position=reading.source.position())) as again:
        assert nothing_comes(again)


def test_what_is_in_a_rotated_file_comes_after_the_copies_that_were_made_before(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    with following(follow(log)) as reading:
        reading.wait_for(1)
    source = reading.source
    source = follow(log, position=source.position())
    append(log, "two\n")
    copy_and_truncate(log)
    assert source.read(10).lines == ["two"]
    log.write_text("three\n")  # into the file that was seen empty
    copy_and_truncate(log)
    log.write_text("four\n")
    rotate(log)
    log.write_text("five\n")
    assert [source.read(10).lines for _ in range(3)] == [["three"], ["four"], ["five"]]
    source.close()


def test_an_archive_that_is_removed_while_it_is_waited_for_holds_nothing_up(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")
    with following(follow(tmp_path, grace=0.5)) as reading:
        reading.wait_for(1)
        log.unlink()
        (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(b"two\n"))
        until(lambda: any(path.endswith(".gz") for path in open_files()))
        (tmp_path / "app.log.1.gz").unlink()
        log.write_text("three\n")
        until(lambda: "three" in reading.lines)
    assert reading.lines in (["one", "three"], ["one", "two", "three"])


def open_files() -> list[str]:
    return [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]


def copy_and_truncate(log: Path) -> None:
    shift(log)
    shutil.copy(log, f"{log}.1")
    os.truncate(log, 0)


def compress(path: Path, end: str) -> None:
    Path(f"{path}{end}").write_bytes(PACK[end](path.read_bytes()))
    path.unlink()
