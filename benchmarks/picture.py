"""The timings as a picture: a bar a contender, as long as it is fast, in an SVG that follows light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from benchmarks.measure import Timing

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.svg"
GROUPS = {
    "": "in memory, by Python functions",
    "demo": "demo, file to file",
    "extract": "extract, file to file",
    "json": "json, file to file",
}
_WIDTH, _LEFT, _ROW, _BAR = 760, 190, 20, 400
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.head{font-weight:600;font-size:13px}.bar{fill:#9aa4b2}"
    ".own{fill:#2f81f7}.name{text-anchor:end}"
    "@media(prefers-color-scheme:dark){text{fill:#9da7b3}.bar{fill:#545d68}}"
)


def drawn(timings: Mapping[str, Timing]) -> str:
    """Return the picture; lines a second, each group to its own scale."""
    parts: list[str] = []
    y = 8
    for group, title in GROUPS.items():
        own = {name: timing for name, timing in timings.items() if name.rpartition(": ")[0] == group}
        if not own:
            continue
        fastest = min(timing.median for timing in own.values())
        y += 2 * _ROW
        parts.append(f'<text class="head" x="{_LEFT}" y="{y - 8}">{escape(title)}</text>')
        for name, timing in own.items():
            short = name.rpartition(": ")[2]
            length = max(1.0, _BAR * fastest / timing.median)
            kind = "own" if short.startswith("streamlab") else "bar"
            parts.append(f'<text class="name" x="{_LEFT - 8}" y="{y + 13}">{escape(short)}</text>')
            parts.append(f'<rect class="{kind}" x="{_LEFT}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 6}" rx="2"/>')
            said = f"{1 / timing.median / 1e6:.2f} M lines/s"
            parts.append(f'<text x="{_LEFT + length + 8:.1f}" y="{y + 13}">{said}</text>')
            y += _ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 12}" width="{_WIDTH}" role="img">'
    title = "<title>Lines a second, streamlab in blue</title>"
    return f"{head}{title}<style>{_STYLE}</style>{''.join(parts)}</svg>\n"


def draw(timings: Mapping[str, Timing], path: Path = PICTURE) -> Path:
    """Write the picture, and return where."""
    path.write_text(drawn(timings), encoding="utf-8")
    return path
