"""Where the thread of a run is, as its frames tell: at which processor and line, and where in the user's code.

The thread is not stopped, and does nothing for it. Where it waits for another thread, or for a process, it is that one which
is looked at. Frames are known by their code: the engine's own tell, by their variables, what they are at.
"""

from __future__ import annotations

import dis
import gc
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Literal, NamedTuple

from streamlab.batch import Rows
from streamlab.engine import Engine
from streamlab.host import CALLED, ROW, UNTIL
from streamlab.processors import Processor
from streamlab.runners.hands import Call
from streamlab.runners.host import Caller, LocalHost
from streamlab.runners.outlet import Outlet
from streamlab.runners.processes import Processes, Worker
from streamlab.segments.columnar import Passage
from streamlab.segments.concurrent import ConcurrentSegment
from streamlab.segments.parallel import ParallelSegment
from streamlab.segments.python import PythonSegment
from streamlab.segments.walk import Walk

#: Packages that are between the engine and the user's code, or that the engine waits in.
BETWEEN = {"streamlab", "threading", "concurrent", "queue", "asyncio", "selectors", "tenacity", "multiprocessing"}
#: Where code is that comes with Python, or was installed.
LIBRARIES = tuple({os.path.dirname(os.__file__), *sysconfig.get_paths().values()})
OWN = os.path.dirname(os.path.dirname(__file__))

_listing = threading.Lock()


class Spot(NamedTuple):
    """A place in source code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        short = os.path.relpath(self.file) if self.file.startswith(os.getcwd() + os.sep) else self.file
        return f"{short}:{self.line} in {self.function}"


@dataclass(slots=True)
class Place:
    """Where a thread is.

    Attributes:
        processor: which one it is at.
        line: index in the batch of the line that it is at.
        sink: the name of the sink, if that is what it is at.
        pid: the number of the process that does it.
        doing: what it does there.
        spots: the user's code that it is in, from where that begins, outermost first.
    """

    processor: str | None = None
    line: int | None = None
    sink: str | None = None
    pid: int | None = None
    doing: Literal["running", "writing", "waiting to try again", "starting"] = "running"
    spots: Sequence[Spot] = ()

    def spot(self) -> str:
        """Return the place in the user's own code, and the one in a library that it has called; empty without any."""
        if not self.spots:
            return ""
        own = [spot for spot in self.spots if not spot.file.startswith((*LIBRARIES, "<frozen"))] or self.spots
        last = f" ({self.spots[-1]})" if own[-1] is not self.spots[-1] else ""
        return f"{own[-1]}{last}"


def find(thread: int, *, ask: bool = True) -> Place:
    """Return where a thread is, by its number.

    Args:
        thread: the number, as `threading.get_ident` gives it.
        ask: whether a process that is at work for it is asked where it is; that takes up to half a second.
    """
    look = _Look()
    for frame in _trail(thread):
        look.at(frame)
    if ask and look.worker is not None:
        look.ask(look.worker)
    return look.place


