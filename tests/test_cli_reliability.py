"""Checkpoints, following and dead letters from the command line: real processes, real signals."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_cli import streamlab_
from tests.waiting import until

PIPELINES = """
from streamlab import Pipeline

class Number:
    def __init__(self): self.n = 0
    def __call__(self, line):
        self.n += 1
        if line.endswith("7"):
            raise ValueError("seven")
        return f"{self.n} {line}"
    def flush(self): yield f"total {self.n}"

numbered = Pipeline("numbered").add("number", Number)
mended = Pipeline("mended").add("keep", lambda line: line)

def slow(line):
    import time
    time.sleep(0.002)
    return line

slowly = Pipeline("slowly").add("slow", slow)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipes.py").write_text(PIPELINES)
    return tmp_path


def begun(folder: Path, *args: str) -> subprocess.Popen[str]:
    """Start a program that goes on until it is told to end."""
    return subprocess.Popen(
        [sys.executable, "-m", "streamlab", *args],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


RUN = ("--no-dashboard", "--output", "out.log", "--checkpoint", "state")


def test_a_second_call_goes_on_where_the_first_ended(folder: Path) -> None:
    with (folder / "in.log").open("w") as file:
        file.writelines(f"line {n}\n" for n in range(20))
    first = streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    assert first.returncode == 0 and "goes on" not in first.stderr
    assert rows(folder / "out.log")[-1] == "total 20"
    with (folder / "in.log").open("a") as file:
        file.write("one more\n")
    second = streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    assert "numbered: goes on after 20 lines (checkpoint)" in second.stderr
    assert rows(folder / "out.log")[-2:] == ["21 one more", "total 21"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_drains_and_what_was_not_read_is_read_by_the_next(folder: Path, number: int, code: int) -> None:
    lines = [f"line {n}" for n in range(3000)]
    (folder / "in.log").write_text("\n".join(lines) + "\n")
    program = begun(folder, "in.log", "--pipeline", "pipes.py:slowly", *RUN)
    until(lambda: len(rows(folder / "out.log")) > 100)
    start = time.monotonic()
    program.send_signal(number)
    _, said = program.communicate(timeout=30)
    assert program.returncode == code, said
    assert time.monotonic() - start < 20 and "Shutting down..." in said
    done = rows(folder / "out.log")
    assert done == lines[: len(done)]
    assert len(done) < len(lines)
    streamlab_("in.log", "--pipeline", "pipes.py:slowly", *RUN, cwd=folder)
    assert rows(folder / "out.log") == lines


def test_a_second_signal_forces(folder: Path) -> None:
    (folder / "hang.py").write_text(
        "from streamlab import Pipeline\nimport time\nhangs = Pipeline('hangs').add('hang', lambda line: time.sleep(600))\n"
    )
    program = begun(folder, "--pipeline", "hang.py", "pipes.py", *RUN)
    until(lambda: (folder / "state" / "checkpoint.db").exists())
    time.sleep(0.5)
    program.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=10)
    assert program.returncode == 128 + signal.SIGTERM


def test_a_file_is_followed_until_the_program_is_told_to_end(folder: Path) -> None:
    source = folder / "app.log"
    source.write_text("line 1\n")
    program = begun(folder, "--follow", "app.log", "--pipeline", "pipes.py:numbered", *RUN)
    until(lambda: rows(folder / "out.log") == ["1 line 1"])
    with source.open("a") as file:
        file.write("line 2\nhalf a ")
        file.flush()
        until(lambda: len(rows(folder / "out.log")) == 2)
        file.write("line\n")
    until(lambda: rows(folder / "out.log")[-1:] == ["3 half a line"])
    source.rename(folder / "app.log.1")
    source.write_text("line 4\n")
    until(lambda: rows(folder / "out.log")[-1:] == ["4 line 4"])
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=30)
    assert program.returncode == 0
    source.rename(folder / "app.log.2")
    source.write_text("line 5\n")
    program = begun(folder, "--follow", "app.log", "--pipeline", "pipes.py:numbered", *RUN)
    until(lambda: rows(folder / "out.log")[-1:] == ["5 line 5"])
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=30)
    assert rows(folder / "out.log") == ["1 line 1", "2 line 2", "3 half a line", "4 line 4", "5 line 5"]


