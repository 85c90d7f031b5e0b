"""Power cuts on a disk that forgets what was not made to last: nothing lost, nothing doubled, nothing torn."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.batch import Chunk
from streamlab.dead_letters import DeadLetterQueue
from streamlab.errors import CheckpointError, SinkError
from streamlab.run import Run
from streamlab.sinks.parts import FileParts
from streamlab.sources.iterables import SequenceSource
from tests.disk import Disk, OnDisk, PowerCut
from tests.waiting import until


class Running:
    def __init__(self) -> None:
        self.total = 0

    def __call__(self, line: str) -> Any:
        number = int(line)
        if number % 7 == 3:
            raise ValueError(f"{number} is not wanted")
        self.total += number
        return [f"{number} {self.total}"] * (2 if number % 5 == 0 else 1)

    def flush(self) -> Iterator[str]:
        yield f"total {self.total}"


def sums() -> Pipeline:
    return Pipeline("sums").add("sum", Running)


LINES = [str(n) for n in range(400)]


class Sips(SequenceSource):
    """Lines in small batches, so that there are many moments."""

    def read(self, limit: int) -> Chunk:
        return super().read(min(limit, 16))


def attempt(folder: Path, disk: Disk, name: str, **options: Any) -> Run:
    """Run over the lines; raise what ended it."""
    output = FileParts(folder / name, ending=name, part_rows=20) if name.startswith(".") else folder / name
    with disk.mounted():
        run = sums().run(Sips(LINES), output=output, checkpoint=OnDisk(folder / "checkpoint", disk), **options)
    if run.exception is not None:
        raise run.exception
    return run


def written(path: Path) -> list[str]:
    if path.is_dir():
        return [line for part in sorted(path.glob("part-*")) for line in written(part)]
    raw = path.read_bytes()
    return UNPACK.get(path.suffix, bytes)(raw).decode().splitlines()


def unpacked(raw: bytes) -> bytes:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.BufferReader(raw), "zstd").read()  # type: ignore[no-any-return]


UNPACK = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress, ".zst": unpacked}


def letters(folder: Path) -> list[tuple[int, str]]:
    queue = DeadLetterQueue(folder / "checkpoint" / "dead_letters")
    return [(letter["line_no"], letter["line"]) for letter in queue.letters()]


NAMES = st.sampled_from(["out", "out.gz", ".log", ".log.gz"])  # the last two are of parts

EXPECTED = sums().run(LINES)


def check(folder: Path, run: Run, name: str) -> None:
    assert written(folder / name) == EXPECTED.output["value"].tolist()
    assert letters(folder) == [*zip(EXPECTED.dead_letters["line_no"], EXPECTED.dead_letters["line"], strict=True)]
    assert run.ledger == EXPECTED.ledger
    columns = ["received", "forked", "emitted", "dead_lettered", "errors"]
    assert run.metrics[columns].equals(EXPECTED.metrics[columns])


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, 120), max_size=6), seed=st.integers(0, 2**32), name=NAMES)
def test_power_cuts(cuts: list[int], seed: int, name: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder, disk = Path(made), Disk(random.Random(seed))
        for cut in cuts:
            disk.cut_at = cut
            try:
                run = attempt(folder, disk, name)
            except PowerCut:
                disk.power_on()
                continue
            break
        else:
            run = attempt(folder, disk, name)
        check(folder, run, name)


def persist(folder: Path, disk: Disk, name: str, faults: dict[int, int | str], on_outage: Any) -> tuple[Run, int]:
    """Run until it comes to its end, going on after each failure; return how often it was begun."""
    begun = 0
    while True:
        begun += 1
        disk.power_on()
        disk.failing = {step: fault for step, fault in faults.items() if begun <= 4}
        try:
            return attempt(folder, disk, name, on_outage=on_outage), begun
        except (SinkError, CheckpointError):
            continue


FAULTS = st.dictionaries(st.integers(1, 120), st.sampled_from([errno.ENOSPC, errno.EIO, "short"]), max_size=20)


@settings(max_examples=30, deadline=None)
@given(faults=FAULTS, name=NAMES, on_outage=st.sampled_from(["wait", "fail"]))
def test_a_disk_that_fails(faults: dict[int, int | str], name: str, on_outage: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder, disk = Path(made), Disk(random.Random(0))
        run, _ = persist(folder, disk, name, faults, on_outage)
        check(folder, run, name)


@pytest.mark.parametrize("name", ["out", "out.gz", "out.bz2", "out.xz", "out.zst"])
@pytest.mark.parametrize("full", [2, 10, 11])
def test_a_full_disk_is_waited_for_and_seen(tmp_path: Path, name: str, full: int) -> None:
    disk = Disk(random.Random(0))
    disk.failing = dict.fromkeys(range(full, 100_000), errno.ENOSPC)
    with disk.mounted():
        live = sums().start(Sips(LINES), output=tmp_path / name, dead_letters=tmp_path / "letters", on_outage="wait")
        until(lambda: live.state == "paused", seconds=5)
        assert "No space left on device" in (live.reason or "")
        assert (live.notices["kind"] == "waiting").any()
        ledger = live.ledger
        assert ledger["received"] <= len(LINES)
        disk.failing = {}
        live.wait(30)
    assert (live.state, live.reason) == ("finished", None)
    assert written(tmp_path / name) == EXPECTED.output["value"].tolist()


def test_a_full_disk_ends_the_run_if_it_is_not_to_wait(tmp_path: Path) -> None:
    disk = Disk(random.Random(0))
    disk.failing = dict.fromkeys(range(10, 100_000), errno.ENOSPC)
    with disk.mounted():
        run = sums().run(Sips(LINES), output=tmp_path / "out")
    assert run.state == "failed" and isinstance(run.exception, SinkError)
    whole = written(tmp_path / "out")
    assert whole == EXPECTED.output["value"].tolist()[: len(whole)]
    known = {*run.dead_letters["line_no"], *run.unfinished["line_no"]}
    assert run.ledger["received"] + len(run.unfinished) >= len(known)


def test_a_run_that_waits_can_be_stopped(tmp_path: Path) -> None:
    disk = Disk(random.Random(0))
    disk.failing = dict.fromkeys(range(10, 100_000), errno.ENOSPC)
    with disk.mounted():
        live = sums().start(Sips(LINES), output=tmp_path / "out", on_outage="wait")
        until(lambda: live.state == "paused", seconds=5)
        live.stop()
        live.wait(15)
    assert live.state == "failed" and "No space left" in str(live.exception)
