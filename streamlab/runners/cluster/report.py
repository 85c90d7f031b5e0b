"""What a task tells the driver: what it counted, what failed, what is kept of lines, and the outputs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamlab.batch import Hop
from streamlab.errors import RunError
from streamlab.failures import Failure
from streamlab.runners.cluster.delta import Delta

#: A line: the number of its range, and its own in it.
Spot = tuple[int, int]
#: Ranges from here on are none: they stand for what stages had left at the end.
FLUSH = 1 << 62


@dataclass(slots=True)
class Piece:
    """What one stage knows of a line that is kept for traces.

    Attributes:
        spot: the line.
        text: what it says.
        rows: of its branches that ended there: place, path node and output.
        hops: its visits there.
        retried: additional attempts.
        failed: whether something of it failed.
        place: where it is in its source, as far as a worker knows.
    """

    spot: Spot
    text: str
    rows: list[tuple[tuple[int, ...], int, Any]]
    hops: Sequence[Hop]
    retried: int
    failed: bool
    place: Any = None


@dataclass(slots=True)
class Outputs:
    """Outputs of a task, in order.

    Attributes:
        places: shape ``(outputs, numbers of a place)``.
        values: the outputs.
        ids: path nodes, in trees one after the other, where a sink may refuse some; else empty.
        lines: the lines that they came from, where a sink may refuse some; else empty.
    """

    places: NDArray[np.int64]
    values: Sequence[Any]
    ids: Sequence[int] = ()
    lines: Sequence[str] = ()


@dataclass(slots=True)
class Portion:
    """What a task tells in terms of one tree of paths.

    Attributes:
        delta: what it counted of branches that ended there.
        done: what it did itself, as `streamlab.paths.Totals.saved` has it: for branches that end elsewhere, too, and without
            what was done for them before.
        failures: what failed, with the line; ``None`` for what failed at the end of input.
        pieces: what is kept of lines.
        outputs: what left the pipeline.
        fates: path nodes and places of all branches that ended, for ``trace="all"``.
    """

    delta: Delta
    done: Mapping[str, Any]
    failures: Sequence[tuple[Spot | None, Failure]]
    pieces: Sequence[Piece]
    outputs: Outputs
    fates: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


@dataclass(slots=True)
class Done:
    """A range that was read.

    Attributes:
        number: of the range.
        lines: how many it has.
        sources: from which line on lines come from which source.
        end: where it ended, as its part says.
        trouble: why there is no more of it, if it broke off.
    """

    number: int
    lines: int
    sources: Sequence[tuple[int, str]]
    end: Any
    trouble: str = ""


@dataclass(slots=True)
class Report:
    """What a task tells the driver.

    Attributes:
        token: tells this attempt from all others.
        worker: who made it.
        inputs: tokens of the tasks whose rows it has seen, and of the one before it on its partition.
        portions: by tree of paths, one after the other.
        ranges: what was read.
        kept: what the processors of the partition keep and has changed, packed, by name.
        parts: files that were written.
        stopped: what ends the run, with the line, and the exception's text.
        seconds: how long it took.
    """

    token: str
    worker: str = ""
    inputs: Sequence[str] = ()
    portions: list[Portion] = field(default_factory=list)
    ranges: list[Done] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    parts: Sequence[str] = ()
    stopped: tuple[Spot | None, Failure] | None = None
    seconds: float = 0.0

    def packed(self) -> bytes:
        """Return it as bytes.

        Raises:
            RunError: an output cannot be sent; what cannot be sent of traces is told as its ``repr``.
        """
        try:
            return dumps(self)
        except Exception:
            for portion in self.portions:
                portion.pieces = [_sendable(piece) for piece in portion.pieces]
        try:
            return dumps(self)
        except Exception as error:
            raise RunError(
                f"outputs cannot be sent from a worker: {type(error).__name__}: {error}; emit plain data (text, numbers,"
                " dicts), or have workers write them: output=FileParts(folder)"
            ) from error


def dumps(what: Any) -> bytes:
    """Return something as bytes, for `pickle.loads`; of classes that only this process has, the classes too."""
    try:
        return pickle.dumps(what, protocol=5)
    except Exception:  # a class of a notebook
        import cloudpickle

        data: bytes = cloudpickle.dumps(what, protocol=5)
        return data


def _sendable(piece: Piece) -> Piece:
    def told(value: Any) -> Any:
        try:
            dumps(value)
        except Exception:
            return repr(value)
        return value

    return replace(
        piece,
        rows=[(place, id, told(value)) for place, id, value in piece.rows],
        hops=[_hop(hop, told) for hop in piece.hops],
    )


def _hop(hop: Hop, told: Callable[[Any], Any]) -> Hop:
    return replace(hop, value=told(hop.value), outs=[(to, told(value)) for to, value in hop.outs])
