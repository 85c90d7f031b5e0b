"""Redaction: what nobody is to read is covered before a line goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.pattern import check_regex, check_text

_EDGE = r"(?-u:\b)"  # not between two ASCII letters, digits or _; é before an address does not hide it
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_FOURS = "[2-6][0-9]{3}(?:[ -]?[0-9]{4}){3}"
_AMEX = "3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}"
_TOKENS = (
    r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*",
    "gh[opsur]_[A-Za-z0-9]{36,}",
    "github_pat_[A-Za-z0-9_]{22,}",
    "glpat-[A-Za-z0-9_-]{20,}",
    "xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "(?:AKIA|ASIA)[A-Z0-9]{16}",
    "AIza[A-Za-z0-9_-]{35}",
    "[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "sk-[A-Za-z0-9_-]{20,}",
    "(?i:bearer) +[A-Za-z0-9._~+/-]{8,}=*",
)
#: The regular expressions that have names; `redact` says in words what they match.
NAMED: Mapping[str, str] = {
    "email": r"[\w.%+'-]+@[\w-]+(?:\.[\w-]+)+",
    "ipv4": rf"{_EDGE}{_OCTET}(?:\.{_OCTET}){{3}}{_EDGE}",
    "credit_card": f"{_EDGE}(?:{_FOURS}|{_AMEX}){_EDGE}",
    "token": rf"{_EDGE}(?:{'|'.join(_TOKENS)})",
}


@dataclass(frozen=True, init=False)
class redact(Columnar):
    """Cover every match of some patterns, one pattern after the other.

    ``"email"``
        letters, digits and ``_ . % + ' -``, then ``@``, then a domain: two or more parts of letters, digits, ``_`` and
        ``-``, with points between. Letters and digits are those of any language.
    ``"ipv4"``
        four numbers from 0 to 255, without leading zeros, with points between; not beside an ASCII letter or digit, or
        ``_``. Versions such as ``1.2.3.4`` look the same.
    ``"credit_card"``
        16 digits that begin with 2 to 6, or 15 that begin with 34 or 37; together, or in groups of 4, 4, 4, 4 or 4, 6, 5
        with a space or ``-`` between; not beside an ASCII letter or digit, or ``_``. The check digit is not computed.
    ``"token"``
        JSON Web Tokens (``eyJ...``); what follows ``Bearer`` (8 characters or more, that word too); and keys that say whose
        they are: of GitHub (``ghp_`` and the like, ``github_pat_``), GitLab (``glpat-``), Slack (``xoxb-`` and the like),
        AWS (``AKIA``, ``ASIA``), Google (``AIza``), Stripe (``sk_live_`` and the like), and ``sk-``. Not passwords, nor
        other text that is random: for ``password=...`` add a pattern.

    Args:
        patterns: these names, or regular expressions (see `replace` for their dialect).
        by: what to put in the place of each match, as it is.
        field: the field to work on, when values are dicts; other fields stay as they are.

    Raises:
        ValueError: there is no pattern, one is wrong or nearly such a name, or one matches text without any characters.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> calm = processors.redact("email", "password=[^ ]+")
        >>> Pipeline("p").add("calm", calm).run(["anna@example.org password=x1 ok"]).output["value"].tolist()
        ['*** *** ok']
    """

    patterns: tuple[str, ...]
    by: str = "***"
    field: str | None = None

    def __init__(self, *patterns: str, by: str = "***", field: str | None = None) -> None:
        if not patterns:
            raise ValueError(f"there are no patterns; give regular expressions, or some of {', '.join(NAMED)}")
        for pattern in patterns:
            _check(pattern)
        check_text("by", by)
        object.__setattr__(self, "patterns", patterns)
        object.__setattr__(self, "by", by)
        object.__setattr__(self, "field", field)

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        column = column.beside([*self.patterns, self.by])
        text = column.text(self.field)
        for pattern in self.patterns:
            text = text.str.replace_all(NAMED.get(pattern, pattern), self.by.replace("$", "$$"))
        return Outcome(column.with_field(self.field, text))


def _check(pattern: str) -> None:
    """Refuse a pattern that covers nothing, or everything, because it is wrong."""
    import polars as pl

    check_text("pattern", pattern)
    if pattern in NAMED:
        return
    import difflib  # only for who has made a mistake

    near = difflib.get_close_matches(pattern.lower(), NAMED, n=1, cutoff=0.75)
    if near:
        raise ValueError(f"pattern {pattern!r}: did you mean {near[0]!r}? For a text that is nearly so write (?:{pattern})")
    check_regex(pattern)
    if pl.Series([""]).str.contains(pattern)[0]:
        raise ValueError(f"pattern {pattern!r} matches text without any characters, and so is everywhere")
