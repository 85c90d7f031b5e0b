"""Make large realistic logs, the same ones for the same seed on every machine and every Python.

Four kinds, each a generator of lines without line ends:

========  ==========================================================================================
app       ``info: user u204 signed in from 192.0.2.17``: a level, a colon, a message
access    the combined log format of web servers
json      one JSON object a line; one line in a thousand is cut off in the middle, as after a crash
syslog    ``Jan  5 00:00:00 web-1 sshd[2417]: ...`` (RFC 3164)
========  ==========================================================================================

Most of the time all is well; now and then an incident begins, with many warnings and errors, and ends again. Addresses
are from the documentation ranges 192.0.2.0/24 and 198.51.100.0/24, host names from ``example``.

As a program::

    python data/generate.py --lines 1000000 --seed 7 --kind access --out data/generated/access.log

As a library:

>>> from data.generate import lines
>>> next(lines("app", 1, seed=7)).split(":")[0] in {"info", "warn", "error"}
True
>>> list(lines("json", 5, seed=1)) == list(lines("json", 5, seed=1))
True

Only `random.Random.random` is drawn from: of all its methods it alone is promised never to change.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import BinaryIO

_BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_INCIDENT_BEGINS = 0.0005
_INCIDENT_ENDS = 0.01
_BROKEN = 0.001
_CHUNK = 8192

_ADDRESSES = tuple(f"{net}.{host}" for net in ("192.0.2", "198.51.100") for host in range(1, 255))
_USERS = (*(f"u{number}" for number in range(100, 990)), "zoë", "józef", "中村")
_HOSTS = ("web-1", "web-2", "db-1", "queue-1", "mail-1")


def _weighted(*pairs: tuple[int, str]) -> tuple[str, ...]:
    """Return each text as often as its weight says, so that a uniform draw is a weighted one."""
    return tuple(text for weight, text in pairs for _ in range(weight))


_APP_CALM = _weighted(
    (30, "info: user {user} signed in from {ip}"),
    (25, "info: order {n} placed by {user} in {ms} ms"),
    (15, "info: cache hit for product {n}"),
    (10, "info: payment for order {n} settled in {ms} ms"),
    (8, "info: user {user} signed out"),
    (5, "info: mail for order {n} queued"),
    (4, "warn: slow query on table orders took {ms} ms"),
    (2, "warn: disk space low on /var/data, {percent}% used"),
    (1, "error: payment for order {n} was declined"),
)
_APP_INCIDENT = _weighted(
    (20, "info: user {user} signed in from {ip}"),
    (10, "info: order {n} placed by {user} in {ms} ms"),
    (25, "warn: connection pool exhausted, {user} waits since {ms} ms"),
    (10, "warn: retrying payment for order {n}"),
    (25, "error: failed to connect to db-1.example after {ms} ms"),
    (10, "error: order {n} of {user} was rolled back"),
)
_SYSLOG_CALM = _weighted(
    (20, "sshd[{pid}]: Accepted publickey for {user} from {ip} port {port}"),
    (15, "sshd[{pid}]: Failed password for {user} from {ip} port {port}"),
    (5, "sshd[{pid}]: Invalid user guest from {ip} port {port}"),
    (20, "cron[{pid}]: ({user}) CMD (/usr/local/bin/rotate --keep {percent})"),
    (20, "shop[{pid}]: order {port} stored for {user}"),
    (10, "kernel: eth0: link is up at {port} Mbit/s"),
    (10, "systemd[1]: Started session {pid} of user {user}."),
)
_SYSLOG_INCIDENT = _weighted(
    (40, "sshd[{pid}]: Failed password for root from {ip} port {port}"),
    (20, "kernel: Out of memory: killed process {pid} (shop), {port} kB freed"),
    (20, "shop[{pid}]: error: no connection to db-1.example port {port}"),
    (20, "systemd[1]: shop.service: main process {pid} exited, status {percent}"),
)
_PATHS = _weighted(
    (4, "GET / "),
    (5, "GET /products/{n} "),
    (3, "GET /search?q=lamp&page={n} "),
    (2, "GET /static/app.css "),
    (2, "POST /cart "),
    (1, "POST /orders "),
    (1, "GET /orders/{n} "),
    (1, "HEAD /health "),
)
_STATUS_CALM = _weighted((180, "200"), (8, "304"), (6, "302"), (4, "404"), (1, "403"), (1, "500"))
_STATUS_INCIDENT = _weighted((80, "200"), (60, "500"), (40, "503"), (20, "504"))
_REFERERS = ("-", "-", "https://shop.example/", "https://search.example/?q=lamp", "https://news.example/lamps")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "ExampleBot/1.2 (+https://bot.example/)",
    "curl/8.9.1",
)
_EVENTS_CALM = _weighted(
    (8, '"info","event":"page_viewed","product":{n}'),
    (5, '"info","event":"signed_in","address":"{ip}"'),
    (4, '"info","event":"cart_changed","product":{n},"quantity":{percent}'),
    (2, '"info","event":"order_placed","order":{n},"amount":{n}.{percent:02}'),
    (1, '"warn","event":"payment_slow","order":{n}'),
)
_EVENTS_INCIDENT = _weighted(
    (2, '"info","event":"page_viewed","product":{n}'),
    (1, '"warn","event":"payment_slow","order":{n}'),
    (2, '"error","event":"payment_failed","order":{n},"amount":{n}.{percent:02},"reason":"timeout"'),
)


def _milliseconds(draw: float) -> int:
    """Turn a uniform draw into a time with a long tail, 7 ms to 16 s. Plain division: the same on every machine."""
    return int(8 / (1.0005 - draw))


def _tables(
    draw: Callable[[], float], count: int, calm: tuple[str, ...], incident: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    """Give the table to take each of ``count`` lines from: ``calm``, or in an incident ``incident``."""
    now, change = calm, _INCIDENT_BEGINS
    for _ in range(count):
        if draw() < change:
            now, change = (incident, _INCIDENT_ENDS) if now is calm else (calm, _INCIDENT_BEGINS)
        yield now


def _times(draw: Callable[[], float], text: Callable[[datetime], str]) -> Iterator[str]:
    """Give rising times, about 20 to the second, as ``text`` writes them."""
    second, clock = -1, 0.0
    while True:
        clock += draw() * 0.1
        if int(clock) != second:
            second = int(clock)
            stamp = text(_BEGIN + timedelta(seconds=second))
        yield stamp


def _app(count: int, draw: Callable[[], float]) -> Iterator[str]:
    """Give lines of an application's own log."""
    for table in _tables(draw, count, _APP_CALM, _APP_INCIDENT):
        yield table[int(draw() * len(table))].format(
            user=_USERS[int(draw() * len(_USERS))],
            ip=_ADDRESSES[int(draw() * len(_ADDRESSES))],
            n=int(draw() * 10_000),
            ms=_milliseconds(draw()),
            percent=80 + int(draw() * 20),
        )


