"""What a task counted, on its way to the driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch
from streamlab.failures import Failure
from streamlab.metrics import Counted, Ledger
from streamlab.paths import Paths, Twig


@dataclass(frozen=True, slots=True)
class Delta:
    """What came of some lines, or of some rows of theirs.

    Attributes:
        twigs: the nodes that branches came to, and those on the way to them.
        counted: how many came there, and what it took.
        failures: what failed.
    """

    twigs: Sequence[Twig]
    counted: Counted
    failures: Sequence[Failure]

    @classmethod
    def of(cls, ledger: Ledger, paths: Paths, failures: Sequence[Failure]) -> Delta:
        """Return what a ledger has, of a tree."""
        counted = ledger.counted()
        return cls(paths.pruned(counted.branches), counted, failures)

    def add_to(self, ledger: Ledger, paths: Paths) -> None:
        """Book it in another ledger, whose tree takes in the nodes."""
        grafted = paths.graft(self.twigs)
        branches: Counter[int] = Counter()
        for id, count in self.counted.branches.items():
            branches[grafted[id].id] += count
        ledger.merge(paths, replace(self.counted, branches=branches))


def ended(batch: Batch, elsewhere: NDArray[np.int64]) -> Batch:
    """Return a batch for a ledger that has nothing pending, without the rows that are counted in another stage."""
    return replace(batch, ids=np.delete(batch.ids, elsewhere), entered=0)
