"""The built-in demo pipeline: warnings in capitals, every line in brackets."""

from __future__ import annotations

from streamlab.pipeline import Pipeline

#: The lines that the demo runs over when it is given none.
LINES = (
    "info: system booted",
    "warn: disk space low",
    "error: failed to connect",
    "info: user login",
)

demo = Pipeline("demo")


@demo.processor(to=("end", "warn"))
def start(line: str) -> tuple[str, str]:
    """Route warnings to ``warn``, all else to ``end``."""
    return ("warn" if line.startswith("warn") else "end"), line


@demo.processor(to="end")
def warn(line: str) -> str:
    """Make a warning loud."""
    return line.upper()


@demo.processor
def end(line: str) -> str:
    """Put a line in brackets."""
    return f"[{line}]"
