"""Bad input and bad processors, to be met in any number: what `make soak` runs at full count and the tests at a small one.

``python -m tests.faults_processing`` runs all of it at full count.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

from streamlab import Pipeline, Run, demo, processors
from streamlab.processors.columnar import Columnar
from tests.waiting import resources, until

# What a processor can do to its process. All of them are sent to another one, so each has all that it needs.


def regex() -> None:
    """Backtrack for longer than anybody can wait, with the interpreter's lock held."""
    re.match(r"(a+)+$", "a" * 40 + "b")


def loop() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(3600)


def native() -> None:
    """Hang in C."""
    ctypes.CDLL(None).pause()


def native_with_lock() -> None:
    """Hang in C that has not let go of the interpreter's lock."""
    ctypes.PyDLL(None).pause()


def deaf() -> None:
    """Hang, and take no signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(3600)


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def child() -> None:
    """Wait for a process of its own that does not end."""
    subprocess.run(["sleep", "3600"], check=True)


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def abort() -> None:
    os.abort()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def close_all() -> None:
    """Close the files of the process, with those that it is talked to by."""
    os.closerange(3, 256)


#: Ways to hang: with a timeout each costs its line.
HANGS: tuple[Callable[[], None], ...] = (regex, loop, sleep, native, native_with_lock, deaf, stopped, child)
#: Ways to end the process.
ENDS: tuple[Callable[[], None], ...] = (segfault, leave, abort, kill, close_all)


# Bad input


def fuzz_lines(count: int, seed: int = 0) -> Iterator[bytes]:
    """Lines without their ends: bytes that are no text or hardly any, and texts that are hard to take for what they are."""
    chance = random.Random(seed)
    alphabets: Sequence[Sequence[bytes]] = (
        [bytes([n]) for n in range(256) if n != 10],
        [bytes([n]) for n in range(32) if n != 10],
        [b"\xff", b"\xc3", b"\xa9", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"a"],  # broken UTF-8
        ["\u2028".encode(), "\x85".encode(), b"\r", b"\0", b"\x0b", b"\x0c", b"\x1c", b" ", b"x"],  # ends of lines elsewhere
        [b"\xef\xbb\xbf", b"\xfe\xff", b"warn", b"w"],  # byte order marks
        [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"1", b"a", b"=", b" ", b"NaN", b"\\u0000", b"\\ud800"],
        [
            b"<34>1 ",
            b"2024-02-30T25:61:61Z ",
            b"127.0.0.1 - - [",
            b'] "GET / HTTP/1.1" ',
            b"-",
            b"\xff",
            b"99999999999999999999",
        ],
        [
            "\U0001f600".encode(),
            "e\u0301".encode(),
            "\u202e".encode(),
            "\ufffe".encode(),
            "\U000f0080".encode(),
            "\ue000".encode(),
        ],
    )
    for _ in range(count):
        letters = chance.choice(alphabets)
        yield b"".join(chance.choices(letters, k=chance.choice([0, 1, 2, 5, 20, 80])))


def bare(line: bytes) -> bytes:
    """A line as it comes out of a file: one carriage return before its end goes too."""
    return line.removesuffix(b"\r")


def fields(line: str) -> dict[str, Any]:
    return {"line": line, "size": len(line)}


#: All built-ins at work on text, and those that want fields, on such.
ON_TEXT: dict[str, Columnar] = {
    "count": processors.count(),
    "dedupe": processors.dedupe(limit=100),
    "drop": processors.drop("w"),
    "extract": processors.extract(r"(?<first>\S+)\s(?<rest>.*)"),
    "hash": processors.hash(),
    "head": processors.head(500),
    "keep": processors.keep("a"),
    "lower": processors.lower(),
    "parse_access_log": processors.parse_access_log(),
    "parse_csv": processors.parse_csv(["a", "b"]),
    "parse_json": processors.parse_json(),
    "parse_logfmt": processors.parse_logfmt(),
    "parse_syslog": processors.parse_syslog(),
    "redact": processors.redact("ipv4", "email"),
    "replace": processors.replace("a", "b"),
    "route": processors.route({"w": "end"}, default="end"),
    "sample": processors.sample(0.5),
    "strip": processors.strip(),
    "top": processors.top(3),
    "upper": processors.upper(),
}
ON_FIELDS: dict[str, Columnar] = {
    "number": processors.number(),
    "parse_timestamp": processors.parse_timestamp("line"),
    "rename": processors.rename({"line": "text"}),
    "select": processors.select("line"),
    "template": processors.template("{size} {line}"),
    "throttle": processors.throttle(2, every="1s", time="size"),
    "to_json": processors.to_json(),
    "with_fields": processors.with_fields(twice="size * 2"),
}
#: Of these, lines come out as they went in, or not at all.
UNCHANGED = ("dedupe", "drop", "head", "keep", "route", "sample")


def fuzzed(name: str, lines: Sequence[bytes], folder: Path) -> None:
    """Let a built-in, or the demo, have lines from a file: it goes on, all are accounted for, and no byte is lost."""
    source, output = folder / "fuzz.log", folder / "fuzz.out"
    source.write_bytes(b"".join(line + b"\n" for line in lines))
    if name == "demo":
        pipeline = demo
    else:
        pipeline = Pipeline("fuzz")
        if name in ON_FIELDS:
            pipeline.add("fields", fields, to="it")
        pipeline.add("it", ON_TEXT.get(name) or ON_FIELDS[name], to="end").add("end", lambda value: value)
    run = pipeline.run(source, output=output, trace="all")
    assert run.state == "finished", (name, run.exception)
    assert_accounted_for(run, len(lines))
    for number, kept in run.dead_letters[["line_no", "line"]].itertuples(index=False):
        assert kept.encode("utf-8", "surrogateescape") == bare(lines[number]), (name, number)
    written = output.read_bytes().split(b"\n")[:-1]
    if name == "demo":
        texts = [bare(line).decode("utf-8", "surrogateescape") for line in lines]
        loud = [text.upper() if text.startswith("warn") else text for text in texts]
        assert written == [f"[{text}]".encode("utf-8", "surrogateescape") for text in loud]
    elif name in UNCHANGED:
        left = iter(map(bare, lines))
        assert all(line in left for line in written), name  # a part of them, in their order
    output.unlink()


def assert_accounted_for(run: Run, lines: int) -> None:
    """Check the ledger of a run that has taken so many lines."""
    told = run.ledger
    assert told["received"] == lines and told["in_flight"] == 0, told
    ended = told["emitted"] + told["filtered"] + told["absorbed"] + told["dead_lettered"]
    assert told["received"] + told["forked"] == ended, told


#: Takes a line of many megabytes and then ten short ones, in a process of its own; prints by how much its memory grew.
LONG_LINE = """
import sys
from streamlab import Pipeline
how, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
pipeline = Pipeline("p").add("it", str.upper)

