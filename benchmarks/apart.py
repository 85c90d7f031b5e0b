"""Peers that cannot share streamlab's environment: each has one of its own, and works there in a process of its own.

The environment is ``.venv-bench-PEER``, which ``make bench`` makes from ``requirements-PEER.txt``; the works are in
``benchmarks/peer_PEER.py``, which imports only what is there. That program does one work, and prints the seconds it took
by its own clock: the start of an interpreter and the imports, which peers in this process do not pay, are not among them.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _python(peer: str) -> Path:
    return ROOT / f".venv-bench-{peer}" / "bin" / "python"


@cache
def version_of(peer: str) -> str | None:
    """Return the version of a peer; None if it has no environment, or cannot be imported there."""
    if not _python(peer).exists():
        return None
    program = f"import {peer}; from importlib.metadata import version; print(version({peer!r}))"
    done = subprocess.run([_python(peer), "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def run(peer: str, work: str, source: Path, target: Path) -> float:
    """Have a peer do a work; return the seconds that it says it took.

    Raises:
        RuntimeError: it failed; with what it wrote to its standard error.
    """
    command = [str(_python(peer)), "-m", f"benchmarks.peer_{peer}", work, str(source), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{peer}, {work}: exit code {done.returncode}\n{done.stderr}")
    return float(done.stdout)