@pytest.mark.parametrize(("source", "what"), [("-", "standard input"), ("redis://127.0.0.1:1/s", "redis://127.0.0.1:1/s")])
def test_what_comes_as_it_comes_is_not_followed(folder: Path, source: str, what: str) -> None:
    done = streamlab_(source, "--follow", "--no-dashboard", stdin=b"a\n", cwd=folder)
    assert done.returncode == 2 and f"{what} cannot be followed" in done.stderr


def test_a_checkpoint_of_files_is_not_one_of_followed_files(folder: Path) -> None:
    (folder / "in.log").write_text("a\n")
    args = ("in.log", "--output", "out", "--checkpoint", "state", "--no-dashboard")
    assert streamlab_(*args, cwd=folder).returncode == 0
    done = streamlab_(*args, "--follow", cwd=folder)
    assert done.returncode == 2 and "has kind of source 'files', and not 'followed files'" in done.stderr


def test_dead_letters_are_listed_replayed_and_purged(folder: Path) -> None:
    (folder / "in.log").write_text("".join(f"line {n}\n" for n in range(20)))
    streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    listed = streamlab_("dlq", "list", "state", cwd=folder)
    assert "number: processing: ValueError: seven" in listed.stdout and "line 17" in listed.stdout
    assert "2 dead letters (2 number: processing)" in listed.stderr
    whole = [json.loads(line) for line in streamlab_("dlq", "list", "state", "--json", cwd=folder).stdout.splitlines()]
    assert [letter["line"] for letter in whole] == ["line 7", "line 17"]
    chosen = whole[0]["event_id"]
    replayed = streamlab_("dlq", "replay", "state", "--pipeline", "pipes.py:mended", "--id", chosen, cwd=folder)
    assert (replayed.returncode, replayed.stdout) == (0, "line 7\n")
    left = streamlab_("dlq", "list", "state", "--json", cwd=folder).stdout
    assert json.loads(left)["line"] == "line 17"
    again = streamlab_("dlq", "replay", "state", "--pipeline", "pipes.py:numbered", cwd=folder)
    assert again.returncode == 0
    assert json.loads(streamlab_("dlq", "list", "state", "--json", cwd=folder).stdout)["attempts"] == 2
    none = streamlab_("dlq", "replay", "state", "--pipeline", "pipes.py:mended", "--kind", "timeout", cwd=folder)
    assert (none.returncode, none.stdout) == (0, "") and "no letter was replayed" in none.stderr
    asked = streamlab_("dlq", "purge", "state", stdin=b"n\n", cwd=folder)
    assert asked.returncode != 0
    assert "1 dead letter purged" in streamlab_("dlq", "purge", "state", "--yes", cwd=folder).stderr
    assert "0 dead letters" in streamlab_("dlq", "list", "state", cwd=folder).stderr


DIES = """
import os, time
from pathlib import Path
from streamlab import Pipeline
def fail(line):
    if line == "die":
        while not any(path.stat().st_size for path in Path("letters").glob("*.jsonl")):
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
    raise ValueError("never")
dies = Pipeline("dies").add("fail", fail)
"""


@pytest.mark.parametrize("command", [["purge", "letters", "--yes"], ["replay", "letters", "--pipeline", "pipes.py:mended"]])
def test_letters_of_a_run_that_was_given_up_go_when_that_is_said(folder: Path, command: list[str]) -> None:
    (folder / "dies.py").write_text(DIES)
    (folder / "in.log").write_text("".join(f"line {n}\n" for n in range(8)) + "die\n")
    options = ("--checkpoint-interval", "1000", "--dead-letters", "letters")
    assert streamlab_("in.log", "--pipeline", "dies.py", *RUN, *options, cwd=folder).returncode == -signal.SIGKILL
    before = streamlab_("dlq", "list", "letters", "--json", cwd=folder).stdout
    kept = streamlab_("dlq", *command, cwd=folder)
    assert kept.returncode == 0 and "letters stay" in kept.stderr.replace("letter of letters stays", "letters stay")
    assert "--all" in kept.stderr
    assert streamlab_("dlq", "list", "letters", "--json", cwd=folder).stdout == before != ""
    done = streamlab_("dlq", *command, "--all", cwd=folder)
    assert done.returncode == 0 and "stay" not in done.stderr
    if command[0] == "replay":
        assert done.stdout.splitlines() == [json.loads(line)["line"] for line in before.splitlines()]
    assert streamlab_("dlq", "list", "letters", "--json", cwd=folder).stdout == ""


