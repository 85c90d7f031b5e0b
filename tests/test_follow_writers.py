"""Following what Python's rotating handlers and logrotate do to files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.faults import outcome
from tests.followed import ALONE_OR_NOT, GRACE, append, follow, following, nothing_comes
from tests.programs import program


def python_writer(folder: Path, setup: str, lines: int) -> subprocess.CompletedProcess[str]:
    """Run a process that logs numbered lines with the handler that ``setup`` makes."""
    code = f"""
    import gzip, logging, logging.handlers, os, shutil, time
    {setup}
    log = logging.getLogger("app")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    for number in range(1, {lines}):
        log.info("%d %s", number, "x" * (number % 97))
        time.sleep(0.001)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=folder, capture_output=True, text=True
    )


ZIPPED = """
    def rotator(source, target):
        with open(source, "rb") as plain, gzip.open(target, "wb") as packed:
            shutil.copyfileobj(plain, packed)
        os.remove(source)
    handler.rotator, handler.namer = rotator, lambda name: name + ".gz"
"""
HANDLERS = {
    "size": 'handler = logging.handlers.RotatingFileHandler("app.log", maxBytes=8000, backupCount=30)',
    "time": 'handler = logging.handlers.TimedRotatingFileHandler("app.log", when="S", backupCount=30)',
    "size, packed": 'handler = logging.handlers.RotatingFileHandler("app.log", maxBytes=8000, backupCount=30)' + ZIPPED,
}


@pytest.mark.parametrize("where", ["app.log", ""], ids=["file", "folder"])
@pytest.mark.parametrize("handler", HANDLERS)
def test_the_rotating_handlers_of_python(tmp_path: Path, where: str, handler: str) -> None:
    (tmp_path / "app.log").write_text("0 \n")
    with following(follow(tmp_path / where)) as reading:
        reading.wait_for(1)
        python_writer(tmp_path, HANDLERS[handler], 1_500)
        reading.wait_for(1_500)
        assert nothing_comes(reading, 3 * GRACE)
    result = outcome(reading.lines, 1_500)
    assert (result.lost, result.doubled, result.torn) == (0, 0, 0)
    assert len(os.listdir(tmp_path)) > 1


@ALONE_OR_NOT
@pytest.mark.parametrize(
    "options", ["copytruncate", "copytruncate compress", "create compress", "create delaycompress compress dateext"]
)
def test_logrotate(tmp_path: Path, where: str, options: str) -> None:
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o755)
    log = folder / "app.log"
    lines = "\n".join(
        ["rotate 20", "size 1", "missingok", *options.split(), *(["dateformat -%s"] if "dateext" in options else [])]
    )
    (tmp_path / "rotate.conf").write_text(f"{log} {{\n{lines}\n}}\n")
    (tmp_path / "rotate.conf").chmod(0o644)
    log.write_text("0 \n")
    number = 1
    # Logrotate waits for the disk between copy and truncation: that may take a while.
    grace = 3.0 if "copytruncate" in options else 1.0
    with following(follow(folder / where, grace=grace)) as reading:
        reading.wait_for(1)
        for _ in range(3):
            for _ in range(200):
                append(log, f"{number} {'x' * (number % 97)}\n")
                number += 1
            command = [program("logrotate"), "-f", "-s", str(tmp_path / "status"), str(tmp_path / "rotate.conf")]
            subprocess.run(command, check=True, capture_output=True)
            if "dateext" in options:
                time.sleep(1.1)  # names have the time in seconds
        reading.wait_for(number)
        assert nothing_comes(reading, grace + 0.5)
    result = outcome(reading.lines, number)
    assert (result.lost, result.doubled, result.torn) == (0, 0, 0)