def _access(count: int, draw: Callable[[], float]) -> Iterator[str]:
    """Give lines in the combined log format."""
    times = _times(draw, lambda at: f"{at.day:02}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000")
    for statuses, time in zip(_tables(draw, count, _STATUS_CALM, _STATUS_INCIDENT), times, strict=False):
        address = _ADDRESSES[int(draw() * len(_ADDRESSES))]
        request = _PATHS[int(draw() * len(_PATHS))].format(n=int(draw() * 10_000))
        status = statuses[int(draw() * len(statuses))]
        size = "-" if status == "304" else 200 + int(draw() * 50_000)
        referer, agent = _REFERERS[int(draw() * len(_REFERERS))], _AGENTS[int(draw() * len(_AGENTS))]
        yield f'{address} - - [{time}] "{request}HTTP/1.1" {status} {size} "{referer}" "{agent}"'


def _json(count: int, draw: Callable[[], float]) -> Iterator[str]:
    """Give one JSON object a line, one in a thousand of them cut off."""
    times = _times(draw, lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}")
    for table, time in zip(_tables(draw, count, _EVENTS_CALM, _EVENTS_INCIDENT), times, strict=False):
        event = table[int(draw() * len(table))].format(
            ip=_ADDRESSES[int(draw() * len(_ADDRESSES))], n=int(draw() * 10_000), percent=1 + int(draw() * 9)
        )
        user, duration = _USERS[int(draw() * len(_USERS))], _milliseconds(draw())
        line = f'{{"time":"{time}","level":{event},"user":"{user}","duration_ms":{duration}}}'
        yield line[: 1 + int((len(line) - 1) * draw())] if draw() < _BROKEN else line


def _syslog(count: int, draw: Callable[[], float]) -> Iterator[str]:
    """Give lines of a system log."""
    times = _times(draw, lambda at: f"{_MONTHS[at.month - 1]} {at.day:2} {at:%H:%M:%S}")
    for table, time in zip(_tables(draw, count, _SYSLOG_CALM, _SYSLOG_INCIDENT), times, strict=False):
        message = table[int(draw() * len(table))].format(
            user=_USERS[int(draw() * len(_USERS))],
            ip=_ADDRESSES[int(draw() * len(_ADDRESSES))],
            pid=300 + int(draw() * 30_000),
            port=1024 + int(draw() * 64_000),
            percent=1 + int(draw() * 9),
        )
        yield f"{time} {_HOSTS[int(draw() * len(_HOSTS))]} {message}"


KINDS: dict[str, Callable[[int, Callable[[], float]], Iterator[str]]] = {
    "app": _app,
    "access": _access,
    "json": _json,
    "syslog": _syslog,
}


def lines(kind: str, count: int, seed: int = 7) -> Iterator[str]:
    """Return an iterator over ``count`` lines of a kind, without line ends.

    Args:
        kind: ``"app"``, ``"access"``, ``"json"`` or ``"syslog"``.
        count: how many lines, 0 or more.
        seed: equal seeds give equal lines.

    Raises:
        ValueError: there is no such kind, or ``count`` is negative.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of log is called {kind!r}; there are {', '.join(KINDS)}")
    if count < 0:
        raise ValueError(f"cannot make {count} lines")
    return KINDS[kind](count, Random(seed).random)


def write(kind: str, count: int, seed: int, out: BinaryIO) -> None:
    """Write ``count`` lines to a binary file, each ended by a line feed, as UTF-8."""
    made = lines(kind, count, seed)
    while chunk := list(islice(made, _CHUNK)):
        out.write(("\n".join(chunk) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; return the exit code."""
    parser = argparse.ArgumentParser(description="Make a large realistic log, the same one for the same seed.")
    parser.add_argument("--lines", type=int, default=1000, metavar="N", help="how many lines (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--kind", choices=tuple(KINDS), default="app", help="(default: %(default)s)")
    parser.add_argument("--out", default="-", metavar="FILE", help="where to; '-' is standard output (default)")
    options = parser.parse_args(arguments)
    if options.lines < 0:
        parser.error(f"--lines must be 0 or more, not {options.lines}")
    try:
        if options.out == "-":
            write(options.kind, options.lines, options.seed, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            path = Path(options.out)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as out:
                write(options.kind, options.lines, options.seed, out)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
