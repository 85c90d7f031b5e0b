"""The driver: has epochs done by workers, and commits them in order. Nobody else writes anything that counts.

What was not committed has not happened. So there is one answer to whatever is lost on the way, a worker, the state that it
had, the scheduler: all that is under way is thrown away, and done once more from the last commit on.
"""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from streamlab.checkpoint import Checkpoint
from streamlab.crew import WorkerInfo
from streamlab.dead_letters import DeadLetterQueue
from streamlab.errors import ProcessorFailed, RunError
from streamlab.journal import Journal
from streamlab.notices import Notice
from streamlab.paths import Paths
from streamlab.runners.cluster.backend import Backend, Gone, Killed
from streamlab.runners.cluster.epochs import Epoch, Submission
from streamlab.runners.cluster.job import Job, Sealed
from streamlab.runners.cluster.keeping import Keeping
from streamlab.runners.cluster.merging import Merged
from streamlab.runners.cluster.planning import Planning, Scale
from streamlab.runners.cluster.report import Report
from streamlab.runners.cluster.tasks import StateLost
from streamlab.runners.endurance import OnOutage
from streamlab.runners.host import LocalHost
from streamlab.runners.work import DRAIN_SECONDS, POLL_SECONDS, Work
from streamlab.sinks import Parting, Sink
from streamlab.sources import Source
from streamlab.state import Packed

#: Nodes of the run's path tree after which a new one is begun.
MAX_PATHS = 50_000
#: Epochs after which all before are committed first: a task on a partition needs the one before it there, and as long as
#: one needs another, Dask remembers it.
LINEAGE = 128
#: Seconds between two looks at a source that has nothing for now.
IDLE_SECONDS = 0.1
#: Seconds between two attempts to find a scheduler, or workers.
AGAIN_SECONDS = 0.5
#: Times that workers are lost at the same lines until one of these is suspected, and until the run gives up.
SUSPECT, ATTEMPTS = 2, 10


class Broken(Exception):
    """A source has broken off within an epoch."""


#: What is answered by beginning anew after the last commit.
LOSSES = (Gone, Killed, StateLost, Broken)


