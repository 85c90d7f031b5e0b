"""Numbers as people read them. Pure."""

from __future__ import annotations

import math

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))


def compact(number: float) -> str:
    """Return a count in few characters; below 100,000 it is exact.

    >>> compact(0), compact(12_063), compact(1_234_567)
    ('0', '12,063', '1.23M')
    """
    return f"{number:,.0f}" if number < 100_000 else short(number)


def short(number: float) -> str:
    """Return a number with three digits, and the unit that suits.

    >>> short(0), short(3.14159), short(682.4), short(12_063), short(999_999)
    ('0', '3.14', '682', '12.1K', '1M')
    """
    for at, (unit, letter) in enumerate(_UNITS):
        if number >= unit * 0.9995:  # what rounds to it
            return f"{number / unit:.3g}{letter}" if at or number < 1e15 else f"{number:.3g}"
    return f"{number:.3g}"


def percent(share: float) -> str:
    """Return a share of 1 as per cent.

    >>> percent(0), percent(0.004), percent(0.25), percent(0.999), percent(1)
    ('0%', '<1%', '25%', '>99%', '100%')
    """
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def micros(us: float | None) -> str:
    """Return microseconds in the unit that suits.

    >>> micros(1.24), micros(802), micros(2_370), micros(1.5e6), micros(7.2e9), micros(float("nan"))
    ('1.2 µs', '802 µs', '2.37 ms', '1.5 s', '7,200 s', '–')
    """
    if us is None or math.isnan(us):
        return "–"
    if us >= 0.9995e9:
        return f"{us / 1e6:,.0f} s"
    for unit, name in ((1e6, "s"), (1e3, "ms")):
        if us >= unit * 0.9995:
            return f"{us / unit:.3g} {name}"
    return f"{us:.1f} µs" if us < 9.95 else f"{us:.0f} µs"


def clock(seconds: float) -> str:
    """Return a duration in seconds as a clock would tell it.

    >>> clock(0.0034), clock(49.9), clock(59.97), clock(150), clock(7_300)
    ('3.4 ms', '49.9 s', '1 min 0 s', '2 min 30 s', '2 h 1 min')
    """
    if seconds < 0.9995:
        return f"{seconds * 1e3:.{1 if seconds < 0.01 else 0}f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
