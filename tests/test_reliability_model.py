"""All that can happen to a run that goes on, in any order: power cuts, rotations, purges, replays, writes of others."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamlab import Pipeline
from streamlab.dead_letters import DeadLetterQueue
from streamlab.errors import SinkError
from streamlab.run import ENDED, Run
from tests.disk import Disk, OnDisk, PowerCut
from tests.waiting import until


class Work:
    """Counts, and fails at some lines."""

    hard = 7

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, line: str) -> str:
        if int(line) % self.hard == 3:
            raise ValueError(f"{line} is not wanted")
        self.seen += 1
        return f"{line} {self.seen}"


class Mended(Work):
    """Fails at half of them."""

    hard = 14


class Perfect(Work):
    """Fails at none but the first of them."""

    hard = 10**9


def pipeline(work: type[Work]) -> Pipeline:
    return Pipeline("work").add("work", work)


class Life(RuleBasedStateMachine):
    """What was appended is put out once, or is a dead letter once; which is replayed once, or was purged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="streamlab-life-"))
        self.log = self.folder / "in.log"
        self.out = self.folder / "out.log"
        self.appended = 0
        self.rotated = 0
        self.half = False
        self.purged: Counter[int] = Counter()
        self.clean = True

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.disk = Disk(random.Random(seed))
        self.log.touch()
        self.run_on(cut=None)  # what was rotated before the first run would not be read

    def teardown(self) -> None:
        try:
            if hasattr(self, "disk"):
                self.run_on(cut=None)
        finally:
            shutil.rmtree(self.folder)

    # What happens to the file

    @rule(count=st.integers(1, 60), half=st.booleans())
    def append(self, count: int, half: bool) -> None:
        with self.log.open("a") as file:
            if self.half:
                file.write("\n")
            file.writelines(f"{number}\n" for number in range(self.appended, self.appended + count - 1))
            file.write(f"{self.appended + count - 1}" + ("" if half else "\n"))
        self.appended += count
        self.half = half

    @precondition(lambda self: not self.half)
    @rule()
    def rotate(self) -> None:
        for older in reversed(range(self.rotated + 1)):
            Path(f"{self.log}.{older}" if older else self.log).rename(f"{self.log}.{older + 1}")
        self.rotated += 1
        self.log.touch()

    # What is done with it

    @rule(cut=st.none() | st.integers(1, 80))
    def run_on(self, cut: int | None) -> None:
        self.disk.power_on()
        self.disk.cut_at = cut
        wanted = self.appended - self.half
        try:
            with self.disk.mounted():
                live = self.start()
                until(lambda: live.ledger["received"] >= wanted or live.state in ENDED)
                live.stop()
                live.wait(30)
                if live.exception is not None:
                    raise live.exception
        except PowerCut:
            self.clean = False
            return
        finally:
            self.disk.power_on()
        self.clean = True
        assert live.ledger["received"] == wanted and live.ledger["in_flight"] == 0
        self.check()

    def start(self) -> Run:
        return pipeline(Work).start(
            self.log, output=self.out, checkpoint=OnDisk(self.folder / "checkpoint", self.disk), follow=True
        )

    # What is done in between

    @precondition(lambda self: self.clean)
    @rule()
    def somebody_else_writes(self) -> None:
        """Which is not cut off: after a run that came to its end, it is known what is not of it."""
        before = self.out.read_bytes()
        self.out.write_bytes(before + b"somebody else\n")
        with pytest.raises(SinkError, match=r"out\.log has 14 bytes after what was written to it, from somebody else"):
            self.start()
        assert self.out.read_bytes() == before + b"somebody else\n"
        self.out.write_bytes(before)

    @precondition(lambda self: self.queue.exists())
    @rule()
    def purge(self) -> None:
        before = self.letters()
        purged = DeadLetterQueue.at(self.queue).purge()
        gone = before - self.letters()
        assert purged == gone.total() and (gone == before or not self.clean)  # else some are to come again
        self.purged += gone

    @precondition(lambda self: self.queue.exists())
    @rule(work=st.sampled_from([Mended, Perfect]))
    def replay(self, work: type[Work]) -> None:
        before = self.letters()
        run = pipeline(work).replay(self.queue, output=self.folder / f"again{len(list(self.folder.glob('again*')))}.log")
        assert run.state == "finished", run.exception
        left = Counter({number: count for number, count in before.items() if number % work.hard == 3})
        assert self.letters() == left or not self.clean

    @property
    def queue(self) -> Path:
        return self.folder / "checkpoint" / "dead_letters"

    def letters(self) -> Counter[int]:
        if not self.queue.exists():
            return Counter()
        return Counter(int(letter["line"]) for letter in DeadLetterQueue(self.queue).letters())

    # What must be so

    def check(self) -> None:
        ours = [line.split() for line in self.out.read_text().splitlines()]
        assert [int(seen) for _, seen in ours] == list(range(1, len(ours) + 1))
        put_out = [int(number) for number, _ in ours]
        assert put_out == [number for number in range(self.appended - self.half) if number % 7 != 3]
        again = Counter(
            int(line.split()[0]) for path in self.folder.glob("again*.log") for line in path.read_text().splitlines()
        )
        wanted = Counter(number for number in range(self.appended - self.half) if number % 7 == 3)
        assert again + self.purged + self.letters() == wanted

    @invariant()
    def nothing_is_torn(self) -> None:
        assert all(number < self.appended for number in self.letters())


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
