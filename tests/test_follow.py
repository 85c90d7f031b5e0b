"""Following files: halves of lines, files and folders that come and go, many files, being told or not."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from streamlab.errors import SourceError
from streamlab.sources import Resumable, Source
from streamlab.sources.follow import LOOK, FollowSource
from tests.followed import GRACE, append, follow, following, kinds, nothing_comes, read_and_stop, rotate
from tests.waiting import resources, until

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
    source = follow(log)
    assert source.read(10).lines == ["one"]  # and it has had the half
    if how == "rotated":
        log.rename(tmp_path / "app.log.1")
        append(tmp_path / "app.log.1", "f")
    elif how == "removed":
        log.unlink()
    else:
        os.truncate(log, 0)
    append(log, "two\n")
    assert source.read(10).lines == ["half" if how == "rotated" else "hal"]
    assert source.read(10).lines == ["two"]
    source.close()


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


class Counted(FollowSource):
    """Counts what it does between two waits."""

    steps = 0

    def _step(self) -> bool:
        self.steps += 1
        return super()._step()


def test_it_rests_while_nothing_happens(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.log").write_text("one\n")
    source = Counted([tmp_path], grace=GRACE)
    with following(source) as reading:
        reading.wait_for(50)
        assert nothing_comes(reading, 0.5)
        start, before = time.monotonic(), source.steps
        assert nothing_comes(reading, 2)
        after = source.steps
        looks = (time.monotonic() - start) / LOOK
    assert after - before <= 2 * looks  # a busy loop makes thousands


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


def test_the_log_of_the_program_itself_does_not_grow_because_it_is_followed(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    handler = logging.FileHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with following(follow(log)) as reading:
            logging.getLogger("app").info("one")
            reading.wait_for(1)
            assert nothing_comes(reading)
            logging.getLogger("app").info("two")
            reading.wait_for(2)
            assert nothing_comes(reading)
        assert reading.lines == ["one", "two"]
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
