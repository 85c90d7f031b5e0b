"""Programs of the system that tests use: servers of brokers, logrotate."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return where a program of the system is; skip the test, or fail it, if it is not there."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        missing = f"there is no {name} here (apt-get install {name})"
        if os.environ.get("STREAMLAB_PROGRAMS") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return found
