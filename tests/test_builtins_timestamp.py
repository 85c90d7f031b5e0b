"""Moments are those that Python's ``datetime`` reads, where both know the form."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.driver import Driven
from tests.meaning import assert_means

SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"])
FORM = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)


def moment(local: datetime, zone: str) -> datetime:
    """Return the moment of a time that is of the zone, if it says no other; one that the zone does not have is refused."""
    if local.tzinfo is not None:
        return in_utc(local)
    there = in_utc(local.replace(tzinfo=ZoneInfo(zone)))
    if there.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local:
        raise ValueError(f"{zone} has no {local}")
    return there


def in_utc(local: datetime) -> datetime:
    try:
        return local.astimezone(UTC)
    except OverflowError as error:
        raise ValueError from error


def iso(zone: str) -> Any:
    def read(value: dict[str, Any]) -> dict[str, Any]:
        if value["at"] is None:
            return value
        if not FORM.fullmatch(value["at"]):
            raise ValueError
        return value | {"at": moment(datetime.fromisoformat(value["at"]), zone)}

    return read


#: Later than 2099 Polars knows no daylight saving.
CLOCKS = st.builds(
    lambda d, t, shape, end: shape.format(d=d, t=t, f=f"{t.microsecond:06}") + end,
    st.dates(max_value=date(2099, 12, 30)) | st.dates(date(2020, 1, 1), date(2026, 1, 1)),
    st.times() | st.builds(time, st.integers(1, 3), st.integers(0, 59)),
    st.sampled_from(
        ["{d}T{t:%H:%M:%S}", "{d} {t:%H:%M}", "{d}T{t:%H:%M:%S}.{f}", "{d} {t:%H:%M:%S},{f}987", "{d}T{t:%H:%M:%S}.7"]
    ),
    st.sampled_from(["", "", "Z", "+00:00", "-00:30", "+01", "+0530", "-23:59", "+14:00"]),
)
BROKEN = st.sampled_from(
    [
        *[
            "",
            " ",
            "2024-02-30",
            "2024-02-29T24:00",
            "2024-01-01T23:59:60",
            "2024-13-01",
            "0000-01-01",
            "2024-01-01T",
            "10000-01-01",
        ],
        *[
            "2024-01-01T00:00+24:00",
            "2024-01-01T00:00z",
            "2024-1-1",
            "2024-01-01T1:00",
            "2024-01-01T00:00:00.",
            "é",
            "2024-01-01\n",
        ],
        *[
            "2024-01-01T00:00:00.1234567890",
            " 2024-01-01",
            "2024-01-01Z",
            "٢٠٢٤-٠١-٠١",
            "2024-01-01T00:00:00 Z",
            "-2024-01-01",
        ],
        *[
            "0001-01-01T00:00+01:00",
            "9999-12-31T23:59:59.999999-01:00",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
        ],
        *[
            "2024-03-31T02:30:00",
            "2024-10-27T02:30:00",
            "2011-12-30T12:00",
            "1969-12-31T23:59:59.9999999Z",
            "2024-01-01\ud800",
        ],
    ]
)
VALUES = st.lists(st.fixed_dictionaries({"at": st.none() | CLOCKS | CLOCKS | BROKEN, "n": st.integers(0, 9)}), max_size=20)


@given(VALUES, ZONES, SIZES)
def test_iso_8601(values: list[dict[str, Any]], zone: str, sizes: list[int]) -> None:
    assert_means(processors.parse_timestamp("at", zone=zone), iso(zone), values, sizes)


def test_what_python_sees_is_aware_and_in_utc() -> None:
    pipeline = (
        Pipeline("p").add("make", lambda line: ("it", {"at": line}), to="it").add("it", processors.parse_timestamp("at"))
    )
    for number, value in Driven(pipeline).run(["2024-01-01T00:00+01:00", "2024-01-01"], [2]).output:
        assert value["at"].utcoffset() == timedelta(0) and value["at"].tzinfo == ZoneInfo("UTC")
        assert value["at"] == datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1 - (number or 0))))


def test_when_clocks_change() -> None:
    """A time that is there twice is the first of both, and one that is not there at all fails."""
    values = [
        {"at": f"2024-{day}T0{hour}:30:00{end}"} for day in ("03-31", "10-27") for hour in range(5) for end in ("", "+01")
    ]
    berlin = processors.parse_timestamp("at", zone="Europe/Berlin")
    assert_means(berlin, iso("Europe/Berlin"), values, [3])
    twice = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    assert_means(berlin, lambda _: {"at": twice}, [{"at": "2024-10-27T02:30"}], [1])
    assert_means(
        processors.parse_timestamp("at", "%F %H%M", zone="Europe/Berlin"),
        lambda _: {"at": twice},
        [{"at": "2024-10-27 0230"}],
        [1],
    )


@given(VALUES, SIZES)
def test_to_another_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def added(value: dict[str, Any]) -> dict[str, Any]:
        return value | {"n": iso("UTC")(value)["at"]}

    assert_means(processors.parse_timestamp("at", to="n"), added, values, sizes)


FORMATS = {  # as chrono says it, and as Python does
    "%d/%b/%Y:%H:%M:%S %z": "%d/%b/%Y:%H:%M:%S %z",
    "%Y-%m-%d": "%Y-%m-%d",
    "%y%m%d %H%M%S": "%y%m%d %H%M%S",
    "%a %b %d %H:%M:%S %Y": "%a %b %d %H:%M:%S %Y",
    "%Y-%m-%d %H:%M:%S%.f": "%Y-%m-%d %H:%M:%S.%f",
    "é %d.%m.%Y %I:%M %p": "é %d.%m.%Y %I:%M %p",
}


@given(st.data(), st.sampled_from(sorted(FORMATS)), ZONES, SIZES)
def test_formats(data: Any, form: str, zone: str, sizes: list[int]) -> None:
    python = FORMATS[form]
    times = st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1), timezones=st.just(UTC)).map(
        lambda t: t.strftime(python)
    )
    broken = st.sampled_from(
        ["", "x", "2024-02-30", "30/Feb/2024:00:00:00 +0000", "Mon Feb 30 00:00:00 2024", "240101 250000"]
    )
    texts = st.none() | times | times | times.map(lambda text: text + "x") | broken
    values = data.draw(st.lists(st.fixed_dictionaries({"at": texts}), max_size=20))

    def read(value: dict[str, Any]) -> dict[str, Any]:
        return (
            {"at": value["at"] and moment(datetime.strptime(value["at"], python), zone)}
            if value["at"] != ""
            else iso("")(value)
        )

    assert_means(processors.parse_timestamp("at", form, zone=zone), read, values, sizes)


def test_seconds_since_1970() -> None:
    def read(value: dict[str, Any]) -> dict[str, Any]:
        if value["at"].startswith("-"):
            raise ValueError  # chrono takes none before 1970
        try:
            return {"at": datetime.fromtimestamp(int(value["at"]), UTC)}
        except (OverflowError, OSError) as error:
            raise ValueError from error

    values = [{"at": text} for text in ("0", "1700000000", "-1", "-62135596800", "253402300799", "253402300800", "x")]
    values += [{"at": "9" * digits} for digits in range(12, 30)]
    assert_means(processors.parse_timestamp("at", "%s"), read, values, [3])


def test_other_values_fail() -> None:
    def fails(error: type[Exception]) -> Any:
        def failing(_: object) -> None:
            raise error

        return failing

    moments = processors.parse_timestamp("at")
    assert_means(moments, fails(TypeError), ["2024-01-01", {"at": 1}, {"at": 1.5}, 7], [4])
    assert_means(moments, fails(KeyError), [{"n": "2024-01-01"}], [1])
    assert_means(moments, fails(ValueError), [{"at": "9" * 2_000_000}], [1])


def test_messages() -> None:
    pipeline = Pipeline("p").add("make", lambda line: ("it", {"at": line}), to="it")
    berlin = pipeline.add("it", processors.parse_timestamp("at", "%Y-%m-%d %H:%M", zone="Europe/Berlin"))
    said = (
        "expected a time written '%Y-%m-%d %H:%M' that the calendar and the zone Europe/Berlin have, got '2024-03-31 02:30'"
    )
    assert berlin.run(["2024-03-31 02:30"]).errors["message"].tolist() == [said]


@pytest.mark.parametrize(
    "options",
    [
        {"field": None},
        {"field": "at", "zone": "Berlin"},
        {"field": "at", "format": "%Q"},
        {"field": "at", "format": "%Y %H"},
        {"field": "at", "format": "%b %d %H:%M:%S"},
        {"field": "at", "format": ""},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|no time zone|is not valid|does not tell the year"):
        processors.parse_timestamp(**options)


@pytest.mark.parametrize("format", ["%H:%M:%S.%f %Y-%m-%d", "%Y-%m-%d %H:%M:%S %Z"])
def test_letters_that_are_not_what_they_seem_are_refused(format: str) -> None:
    with pytest.raises(ValueError, match=r"write %"):
        processors.parse_timestamp("t", format)


def test_seconds_since_1970_are_of_no_zone() -> None:
    parse = processors.parse_timestamp("line", "%s", zone="Europe/Berlin")
    pipeline = Pipeline("p").add("field", lambda line: {"line": line}, to="parse").add("parse", parse)
    [moment] = pipeline.run(["1700000000"]).output["line"]
    assert moment == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
