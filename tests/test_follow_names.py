"""Following files that are called otherwise than they were: another spelling, a folder that was moved, a link."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.followed import GRACE, append, follow, following, kinds, nothing_comes, read_and_stop, rotate

#: What ``logs/app.log`` may be called, seen from the folder above.
SPELLINGS = [
    "logs/app.log",
    "./logs/app.log",
    "logs//app.log",
    "logs/../logs/app.log",
    "{}/logs/app.log",
    "logs",
    "logs/*.log",
]
#: The same through a link to that folder.
LINKED = ["linked/app.log", "linked", "lin*/app.log"]


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log in a folder, seen from the one above; what that is called looks like a glob."""
    above = tmp_path / "[a]bove"
    (above / "logs").mkdir(parents=True)
    (above / "linked").symlink_to("logs")
    monkeypatch.chdir(above)
    return Path("logs/app.log")


def goes_on(log: Path, where: str, position: Any, *, rotated: bool = True) -> None:
    """See that what was written while nobody looked comes once, in order, and half a line waits for its end."""
    append(log, "3\n")
    if rotated:
        rotate(log)
        append(log, "4\n")
        rotate(log)
    append(log, "5\nhal")
    expected = ["3", "4", "5"] if rotated else ["3", "5"]
    with following(follow(Path(where), position=position)) as reading:
        reading.wait_for(len(expected))
        assert nothing_comes(reading, 4 * GRACE)
        append(log, "f\n")
        reading.wait_for(len(expected) + 1)
    assert (sorted(reading.lines) if "*" in where else reading.lines) == [*expected, "half"]
    assert kinds(reading.source) == []


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("where", [*SPELLINGS, *LINKED])
def test_a_file_is_the_same_by_any_spelling_of_its_path(log: Path, where: str, rotated: bool) -> None:
    append(log, "1\n2\n")
    position = read_and_stop(log, count=2)
    goes_on(log, where.format(Path.cwd()), position, rotated=rotated)


@pytest.mark.parametrize("before", [*SPELLINGS, *LINKED])
def test_a_file_is_the_same_whatever_it_was_called_before(log: Path, before: str) -> None:
    append(log, "1\n2\n")
    position = read_and_stop(Path(before.format(Path.cwd())), count=2)
    goes_on(log, "logs/app.log", position)


@pytest.mark.parametrize("rotated", [False, True])
def test_relative_names_of_an_older_position_are_known(log: Path, rotated: bool) -> None:
    append(log, "1\n2\n")
    position = read_and_stop(log, count=2)
    [generation] = position["generations"]
    generation["name"] = generation["path"] = "logs/app.log"
    del generation["folder"], position["folders"]
    goes_on(log, "./logs/app.log", position, rotated=rotated)


@pytest.mark.parametrize("where", ["logs/app.log", "logs", "**/*.log"])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_folder_that_was_moved_is_gone_on_with(
    log: Path, where: str, rotated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, "1\n2\n")
    Path("linked").unlink()
    position = read_and_stop(Path(where), count=2)
    Path.cwd().rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    goes_on(log, where, position, rotated=rotated)


def test_the_source_of_a_line_is_the_absolute_path(log: Path) -> None:
    append(log, "1\n")
    with following(follow(Path("linked/../linked/app.log"))) as reading:
        reading.wait_for(1)
    assert reading.sources == [f"{Path.cwd()}/linked/app.log"]


def test_above_a_link_is_above_where_it_leads(log: Path) -> None:
    Path("logs/inner").mkdir()
    Path("turned").symlink_to("logs/inner")
    append(Path("app.log"), "another\n")
    append(log, "1\n")
    with following(follow(Path("turned/../app.log"))) as reading:
        reading.wait_for(1)
    assert reading.lines == ["1"]
    assert reading.sources == [str(log.absolute())]


def test_a_glob_in_a_folder_that_is_not_there_yet(log: Path) -> None:
    with following(follow(Path("late/*.log"), Path("later.log"))) as reading:
        assert nothing_comes(reading)
        Path("late").mkdir()
        append(Path("late/app.log"), "1\n")
        reading.wait_for(1)
        append(Path("later.log"), "2\n")
        reading.wait_for(2)
    assert reading.lines == ["1", "2"]


@pytest.mark.parametrize("folder", ["", "elsewhere"])
def test_a_link_that_was_turned_to_another_file_while_stopped(log: Path, folder: str) -> None:
    old, new, link = Path("logs/old"), Path("logs") / folder / "new", Path("current.log")
    new.parent.mkdir(exist_ok=True)
    append(old, "1\n")
    link.symlink_to(old)
    position = read_and_stop(link, count=1)
    append(old, "2\n")
    append(new, "3\n")
    link.unlink()
    link.symlink_to(new)
    with following(follow(link, position=position)) as reading:
        reading.wait_for(2)
        append(new, "4\n")
        reading.wait_for(3)
        assert nothing_comes(reading)
    assert reading.lines == ["2", "3", "4"]
    assert kinds(reading.source) == []
    assert os.path.realpath(link) == os.path.realpath(new)


@pytest.mark.parametrize("via", ["via", "other"])
def test_what_was_copied_and_truncated_in_a_folder_that_was_moved_is_found(log: Path, via: str, tmp_path: Path) -> None:
    (tmp_path / "via").symlink_to(Path.cwd())
    append(log, "1\n2\n")
    position = read_and_stop(tmp_path / "via" / log, count=2)
    append(log, "3\n")
    shutil.copy(log, f"{log}.1")
    log.write_text("4\n")
    Path.cwd().rename(tmp_path / "moved")
    (tmp_path / "via").unlink()
    (tmp_path / via).symlink_to("moved")
    with following(follow(tmp_path / via / log, position=position)) as reading:
        reading.wait_for(2)
        assert nothing_comes(reading)
    assert reading.lines == ["3", "4"]


def test_what_was_copied_truncated_and_packed_is_known_through_a_link(log: Path) -> None:
    append(log, "1\n2\n")
    position = read_and_stop(log, count=2)
    Path(f"{log}.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.write_text("3\n")
    with following(follow(Path("linked/app.log"), position=position)) as reading:
        reading.wait_for(1)
        assert nothing_comes(reading)
    assert reading.lines == ["3"]


@pytest.mark.parametrize("where", ["app.log*", ""])
def test_rotated_files_that_match_come_first_oldest_first(tmp_path: Path, where: str) -> None:
    for name, text in (("app.log.10", "1\n"), ("app.log.2", "2\n"), ("app.log.1", "3\n"), ("app.log", "4\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "other.log").write_text("")
    with following(follow(tmp_path / where)) as reading:
        reading.wait_for(4)
        assert nothing_comes(reading)
    assert reading.lines == ["1", "2", "3", "4"]
