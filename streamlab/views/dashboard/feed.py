"""What those who look are sent while a run goes on: one snapshot for all of them, made when something has changed.

An event has everything that a page shows of one moment, and the rows of the history since the last event that its reader
has had, as its id tells: ``RUN.TICKS``. Who reconnects with the id (``Last-Event-ID``) gets what it has missed; who comes
too late, or had another run, gets the last minutes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

from streamlab.metrics import MOMENT_COLUMNS
from streamlab.run import ENDED
from streamlab.tables import plain
from streamlab.views import crew, figures
from streamlab.views.dashboard.runs import PERIOD, Runs, Shown

#: Readers from which on events are fewer, the more there are: however many look on, the run pays the same.
CROWD = 20
#: Seconds between two signs of life when there is nothing to tell.
KEEPALIVE = 15.0
#: Seconds after which a run that goes on is news, even though nothing has been counted: rates have changed.
RESTLESS = 1.0
#: Ticks of the history that a page gets: seconds, mostly.
MOST_TICKS = 600
#: Milliseconds after which a browser comes back by itself when the connection is lost.
RETRY_MS = 1000

#: Columns of the history in an event; a tick is ``[time, time for a chart, [row of one processor, row of another, ...]]``.
COLUMNS = tuple(name for name in MOMENT_COLUMNS if name not in ("time", "processor"))


def encoded(content: Any) -> str:
    r"""Return JSON in ASCII: so it can say bytes of a log that were not UTF-8, lone surrogates in ``str``, as ``\udcff``."""
    return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def listed(runs: Runs) -> list[dict[str, Any]]:
    """Return the runs of a server as plain data, oldest first."""
    return [{"number": shown.number, "pipeline": shown.run.pipeline.name, "state": shown.run.state} for shown in runs.all()]


class Watch:
    """One run as events tell of it.

    Attributes:
        shown: the run.
        version: rises when there is news.
        ticks: of the history, so far.
    """

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        self.version = 0
        self.ticks = 0
        self._told: tuple[Any, ...] = ()
        self._now: dict[str, Any] = {}
        self._at = -1.0
        self._names: list[str] = []
        self._history: deque[str] = deque(maxlen=MOST_TICKS)
        self._messages: dict[int, bytes] = {}

    def look(self, runs: Runs) -> None:
        """Look whether there is news."""
        overview = self.shown.shared("overview", self.shown.run.overview)
        others = listed(runs)
        stats, edges, nodes = overview["stats"], overview["graph"]["edges"], overview["graph"]["nodes"]
        workers = crew.shown(overview)
        counts = stats["state"], stats["lines"], edges, overview["failures"]
        told = (*counts, overview["ticks"], overview["notices"], others, workers)
        restless = stats["state"] not in ENDED and time.monotonic() - self._at >= RESTLESS
        if told == self._told and not restless:
            return
        self._told, self._at = told, time.monotonic()
        self._note(overview["ticks"])
        self._now = {
            "run": self.shown.run.id,
            "number": self.shown.number,
            "runs": others,
            "stats": stats,
            "edges": edges,
            "timed": {node["name"]: node["timed"] for node in nodes},
            "kept": {node["name"]: node["state"] for node in nodes if node["state"]},
            "workers": workers,
            "failures": overview["failures"],
            "reason": overview["reason"],
            "notices": overview["notices"],
            "traced": overview["traced"],
            "flow": figures.flow_trace(overview["paths"], list(stats["processors"])),
        }
        self._messages.clear()
        self.version += 1

    def _note(self, ticks: int) -> None:
        """Take in the history's new ticks; each is written as JSON once, for all who will ever get it."""
        self.ticks, moments = self.shown.run.moments(max(self.ticks, ticks - MOST_TICKS))
        for rows in moments:
            self._names = [row["processor"] for row in rows]
            time, table = rows[0]["time"], [[row[name] for name in COLUMNS] for row in rows]
            self._history.append(encoded(plain([time, figures.time_text(time), table])))

    def resumed(self, id: str) -> int:
        """Return the tick up to which the reader of the event with this id has the history; 0 when that is not known."""
        run, _, ticks = id.rpartition(".")
        known = run == self.shown.run.id and ticks.isascii() and ticks.isdigit() and len(ticks) < 10
        return int(ticks) if known and int(ticks) <= self.ticks else 0

    def message(self, since: int) -> bytes:
        """Return the event for who has the history up to a tick."""
        made = self._messages.get(since)
        if made is None:
            missed = self.ticks - since
            rows = islice(self._history, max(len(self._history) - missed, 0), None)
            head = encoded({"since": since, "columns": COLUMNS, "processors": self._names})
            data = f'{encoded(self._now)[:-1]},"history":{head[:-1]},"ticks":[{",".join(rows)}]}}}}'
            made = f"retry: {RETRY_MS}\nid: {self.shown.run.id}.{self.ticks}\ndata: {data}\n\n".encode("ascii")
            self._messages[since] = made
        return made


class Feed:
    """Events of the runs of a server. Everything here happens in the server's event loop, but for `end`."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._watches: dict[int, Watch] = {}
        self._readers: dict[object, int | None] = {}
        self._news = asyncio.Event()
        self._silent = False
        self._pulse: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def readers(self) -> int:
        """How many read events now."""
        return len(self._readers)

    def end(self) -> None:
        """End all events, in the event loop."""
        self._ended = True
        self._news.set()

    async def events(self, number: int | None, last: str = "") -> AsyncIterator[bytes]:
        """Yield the events of a run, until it is shown no more or the server ends.

        Args:
            number: the run's; ``None`` for the newest one, whichever that is by then.
            last: id of the last event that the reader has had.
        """
        reader = object()
        self._readers[reader] = number
        if self._pulse is None:
            self._pulse = asyncio.create_task(self._beat())
        watch, version, since = None, -1, 0
        try:
            while not self._ended and (current := self._watch(number)) is not None:
                news = self._news
                if current is not watch:
                    watch, version = current, -1
                    watch.look(self._runs)
                    since = watch.resumed(last)
                if watch.version != version:
                    version, message, since = watch.version, watch.message(since), watch.ticks
                    yield message
                elif self._silent:
                    yield b": still here\n\n"
                await news.wait()
        finally:
            del self._readers[reader]

    def _watch(self, number: int | None) -> Watch | None:
        shown = self._runs.get(number)
        if shown is None:
            return None
        return self._watches.setdefault(shown.number, Watch(shown))

    async def _beat(self) -> None:
        """Look for news, for as long as somebody reads."""
        quiet, before = 0.0, self._versions()
        while self._readers and not self._ended:
            await asyncio.sleep(PERIOD * max(1.0, len(self._readers) / CROWD))
            watches = {self._watch(number) for number in self._readers.values()}
            for watch in watches:
                if watch is not None:
                    watch.look(self._runs)
            now = self._versions()
            quiet = 0.0 if now != before else quiet + PERIOD
            self._silent = quiet >= KEEPALIVE
            if now != before or self._silent or None in watches:  # None: somebody reads of a run that is shown no more
                self._news, news = asyncio.Event(), self._news
                news.set()
            before, quiet = now, 0.0 if self._silent else quiet
        self._watches.clear()  # a run that nobody looks at is not kept by having been looked at
        self._pulse = None

    def _versions(self) -> dict[int, int]:
        """Return the version of each run that is shown, and let go of the others."""
        numbers = [shown.number for shown in self._runs.all()]
        self._watches = {number: watch for number, watch in self._watches.items() if number in numbers}
        return {number: self._watches[number].version if number in self._watches else 0 for number in numbers}
