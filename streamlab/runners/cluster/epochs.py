"""Epochs under way: what was planned, and the tasks that it was submitted as."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamlab.crew import WorkerInfo
from streamlab.runners.cluster.backend import Backend, Handle
from streamlab.runners.cluster.job import Job, Sealed
from streamlab.runners.cluster.report import dumps
from streamlab.runners.cluster.shipping import Shipped
from streamlab.runners.cluster.tasks import Restore, read, see
from streamlab.sources import Part

#: A partition of a stage.
Place = tuple[int, int]


@dataclass(slots=True)
class Epoch:
    """Lines that are committed together.

    Attributes:
        number: rising.
        parts: what is read, with the number of each range; of the last epoch nothing: it is what stages have left.
        planned: the clock's time when that was.
        careful: whether functions run apart, as a line among these kills workers.
        readers: tasks of the first stage.
        keepers: tasks of later stages.
    """

    number: int
    parts: Sequence[tuple[int, Part]]
    planned: float
    careful: bool = False
    readers: list[Task] = field(default_factory=list)
    keepers: dict[Place, Task] = field(default_factory=dict)

    @property
    def last(self) -> bool:
        """Whether it is what stages have left at the end."""
        return not self.parts

    def tasks(self) -> Iterator[Task]:
        """Yield the tasks, those of earlier stages first."""
        yield from self.readers
        for _, task in sorted(self.keepers.items()):
            yield task


@dataclass(slots=True)
class Task:
    """A task, and those that give the items of its result.

    Attributes:
        name: of the task.
        whole: the task itself.
        items: by key; none where nothing is sent to later stages, as whoever needs the result may as well have all of it.
        sources: names of the tasks of earlier stages, of which it has a block each.
    """

    name: str
    whole: Handle
    items: Mapping[Any, Handle] = field(default_factory=dict)
    sources: Sequence[str] = ()

    def item(self, key: Any) -> Handle:
        """Return the task that gives an item, or the whole result, if there is no other."""
        return self.items.get(key, self.whole)

    def handles(self) -> list[Handle]:
        """Return all that is to be released."""
        return [self.whole, *self.items.values()]


class Submission:
    """Submits epochs, each after the other.

    Args:
        backend: the engine.
        job: what to do.
        sealed: the same, to be sent.

    Attributes:
        homes: the workers that have the partitions.
    """

    def __init__(self, backend: Backend, job: Job, sealed: Sealed) -> None:
        self._backend = backend
        self._job = job
        self._sealed = sealed
        self._run = secrets.token_hex(4)  # another run may have the same job
        self._attempts = 0
        self._tips: dict[Place, str | Task] = {}
        self._restore: dict[Place, Restore] = {}
        self.homes: dict[Place, WorkerInfo] = {}

    def begin(self, restore: Mapping[Place, Restore]) -> None:
        """Begin with the state of partitions as it is given; where it is not, they have none."""
        self._attempts += 1
        self._tips, self._restore, self.homes = {}, dict(restore), {}

    def submit(self, epoch: Epoch, workers: Sequence[WorkerInfo]) -> None:
        """Submit an epoch.

        Raises:
            Gone: the connection was lost.
        """
        epoch.readers, epoch.keepers = [], {}
        name = f"streamlab-{self._sealed.id}-{self._run}-{self._attempts}-{epoch.number}"
        if epoch.parts:
            slots = sum(worker.threads for worker in workers)
            for number, share in enumerate(shares(epoch.parts, max(slots, 1))):
                numbers = [at for at, _ in share]
                packed = [self._packed(part) for _, part in share]
                whole = self._backend.submit(f"{name}-0-{number}", read, self._sealed, numbers, packed, epoch.careful)
                epoch.readers.append(self._task(f"{name}-0-{number}", 0, whole, "report"))
        for stage in range(1, len(self._job.stages)):
            for partition in self._job.used(stage):
                sources = [task for task in epoch.tasks() if (stage, partition) in task.items]
                task = self._keeper(f"{name}-{stage}-{partition}", epoch, stage, partition, sources, workers)
                epoch.keepers[stage, partition] = self._tips[stage, partition] = task

    def _packed(self, part: Part) -> bytes | Handle:
        """Return a part to be sent; where it has lines in it, they go to a worker without a detour."""
        data = dumps(part)
        return self._backend.put(data) if isinstance(part, Shipped) else data

    def committed(self, epoch: Epoch, tips: Mapping[Place, str]) -> None:
        """Take note that the tasks of an epoch are about to be released, and after what their partitions are."""
        for place, task in epoch.keepers.items():
            if self._tips[place] is task:
                self._tips[place] = tips[place]

    def _keeper(
        self,
        name: str,
        epoch: Epoch,
        stage: int,
        partition: int,
        sources: Sequence[Task],
        workers: Sequence[WorkerInfo],
    ) -> Task:
        place = stage, partition
        before = self._tips.get(place)
        restore = None
        if before is None:
            restore = self._restore.get(place) or Restore()
            before = restore.tip
        blocks = [task.items[place] for task in sources]
        tip = before.item("tip") if isinstance(before, Task) else before
        home = self.homes.setdefault(place, workers[(partition + stage) % len(workers)])
        whole = self._backend.submit(name, see, self._sealed, stage, partition, blocks, tip, restore, epoch.last, home=home)
        task = self._task(name, stage, whole, "report", "tip")
        task.sources = [source.name for source in sources]
        return task

    def _task(self, name: str, stage: int, whole: Handle, *keys: Any) -> Task:
        places = [(later, p) for later in range(stage + 1, len(self._job.stages)) for p in self._job.used(later)]
        return Task(name, whole, {key: self._backend.item(whole, key) for key in (*keys, *places)} if places else {})


def shares(parts: Sequence[tuple[int, Any]], most: int) -> list[Sequence[tuple[int, Any]]]:
    """Return parts that follow each other as so many shares at most, none of them empty.

    >>> shares([(0, "a"), (1, "b"), (2, "c")], 2)
    [[(0, 'a'), (1, 'b')], [(2, 'c')]]
    """
    count = min(most, len(parts))
    size, larger = divmod(len(parts), count)
    made, at = [], 0
    for number in range(count):
        stop = at + size + (number < larger)
        made.append(parts[at:stop])
        at = stop
    return made