def test_a_replay_that_was_interrupted_is_begun_anew(folder: Path) -> None:
    (folder / "stops.py").write_text(
        "from streamlab import Pipeline\n"
        "stops = Pipeline('mended').add('keep', lambda line: 1 / int(line != 'line 17'), on_error='stop')\n"
    )
    (folder / "in.log").write_text("line 7\nline 17\n")
    streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    stopped = streamlab_("dlq", "replay", "state", "--pipeline", "stops.py", "--output", "one.log", cwd=folder)
    assert stopped.returncode == 1
    again = ("dlq", "replay", "state", "--pipeline", "pipes.py:mended", "--output", "two.log")
    refused = streamlab_(*again, cwd=folder)
    assert refused.returncode == 2 and "--restart" in refused.stderr and not (folder / "two.log").exists()
    assert streamlab_(*again, "--restart", cwd=folder).returncode == 0
    assert rows(folder / "two.log") == ["line 7", "line 17"]
    assert "0 dead letters" in streamlab_("dlq", "list", "state", cwd=folder).stderr


@pytest.mark.parametrize("command", [["list"], ["purge", "--yes"], ["replay", "--pipeline", "pipes.py:mended"]])
def test_a_queue_that_is_not_there_is_said(folder: Path, command: list[str]) -> None:
    done = streamlab_("dlq", command[0], "nowhere", *command[1:], cwd=folder)
    assert done.returncode == 2 and "there is no dead letter queue in nowhere" in done.stderr
    assert not (folder / "nowhere").exists()


def test_what_is_wrong_with_a_checkpoint_is_said(folder: Path) -> None:
    (folder / "in.log").write_text("line\n")
    streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    other = streamlab_("in.log", "--pipeline", "pipes.py:mended", *RUN, cwd=folder)
    assert other.returncode == 2 and "has state of processor 'number'" in other.stderr
    assert rows(folder / "out.log") == ["1 line", "total 1"]


def test_controls_in_letters_do_not_reach_the_terminal(folder: Path) -> None:
    (folder / "in.log").write_bytes(b"\x1b[31m red 7\n")
    streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    assert "\x1b" not in streamlab_("dlq", "list", "state", cwd=folder).stdout


def test_letters_as_json_do_not_drive_a_terminal(folder: Path) -> None:
    line = "caf\u00e9 \u009b31m \u0080\u009f\u007f red 7"
    (folder / "in.log").write_text(f"{line}\n")
    streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    listed = streamlab_("dlq", "list", "state", "--json", cwd=folder).stdout
    assert "caf\u00e9 \\u009b31m \\u0080\\u009f\\u007f red 7" in listed
    assert json.loads(listed)["line"] == line


def test_lines_that_are_no_letters_are_told_of_where_letters_are_listed(folder: Path) -> None:
    (folder / "in.log").write_text("line 7\nline 17\n")
    streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    segment = folder / "state" / "dead_letters" / "letters-00000001.jsonl"
    text = segment.read_text() + '{"mine": 1}\nnor this\x9b\n'
    segment.write_text(text)
    for command in (["list", "state"], ["list", "state", "--json"]):
        listed = streamlab_("dlq", *command, cwd=folder)
        assert listed.returncode == 0 and "line 7" in listed.stdout and "line 17" in listed.stdout
        assert "letters-00000001.jsonl, lines 3, 4: these are no dead letters" in listed.stderr
        assert segment.read_text() == text


def test_a_replay_says_which_letters_it_leaves(folder: Path) -> None:
    (folder / "short.py").write_text(
        "from streamlab import Pipeline\nshort = Pipeline('short', max_line_bytes=8).add('keep', lambda line: line)\n"
    )
    (folder / "in.log").write_text("a\nwhat is too long\n")
    streamlab_("in.log", "--pipeline", "short.py:short", *RUN, cwd=folder)
    replayed = streamlab_("dlq", "replay", "state", "--pipeline", "pipes.py:mended", cwd=folder)
    assert (replayed.returncode, replayed.stdout) == (0, "")
    assert "1 dead letter of state/dead_letters cannot be run once more" in replayed.stderr
    assert "what is" in streamlab_("dlq", "list", "state", cwd=folder).stdout