def _frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread.

    Meanwhile no rubbish is collected: an interpreter that does that while it lists frames may stand still for ever, with a
    lock that threads which begin or end wait for (https://github.com/python/cpython/issues/106883).
    """
    with _listing:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def _trail(thread: int | None) -> Iterator[FrameType]:
    """Yield the frames of a thread, outermost first, then those of the thread that it waits for."""
    frames = _frames()
    while thread in frames:
        stack = []
        frame: FrameType | None = frames.pop(thread)
        while frame is not None:
            stack.append(frame)
            frame = frame.f_back
        yield from stack[::-1]
        thread = next(filter(None, map(_waits_for, stack)), None)


def _waits_for(frame: FrameType) -> int | None:
    """Return the thread that a frame waits for, if it is one that does."""
    if frame.f_code is Future.result.__code__:
        future = frame.f_locals.get("self")
        return future.thread if isinstance(future, Call) else None
    return frame.f_locals["self"].thread.ident if frame.f_code is Caller.call.__code__ else None


class _Look:
    """What frames tell, one after the other.

    Attributes:
        place: where it is, as far as they have told.
        worker: the process that does it.
    """

    def __init__(self) -> None:
        self.place = Place()
        self.worker: Worker | None = None
        self._inside = False
        self._rows: Rows | None = None
        self._rows_sent: Sequence[int] = ()
        self._processors: Sequence[Processor] = ()
        self._spots: list[Spot] = []
        self._told: Mapping[CodeType, Callable[[Mapping[str, Any]], None]] = {
            Engine._flush.__code__: self._step,
            PythonSegment.advance.__code__: self._segment,
            Walk.row.__code__: self._walk,
            Walk.failed.__code__: self._step,
            LocalHost.sleep.__code__: self._sleep,
            Passage.go.__code__: self._step,
            ConcurrentSegment.advance.__code__: self._concurrent,
            ParallelSegment.advance.__code__: self._parallel,
            Processes._talk.__code__: self._process,
            Outlet._write.__code__: self._write,
        }

    def at(self, frame: FrameType) -> None:
        """Take in the next frame."""
        code, package = frame.f_code, frame.f_globals.get("__name__", "").partition(".")[0]
        self._inside = self._inside or package == "streamlab"
        if not self._inside:
            return
        if self._spots or package not in BETWEEN:
            self._spots.append(Spot(code.co_filename, frame.f_lineno, code.co_name))
            self.place.spots = self._spots
        elif code in self._told:
            self._told[code](frame.f_locals)
        elif code.co_filename.startswith("<streamlab loop"):
            self._loop(frame)
        elif code.co_qualname == "_all.<locals>.worker":
            self._line(frame.f_locals.get("index"))

    def _line(self, row: int | None) -> None:
        """Note the line of a row that the segment has found."""
        at = row if row is None or not len(self._rows_sent) else int(self._rows_sent[row])
        self.place.line = at if at is None or self._rows is None else self._rows.line_of(at)

    def _step(self, here: Mapping[str, Any]) -> None:
        if here.get("step") is not None:
            self.place.processor = here["step"].name

    def _sleep(self, here: Mapping[str, Any]) -> None:
        self.place.doing = "waiting to try again"

    def _segment(self, here: Mapping[str, Any]) -> None:
        self._rows = here["rows"]

    def _walk(self, here: Mapping[str, Any]) -> None:
        self._step(here)
        if "first" in here:
            self._line(here["first"] - _surplus(here["self"]))

    def _loop(self, frame: FrameType) -> None:
        here = frame.f_locals
        walk: Walk = here["walk"]
        self._line(len(walk.ids) - _surplus(walk))
        calls = [here[name] for name in _called(frame) if name in here]
        for step in walk.steps.values():
            if any(step.call is call for call in calls):
                self.place.processor = step.name

    def _concurrent(self, here: Mapping[str, Any]) -> None:
        self.place.processor = next(iter(here["self"].names))
        self._rows, self._rows_sent = here["rows"], here.get("here", ())

    def _parallel(self, here: Mapping[str, Any]) -> None:
        self._rows, self._processors = here["rows"], here["self"].processors
        if "sent" in here:
            self._rows_sent = here["sent"].rows

    def _process(self, here: Mapping[str, Any]) -> None:
        worker = self.worker = here.get("worker")
        if worker is None:
            return
        self.place.pid, row = worker.pid, worker.marks[ROW]
        if not worker.ready:
            self.place.doing = "starting"
        if row >= 0:
            self._line(row)
        if worker.marks[UNTIL]:
            self.place.processor = self._processors[worker.marks[CALLED]].name

    def _write(self, here: Mapping[str, Any]) -> None:
        self.place.sink, self.place.doing = here["self"]._sink.name, "writing"

    def ask(self, worker: Worker) -> None:
        """Ask a process where it is."""
        told = re.findall(r'^  File "(.*)", line (\d+) in (.*)$', worker.stack(), re.MULTILINE)
        spots = [Spot(file, int(line), function) for file, line, function in reversed(told)]
        own = [n for n, spot in enumerate(spots) if spot.file.startswith((OWN, "<streamlab loop"))]
        self.place.spots = spots = spots[own[-1] + 1 if own else 0 :]
        fitting = [processor for processor in self._processors if spots and _begins_in(processor.target, spots[0])]
        if len(fitting) == 1:
            self.place.processor = fitting[0].name
            spots[0] = spots[0]._replace(file=fitting[0].target.__code__.co_filename)


def _surplus(walk: Walk) -> int:
    """Return how many rows there are more than went in, of those that were walked to their end."""
    return sum(count - 1 for _, count in walk.splits)


def _called(frame: FrameType) -> Iterator[str]:
    """Yield the functions of processors, by their names in a generated loop, on the line where it is."""
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.positions is not None and instruction.positions.lineno == frame.f_lineno:
            names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
            yield from (name for name in names if isinstance(name, str) and name.startswith("call_"))


def _begins_in(function: Any, spot: Spot) -> bool:
    """Tell whether a place is in a function. Where that was sent by value, the name of its file was not."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_name != spot.function or spot.file not in (code.co_filename, "<dynamic-code>"):
        return False
    return spot.line in {line for _, _, line in code.co_lines()}
