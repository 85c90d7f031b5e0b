"""Access logs of web servers."""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.parsed import Part, missing, parsed, pattern_of

#: What is between quotes: a backslash goes with the character after it.
_QUOTED = r'"(?P<{}>(?:[^"\\]|\\.)*)"'
_COMMON = (
    Part("a host", "(?P<host>[^ ]+) "),
    Part("an ident, or -", "(?P<ident>[^ ]+) "),
    Part("a user, or -", "(?P<user>[^ ]+) "),
    Part("a time in brackets", r"\[(?P<time>[^\[\]]+)\] "),
    Part("a request in quotes", _QUOTED.format("request") + " "),
    Part("a status of three digits", "(?P<status>[0-9]{3}) "),
    Part("a size, or -", "(?P<size>[0-9]{1,18}|-)"),
)
_COMBINED = Part("a referer and a user agent in quotes", f"(?: {_QUOTED.format('referer')} {_QUOTED.format('user_agent')})?")
_PATTERN = pattern_of((*_COMMON, _COMBINED)) + r"\z"


@dataclass(frozen=True)
class parse_access_log(Columnar):
    """Take the lines of web servers' access logs apart: the common format (NCSA), and the combined one.

    They are, in the words of `Apache's mod_log_config <https://httpd.apache.org/docs/2.4/mod/mod_log_config.html>`_,
    ``%h %l %u %t "%r" %>s %b``, and in the combined format `` "%{Referer}i" "%{User-agent}i"`` after it.

    =============================  ======================================================================
    ``host``
    ``ident``, ``user``            without a space in them; ``None`` for ``-``
    ``time``                       the text in the brackets, as it stands
    ``request``                    ``None`` for ``-`` (nothing came before the connection was closed)
    ``method, path, protocol``     the words of the request; all ``None`` if it is not three words, each after one space
    ``status``                     a number
    ``size``                       in bytes, a number; ``None`` for ``-``
    ``referer``, ``user_agent``    ``None`` for ``-``, and in the common format
    =============================  ======================================================================

    Between quotes a backslash goes with the character after it, so that ``\\"`` ends nothing; both stay as they are.
    Other lines fail.

    Args:
        field: the field to work on, when values are dicts; the new fields come after the other ones, in its place.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> line = '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
        >>> run = Pipeline("p").add("it", processors.parse_access_log()).run([line])
        >>> run.output[["user", "path", "status", "size"]].values.tolist()
        [['frank', '/apache_pb.gif', 200, 2326]]
    """

    field: str | None = None

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        import polars as pl

        groups = column.text(self.field).str.extract_groups(_PATTERN).struct.unnest()
        failed = groups["host"].is_null().to_numpy()
        words = groups["request"].str.extract_groups("^(?P<method>[^ ]+) (?P<path>[^ ]+) (?P<protocol>[^ ]+)$")
        fields = groups.with_columns(
            pl.col("ident", "user", "request", "referer", "user_agent").replace("-", None),
            pl.col("status").cast(pl.Int64),
            pl.col("size").replace("-", None).cast(pl.Int64),
        ).to_dict()
        before, after = ("host", "ident", "user", "time", "request"), ("status", "size", "referer", "user_agent")
        ordered = {name: fields[name] for name in before} | words.struct.unnest().to_dict() | {n: fields[n] for n in after}
        return parsed(column, self.field, ordered, failed, _why)


def _why(text: str) -> str:
    return missing((*_COMMON, _COMBINED), text)
