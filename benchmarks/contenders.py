"""The same work done in several ways, one function each: a list of lines in, the list of outputs back.

The work is that of the demo: ``start`` routes on a substring, ``warn`` upper-cases one branch, ``end`` wraps all.
Everybody calls the same three Python functions and keeps all outputs in one list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from streamlab import Pipeline

BATCH = 1024
Trace = bool | Literal["all"]


@dataclass(frozen=True)
class Contender:
    """A way to do the work.

    Attributes:
        name: what the table calls it.
        run: takes the lines, returns the outputs.
        about: how it is set up, for people.
        package: what has to be installed for it.
        share: which part of the lines it gets; less than all for those that would take minutes.
        ordered: whether its outputs are in the order of the lines.
    """

    name: str
    run: Callable[[list[str]], list[str]]
    about: str
    package: str = ""
    share: float = 1.0
    ordered: bool = True

    @property
    def installed(self) -> bool:
        """Whether it can run here."""
        return not self.package or find_spec(self.package) is not None


def start(line: str) -> tuple[str, str]:
    """Route on a substring."""
    return ("warn" if "error" in line else "end"), line


def warn(line: str) -> str:
    """Upper-case."""
    return line.upper()


def end(line: str) -> str:
    """Wrap in brackets."""
    return f"[{line}]"


def warn_if_told(routed: tuple[str, str]) -> str:
    """Do what `warn` does to values that go there, for engines without routes: one step that all values pass."""
    return warn(routed[1]) if routed[0] == "warn" else routed[1]


def _is_warn(routed: tuple[str, str]) -> bool:
    """Tell whether a value goes to `warn`."""
    return routed[0] == "warn"


def _value(routed: tuple[str, str]) -> str:
    """Drop the tag."""
    return routed[1]


def loop(lines: list[str]) -> list[str]:
    """Call the three functions in a hand-written loop that records nothing."""
    outputs: list[str] = []
    append = outputs.append
    for line in lines:
        tag, value = start(line)
        if tag == "warn":
            value = warn(value)
        append(end(value))
    return outputs


class KeepSink:
    """A streamlab sink that does the least: it appends each batch to one list."""

    name = "keep"

    def __init__(self) -> None:
        self.values: list[str] = []

    def write(self, values: Sequence[Any], line_no: NDArray[np.int64]) -> Sequence[tuple[int, Exception]]:
        """Keep a batch."""
        self.values += values
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


def pipeline() -> Pipeline:
    """Build the work as a streamlab pipeline."""
    from streamlab import Pipeline

    bench = Pipeline("bench")
    bench.processor(to=("warn", "end"))(start)
    bench.processor(to="end")(warn)
    bench.processor(end)
    return bench


def streamlab(lines: list[str], trace: Trace) -> list[str]:
    """Run it in streamlab, metrics on as always."""
    sink = KeepSink()
    pipeline().run(lines, trace=trace, output=sink)
    return sink.values


def _batches(lines: list[str]) -> Any:
    """Return a bytewax source that slices a list into batches: the cheapest there can be."""
    inputs = import_module("bytewax.inputs")

    class Batches(inputs.DynamicSource):  # type: ignore[misc, name-defined]  # its base is known at run time only
        def build(self, step_id: str, worker_index: int, worker_count: int) -> Any:
            return Partition()

    class Partition(inputs.StatelessSourcePartition):  # type: ignore[misc, name-defined]  # as above
        at = 0

        def next_batch(self) -> list[str]:
            batch = lines[self.at : self.at + BATCH]
            if not batch:
                raise StopIteration
            self.at += BATCH
            return batch

    return Batches()


def bytewax_maps(lines: list[str]) -> list[str]:
    """Run it in bytewax at its best: three maps in a row, so that nothing has to be merged, in the calling thread."""
    operators, testing = import_module("bytewax.operators"), import_module("bytewax.testing")
    flow = import_module("bytewax.dataflow").Dataflow("bench")
    outputs: list[str] = []
    routed = operators.map("start", operators.input("lines", flow, _batches(lines)), start)
    warned = operators.map("warn", routed, warn_if_told)
    operators.output("outputs", operators.map("end", warned, end), testing.TestingSink(outputs))
    testing.run_main(flow)
    return outputs


def _branched(source: Any, main: Callable[[Any], None]) -> list[str]:
    """Run it in bytewax as the graph that it is: a branch and a merge. Order is kept within each branch only."""
    operators, testing = import_module("bytewax.operators"), import_module("bytewax.testing")
    flow = import_module("bytewax.dataflow").Dataflow("bench")
    outputs: list[str] = []
    routed = operators.map("start", operators.input("lines", flow, source), start)
    branches = operators.branch("route", routed, _is_warn)
    warned = operators.map("warn", operators.map("warn_value", branches.trues, _value), warn)
    merged = operators.merge("merge", warned, operators.map("end_value", branches.falses, _value))
    operators.output("outputs", operators.map("end", merged, end), testing.TestingSink(outputs))
    main(flow)
    return outputs


def bytewax_branch(lines: list[str]) -> list[str]:
    """Run the bytewax graph in the calling thread, fed by slices."""
    return _branched(_batches(lines), import_module("bytewax.testing").run_main)


def bytewax_testing(lines: list[str]) -> list[str]:
    """Run the bytewax graph with its own source for lists, in a worker thread."""
    testing = import_module("bytewax.testing")
    source = testing.TestingSource(lines, batch_size=BATCH)
    return _branched(source, lambda flow: testing.cluster_main(flow, [], 0))


def streamz(lines: list[str]) -> list[str]:
    """Run it in streamz: three maps in a row, which is faster there than two filters and a union."""
    source = import_module("streamz").Stream()
    outputs: list[str] = []
    source.map(start).map(warn_if_told).map(end).sink(outputs.append)
    for line in lines:
        source.emit(line)
    return outputs


def reactivex(lines: list[str]) -> list[str]:
    """Run it in reactivex: three maps in a row."""
    rx, operators = import_module("reactivex"), import_module("reactivex.operators")
    outputs: list[str] = []
    steps = (operators.map(start), operators.map(warn_if_told), operators.map(end))
    rx.from_iterable(lines).pipe(*steps).subscribe(on_next=outputs.append)
    return outputs


CONTENDERS = (
    Contender("loop", loop, "a hand-written for-loop that records nothing"),
    Contender("streamlab-off", partial(streamlab, trace=False), "trace=False"),
    Contender("streamlab-on", partial(streamlab, trace=True), "trace=True"),
    Contender("streamlab-all", partial(streamlab, trace="all"), 'trace="all"'),
    Contender("bytewax", bytewax_maps, "three maps in a row, batches of 1024 sliced", package="bytewax"),
    Contender("bytewax-branch", bytewax_branch, "branch and merge, sliced", package="bytewax", ordered=False),
    Contender("bytewax-testing", bytewax_testing, "branch and merge, TestingSource", package="bytewax", ordered=False),
    Contender("reactivex", reactivex, "three maps in a row", package="reactivex"),
    Contender("streamz", streamz, "three maps in a row, a twentieth of the lines", package="streamz", share=0.05),
)