def test_a_replay_has_the_options_of_a_run(folder: Path) -> None:
    (folder / "in.log").write_text("anna@example.org 7\nline 17\n")
    streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, cwd=folder)
    args = ("--pipeline", "pipes.py:numbered", "--redact", "email", "--workers", "2", "--isolation", "process")
    replayed = streamlab_("dlq", "replay", "state", *args, "--on-outage", "wait", cwd=folder)
    assert replayed.returncode == 0, replayed.stderr
    listed = streamlab_("dlq", "list", "state", "--json", cwd=folder).stdout
    assert [json.loads(letter)["line"] for letter in listed.splitlines()] == ["*** 7", "line 17"]
    wrong = streamlab_("dlq", "replay", "state", "--pipeline", "pipes.py:numbered", "--redact", "(", cwd=folder)
    assert wrong.returncode == 2 and "redact=" in wrong.stderr


def test_dead_letters_have_a_bound(folder: Path) -> None:
    (folder / "in.log").write_text("".join(f"line {n}7\n" for n in range(1000)))
    full = ("--dead-letters-max-bytes", "20000", "--dead-letters-when-full")
    stopped = streamlab_("in.log", "--pipeline", "pipes.py:numbered", *RUN, *full, "stop", cwd=folder)
    assert stopped.returncode == 1 and "state/dead_letters is full" in stopped.stderr
    args = ("--no-dashboard", "--output", "other.log", "--dead-letters", "letters")
    dropped = streamlab_("in.log", "--pipeline", "pipes.py:numbered", *args, *full, "drop_oldest", cwd=folder)
    assert dropped.returncode == 0 and "its oldest letters were dropped" in dropped.stderr
    assert sum(path.stat().st_size for path in (folder / "letters").glob("*.jsonl")) <= 20000
    none = streamlab_("in.log", "--no-dashboard", *full, "stop", cwd=folder)
    assert none.returncode == 2 and "give --dead-letters DIR, or --checkpoint DIR" in none.stderr


def test_a_full_disk_is_waited_for(folder: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs a device that is always full")
    (folder / "in.log").write_text("a\nb\n")
    (folder / "out.log").symlink_to("/dev/full")
    args = ("in.log", "--pipeline", "pipes.py:mended", "--no-dashboard", "--output", "out.log")
    failed = streamlab_(*args, cwd=folder)
    assert failed.returncode == 1 and "No space left on device" in failed.stderr
    program = begun(folder, *args, "--on-outage", "wait")
    time.sleep(2.0)
    assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=30)
    assert program.returncode == 1 and "No space left on device" in said


def test_one_signal_that_comes_twice_is_one(folder: Path) -> None:
    (folder / "in.log").write_text("a\n")
    program = begun(folder, "--follow", "in.log", "--pipeline", "pipes.py:numbered", *RUN)
    until(lambda: rows(folder / "out.log") == ["1 a"])
    program.send_signal(signal.SIGTERM)
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=30)
    assert program.returncode == 0 and "stopped" in said


def test_who_asks_for_letters_and_goes_away_is_no_failure(folder: Path) -> None:
    (folder / "in.log").write_text("".join(f"line {n}\n" for n in range(20_000)))
    failing = "from streamlab import Pipeline\nall = Pipeline('all').add('fail', int)\n"
    (folder / "fails.py").write_text(failing)
    streamlab_("in.log", "--pipeline", "fails.py:all", "--dead-letters", "letters", "--no-dashboard", cwd=folder)
    command = f"{sys.executable} -m streamlab dlq list letters --json | head -1 > first; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("141\n", "")
    assert json.loads((folder / "first").read_text())["line"] == "line 0"


