"""What a dead letter says: columns, one line of JSON a letter, made of a failure and turned back into one."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypedDict

import msgspec

from streamlab.failures import Failure, Letter

#: Seconds since the epoch, within what every view of them can show: up to the year 2242.
_Time = Annotated[float, msgspec.Meta(ge=-(2**33), le=2**33)]


class LetterFields(TypedDict):
    """The fields of a letter, in the order of its columns; see "the dead letter queue" in ``docs/reliability.md``."""

    event_id: Annotated[str, msgspec.Meta(pattern=r"-[0-9]{1,18}(\+[0-9]{1,18})*$")]
    source: str
    offset: int | str | None
    line_no: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None
    line: str
    line_b64: str | None
    processor: str | None
    kind: str
    error: str
    message: str
    attempts: int
    first_failed_at: _Time
    last_failed_at: _Time
    path: str
    pipeline_version: str


LETTER_COLUMNS = tuple(LetterFields.__annotations__)

#: DEL and C1 in UTF-8. JSON may have them as they are; on a terminal they drive it.
_CONTROL = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
_decoder = msgspec.json.Decoder(LetterFields)


class NoLetter(ValueError):
    """A line is no dead letter; the message says why."""


def encoded(letter: Mapping[str, Any]) -> bytes:
    r"""Return a letter as a line of JSON, which is safe on a terminal.

    >>> encoded({"line": "red \x9b31m"})
    b'{"line":"red \\u009b31m"}\n'
    """
    return _CONTROL.sub(lambda found: b"\\u%04x" % found[0][-1], msgspec.json.encode(letter)) + b"\n"


def decoded(line: bytes) -> LetterFields:
    """Return what `encoded` was given.

    Raises:
        NoLetter: the line is none, or has no end: it is torn, or is just being written.
    """
    if not line.endswith(b"\n"):
        raise NoLetter("it has no end")
    try:
        letter = _decoder.decode(line)
        base64.b64decode(letter["line_b64"] or "", validate=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NoLetter(str(error)) from error
    return letter


def letters_of(failures: Iterable[Failure], lineage: str, version: str) -> Iterator[LetterFields]:
    """Yield failures as dead letters; a line that is replayed stays the letter that it was.

    Args:
        failures: what failed for good, in order; all branches of a line that did are among them.
        lineage: tells the run, and those that go on with it, from all others.
        version: of the pipeline.
    """
    again: Counter[str] = Counter()  # branches of each letter that was replayed that have failed again
    for failure in failures:
        letter = _letter(failure, f"{lineage}-{failure.number}", version)
        if isinstance(failure.place, Letter):
            earlier = failure.place.fields
            letter["source"], letter["offset"], letter["line_no"] = (earlier[n] for n in ("source", "offset", "line_no"))
            letter["first_failed_at"] = earlier["first_failed_at"]
            letter["attempts"] += earlier["attempts"]
            name = str(earlier["event_id"])
            letter["event_id"] = f"{name}+{again[name]}" if again[name] else name
            again[name] += 1
        yield letter


def _letter(failure: Failure, event_id: str, version: str) -> LetterFields:
    line, packed = failure.line, None
    if not line.isascii() and any("\ud800" <= c <= "\udfff" for c in line):
        try:
            raw = line.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # no bytes of a log, but text with a lone surrogate
            raw = line.encode("utf-8", "surrogatepass")
        line, packed = _text(line), base64.b64encode(raw).decode()
    return {
        "event_id": event_id,
        "source": _text(failure.source),
        "offset": None if isinstance(failure.place, Letter) else failure.place,
        "line_no": failure.line_no,
        "line": line,
        "line_b64": packed,
        "processor": None if failure.processor is None else _text(failure.processor),
        "kind": failure.kind,
        "error": _text(failure.error),
        "message": _text(failure.message),
        "attempts": failure.attempts,
        "first_failed_at": round(failure.time, 6),
        "last_failed_at": round(failure.time, 6),
        "path": _text(failure.path),
        "pipeline_version": version,
    }


def failure_of(letter: Mapping[str, Any]) -> Failure:
    """Return the failure that a letter was made of, but for its traceback."""
    return Failure(
        line_no=letter["line_no"],
        time=letter["last_failed_at"],
        processor=letter["processor"],
        kind=letter["kind"],
        error=letter["error"],
        message=letter["message"],
        line=line_of(letter),
        attempts=letter["attempts"],
        source=letter["source"],
        place=letter["offset"],
        path=letter["path"],
        number=number_of(letter)[1],
    )


def number_of(letter: Mapping[str, Any]) -> tuple[str, int]:
    """Return the lineage of a letter, and its number in it; one that a replay made of a letter has that letter's.

    >>> number_of({"event_id": "3f2a-7+12"})
    ('3f2a', 7)
    """
    lineage, _, number = letter["event_id"].partition("+")[0].rpartition("-")
    return lineage, int(number)


def line_key(letter: Mapping[str, Any]) -> tuple[str, str, int | None]:
    """Return what letters of the same line have in common: each of its branches may have failed."""
    return letter["event_id"].rpartition("-")[0], letter["source"], letter["line_no"]


def is_whole(letter: Mapping[str, Any]) -> bool:
    """Tell whether a letter has the whole of what was to be a line, so that it can be run once more.

    It has not if it failed at the end of input, which is no line; nor if it was too long; nor if it was no text, as of what
    there was instead a part may have been kept. Only an entry of a broker, which is kept as a JSON object, shows that
    nothing of it is missing.
    """
    if letter["kind"] == "decode":
        return letter["line_no"] is not None and _is_object(letter["line"])
    return letter["line_no"] is not None and letter["kind"] != "oversize"


def _is_object(text: str) -> bool:
    """Tell whether a text is a JSON object; no part that one begins with is."""
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def line_of(letter: Mapping[str, Any]) -> str:
    r"""Return the line of a letter as it was.

    >>> line_of({"line": "caf?", "line_b64": "Y2Fm6Q=="})
    'caf\udce9'
    """
    packed = letter.get("line_b64")
    if not isinstance(packed, str):
        return str(letter["line"])
    return base64.b64decode(packed).decode("utf-8", "surrogateescape")


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
