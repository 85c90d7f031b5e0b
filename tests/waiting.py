"""Waiting for what other threads do, and looking at what they leave."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.002)


def resources() -> tuple[int, int]:
    """Return how many threads and open files there are."""
    gc.collect()
    return threading.active_count(), len(os.listdir("/dev/fd"))
