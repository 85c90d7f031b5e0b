"""Files: which ones, packed how, read whole, and what is said when they cannot be."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamlab.errors import SourceError
from streamlab.sources import Source, open_source
from streamlab.sources.files import FileSource
from streamlab.sources.locate import find_files

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}
PACKED = pytest.mark.parametrize("end", PACK)


def drain(source: Source, limit: int = 1000) -> list[str]:
    lines: list[str] = []
    while (chunk := source.read(limit)).lines:
        assert len(chunk.lines) <= limit
        lines += chunk.lines
    return lines


def drain_until_error(source: Source) -> tuple[list[str], SourceError]:
    lines: list[str] = []
    try:
        while (chunk := source.read(100)).lines:
            lines += chunk.lines
    except SourceError as error:
        return lines, error
    pytest.fail("no SourceError")


def random_lines(count: int) -> list[str]:
    return [os.urandom(20).hex() for _ in range(count)]


def text_of(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_and_can_be_given_back(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "data.log"
    path.write_bytes(data.replace(b"\r", b""))
    lines = drain(open_source(path))
    assert "\n".join(lines).encode("utf-8", "surrogateescape") == path.read_bytes().removesuffix(b"\n")


@PACKED
def test_packed_files_of_several_members(tmp_path: Path, end: str) -> None:
    lines = random_lines(20_000)
    text = text_of(lines)
    path = tmp_path / f"app.log{end}"
    cut = len(text) // 3 + 7  # within a line
    path.write_bytes(b"".join(map(PACK[end], (text[:cut], b"", text[cut:]))))
    assert drain(open_source(path)) == lines


@PACKED
def test_a_block_is_bounded_however_well_it_was_packed(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"zeros.log{end}"
    path.write_bytes(PACK[end]((b"0" * 99 + b"\n") * 300_000))
    with closing(open_source(path)) as source:
        assert max(sum(map(len, source.read(10**9).lines)) for _ in range(50)) <= 256 * 1024


@PACKED
def test_a_packed_file_that_is_cut_off_gives_what_is_there_and_says_so(tmp_path: Path, end: str) -> None:
    lines = random_lines(30_000)
    path = tmp_path / f"app.log{end}"
    packed = PACK[end](text_of(lines))
    path.write_bytes(packed[: len(packed) * 9 // 10])
    read, error = drain_until_error(open_source(path))
    assert str(path) in str(error)
    assert "cut off" in str(error)
    assert read == lines[: len(read)]
    assert len(read) > 0.3 * len(lines)  # bzip2 has blocks of 900 kB of text


@PACKED
def test_a_packed_file_damaged_inside_gives_what_comes_before(tmp_path: Path, end: str) -> None:
    before, after = random_lines(5_000), random_lines(5_000)
    path = tmp_path / f"app.log{end}"
    packed = bytearray(PACK[end](text_of(after)))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) // 2)
    path.write_bytes(PACK[end](text_of(before)) + packed)
    read, error = drain_until_error(open_source(path))
    assert read[: len(before)] == before
    assert str(path) in str(error)


@PACKED
def test_a_lie_about_the_kind_is_a_damaged_file_and_an_empty_one_is_empty(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"app.log{end}"
    path.write_text("this is plain text\n")
    assert drain_until_error(open_source(path))[0] == []
    path.write_bytes(b"")
    assert drain(open_source(path)) == []


def test_zeros_after_a_gzip_member_are_padding_and_anything_else_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "app.log.gz"
    path.write_bytes(gzip.compress(b"one\n") + bytes(100_000) + gzip.compress(b"two\n") + bytes(10))
    assert drain(open_source(path)) == ["one", "two"]
    path.write_bytes(gzip.compress(b"one\n") + b"rubbish")
    assert drain_until_error(open_source(path))[0] == ["one"]


def test_several_files_in_natural_order_and_never_glued(tmp_path: Path) -> None:
    (tmp_path / "app.10.log").write_text("ten")
    (tmp_path / "app.2.log").write_text("two, no end")
    (tmp_path / "app.1.log").write_bytes(b"")
    (tmp_path / "app.3.log.gz").write_bytes(gzip.compress(b"three\r\n"))
    (tmp_path / ".hidden").write_text("hidden\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "app.log").write_text("inner\n")
    assert drain(open_source(tmp_path)) == ["two, no end", "three", "ten"]
    assert drain(open_source(str(tmp_path / "*.log"))) == ["two, no end", "ten"]
    assert drain(open_source(str(tmp_path / "**" / "*.log"))) == ["two, no end", "ten", "inner"]
    assert drain(open_source([tmp_path / "app.10.log", tmp_path / "inner"])) == ["ten", "inner"]
    with closing(open_source(tmp_path)) as source:
        assert source.read(10).source == str(tmp_path / "app.2.log")


@pytest.mark.parametrize("where", ["", "*.log"])
def test_a_file_of_a_folder_or_glob_is_read_once_whatever_links_lead_to_it(tmp_path: Path, where: str) -> None:
    for name in ("b", "c"):
        (tmp_path / f"{name}.log").write_text(f"{name}\n")
    (tmp_path / "a.log").symlink_to("c.log")
    (tmp_path / "d.log").hardlink_to(tmp_path / "b.log")
    assert find_files(tmp_path / where) == [str(tmp_path / "b.log"), str(tmp_path / "c.log")]
    assert drain(open_source([tmp_path / "c.log", tmp_path / "b.log", tmp_path / "a.log"])) == ["c", "b", "c"]  # as given


def test_a_name_with_the_characters_of_a_glob_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "app[1].log"
    path.write_text("one\n")
    assert drain(open_source(path)) == ["one"]


@pytest.mark.parametrize("end", ["", ".gz"])
def test_progress_goes_from_0_to_1(tmp_path: Path, end: str) -> None:
    for name in ("a", "b"):
        data = text_of(random_lines(50_000))
        (tmp_path / f"{name}.log{end}").write_bytes(PACK[end](data) if end else data)
    source = open_source(tmp_path)
    assert not source.blocking
    seen = [source.progress()]
    while source.read(5_000).lines:
        seen.append(source.progress())
    shares = [share for share in seen if share is not None]
    assert len(shares) == len(seen) > 15
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert any(0.4 < share < 0.6 for share in shares)
    assert source.progress() == 1.0


def test_an_oversize_line_is_rejected_and_the_next_ones_come(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_bytes(b"short\n" + b"x" * 3_000_000 + b"\nlast")
    source = open_source(path, max_line_bytes=1000)
    chunks = [source.read(2) for _ in range(4)]
    assert [(len(line), chunk.source) for chunk in chunks for line in chunk.lines] == [
        (5, str(path)),
        (1000, str(path)),
        (4, str(path)),
    ]
    assert [(chunk.lines[mark[0]], mark.kind) for chunk in chunks for mark in chunk.rejected] == [("x" * 1000, "oversize")]


def test_a_named_pipe_gives_lines_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    may_end = threading.Event()

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(b"first\nsec")
            may_end.wait(10)
            pipe.write(b"ond\n")

    writer = threading.Thread(target=write)
    writer.start()
    source = open_source(path)
    assert source.blocking
    assert source.progress() is None
    assert source.read(10).lines == ["first"]
    may_end.set()
    assert drain(source) == ["second"]
    writer.join()


def test_files_are_closed_at_the_end_on_errors_and_when_asked(tmp_path: Path) -> None:
    def opened() -> int:
        return sum(os.path.realpath(f"/proc/self/fd/{fd}").startswith(str(tmp_path)) for fd in os.listdir("/proc/self/fd"))

    (tmp_path / "a.log").write_text("one\ntwo\n")
    (tmp_path / "b.log.gz").write_text("no gzip\n")
    source = open_source(tmp_path)
    source.read(1)
    assert opened() == 1
    source.close()
    source.close()
    assert opened() == 0
    assert source.read(1).lines == []
    drain_until_error(open_source(tmp_path))
    assert opened() == 0


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("sample.lgo", "did you mean '{0}/sample.log'"),
        ("nothing/here/app.log", "{0} is as far as that path goes"),
        ("*.csv", "no file matches '{0}/*.csv'"),
        ("empty", "there are no files in the folder {0}/empty"),
        ("info: system booted", "pass a list"),
        ("sample.log/inner", "there is no file"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("nul\0nul", "cannot be read"),
    ],
)
def test_what_is_said_about_files_that_are_not_there(tmp_path: Path, where: str, says: str) -> None:
    (tmp_path / "sample.log").write_text("one\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError) as caught:
        open_source(f"{tmp_path}/{where}")
    assert says.format(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_an_address_is_not_a_file() -> None:
    with pytest.raises(SourceError, match="is an address of no known kind; known are redis://"):
        open_source("https://example.org/app.log")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_or_folder_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.log"
    path.write_text("one\n")
    path.chmod(0)
    with pytest.raises(SourceError, match="permissions"):
        open_source(path)
    tmp_path.chmod(0o300)
    with pytest.raises(SourceError, match="cannot be listed: Permission denied"):
        open_source(tmp_path)
    tmp_path.chmod(0o700)


def test_a_file_that_goes_away_before_its_turn(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\n")
    (tmp_path / "b.log").write_text("two\n")
    source = open_source(tmp_path)
    (tmp_path / "b.log").unlink()
    lines, error = drain_until_error(source)
    assert lines == ["one"]
    assert "b.log cannot be opened: No such file" in str(error)


def test_no_files_and_missing_files_are_refused() -> None:
    with pytest.raises(SourceError, match="at least one path"):
        FileSource([])
    with pytest.raises(SourceError, match="No such file"):
        FileSource(["/nowhere/app.log"])
