"""Timestamps: text becomes a moment."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from streamlab.columns import Column
from streamlab.processors.columnar import Columnar, Outcome
from streamlab.processors.parsed import parsed

if TYPE_CHECKING:
    import polars as pl

_ISO = (
    "^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    "(?:[T ](?P<clock>[0-9]{2}:[0-9]{2})(?::(?P<second>[0-5][0-9])(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    "(?P<offset>Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?)?$"
)
#: The first and the last moment that Python can tell, in microseconds since 1970.
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
#: The letters of a format.
_LETTER = re.compile("%([A-Za-z%])")
#: Those that are not what they seem, and what to write instead.
_MISTAKEN = {
    "f": "is nine digits of nanoseconds here; write %.f for a fraction of any length with its point",
    "Z": "would be read and ignored, as names of zones are not unique; write %z for an offset, or give the zone with zone=",
}


@dataclass(frozen=True)
class parse_timestamp(Columnar):
    """Make the text of a field a moment: a ``datetime`` in UTC, to the microsecond.

    What is finer than a microsecond is cut off. A time that a zone has twice, when clocks are set back, is the first of
    both (as Python has it, with ``fold=0``); one that it does not have, when clocks are set forward, fails. So does what
    is not as expected, or no day of the calendar, or before the year 1 or after 9999. ``None`` stays ``None``.

    Args:
        field: the field to work on.
        format: how the text is written, as `chrono <https://docs.rs/chrono/latest/chrono/format/strftime/>`_ says it, which
            Polars uses: ``"%d/%b/%Y:%H:%M:%S %z"``; fractions are ``%.f``, with their point; ``%s`` takes no seconds before
            1970. What it tells must have a year. ``None`` for ISO 8601 in its extended format, and RFC 3339:
            ``2024-02-03``, ``2024-02-03T04:05``, ``2024-02-03 04:05:06,789``, each time also with ``Z``, ``+01:00``,
            ``+0100`` or ``+01`` after it, and with fractions of one to nine digits.
        to: the field to write to; ``None`` for the same.
        zone: where times are from that do not say it: a name of the IANA time zone database, whose rules Polars knows up
            to 2099; later times have no daylight saving.

    Raises:
        ValueError: there is no such zone, or the format is not valid, or does not tell the year.

    Example:
        >>> from streamlab import Pipeline, processors
        >>> moment = processors.parse_timestamp("at", zone="Europe/Berlin")
        >>> pipeline = Pipeline("p").add("cells", processors.parse_csv(["at"]), to="moment").add("moment", moment)
        >>> pipeline.run(["2024-02-03T04:05:06.7", "2024-02-03 04:05Z"]).output["at"].astype(str).tolist()
        ['2024-02-03 03:05:06.700+00:00', '2024-02-03 04:05:00.000+00:00']
    """

    field: str
    format: str | None = None
    _: KW_ONLY
    to: str | None = None
    zone: str = "UTC"

    def __post_init__(self) -> None:
        from datetime import datetime

        import polars as pl

        if not isinstance(self.field, str):
            raise ValueError(f"field is {self.field!r}; it must be the name of the field to work on")
        if not isinstance(self.zone, str) or not self.zone:
            raise ValueError(f"zone is {self.zone!r}; it must be the name of a time zone, such as 'Europe/Berlin'")
        sample = pl.Series([datetime(2024, 11, 23, 13, 14, 15, 678901)])
        try:
            sample.dt.replace_time_zone(self.zone)
        except pl.exceptions.ComputeError:
            raise ValueError(f"there is no time zone {self.zone!r}") from None
        if self.format is None:
            return
        for letter in set(_LETTER.findall(self.format)) & set(_MISTAKEN):
            raise ValueError(f"format {self.format!r}: %{letter} {_MISTAKEN[letter]}")
        try:
            text = sample.dt.replace_time_zone("UTC").dt.strftime(self.format)
            [year] = text.str.to_datetime(self.format, time_unit="us").dt.year()
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"format {self.format!r} is not valid: {str(error).splitlines()[0]}") from None
        if year != 2024:
            raise ValueError(f"format {self.format!r} does not tell the year")

    def apply(self, column: Column) -> Outcome:
        """Return what becomes of a column."""
        text = column.text(self.field)
        moments = self._iso(text) if self.format is None else self._formatted(text, self.format)
        moments = moments.set(~moments.to_physical().is_between(_FIRST, _LAST), None)
        failed = (moments.is_null() & text.is_not_null()).to_numpy()
        return parsed(column, self.field, {self.to or self.field: moments}, failed, self._why, keep=True)

    def _formatted(self, text: pl.Series, format: str) -> pl.Series:
        """Return moments from text of the format, nothing for what is not of it."""
        times = text.str.to_datetime(format, time_unit="us", strict=False)
        if "s" in _LETTER.findall(format):  # seconds since the epoch are of no zone
            return times.dt.replace_time_zone("UTC")
        return self._moments(times) if getattr(times.dtype, "time_zone", None) is None else times

    def _iso(self, text: pl.Series) -> pl.Series:
        """Return moments from ISO 8601, nothing for what is not of it."""
        import polars as pl

        offset = pl.col("offset").replace("Z", "+00").str.replace_all(":", "", literal=True)
        hours, minutes = offset.str.slice(0, 3).cast(pl.Int64), (offset.str.slice(0, 1) + "0" + offset.str.slice(3))
        clock = pl.concat_str(
            "date", pl.lit("T"), pl.col("clock").fill_null("00:00"), pl.lit(":"), pl.col("second").fill_null("00")
        )
        parts = (
            text.str.extract_groups(_ISO)
            .struct.unnest()
            .select(
                times=clock.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False),
                micros=pl.col("fraction").fill_null("0").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64),
                offset=hours * 60 + minutes.cast(pl.Int64),
            )
        )
        times = parts["times"] + parts["micros"].cast(pl.Duration("us"))
        away = parts["offset"]
        if away.null_count() == len(away):
            return self._moments(times)
        moments = times.dt.replace_time_zone("UTC") - (away * 60_000_000).cast(pl.Duration("us"))
        return moments.zip_with(away.is_not_null(), self._moments(times)) if away.null_count() else moments

    def _moments(self, times: pl.Series) -> pl.Series:
        """Return the moments of times in the zone."""
        there = times.dt.replace_time_zone(self.zone, ambiguous="earliest", non_existent="null")
        return there.dt.convert_time_zone("UTC")

    def _why(self, text: str) -> str:
        written = "of ISO 8601" if self.format is None else f"written {self.format!r}"
        return f"expected a time {written} that the calendar and the zone {self.zone} have"