def test_help_that_nobody_reads_ends_as_what_nobody_reads_does() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "streamlab", "--help"], stdout=writer, stderr=subprocess.PIPE, timeout=30)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_letters_are_not_let_go_of_when_nobody_can_be_asked(folder: Path) -> None:
    (folder / "in.log").write_text("a\n")
    (folder / "fails.py").write_text("from streamlab import Pipeline\nall = Pipeline('all').add('fail', int)\n")
    streamlab_("in.log", "--pipeline", "fails.py:all", "--dead-letters", "letters", "--no-dashboard", cwd=folder)
    done = streamlab_("dlq", "purge", "letters", stdin=b"", cwd=folder)
    assert done.returncode == 130 and done.stderr.endswith("\nno dead letter was purged; --yes does not ask\n")
    assert "1 dead letter" in streamlab_("dlq", "list", "letters", cwd=folder).stderr


def test_there_must_be_something_to_follow(folder: Path) -> None:
    done = streamlab_("--follow", "--no-dashboard", cwd=folder)
    assert done.returncode == 2 and "--follow needs a SOURCE" in done.stderr


LARGE = """
import os

class Large(Number):
    def __getstate__(self): return {"n": self.n, "noise": os.urandom(100_000)}

large = Pipeline("large").add("number", Large)
"""


@pytest.mark.parametrize(("numbers", "code"), [(["TERM"], 0), (["INT"], 130), (["TERM", "TERM"], 143)])
def test_a_signal_ends_a_program_that_cannot_save_where_it_begins(folder: Path, numbers: list[str], code: int) -> None:
    (folder / "large.py").write_text(PIPELINES + LARGE)
    (folder / "in.log").write_text("line\n")
    args = ("in.log", "--pipeline", "large.py:large", *RUN)
    streamlab_(*args, cwd=folder)
    (folder / "in.log").write_text("line\none more\n")
    no_room = "ulimit -f 40; exec " + shlex.join([sys.executable, "-m", "streamlab", *args, "--on-outage", "wait"])
    program = subprocess.Popen(
        ["bash", "-c", no_room], cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert program.stderr is not None
    said = program.stderr.readline()
    while "cannot be written" not in said:
        said = program.stderr.readline()
    for number in numbers:
        program.send_signal(signal.Signals[f"SIG{number}"])
        while number == "TERM" and "Shutting down" not in said:
            said = program.stderr.readline()
        time.sleep(0.2)  # else it were the same one
    program.communicate(timeout=20)
    assert program.returncode == code
    assert rows(folder / "out.log") == ["1 line", "total 1"]
    streamlab_(*args, cwd=folder)
    assert rows(folder / "out.log") == ["1 line", "total 1", "2 one more", "total 2"]


@pytest.mark.parametrize("option", ["--checkpoint-interval", "--watchdog"])
@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "often"])
def test_seconds_are_a_number_above_0(folder: Path, option: str, given: str) -> None:
    done = streamlab_("in.log", *RUN, f"{option}={given}", cwd=folder)
    assert (
        done.returncode == 2 and f"Invalid value for '{option}': '{given}' is not a number of seconds above 0" in done.stderr
    )
    assert not (folder / "out.log").exists() and not (folder / "state").exists()


def test_an_interval_needs_a_checkpoint(folder: Path) -> None:
    done = streamlab_("in.log", "--no-dashboard", "--checkpoint-interval", "2", cwd=folder)
    assert done.returncode == 2 and "--checkpoint-interval needs --checkpoint DIR" in done.stderr


def test_the_interval_and_the_watchdog_are_as_they_were_asked_for(folder: Path) -> None:
    (folder / "in.log").write_text("".join(f"line {n}\n" for n in range(3000)))
    (folder / "late.py").write_text(
        "from streamlab import Pipeline\nimport time\n"
        "late = Pipeline('late').add('late', lambda line: time.sleep(0.7 if line == 'line 0' else 0.001) or line)\n"
    )
    quick = ("--watchdog", "0.1", "--checkpoint-interval", "0.05")
    program = begun(folder, "in.log", "--pipeline", "late.py", *RUN, *quick)
    until(lambda: len(rows(folder / "out.log")) > 500)
    program.kill()
    _, said = program.communicate(timeout=20)
    assert "processor 'late', line 0: " in said
    again = streamlab_("in.log", "--pipeline", "late.py", *RUN, "--checkpoint-interval", "100", cwd=folder)
    assert "late: goes on after" in again.stderr and rows(folder / "out.log") == [f"line {n}" for n in range(3000)]
