"""``python -m tests.fuzz TARGET [SECONDS]``: coverage-guided fuzzing of the line reader, the state coder and the parsers.

What atheris finds is printed and ends the program with an exit code that is not 0. ``make soak`` runs every target.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["streamlab"]):
    from streamlab import processors
    from streamlab.columns import columns_of
    from streamlab.identity import TAIL, Mark
    from streamlab.segments.columnar import evaluate
    from streamlab.sources.lines import LineSplitter, decoded
    from streamlab.sources.reader import LineReader

LIMIT = 40


class Read:
    """What lines are of.

    Attributes:
        passed: up to where they have passed.
    """

    passed = Mark.of(b"", 0)


def lines(data: bytes) -> None:
    """Cut bytes into blocks anywhere, and compare lines and places with what splitting them whole gives."""
    provider = atheris.FuzzedDataProvider(data)
    blocks = [provider.ConsumeBytes(provider.ConsumeIntInRange(0, 60)) for _ in range(provider.ConsumeIntInRange(0, 8))]
    text = b"".join(blocks)
    raw = text.split(b"\n")
    ended, last = raw[:-1], raw[-1]
    expected = [line.removesuffix(b"\r") for line in ended] + ([last] if last else [])
    within = Read()
    reader = LineReader(iter(blocks), "fuzz", LIMIT, of=within, columns=provider.ConsumeBool())
    found, rejected, starts = [], [], []
    while (chunk := reader.read(provider.ConsumeIntInRange(1, 5))).lines:
        rejected += [len(found) + mark.position for mark in chunk.rejected]
        places = chunk.places
        assert places is not None
        starts += [places.start(index) for index in range(len(chunk.lines))]
        after = places.start(len(chunk.lines))
        found += list(chunk.lines)
    assert [line.encode("utf-8", "surrogateescape") for line in found] == [line[:LIMIT] for line in expected]
    assert rejected == [index for index, line in enumerate(expected) if len(line) > LIMIT]
    at, known = 0, []
    for line in raw if last else ended:
        known.append(at)
        at += len(line) + 1
    assert starts == known
    if found:
        assert after == len(text)
        places.within.pass_to(after)
        assert within.passed == Mark.of(text[-TAIL:], after)


def splitter(data: bytes) -> None:
    """Feed bytes one by one."""
    one = LineSplitter(LIMIT)
    found = [line for byte in data for line in one.feed(bytes([byte])).lines]
    found += one.finish().lines
    whole = LineSplitter(LIMIT)
    assert found == [*whole.feed(data).lines, *whole.finish().lines]


PARSERS = {
    "json": processors.parse_json(),
    "json-fields": processors.parse_json({"a": "int", "b": "str", "c": "float"}),
    "logfmt": processors.parse_logfmt(),
    "csv": processors.parse_csv(["a", "b"]),
    "syslog": processors.parse_syslog(),
    "access": processors.parse_access_log(),
    "extract": processors.extract(r"^(?P<a>\w+)=(?P<b>.*)$"),
}
SEEDS = {
    "json": [b'{"a": 1, "b": "x", "c": [1.5e3, null, {"d": true}]}', b'{"a": NaN}', b"[" * 50],
    "json-fields": [b'{"a": 1, "b": "x", "c": 2.5}', b'{"a": 99999999999999999999}'],
    "logfmt": [b'level=info msg="a \\"b\\" c" n=5'],
    "csv": [b'x,"y ""z"""', b'"a'],
    "syslog": [b'<34>1 2003-10-11T22:14:15.003Z host app 1 ID47 [x@1 a="b"] text', b"<13>Feb  5 17:32:18 host tag[1]: text"],
    "access": [b'127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326 "-" "agent"'],
    "extract": [b"a=b"],
}


def parser(name: str) -> Callable[[bytes], None]:
    """Return what parses data as lines together, and each alone: both must come to the same."""
    kernel = PARSERS[name].bind()

    def outcomes(given: list[str]) -> dict[int, Any]:
        made: dict[int, Any] = {}
        for rows, column in columns_of(given):
            for part, came in evaluate(kernel, column):
                here = np.asarray(rows)[part]
                if isinstance(came, BaseException):
                    assert len(here) == 1
                    made[int(here[0])] = type(came).__name__
                    continue
                values = came.column.to_list()
                for at, row in enumerate(here.tolist()):
                    failed = came.problems.get(at)
                    gone = came.keep is not None and not came.keep[at]
                    made[row] = type(failed).__name__ if failed else None if gone else values[at]
        return dict(sorted(made.items()))

    def parse(data: bytes) -> None:
        given = [decoded(line) for line in data.split(b"\n")]
        assert repr(outcomes(given)) == repr({row: outcomes([line])[0] for row, line in enumerate(given)})

    return parse


TARGETS: dict[str, Callable[[bytes], None]] = {
    "lines": lines,
    "splitter": splitter,
    **{name: parser(name) for name in PARSERS},
}


def main() -> None:
    target, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "60"
    test = TARGETS[target]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS.get(target, [b"a\nb\r\nc", b"\xff\n\n"])):
            Path(corpus, str(number)).write_bytes(seed)
        options = (f"-max_total_time={seconds}", "-max_len=512", "-verbosity=0", "-print_final_stats=1")
        atheris.Setup([sys.argv[0], *options, corpus], test)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
