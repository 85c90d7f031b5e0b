"""Following folders with thousands of files: what is there is known, however much, and the start does not take for ever."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.followed import GRACE, append, follow, following, nothing_comes, read_and_stop

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
