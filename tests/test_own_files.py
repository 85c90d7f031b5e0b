"""What a run writes where it reads: it does not read that, whatever the folder, glob or name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamlab import Pipeline
from streamlab.errors import SourceError
from tests.followed import append
from tests.waiting import until


def copy() -> Pipeline:
    """A pipeline whose output holds what its input does, and in which lines with ``bad`` fail."""

    def same(line: str) -> str:
        if "bad" in line:
            raise ValueError(line)
        return line

    return Pipeline("copy").add("same", same)


@pytest.mark.parametrize("where", ["", "*", "**/*", "*.log*"])
@pytest.mark.parametrize("out", ["out.log", "app.log.1", "link.log"])
def test_a_followed_folder_with_everything_in_it_that_the_run_writes(tmp_path: Path, where: str, out: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    log = logs / "app.log"
    log.write_text("one\nbad\n")
    if out == "link.log":
        (tmp_path / "elsewhere").touch()
        os.link(tmp_path / "elsewhere", logs / out)
    lines = ["one"]
    run = copy().start(logs / where, follow=True, output=logs / out, checkpoint=logs / "state", dead_letters=logs / "dead")
    with run:
        for number in range(20):
            append(log, f"{number} {'x' * 500}\nbad\n")
            lines.append(f"{number} {'x' * 500}")
            until(lambda number=number: run.ledger["received"] >= 2 * number + 4)
        log.write_text("")  # what was read of it is in the output, but that is no copy of it
        append(log, "after\n")
        until(lambda: "after\n" in (logs / out).read_text())
        append(log, "last\n")
        until(lambda: (logs / out).read_text().endswith("last\n"))
    assert (logs / out).read_text().splitlines() == [*lines, "after", "last"]
    assert run.ledger["received"] == 2 + 40 + 2


@pytest.mark.parametrize("where", ["", "*", "**/*"])
def test_a_glob_that_is_read_once_and_again(tmp_path: Path, where: str) -> None:
    (tmp_path / "app.log").write_text("one\nbad\n")
    for more in ("", "two\n", "three\n"):
        append(tmp_path / "app.log", more)
        copy().run(tmp_path / where, output=tmp_path / "out", checkpoint=tmp_path / "state")
    assert (tmp_path / "out").read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize("follow", [False, True])
def test_what_is_nothing_but_the_output_is_refused(tmp_path: Path, follow: bool) -> None:
    path = tmp_path / "app.log"
    path.touch()
    with pytest.raises(SourceError, match=r"app.log is what this run itself writes .* write somewhere else"):
        copy().run(path, output=path, follow=follow)


@pytest.mark.parametrize("follow", [False, True])
def test_of_the_folder_of_a_checkpoint_what_is_not_its_own_is_read(tmp_path: Path, follow: bool) -> None:
    (tmp_path / "app.log").write_text("one\nbad\n")
    for source in (tmp_path, tmp_path / "app.log"):
        output = tmp_path / f"{source.name}.out"
        options = {"checkpoint": tmp_path, "follow": follow}
        live = copy().start(source, output=output, **options)
        until(lambda live=live: live.ledger["received"] == 2)
        live.stop()
        live.wait(30)
        assert output.read_text() == "one\n"
        (tmp_path / "checkpoint.db").unlink()
        output.unlink()
    with pytest.raises(SourceError, match="is what this run itself writes"):
        copy().run(tmp_path / "checkpoint.db", output=tmp_path / "out", checkpoint=tmp_path, follow=follow)


def test_standard_output_in_the_folder_that_is_followed(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("info: one\n")
    command = [sys.executable, "-m", "streamlab", ".", "--follow", "--no-dashboard"]
    with (tmp_path / "out.log").open("wb") as out:
        program = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)
        try:
            until(lambda: b"one" in (tmp_path / "out.log").read_bytes())
            append(tmp_path / "app.log", "info: two\n")
            until(lambda: b"two" in (tmp_path / "out.log").read_bytes())
        finally:
            program.terminate()
            program.communicate(timeout=20)
    assert (tmp_path / "out.log").read_text().splitlines() == ["[info: one]", "[info: two]"]


@pytest.mark.parametrize("follow", [False, True])
def test_links_to_what_the_run_writes_are_left_out(tmp_path: Path, follow: bool) -> None:
    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    (logs / "app.log").write_text("one\nbad\n")
    (logs / "dead.jsonl").symlink_to("../state/dead_letters/letters-00000001.jsonl")
    (logs / "state.db").symlink_to(state / "checkpoint.db")
    (logs / "out.log").symlink_to("../out")
    for again in range(1, 3):  # the second time, they lead to something from the beginning
        live = copy().start(logs, output=tmp_path / "out", checkpoint=state, follow=follow)
        with live:
            for number in range(5 if follow else 0):
                append(logs / "app.log", f"{again}.{number}\nbad\n")
                until(lambda: f"{again}.{number}\n" in (tmp_path / "out").read_text())  # noqa: B023
            until(lambda: live.ledger["received"] >= 2 + (10 * again if follow else 0))  # noqa: B023
        assert live.ledger["received"] == 2 + (10 * again if follow else 0)
    with pytest.raises(SourceError, match="is what this run itself writes"):
        copy().run(logs / "dead.jsonl", output=tmp_path / "out", checkpoint=state, follow=follow)
