"""Following folders with thousands of files: what is there is known, however much, and the start does not take for ever."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.followed import GRACE, append, follow, following, nothing_comes, read_and_stop
from tests.waiting import until

#: More than fit in anything that has a bound.
MANY = 5_000


@pytest.mark.parametrize("name", ["job{}.log.gz", "app.log.{}.gz", "job{}.log"], ids=["archives", "rotated", "plain"])
def test_what_was_read_is_not_read_again_however_many_files_there_are(tmp_path: Path, name: str) -> None:
    for number in range(MANY):
        data = f"line {number}\n".encode()
        path = tmp_path / name.format(number + 1)
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    (tmp_path / "live.log").write_text("live\n")
    position = read_and_stop(tmp_path, count=MANY + 1)
    for _ in range(2):
        with following(follow(tmp_path, position=position)) as reading:
            append(tmp_path / "live.log", "more\n")
            reading.wait_for(1)
            assert nothing_comes(reading, 5 * GRACE)
        assert reading.lines == ["more"]
        assert not reading.source.notices
        position = reading.source.position()


def test_files_that_were_packed_while_nobody_looked_are_known_however_many(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"job{number}.log").write_text(f"line {number}\n")
    position = read_and_stop(tmp_path, count=1000)
    for path in list(tmp_path.iterdir()):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (tmp_path / "live.log").write_text("live\n")
    with following(follow(tmp_path, position=position)) as reading:
        reading.wait_for(1)
        assert nothing_comes(reading, 10 * GRACE)
        append(tmp_path / "live.log", "more\n")
        reading.wait_for(2)
    assert reading.lines == ["live", "more"]


def test_what_was_lost_of_many_files_at_once_is_counted_to_the_last_byte(tmp_path: Path) -> None:
    for number in range(3_000):
        (tmp_path / f"job{number}.log").write_text(f"line {number}\nand more\n")
    source = follow(tmp_path)
    count = 0
    while count < 6_000:
        count += len((chunk := source.read(1)).lines)
        if chunk.lines != ["and more"]:  # the second line of each has not passed
            assert chunk.places is not None
            source.passed(chunk.places, 1)
    position = source.position()
    source.close()
    for path in list(tmp_path.iterdir()):
        path.unlink()
    with following(follow(tmp_path, position=position)) as reading:
        notices = reading.source.notices
        until(lambda: sum(notice.count for notice in list(notices)) == 3_000)
    assert sum(notice.lost_bytes for notice in notices) == 3_000 * len("and more\n")
    assert len(notices) <= 1_100
    assert {notice.kind for notice in notices} == {"vanished"}
