"""What the pages say is so: their Python runs, their links lead somewhere, the commands that they name are there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "data" / "README.md"]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: str, language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for named, text in fences if named == language]


@pytest.mark.parametrize("page", [page for page in NAMES if blocks(page, "python")])
def test_the_python_on_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, from top to bottom, as one program."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    scope: dict[str, Any] = {"lines_that_keep_coming": ("warn: hot" for _ in range(5_000))}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), scope)
    if "live" in scope:
        assert scope["live"].state in ("stopped", "finished")
        scope["live"].dashboard().stop()


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", NAMES)
def test_files_and_make_targets_that_are_named_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`?make ([a-z]+)(?:`|  )", text)) <= set(targets)
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", text):
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "streamlab", (ROOT / page).parent)), name


def test_the_commands_of_the_readme(tmp_path: Path) -> None:
    """Those that need no file of the reader's, without the dashboard that would keep them up."""
    lines = [line.split("#")[0] for block in blocks("README.md", "") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("python -m streamlab")]
    assert len(commands) >= 2
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command[1:], "--no-dashboard"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            env=os.environ | {"PYTHONWARNINGS": "error"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
