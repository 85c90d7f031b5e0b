"""Bad input and bad processors, to be met in any number: what `make soak` runs at full count and the tests at a small one.

``python -m tests.faults_processing`` runs all of it at full count.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

# What a processor can do to its process. All of them are sent to another one, so each has all that it needs.


def regex() -> None:
    """Backtrack for longer than anybody can wait, with the interpreter's lock held."""
    re.match(r"(a+)+$", "a" * 40 + "b")


def loop() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(3600)


def native() -> None:
    """Hang in C."""
    ctypes.CDLL(None).pause()


def native_with_lock() -> None:
    """Hang in C that has not let go of the interpreter's lock."""
    ctypes.PyDLL(None).pause()


def deaf() -> None:
    """Hang, and take no signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(3600)


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def child() -> None:
    """Wait for a process of its own that does not end."""
    subprocess.run(["sleep", "3600"], check=True)


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def abort() -> None:
    os.abort()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def close_all() -> None:
    """Close the files of the process, with those that it is talked to by."""
    os.closerange(3, 256)


#: Ways to hang: with a timeout each costs its line.
HANGS: tuple[Callable[[], None], ...] = (regex, loop, sleep, native, native_with_lock, deaf, stopped, child)
#: Ways to end the process.
ENDS: tuple[Callable[[], None], ...] = (segfault, leave, abort, kill, close_all)
