"""What a task counted, on its way to the driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Batch
from streamlab.metrics import Counted, Ledger
from streamlab.paths import Node, Paths, Totals, Twig


@dataclass(frozen=True, slots=True)
class Delta:
    """What came of some lines, or of some rows of theirs, in one tree of paths.

    Attributes:
        twigs: the nodes that branches came to, and those on the way to them.
        counted: how many came there, and what it took.
    """

    twigs: Sequence[Twig]
    counted: Counted

    @classmethod
    def of(cls, ledger: Ledger, paths: Paths, others: Iterable[int] = (), done: Totals | None = None) -> Delta:
        """Return what a ledger has, of a tree.

        Args:
            ledger: the ledger.
            paths: the tree.
            others: nodes that are told of besides.
            done: as of `Ledger.counted`.
        """
        counted = ledger.counted(done)
        return cls(paths.pruned({*counted.branches, *others}), counted)

    def add_to(self, ledger: Ledger, paths: Paths, grafted: Mapping[int, Node] | None = None) -> None:
        """Book it in another ledger, whose tree takes in the nodes, or has them already."""
        nodes = paths.graft(self.twigs) if grafted is None else grafted
        branches: Counter[int] = Counter()
        for id, count in self.counted.branches.items():
            branches[nodes[id].id] += count
        ledger.merge(paths, replace(self.counted, branches=branches))


def ended(batch: Batch, elsewhere: NDArray[np.int64]) -> Batch:
    """Return a batch for a ledger that has nothing pending, without the rows that are counted in another stage."""
    return replace(batch, ids=np.delete(batch.ids, elsewhere), entered=0)
