"""Memory does not grow with the input; the whole count is `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
def test_memory_does_not_grow_with_the_input() -> None:
    """A million generated lines in a process of its own: it grows by less than 20 MB after the first 200,000."""
    command = [sys.executable, "-m", "benchmarks.memory", "--lines", "1000000", "--every", "200000"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,000,000 lines" in done.stdout