class ClusterWork(Work):
    """Has lines worked on by workers.

    Args:
        backend: has them.
        job: what to do.
        scale: how it is shared out.
        kept: what processors keep at the beginning, by name.
        source: as of `Work`.
        sink: as of `Work`.
        journal: as of `Work`.
        stopping: as of `Work`.
        letters: as of `Work`.
        checkpoint: as of `Work`.
        on_outage: as of `Work`.
        careful: whether functions run in processes of their own.
        watchdog: seconds without a commit after which it is told.
    """

    def __init__(
        self,
        backend: Backend,
        job: Job,
        scale: Scale,
        kept: Mapping[str, Any],
        source: Source,
        sink: Sink,
        journal: Journal,
        stopping: threading.Event,
        *,
        letters: DeadLetterQueue | None = None,
        checkpoint: Checkpoint | None = None,
        on_outage: OnOutage = "fail",
        careful: bool = False,
        watchdog: float | None = None,
    ) -> None:
        super().__init__(
            job.pipeline.name,
            source,
            sink,
            journal,
            LocalHost(stopping),
            stopping,
            letters=letters,
            checkpoint=checkpoint,
            on_outage=on_outage,
        )
        journal.on_cluster = True
        self._backend = backend
        self._job = job
        self._planning = Planning(source, scale, self._host.clock, careful=careful)
        self.reader = self._planning.reader
        self._keeping = Keeping(job, kept)
        sealed = Sealed.of(job)
        self._submission = Submission(backend, job, sealed)
        self._topic = f"streamlab-{sealed.id}"
        self._said: deque[tuple[str, int]] = deque()  # what workers have said of how far they are
        self._under_way: deque[Epoch] = deque()
        self._left: list[Epoch] = []  # those that a stop did not wait for
        self._stop_until: float | None = None
        self._paths = Paths()
        self._workers: Sequence[WorkerInfo] = ()
        self._looked = 0.0
        self._patience = watchdog
        self._committed = self._host.clock()
        self._told_of = -1  # the epoch that it has been told of that it takes long
        self._failed = 0  # times that the first epoch under way was begun anew

    def progress(self) -> float | None:
        """Return the share of the source that has been committed."""
        return self.source.progress()

    # Beginning and ending

    def _open(self) -> None:
        """Begin with the workers that are there."""
        self._listen()
        self._submission.begin(self._keeping.restores())

    def _settle(self) -> None:
        """Do nothing: an epoch is booked when it is committed."""

    def _let_go(self) -> None:
        """Throw away what is under way, and let go of the cluster."""
        try:
            for epoch in self._under_way:
                self._cancel(epoch)
        finally:
            self._backend.close()

    def give_up(self) -> None:
        """Keep the lines as unfinished that the driver has read, and that were not committed."""
        for part in self._planning.shipped((*self._left, *self._under_way, *self._planning.ahead)):
            self._journal.leave(part.lines())
        for epochs in (self._left, self._under_way, self._planning.ahead):
            epochs.clear()

    def _states(self) -> dict[str, Packed]:
        """Return what processors keep."""
        for name in self._keeping.pickled():
            self._tell_pickled(name)
        return self._keeping.parts()

    # The way of lines

    def _until_ended(self) -> bool:
        """Plan, submit and commit until the source has ended, or a stop was asked for."""
        while True:
            self._hold()
            if self.stopping.is_set() and (self._planning.drained() or not self._workers or self._too_late()):
                return self._drained()
            try:
                self._planning.plan(max(sum(worker.threads for worker in self._look()), 1), len(self._under_way))
                self._submit()
                if not self._under_way and self._planning.ended():
                    return not self.stopping.is_set()
                self._commit_if_done()
            except LOSSES as lost:
                self._begin_anew(lost)
                if self.stopping.is_set():
                    return self._drained()
            self._save_if_due()
            self.books.tick()

    def _too_late(self) -> bool:
        """Tell whether it is so long after a stop that the run must end."""
        now = self._host.clock()
        self._stop_until = self._stop_until or now + DRAIN_SECONDS * 0.9
        return now > self._stop_until

    def _drained(self) -> bool:
        """Commit what is under way, as far as that is done in time; the rest has not happened."""
        self._phase = "draining"
        try:
            while self._under_way and not self._too_late():
                self._commit_if_done()
                self._save_if_due()
                self.books.tick()
        except LOSSES:
            pass
        for epoch in self._under_way:
            self._cancel(epoch)
        self._left += [*self._under_way, *self._planning.ahead]  # as if they had not been read
        self._under_way.clear()
        self._planning.ahead.clear()
        self._submission.begin(self._keeping.restores())
        return False

    def _submit(self) -> None:
        ahead = self._planning.ahead
        while ahead and self._look():
            epoch = ahead[0]
            if self._under_way and epoch.number % LINEAGE == 0 and len(self._job.stages) > 1:
                return
            if self._failed >= SUSPECT:  # alone, and functions in processes of their own: one line may be to blame
                if self._under_way:
                    return
                epoch.careful = True
            self._submission.submit(epoch, self._workers)
            self._under_way.append(ahead.popleft())

    def _flush(self) -> None:
        """Bring what stages have left to its end, as an epoch of its own."""
        if self._journal.flushed:
            return
        if len(self._job.stages) > 1:
            self._planning.plan_last()
            while self._planning.ahead or self._under_way:
                try:
                    self._submit()
                    self._commit_if_done()
                except LOSSES as lost:
                    if isinstance(lost, Gone) and self.stopping.is_set():
                        raise RunError(
                            f"pipeline {self.name!r}: the cluster was lost as the run was to stop: what processors had left"
                            f" is not in the output ({lost}); with checkpoint= it could be gone on with"
                        ) from lost
                    self._begin_anew(lost)
                self._in_time()
                self.books.tick()
        self._journal.flushed = True

    def _commit_if_done(self) -> None:
        """Commit the first epoch under way once it is done, and release it.

        Raises:
            Gone, Killed, StateLost: it is to be done once more.
            ProcessorFailed: a processor with ``on_error="stop"`` failed; the epoch is not committed.
        """
        if not self._under_way:
            self._tell_of_workers()
            self._host.sleep(IDLE_SECONDS)
            return
        epoch = self._under_way[0]
        self._tell_of_no_commit(epoch)
        handles = [task.item("report") for task in epoch.tasks()]
        if not all(map(self._backend.done, handles)):
            self._backend.wait(POLL_SECONDS)
            self._tell_of_workers()
            return
        results = self._backend.results(handles)
        reports: list[Report] = [pickle.loads(made["report"] if isinstance(made, dict) else made) for made in results]
        self._check_tokens(epoch, reports)
        self._check_ranges(epoch, reports)
        self._commit(epoch, reports)
        self._under_way.popleft()
        self._submission.committed(epoch, {place: self._keeping.tip(place) for place in epoch.keepers})
        self._backend.release([handle for task in epoch.tasks() for handle in task.handles()])
        self._failed, self._committed = 0, self._host.clock()

    def _tell_of_workers(self) -> None:
        """Say so when there are none."""
        self._wait_for(self._backend.name, None if self._look() else f"{self._backend.name} has no workers")

    def _tell_of_no_commit(self, epoch: Epoch) -> None:
        """Say so when nothing has been committed for long."""
        if self._patience is None or self._told_of == epoch.number or not self._workers:
            return
        seconds = self._host.clock() - self._committed
        if seconds > self._patience:
            self._told_of = epoch.number
            message = (
                f"pipeline {self.name!r}: nothing has been committed for {seconds:.0f} s: epoch {epoch.number} is with"
                f" {len(self._workers)} workers"
            )
            self.books.say(Notice("no commit", self._backend.name, message))

    def _check_ranges(self, epoch: Epoch, reports: Sequence[Report]) -> None:
        """See that no range has broken off, unless it is the last one: nothing after it counts.

        Raises:
            Broken: one has; the epoch ends with it now, and is to be done once more.
        """
        broken = min((d for report in reports for d in report.ranges if d.trouble), key=lambda d: d.number, default=None)
        if broken is None:
            return
        again = self._planning.broke_off(epoch, broken.number, broken.trouble)
        for other in [*self._under_way][0 if again else 1 :]:
            self._cancel(other)
        self._under_way = deque([epoch])
        if again:
            raise Broken(broken.trouble)

    def _check_tokens(self, epoch: Epoch, reports: Sequence[Report]) -> None:
        """See that all reports are of the same attempts: a task that is done once more may give something else.

        Raises:
            StateLost: they are not.
        """
        tokens = {task.name: report.token for task, report in zip(epoch.tasks(), reports, strict=True)}
        for (place, task), report in zip(sorted(epoch.keepers.items()), reports[len(epoch.readers) :], strict=True):
            expected = [tokens[name] for name in task.sources]
            if report.inputs != [*expected, self._keeping.tip(place)]:
                raise StateLost(f"stage {place[0]}, partition {place[1]}: a task was done once more, and others not")

    def _commit(self, epoch: Epoch, reports: Sequence[Report]) -> None:
        """Hand outputs on, and book what came of an epoch."""
        if len(self._paths) > MAX_PATHS:
            self._paths = Paths()
        parts = dict(epoch.parts)
        merged = Merged(reports, parts, self._journal.received, self._paths)
        if (stopped := merged.stopped()) is not None:
            why = "; mend what hangs" if stopped.kind == "worker_died" else ' (on_error="stop")'
            where = stopped.where(self.name)
            with self.books.reading() as journal:  # it is told of, and is no dead letter, as its line is not committed
                journal.failures.recent.extend([stopped])
                journal.failures.total += 1
            raise ProcessorFailed(f"{where}{why}; {stopped.source}, at {stopped.place}, worker {stopped.worker}")
        self._hand_on(merged)
        if isinstance(self._sink, Parting):
            self._sink.adopt([name for report in reports for name in report.parts])
        seconds = self._host.clock() - epoch.planned
        dead = self.books.commit(partial(merged.book, by_worker=self._journal.workers), merged.lines, seconds)
        for (place, _), report in zip(sorted(epoch.keepers.items()), reports[len(epoch.readers) :], strict=True):
            self._keeping.take(place, report)
        for done in merged.ranges():
            self._planning.finished(parts[done.number], done.end)
        self._saver.changed()
        if dead and self._letters is not None:
            self._write_letters(self._letters, dead)

    def _hand_on(self, merged: Merged) -> None:
        for start, values, line_no in merged.outputs():
            for position, error in self._endurance.call(partial(self._sink.write, values, line_no)):
                merged.refuse(start + position, error, self._host.now())

    # What is lost

    def _begin_anew(self, lost: Exception) -> None:
        """Do all that is under way once more, from the last commit on.

        Raises:
            RunError: that has been tried often enough.
        """
        for epoch in self._under_way:
            self._cancel(epoch)
        if not isinstance(lost, (Gone, Broken)):
            self._failed += 1
            if self._failed >= ATTEMPTS:
                raise RunError(self._in_vain(lost))
        self._planning.again(self._under_way)
        self._under_way.clear()
        self.books.say(Notice("begun anew", self._backend.name, self._told(lost)))
        self._submission.begin(self._keeping.restores())  # from here on no worker has a partition, so none can be missed
        if isinstance(lost, Gone):
            self._connect()

    def _told(self, lost: Exception) -> str:
        count = len(self._planning.ahead)
        what = "a source broke off" if isinstance(lost, Broken) else "a worker was lost, or what it kept"
        what = "the connection was lost" if isinstance(lost, Gone) else what
        return f"{what}: {count} epoch{'' if count == 1 else 's'} begun anew after the last commit ({lost})"

    def _in_vain(self, lost: Exception) -> str:
        """Say what can be said of an epoch that is never done."""
        epoch = self._under_way[0] if self._under_way else self._planning.ahead[0]
        at = f"from line {self._journal.received:,} on" if epoch.parts else "at the end of input"
        keepers = [name for stage in self._job.stages[1:] for name in stage.placed]
        kept = f", such as {', '.join(map(repr, sorted(keepers)))}" if keepers else ""
        return (
            f"pipeline {self.name!r}: workers were lost {ATTEMPTS} times at the same lines, {at}: a processor that keeps"
            f" state may end its process{kept}, or a worker has too little memory: see its log ({lost})"
        )

    def _connect(self) -> None:
        """Connect, and wait for workers, as long as it takes, or until the run is asked to stop."""
        connected = False
        while True:
            try:
                if not connected:
                    self._backend.open()
                    self._listen()
                    connected = True
                self._looked = 0.0
                if self._look():
                    break
                why = f"{self._backend.name} has no workers"
            except Gone as gone:
                connected, why = False, str(gone)
            self._journal.crew = ()
            self._wait_for(self._backend.name, why)
            self._host.sleep(AGAIN_SECONDS)
            if self.stopping.is_set():  # what is not committed has not happened
                return
        self._wait_for(self._backend.name, None)

    def _look(self) -> Sequence[WorkerInfo]:
        """Return the workers, as of a second ago at most."""
        if self._said:
            with self.books.reading() as journal:
                while self._said:
                    name, lines = self._said.popleft()
                    journal.estimates[name] = journal.estimates.get(name, 0) + lines
        now = self._host.clock()
        if now - self._looked > 1.0:
            self._workers, self._looked = self._backend.workers(), now
            self._journal.crew = self._workers
            there = {worker.address for worker in self._workers}
            for (stage, partition), worker in self._submission.homes.items():
                if worker.address not in there:
                    raise StateLost(f"stage {stage}, partition {partition}: worker {worker.name} is gone")
        return self._workers

    def _listen(self) -> None:
        """Have workers tell how far they are; whoever hears it is Dask's, and is not to wait for this run."""
        self._backend.listen(self._topic, lambda worker, lines: self._said.append((worker, lines)))

    def _cancel(self, epoch: Epoch) -> None:
        self._backend.cancel([handle for task in epoch.tasks() for handle in task.handles()])
