"""The workers of a cluster in words, the same ones in every view, and how far they are, about. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from streamlab.run import ENDED
from streamlab.views.numbers import compact, percent, short


class Card(TypedDict):
    """A worker as it is shown; texts are empty where there is nothing to say."""

    name: str
    here: bool
    lines: str
    share: float
    work: str
    memory: str
    errors: str
    told: str


def shown(overview: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is shown of a run's workers, as plain data: `cards`, `counted`, `estimated`."""
    rows = overview["workers"]
    return {"cards": cards(rows), "counted": counted(rows), "estimated": estimated(overview)}


def cards(rows: Sequence[Mapping[str, Any]]) -> list[Card]:
    """Return workers as they are shown.

    Args:
        rows: as `streamlab.Run.crew` gives them.

    Example:
        >>> row = {"worker": "0", "here": True, "address": "tcp://10.0.0.5:33", "threads": 2, "memory": 86_100_000}
        >>> (card,) = cards([row | {"lines": 1_200, "errors": 0, "time_s": 2.5, "estimate": 4_000}])
        >>> card["name"], card["lines"], card["work"], card["memory"], card["errors"]
        ('worker 0', '1,200 lines', '100% of the work', '86 MB', '')
    """
    whole = sum(row["time_s"] for row in rows)
    return [_card(row, row["time_s"] / whole if whole else 0.0) for row in rows]


def _card(row: Mapping[str, Any], share: float) -> Card:
    name, here = row["worker"], row["here"]
    told = [row["address"], _several(row["threads"], "thread")] if here else ["It was here, and is gone."]
    return {
        "name": f"worker {name}" if name.isdecimal() else name,
        "here": here,
        "lines": _several(row["lines"], "line"),
        "share": share,
        "work": f"{percent(share)} of the work",
        "memory": f"{row['memory'] / 1e6:,.0f} MB" if row["memory"] else "",
        "errors": _several(row["errors"], "error") if row["errors"] else "",
        "told": "\n".join([*told, f"{row['lines']:,} lines committed", f"{row['time_s']:.1f} s of work"]),
    }


def counted(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how many workers there are.

    >>> counted([{"here": True}, {"here": False}, {"here": True}])
    '2 workers, 1 gone'
    """
    gone = sum(not row["here"] for row in rows)
    return _several(len(rows) - gone, "worker") + (f", {gone:,} gone" if gone else "")


def estimated(overview: Mapping[str, Any]) -> str:
    """Return how many lines have been worked on, about; empty once that is known, and without a cluster.

    >>> stats = {"state": "running", "lines": {"received": 1_000_000}}
    >>> estimated({"stats": stats, "workers": [{"here": True}], "estimate": 1_234_567})
    '≈ 1.23M lines worked on, 1M committed'
    """
    if not overview["workers"] or overview["stats"]["state"] in ENDED:
        return ""
    return f"≈ {short(overview['estimate'])} lines worked on, {compact(overview['stats']['lines']['received'])} committed"


def _several(count: int, what: str) -> str:
    return f"{compact(count)} {what}{'' if count == 1 else 's'}"
