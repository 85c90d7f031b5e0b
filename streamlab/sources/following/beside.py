"""Which generations are in the same folder, found without looking at all of them."""

from __future__ import annotations

from collections import defaultdict

from streamlab.identity import Mark
from streamlab.sources.following.generations import Generation

#: A folder, and what tells those in it apart: whether they are packed; or how they begin, when that stays as it is.
_Spot = tuple[str, bool] | tuple[str, int, str]


class Beside:
    """Keeps generations by their folder; archives that are over are of no interest, and not kept."""

    def __init__(self) -> None:
        self._spots: dict[Generation, _Spot] = {}
        self._in: defaultdict[_Spot, dict[Generation, None]] = defaultdict(dict)
        self._lengths: defaultdict[str, dict[int, int]] = defaultdict(dict)  # how many there are of each length of head

    def place(self, generation: Generation) -> None:
        """Take note of what a generation is by now."""
        spot = _spot_of(generation)
        if spot == self._spots.get(generation):
            return
        self.remove(generation)
        if spot is not None:
            self._spots[generation] = spot
            self._in[spot][generation] = None
            if len(spot) == 3:
                lengths = self._lengths[spot[0]]
                lengths[spot[1]] = lengths.get(spot[1], 0) + 1

    def remove(self, generation: Generation) -> None:
        """Forget a generation."""
        spot = self._spots.pop(generation, None)
        if spot is None:
            return
        del self._in[spot][generation]
        if not self._in[spot]:
            del self._in[spot]
        if len(spot) == 3:
            lengths = self._lengths[spot[0]]
            lengths[spot[1]] -= 1
            if not lengths[spot[1]]:
                del lengths[spot[1]]

    def live(self, generation: Generation, *, packed: bool) -> list[Generation]:
        """Return the others in its folder that have a file and are not over."""
        return [other for other in self._in.get((generation.folder, packed), ()) if other is not generation]

    def beginning(self, folder: str, text: bytes) -> list[Generation]:
        """Return those in a folder that are over, or have no file, and are known to begin as a text does."""
        found: list[Generation] = []
        for length in self._lengths.get(folder, ()):
            if length <= len(text):
                found += self._in.get((folder, length, Mark.of(text[:length], length).digest), ())
        return found


def _spot_of(generation: Generation) -> _Spot | None:
    if generation.packed and generation.over:
        return None
    if generation.packed or not (generation.over or generation.key is None):
        return generation.folder, generation.packed
    head = generation.first()
    return None if head is None else (generation.folder, head.length, head.digest)
