"""All that can happen to a run that goes on, in any order: power cuts, rotations, purges, replays, other runs on its queue.

Power cuts are in the middle of runs, of replays and of purges; whatever they end is gone on with at any time, or purged.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
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


#: Lines of the run are numbers below it; those of the first other run on its queue begin there, of the next at twice it.
MANY = 1_000_000


def pipeline(work: type[Work]) -> Pipeline:
    return Pipeline("work").add("work", work)


def cuts(steps: int) -> st.SearchStrategy[int | None]:
    """Power cuts within so many steps, or none."""
    return st.none() | st.integers(1, steps)


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
        self.done = 0  # of its lines, by when it came to its end
        self.purged: Counter[int] = Counter()
        self.cut: set[int] = set()  # what a power cut has ended: 0 is the run, others are numbered
        self.others: dict[int, list[str]] = {}
        self.replaying: tuple[type[Work], Path] | None = None

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.disk = Disk(random.Random(seed))
        self.log.touch()
        self.run_on(cut=None)  # what was rotated before the first run would not be read

    def teardown(self) -> None:
        try:
            if hasattr(self, "disk"):
                self.run_on(cut=None)
                for number in sorted(self.cut):
                    self.run_other(number, cut=None)
                if self.replaying is not None:
                    self.replay(Perfect, cut=None)
                self.every_letter_is_somewhere()
        finally:
            shutil.rmtree(self.folder)

    @contextmanager
    def power(self, cut: int | None) -> Iterator[None]:
        """Have power for so many steps."""
        self.disk.power_on()
        self.disk.cut_at = cut
        try:
            with self.disk.mounted():
                yield
        finally:
            self.disk.power_on()

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

    @rule(cut=cuts(40))
    def run_on(self, cut: int | None) -> None:
        wanted = self.appended - self.half
        try:
            with self.power(cut):
                live = self.start()
                until(lambda: live.ledger["received"] >= wanted or live.state in ENDED)
                live.stop()
                live.wait(30)
                if live.exception is not None:
                    raise live.exception
        except PowerCut:
            self.cut.add(0)
            return
        self.cut.discard(0)
        self.done = wanted
        assert live.ledger["received"] == wanted and live.ledger["in_flight"] == 0
        self.check(self.out, range(wanted))

    def start(self) -> Run:
        return pipeline(Work).start(
            self.log, output=self.out, checkpoint=OnDisk(self.folder / "checkpoint", self.disk), follow=True
        )

    # What is done in between, if there is something to do it with: how far a power cut lets a run come is a matter of time,
    # and Hypothesis wants to choose the same again in the same place, so that this is no precondition.

    @rule(count=st.integers(1, 40), anew=st.booleans(), cut=cuts(40))
    def run_another(self, count: int, anew: bool, cut: int | None) -> None:
        """On the same queue; or go on with one."""
        if not self.queue.exists():
            return
        number = max(self.cut, default=0)
        if anew or number == 0:
            number = len(self.others) + 1
            self.others[number] = [str(line) for line in range(number * MANY, number * MANY + count)]
        self.run_other(number, cut)

    def run_other(self, number: int, cut: int | None) -> None:
        out = self.folder / f"other{number}.log"
        state = OnDisk(self.folder / f"other{number}", self.disk)
        lines = self.others[number]
        try:
            with self.power(cut):
                run = pipeline(Work).run(lines, output=out, checkpoint=state, dead_letters=self.queue)
                if run.exception is not None:
                    raise run.exception
        except PowerCut:
            self.cut.add(number)
            return
        self.cut.discard(number)
        self.check(out, map(int, lines))

    @rule()
    def somebody_else_writes(self) -> None:
        """Which is not cut off: after a run that came to its end, it is known what is not of it."""
        if 0 in self.cut:
            return
        before = self.out.read_bytes()
        self.out.write_bytes(before + b"somebody else\n")
        with pytest.raises(SinkError, match=r"out\.log has 14 bytes after what was written to it, from somebody else"):
            self.start()
        assert self.out.read_bytes() == before + b"somebody else\n"
        self.out.write_bytes(before)

    @rule(cut=cuts(5))
    def purge(self, cut: int | None) -> None:
        if not self.queue.exists() or self.replaying is not None:
            return
        before, purged = self.letters(), None
        with suppress(PowerCut), self.power(cut):
            purged = DeadLetterQueue.at(self.queue).purge()
        gone = before - self.letters()
        self.purged += gone
        if purged is not None:
            assert purged == gone.total() and (gone == before or self.cut)  # else some are to come again

    @rule(work=st.sampled_from([Mended, Perfect]), cut=cuts(20))
    def replay(self, work: type[Work], cut: int | None) -> None:
        """Or go on with one, which is as that one was."""
        if not self.queue.exists():
            return
        before, anew = self.letters(), self.replaying is None
        if self.replaying is None:
            self.replaying = work, self.folder / f"again{len(list(self.folder.glob('again*')))}.log"
        work, output = self.replaying
        try:
            with self.power(cut):
                run = pipeline(work).replay(self.queue, output=output)
                if run.exception is not None:
                    raise run.exception
        except PowerCut:
            if (self.queue / "replay").exists():
                return
        self.replaying = None
        left = Counter({number: count for number, count in before.items() if number % work.hard == 3})
        assert self.letters() == left or self.cut or not anew

    @property
    def queue(self) -> Path:
        return self.folder / "checkpoint" / "dead_letters"

    def letters(self) -> Counter[int]:
        if not self.queue.exists():
            return Counter()
        return Counter(int(letter["line"]) for letter in DeadLetterQueue(self.queue).letters())

    # What must be so

    def check(self, out: Path, lines: Iterable[int]) -> None:
        ours = [line.split() for line in out.read_text().splitlines()]
        assert [int(seen) for _, seen in ours] == list(range(1, len(ours) + 1))
        assert [int(number) for number, _ in ours] == [number for number in lines if number % 7 != 3]

    @invariant()
    def every_letter_is_somewhere(self) -> None:
        """In the queue, or replayed, or purged, once; it is not known of what a power cut has ended."""
        if self.replaying is not None:
            return
        again = Counter(
            int(line.split()[0]) for path in self.folder.glob("again*.log") for line in path.read_text().splitlines()
        )
        lines = chain(range(self.done), *(map(int, lines) for lines in self.others.values()))
        assert self.known(again + self.purged + self.letters()) == self.known(Counter(n for n in lines if n % 7 == 3))

    def known(self, letters: Counter[int]) -> Counter[int]:
        return Counter({number: count for number, count in letters.items() if number // MANY not in self.cut})

    @invariant()
    def nothing_is_torn(self) -> None:
        others = {int(line) for lines in self.others.values() for line in lines}
        assert all(number < self.appended or number in others for number in self.letters())


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
