"""Digests: text that stands for another one, so that it can be told apart and counted but not read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.texts import as_bytes

Algorithm = Literal["sha256", "blake2b", "md5"]
#: Bytes in a key of BLAKE2b.
_MAX_KEY = 64


@dataclass(frozen=True)
class hash(Columnar):
    """Put the digest of a text in its place: lower-case hexadecimal digits.

    It is the digest of the text as UTF-8; a line with bytes that are not is digested byte for byte as it was read. Equal
    texts have equal digests. What few people know, names or addresses, can be found by trying all of them: give a key.

    Args:
        field: the field to work on, when values are dicts; other fields stay as they are. What is missing stays missing.
        algorithm: ``"sha256"`` (64 digits), ``"blake2b"`` (128) or ``"md5"`` (32, for what is not to be secret).
        key: a secret that the digest depends on: HMAC (RFC 2104), and for BLAKE2b its own key, of up to 64 bytes of UTF-8.
        length: how many of the digits to keep, from the first one; ``None`` for all.

    Raises:
        ValueError: there is no such algorithm, the key is empty or too long, or there are not so many digits.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> Pipeline("p").add("who", processors.hash(length=12)).run(["anna", "bert", "anna"]).output["value"].tolist()
        ['55579b557896', '32987c4b7a9f', '55579b557896']
    """

    field: str | None = None
    algorithm: Algorithm = "sha256"
    key: str | None = dataclasses.field(default=None, repr=False)
    length: int | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise ValueError(f"algorithm={self.algorithm!r} must be {', '.join(map(repr, get_args(Algorithm)))}")
        if self.key is not None and not (isinstance(self.key, str) and self.key):
            raise ValueError("key must be text, and not empty; None for no key")
        if self.key is not None and self.algorithm == "blake2b" and len(as_bytes(self.key)) > _MAX_KEY:
            raise ValueError(f"key is {len(as_bytes(self.key))} bytes long, and blake2b takes {_MAX_KEY} at most")
        digits = len(self._digest()(b""))
        if self.length is not None and not (type(self.length) is int and 1 <= self.length <= digits):  # True is no number
            raise ValueError(f"length={self.length!r} must be a whole number from 1 to {digits}, as {self.algorithm} has")

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        import polars as pl

        text = column.text(self.field)
        distinct = text.drop_nulls().unique()
        digest, exchange = self._digest(), column.exchange
        values = distinct.to_list() if exchange is None else [exchange.restore(value) for value in distinct]
        digests = pl.Series([digest(as_bytes(value))[: self.length] for value in values], dtype=pl.String)
        return Outcome(column.with_field(self.field, text.replace_strict(distinct, digests, return_dtype=pl.String)))

    def _digest(self) -> Callable[[bytes], str]:
        """Return the function that digests bytes."""
        import hashlib
        import hmac

        key, algorithm = None if self.key is None else as_bytes(self.key), self.algorithm
        if algorithm == "blake2b":
            return lambda data: hashlib.blake2b(data, key=key or b"").hexdigest()
        if key is not None:
            return lambda data: hmac.digest(key, data, algorithm).hex()
        make = hashlib.sha256 if algorithm == "sha256" else hashlib.md5
        return lambda data: make(data, usedforsecurity=False).hexdigest()
