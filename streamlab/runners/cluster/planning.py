"""Planning: what a source has, cut into epochs ahead of the workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from streamlab.errors import SourceError
from streamlab.runners.cluster.epochs import Epoch
from streamlab.runners.cluster.shipping import Shipped, Shipping
from streamlab.sources import Part, Source, Splitting


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a run is shared out.

    Attributes:
        epoch_lines: lines of an epoch, about.
        max_in_flight: epochs under way at a time.
    """

    epoch_lines: int = 200_000
    max_in_flight: int = 4


class Planning:
    """Cuts a source into epochs.

    Args:
        source: the source; the lines of one that cannot be split are read here, and shipped.
        scale: how large epochs are, and how many are ahead of the last commit.
        clock: gives the time in seconds.
        careful: whether functions run in processes of their own.

    Attributes:
        reader: reads a source that cannot be split, if it may wait.
        ahead: epochs that were planned, and are to be submitted.
        trouble: what the source ends with, once all lines before it are through.
    """

    def __init__(self, source: Source, scale: Scale, clock: Callable[[], float], *, careful: bool) -> None:
        self._shipping = None if isinstance(source, Splitting) else Shipping(source)
        self._source = source
        self.reader = None if self._shipping is None else self._shipping.reader
        self._scale = scale
        self._clock = clock
        self._careful = careful
        self.ahead: deque[Epoch] = deque()
        self.trouble: SourceError | None = None
        self._epochs = 0
        self._ranges = 0

    @property
    def _splitting(self) -> Splitting:
        if self._shipping is not None:
            return self._shipping
        assert isinstance(self._source, Splitting)
        return self._source

    def plan(self, slots: int, under_way: int) -> None:
        """Plan epochs, as many as may be ahead of the last commit.

        Args:
            slots: how many ranges can be worked on at a time.
            under_way: how many epochs are.
        """
        while self.trouble is None and under_way + len(self.ahead) < self._scale.max_in_flight:
            parts: Sequence[Part]
            try:
                parts = self._splitting.split(self._scale.epoch_lines, slots)
            except SourceError as error:
                self.trouble = error
                parts = () if self._shipping is None else self._shipping.left()
            if not parts:
                return
            self._add(parts)

    def plan_last(self) -> None:
        """Plan what stages have left at the end."""
        self._add([])

    def _add(self, parts: Sequence[Part]) -> None:
        numbered = list(enumerate(parts, self._ranges))
        self._ranges += len(parts)
        self.ahead.append(Epoch(self._epochs, numbered, self._clock(), self._careful))
        self._epochs += 1

    def ended(self) -> bool:
        """Tell whether there is nothing ahead, and nothing to come.

        Raises:
            SourceError: there is nothing to come as the source has broken off.
        """
        if self.ahead:
            return False
        if self.trouble is not None:
            raise self.trouble
        return self._splitting.exhausted

    def drained(self) -> bool:
        """Tell whether all lines are in epochs that were taken from a source that cannot give them once more."""
        return self._shipping is None or self._shipping.drained()

    def again(self, epochs: Iterable[Epoch]) -> None:
        """Take back epochs that are to be submitted once more, those that come first in front."""
        self.ahead.extendleft(reversed([*epochs]))

    def broke_off(self, epoch: Epoch, number: int, why: str) -> bool:
        """Take note that a range of an epoch has broken off: nothing after it counts.

        Returns:
            Whether the epoch has ranges after that, and so is to be done once more without them.
        """
        self.trouble = SourceError(why)
        self.ahead.clear()
        longer = epoch.parts[-1][0] != number
        epoch.parts = [part for part in epoch.parts if part[0] <= number]
        return longer

    def finished(self, part: Part, end: Any) -> None:
        """Take note that a range is committed."""
        self._splitting.finished(part, end)

    def shipped(self, epochs: Iterable[Epoch]) -> Iterator[Shipped]:
        """Yield what was read here, for epochs, and what is in none; nothing is read after that."""
        for epoch in epochs:
            for _, part in epoch.parts:
                if isinstance(part, Shipped):
                    yield part
        if self._shipping is not None:
            yield from self._shipping.rest()