def items():
    yield "x" * size
    for n in range(10):
        yield f"short {n}"

def peak():  # ru_maxrss would begin with that of the process which has started this one
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))

pipeline.run(["warm", "up"], trace=True).output  # what is imported, and made once
before = peak()
source = {"file": path, "stdin": "-"}.get(how) or items()
run = pipeline.run(source, trace=True, output=lambda value: print(value))
assert run.state == "finished", run.exception
assert run.errors[["line_no", "kind"]].values.tolist() == [[0, "oversize"]]
assert len(run.errors["line"][0]) == 1_048_576 and f"{size:,} bytes" in run.errors["message"][0]
assert run.ledger["emitted"] == 10 and run.ledger["dead_lettered"] == 1
print(peak() - before)
"""


def long_line(how: Literal["file", "stdin", "generator"], size: int, folder: Path) -> int:
    """Return by how many bytes memory grew at most for a line of ``size`` bytes and ten short ones."""
    path = folder / "long.log"
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + b"".join(b"short %d\n" % n for n in range(10)))
    command = [sys.executable, "-c", LONG_LINE, how, str(path), str(size >> 20 << 20)]
    with path.open("rb") as stdin, subprocess.Popen(["cat"], stdin=stdin, stdout=subprocess.PIPE) as pipe:
        done = subprocess.run(command, stdin=pipe.stdout, capture_output=True, text=True, timeout=120)
        pipe.kill()
    path.unlink()
    assert done.returncode == 0, done.stderr
    *shorts, grown = done.stdout.split("\n")[:-1]
    assert shorts == [f"SHORT {n}" for n in range(10)]
    return int(grown)


# A slow sink


class Brake:
    """A sink that takes a second for so many lines, until it is let go.

    Attributes:
        given: lines that the source has given.
        taken: lines that it has taken.
        ahead: the most that were given and not yet taken while it was slow.
        sizes: of its batches since it was let go.
        moments: when it had taken each of those, by the clock.
    """

    name = "brake"

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.slow = True
        self.given = self.taken = self.ahead = 0
        self.sizes: list[int] = []
        self.moments: list[float] = []

    def lines(self) -> Iterator[str]:
        """As many lines as are asked for, numbered."""
        for n in count():
            self.given += 1
            yield f"line {n}"

    def write(self, values: Sequence[Any], line_no: Any) -> Sequence[tuple[int, Exception]]:
        if self.slow:
            self.ahead = max(self.ahead, self.given - self.taken)
            time.sleep(len(values) / self.per_second)
        else:
            self.sizes.append(len(values))
            self.moments.append(time.monotonic())
        self.taken += len(values)
        return ()

    def close(self) -> None:
        """Nothing to let go of."""


def slow_sink(seconds: float, per_second: float) -> Brake:
    """Run the demo into a slow sink for some seconds, then let it go, until it takes large batches; return the sink."""
    sink = Brake(per_second)
    live = demo.start(sink.lines(), output=sink, trace=True)
    until(lambda: sink.taken > 0)
    before, end = resident(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
    grown = resident() - before
    assert grown < 20e6, f"memory grew by {grown / 1e6:.1f} MB"
    sink.slow = False
    until(lambda: max(sink.sizes, default=0) >= 1_000)
    live.stop()
    assert live.wait(30).state == "stopped", live.exception
    assert live.ledger["emitted"] == sink.taken == live.ledger["received"]
    return sink


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


# Starting and stopping


def start_and_stop(times: int, folder: Path) -> None:
    """Start and stop runs with processes, timeouts, dashboards, files; whatever they had is let go of."""
    log = folder / "in.log"
    log.write_text("1\n2\n3\n")

    def once(n: int) -> None:
        pipeline = Pipeline("p").add("a", str.strip, to="b", timeout=5.0 if n % 3 else None).add("b", str.upper)
        source: Any = [["1", "2"], (str(n) for n in count()), log][n % 3]
        isolation: Any = "process" if n % 2 else "thread"
        with pipeline.start(source, isolation=isolation, output=folder / "out" if n % 5 == 0 else None) as live:
            if n % 5 == 1:
                live.dashboard(port=0)
            if n % 2 or n % 3 == 1:
                live.stop()
            assert live.wait(60).state in ("finished", "stopped"), live.exception
        (folder / "out").unlink(missing_ok=True)

    for n in range(6):
        once(n)
    before = held()
    for n in range(times):
        once(n)
    until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


def held() -> tuple[int, int, int]:
    """Return how many threads, open files (ports among them) and child processes there are."""
    return (*resources(), len(children()))


def children() -> list[int]:
    """Return the numbers of the processes that this one has started and not yet taken note of the end of."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has ended
            found += [int(pid) for pid in (thread / "children").read_text(encoding="ascii").split()]
    return found


def soak() -> None:
    """Run all of it at full count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = list(fuzz_lines(100_000))
        for builtin in ("demo", *ON_TEXT, *ON_FIELDS):
            fuzzed(builtin, lines, folder)
            print(f"100,000 fuzz lines: {builtin}", flush=True)
        for how in ("file", "stdin", "generator"):
            grown = long_line(how, 100 << 20, folder)  # type: ignore[arg-type]
            print(f"a line of 100 MB, from a {how}: memory grew by {grown / 1e6:.0f} MB", flush=True)
        start_and_stop(500, folder)
        print("500 starts and stops: all is as it was", flush=True)
    sink = slow_sink(600.0, per_second=200.0)
    began = sink.moments[0]
    full = next(moment for moment, size in zip(sink.moments, sink.sizes, strict=True) if size >= 1_000)
    assert full - began < 5.0, f"full speed came after {full - began:.1f} s"
    print(
        f"10 minutes of a slow sink: at most {sink.ahead:,} lines ahead, full speed after {full - began:.3f} s", flush=True
    )


if __name__ == "__main__":
    soak()
