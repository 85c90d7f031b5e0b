"""What processors keep, as of the last commit: for the checkpoint, and for workers that have lost it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from streamlab.runners.cluster.job import Job
from streamlab.runners.cluster.partitions import home_of
from streamlab.runners.cluster.report import Report
from streamlab.runners.cluster.tasks import Restore
from streamlab.state import Packed, joined, packed, unpacked

#: Bytes of changes that are kept beside a whole state that is smaller.
CHANGES = 65_536


class Keeping:
    """The state of all partitions.

    Args:
        job: what is done.
        kept: what processors keep at the beginning, by name.
    """

    def __init__(self, job: Job, kept: Mapping[str, Mapping[str, Any]]) -> None:
        self._job = job
        self._tips: dict[tuple[int, int], str] = {}
        self._chains: dict[tuple[int, int], dict[str, list[Packed]]] = defaultdict(dict)
        self._numbers: dict[tuple[int, str], int] = {}  # of the first change of a chain
        self._stages = {name: n for n in range(1, len(job.stages)) for name in job.homes(n)}
        for name, state in kept.items():
            for partition, own in self._shared_out(name, state).items():
                self._chains[self._stages[name], partition][name] = [packed(own)]

    def _shared_out(self, name: str, state: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Return the state of a processor by partition."""
        home = self._job.homes(self._stages[name])[name]
        parts: dict[int, dict[str, Any]] = {}
        for key, value in zip(state["keys"], state["states"], strict=True):
            partition = home_of(key, self._job.partitions) if home is None else home
            part = parts.setdefault(partition, {"of": state["of"], "keys": [], "states": []})
            part["keys"].append(key)
            part["states"].append(value)
        return parts

    def restores(self) -> dict[tuple[int, int], Restore]:
        """Return what workers need to begin after the last commit."""
        return {
            place: Restore(self._tips.get(place, ""), {name: list(chain) for name, chain in self._chains[place].items()})
            for place in {*self._tips, *self._chains}
        }

    def tip(self, place: tuple[int, int]) -> str:
        """Return the token after which a partition is."""
        return self._tips.get(place, "")

    def take(self, place: tuple[int, int], report: Report) -> None:
        """Take in what has changed in a partition."""
        self._tips[place] = report.token
        for name, change in report.kept.items():
            self._add(place, name, change)

    def _add(self, place: tuple[int, int], name: str, change: Packed) -> None:
        chain = self._chains[place].setdefault(name, [])
        number = self._numbers.setdefault((place[1], name), 0)
        if self._job.pipeline.processors[name].key is None:  # it is the whole
            if chain != [change]:
                self._numbers[place[1], name] = number + len(chain)
                chain[:] = [change]
        elif unpacked(change)["keys"]:
            chain.append(change)
            changes = sum(len(part.data) for part in chain[1:])
            if changes > max(len(chain[0].data), CHANGES):
                self._numbers[place[1], name] = number + len(chain)
                chain[:] = [packed(joined(map(unpacked, chain)))]

    def parts(self) -> dict[str, Packed]:
        """Return it as parts of a checkpoint: of each chain what was there before keeps its name."""
        return {
            f"state@{partition:06}.{number:09}/{name}": change
            for (_, partition), chains in self._chains.items()
            for name, chain in chains.items()
            for number, change in enumerate(chain, self._numbers.get((partition, name), 0))
        }

    def pickled(self) -> Sequence[str]:
        """Return the processors whose state is more than plain data."""
        return sorted(
            {n for chains in self._chains.values() for n, chain in chains.items() if any(c.pickled for c in chain)}
        )
