"""Syslog messages, of the old kind and of the new one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.parsed import Part, missing, parsed, together

if TYPE_CHECKING:
    import polars as pl

_FIELDS = ("facility", "severity", "timestamp", "host", "app", "procid", "msgid", "structured_data", "message")
#: What only RFC 5424 has: a version after the priority.
_VERSION = r"^<[0-9]{1,3}>[0-9]{1,3}(?: |$)"
_PRIORITY = "<(?P<priority>0|[1-9][0-9]?|1[0-8][0-9]|19[01])>"
_HOUR = "(?:[01][0-9]|2[0-3])"
_CLOCK = f"{_HOUR}:[0-5][0-9]:[0-5][0-9]"
_DATE = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_INSTANT = rf"{_DATE}T{_CLOCK}(?:\.[0-9]{{1,6}})?(?:Z|[+-]{_HOUR}:[0-5][0-9])"
_DAY = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (?: [1-9]|0[1-9]|[12][0-9]|3[01])"
_NAME = r"[!#-<>-\\^-~]+"  # printable ASCII, but for = ] and the double quote
_VALUE = r'"(?:[^"\\\]]|\\.)*"'

_NEW = (
    Part("a priority from <0> to <191>", _PRIORITY),
    Part("version 1", "1 "),
    Part("a timestamp, or -", f"(?P<timestamp>{_INSTANT}|-) "),
    Part("a host, or -", "(?P<host>[!-~]+) "),
    Part("an app, or -", "(?P<app>[!-~]+) "),
    Part("a process id, or -", "(?P<procid>[!-~]+) "),
    Part("a message id, or -", "(?P<msgid>[!-~]+) "),
    Part("structured data, or -", rf"(?P<structured_data>-|(?:\[{_NAME}(?: {_NAME}={_VALUE})*\])+)"),
    Part("a space, or the end", "(?P<space> |$)"),
)
_OLD = (
    Part("a priority, or none", f"(?:{_PRIORITY})?"),
    Part(
        "a timestamp (Jan  2 15:04:05), after a priority from <0> to <191> or none",
        f"(?P<timestamp>{_DAY} {_CLOCK}|{_INSTANT}) ",
    ),
    Part("a host", "(?:(?P<host>[^ ]*[^ :]) )?"),
    Part("an app", r"(?:(?P<app>[^ :\[\]]+)(?:\[(?P<procid>[^ \[\]]+)\]:?|:)(?: |$))?"),
)


@dataclass(frozen=True)
class parse_syslog(Columnar):
    """Take syslog messages apart: those of RFC 5424, and those of RFC 3164, as they are sent and as they stand in files.

    A message with a number after its priority is one of RFC 5424, section 6, whose grammar it then has to follow, but for
    how long a name may be. Others are of RFC 3164, section 4, which says what is usual: here the priority may be missing
    (in files it is), the timestamp may be that of RFC 3339, the host may be missing when the app follows, and the app
    (``app: ``, ``app[procid]: ``) may be missing; then all of the rest is the message.

    ===================  ==========================================================================================
    ``facility``         0 to 23; ``None`` without a priority
    ``severity``         0 (emergency) to 7 (debug); ``None`` without a priority
    ``timestamp``        the text as it stands
    ``host``
    ``app``              APP-NAME; of RFC 3164 the TAG
    ``procid``           PROCID; of RFC 3164 what is in brackets after the TAG
    ``msgid``            ``None`` in RFC 3164
    ``structured_data``  the text as it stands (RFC 5424, section 6.3); ``None`` in RFC 3164
    ``message``          without the byte order mark of RFC 5424, section 6.4; ``None`` if nothing, not even a space, is
                         after the structured data
    ===================  ==========================================================================================

    In RFC 5424 ``-`` is the NILVALUE, for which the field is ``None``. Other text fails.

    Args:
        field: the field to work on, when values are dicts; the new fields come after the other ones, in its place.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> run = Pipeline("p").add("syslog", processors.parse_syslog()).run(["<34>Oct 11 22:14:15 mine su[7]: failed"])
        >>> run.output[["severity", "host", "app", "procid", "message"]].values.tolist()
        [[2, 'mine', 'su', '7', 'failed']]
    """

    field: str | None = None

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        text = column.text(self.field)
        new = text.str.contains(_VERSION).fill_null(False).to_numpy()
        kinds = (np.flatnonzero(new), _fields_of_new), (np.flatnonzero(~new), _fields_of_old)
        frame = together([(rows, take(text.gather(rows))) for rows, take in kinds if len(rows)], len(text))
        failed = frame["head"].is_null().to_numpy()
        return parsed(column, self.field, {name: frame[name] for name in _FIELDS}, failed, _why)


def _fields_of_new(text: pl.Series) -> pl.DataFrame:
    """Return the fields of messages of RFC 5424, and their head; nothing in rows that are not as expected."""
    import polars as pl

    return (
        _heads(text, _NEW)
        .with_columns(pl.col("timestamp", "host", "app", "procid", "msgid", "structured_data").replace("-", None))
        .with_columns(message=pl.when(pl.col("space") == " ").then(pl.col("message").str.strip_prefix("\ufeff")))
        .select("head", *_FIELDS)
    )


def _fields_of_old(text: pl.Series) -> pl.DataFrame:
    """Return the fields of messages of RFC 3164, and their head; nothing in rows that are not as expected."""
    import polars as pl

    nothing = pl.lit(None, pl.String)
    return _heads(text, _OLD).with_columns(msgid=nothing, structured_data=nothing).select("head", *_FIELDS)


def _heads(text: pl.Series, parts: Sequence[Part]) -> pl.DataFrame:
    """Return the groups of the parts, ``head`` for all of the parts, and what follows as the message."""
    import polars as pl

    groups = text.str.extract_groups(f"(?s)^(?P<head>{''.join(part.pattern for part in parts)})").struct.unnest()
    priority = pl.col("priority").cast(pl.Int64)
    message = text.str.slice(groups["head"].str.len_chars())  # faster than a group that takes all of the rest
    return groups.with_columns(message.alias("message"), facility=priority // 8, severity=priority % 8)


def _why(text: str) -> str:
    return missing(_NEW if re.match(_VERSION, text) else _OLD, text)
