"""Dead letters are kept whole, within bounds, and replayed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline
from streamlab.dead_letters import DeadLetterQueue
from streamlab.dead_letters.box import LetterBox
from streamlab.dead_letters.letter import LETTER_COLUMNS, LetterFields, encoded, letters_of
from streamlab.errors import RunError, SinkError
from streamlab.failures import Failure
from streamlab.run import ENDED, Run
from streamlab.texts import as_bytes
from tests.waiting import until

ODD = ["plain", "caf\u00e9", "bytes \udcff\udc80", "nul \0", "", "x" * 5000]


def fails(word: str = "") -> Pipeline:
    """Return a pipeline that fails on lines with a word."""
    pipeline = Pipeline("fails")

    @pipeline.processor
    def fail(line: str) -> str:
        if word in line:
            raise ValueError(f"has {word!r}")
        return line.upper()

    return pipeline


def texts(folder: Path) -> list[str]:
    return [letter["line"] for letter in DeadLetterQueue(folder).letters()]


def test_a_letter_says_all_there_is_to_say(tmp_path: Path) -> None:
    (tmp_path / "in.log").write_bytes(b"good\nnot \xff good\n")
    start = time.time()
    run = fails("not").run(tmp_path / "in.log", dead_letters=tmp_path / "letters", output=tmp_path / "out")
    [segment] = (tmp_path / "letters").glob("*.jsonl")
    [letter] = [json.loads(line) for line in segment.read_text().splitlines()]
    assert tuple(letter) == LETTER_COLUMNS
    assert start - 1 <= letter.pop("first_failed_at") == letter.pop("last_failed_at") <= time.time() + 1
    assert letter.pop("event_id").endswith("-0")
    assert len(letter.pop("pipeline_version")) == 12
    assert base64.b64decode(letter.pop("line_b64")) == b"not \xff good"
    assert letter == {
        "source": str(tmp_path / "in.log"),
        "offset": 5,
        "line_no": 1,
        "line": "not ? good",
        "processor": "fail",
        "kind": "processing",
        "error": "ValueError",
        "message": "has 'not'",
        "attempts": 1,
        "path": "fail",
    }
    [row] = run.dead_letters.to_dict("records")
    assert (row["line"], row["offset"], row["line_no"]) == ("not \udcff good", 5, 1)
    assert tuple(run.dead_letters) == LETTER_COLUMNS
    assert isinstance(row["first_failed_at"], pd.Timestamp)


@given(lines=st.lists(st.text(st.characters(exclude_categories=(), exclude_characters="\n")), max_size=5))
def test_any_text_comes_back_from_a_queue(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("letters")
    fails().run(lines, dead_letters=folder)
    run = Pipeline("keep").add("keep", lambda line: line).replay(folder)
    whole = [line.removesuffix("\r") if line.endswith("\r\n") else line for line in lines]
    assert [*map(as_bytes, run.output["value"])] == [*map(as_bytes, whole)]
    assert texts(folder) == []


def test_letters_of_several_runs_stay_together(tmp_path: Path) -> None:
    for line in ("a", "b"):
        fails().run([line], dead_letters=tmp_path / "letters")
    assert texts(tmp_path / "letters") == ["a", "b"]
    ids = {letter["event_id"] for letter in DeadLetterQueue(tmp_path / "letters").letters()}
    assert len(ids) == 2


def test_two_runs_cannot_write_to_one_queue(tmp_path: Path) -> None:
    live = fails().start(slowly(1000), dead_letters=tmp_path / "letters")
    with pytest.raises(SinkError, match="being written by another run"):
        fails().run(["a"], dead_letters=tmp_path / "letters")
    with pytest.raises(SinkError, match="being written by another run"):
        fails().replay(tmp_path / "letters")
    live.stop()
    live.wait(20)
    fails().run(["a"], dead_letters=tmp_path / "letters")


def slowly(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"line {number}"
        time.sleep(0.001)


# Bounds

LINES = [f"line {number:05}" for number in range(2000)]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.jsonl"))


def test_the_oldest_letters_go_and_it_is_said_how_many(tmp_path: Path) -> None:
    queue = DeadLetterQueue(tmp_path, max_bytes=100_000, when_full="drop_oldest")
    run = fails().run(trickle(LINES), dead_letters=queue)
    assert run.state == "finished"
    assert size(tmp_path) <= 100_000
    kept = texts(tmp_path)
    assert 100 < len(kept) < len(LINES) and kept == LINES[-len(kept) :]
    dropped = run.notices[run.notices["kind"] == "dropped"]
    assert dropped["lost_lines"].sum() == run.notices.attrs["lost_lines"] == len(LINES) - len(kept)


def trickle(lines: list[str]) -> Iterator[str]:
    yield from lines


def test_a_run_fails_when_its_queue_is_full_and_it_is_told_to(tmp_path: Path) -> None:
    run = fails().run(trickle(LINES), dead_letters=DeadLetterQueue(tmp_path, max_bytes=100_000, when_full="stop"))
    assert run.state == "failed" and "full" in str(run.exception)
    assert texts(tmp_path) == LINES[: len(texts(tmp_path))]
    assert size(tmp_path) <= 100_000


def test_a_run_waits_for_room_in_its_queue(tmp_path: Path) -> None:
    queue = DeadLetterQueue(tmp_path, max_bytes=100_000)
    live = fails().start(trickle(LINES), dead_letters=queue)
    seen: list[str] = []
    while live.state != "finished":
        until(lambda: live.state in ("paused", "finished"))
        if live.state == "paused":
            assert "is full" in str(live.reason) and "streamlab dlq purge" in str(live.reason)
            seen = [*dict.fromkeys([*seen, *texts(tmp_path)])]
            assert DeadLetterQueue(tmp_path).purge() > 0
            until(lambda: live.state != "paused")
    seen = [*dict.fromkeys([*seen, *texts(tmp_path)])]
    assert seen == LINES
    assert live.ledger["dead_lettered"] == len(LINES)


def test_the_folder_of_a_checkpoint_is_not_taken_for_a_queue_without_letters(tmp_path: Path) -> None:
    fails("not").run(["not good"], checkpoint=tmp_path / "state", output=tmp_path / "out")
    queue = DeadLetterQueue(tmp_path / "state")
    for ask in (queue.purge, lambda: list(queue.letters())):
        with pytest.raises(SinkError, match=r"state is a checkpoint, .*: its queue is .*dead_letters"):
            ask()
    assert repr(queue) == f"DeadLetterQueue({str(tmp_path / 'state')!r})"
    assert DeadLetterQueue.at(tmp_path / "state").purge() == 1


def test_letters_are_purged_while_the_oldest_are_dropped(tmp_path: Path) -> None:
    queue = DeadLetterQueue(tmp_path, max_bytes=16_000, when_full="drop_oldest")
    live = fails().start(trickle(LINES), dead_letters=queue)

    def purge() -> int:
        purged = 0
        while live.state not in ENDED:
            purged += DeadLetterQueue(tmp_path).purge()
        return purged

    with ThreadPoolExecutor(2) as others:
        purging = [others.submit(purge) for _ in range(2)]
        live.wait(50)
    assert live.state == "finished", live.exception
    purged = sum(others.result() for others in purging)
    assert purged + live.notices.attrs["lost_lines"] + len(texts(tmp_path)) == len(LINES)


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"max_bytes": 1.5}, {"when_full": "perhaps"}])
def test_wrong_bounds_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SinkError, match=next(iter(wrong))):
        DeadLetterQueue(tmp_path, **wrong)


# Queues that are larger than memory


def filled(folder: Path, count: int) -> dict[str, int]:
    """Write so many letters of lineage "one", and return the mark of the end."""
    queue = DeadLetterQueue(folder, max_bytes=1 << 22)
    queue.begin("one")
    lines = (Failure(n, 0.0, "p", "processing", "E", "m", f"line {n}", number=n) for n in range(count))
    for piece in queue.packed(lines):
        queue.write(piece)
    queue.close()
    return queue.mark()


def test_letters_are_read_one_at_a_time(tmp_path: Path) -> None:
    filled(tmp_path, 10_000)
    tracemalloc.start()
    assert sum(1 for _ in DeadLetterQueue(tmp_path).letters()) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000 < size(tmp_path)


def test_who_goes_on_does_not_read_the_whole_queue(tmp_path: Path) -> None:
    mark = filled(tmp_path, 10_000)
    *_, before, last = sorted(tmp_path.glob("*.jsonl"))
    for segment in sorted(tmp_path.glob("*.jsonl"))[:-2]:
        segment.unlink()
        segment.mkdir()  # opening it is an error
    queue = DeadLetterQueue(tmp_path)
    queue.resume(mark, 10_000, "one")
    assert [failure.line for failure in queue.recent("one", 3)] == ["line 9997", "line 9998", "line 9999"]
    newest = before.read_bytes().count(b"\n") + last.read_bytes().count(b"\n")
    assert [failure.number for failure in queue.recent("one", newest)] == [*range(10_000 - newest, 10_000)]
    queue.close()


def test_a_change_that_is_interrupted_is_done_again(tmp_path: Path) -> None:
    filled(tmp_path, 10_000)
    at = 0

    def odd(letter: LetterFields) -> list[LetterFields] | None:
        if letter["line_no"] == at:
            raise KeyboardInterrupt
        return [letter | {"attempts": 2}] if int(letter["line"][5:]) % 2 else []

    for at in (3000, 7000, -1):
        queue = DeadLetterQueue(tmp_path)
        queue.begin()
        with pytest.raises(KeyboardInterrupt) if at > 0 else nullcontext():
            queue.change(odd)
        queue.close()
        numbers = [int(line[5:]) for line in texts(tmp_path)]
        assert numbers == sorted({*numbers}) and {*range(1, 10_000, 2)} <= {*numbers}
    assert [(letter["line"], letter["attempts"]) for letter in DeadLetterQueue(tmp_path).letters()] == [
        (f"line {n}", 2) for n in range(1, 10_000, 2)
    ]


def test_only_segments_in_which_something_changes_are_written(tmp_path: Path) -> None:
    filled(tmp_path, 10_000)
    before = {path: path.stat().st_ino for path in tmp_path.glob("*.jsonl")}
    queue = DeadLetterQueue(tmp_path)
    queue.hold()
    queue.change(lambda letter: [] if letter["line"] == "line 5000" else None)
    queue.release()
    assert sum(path.stat().st_ino != number for path, number in before.items()) == 1 < len(before)
    assert texts(tmp_path) == [f"line {n}" for n in range(10_000) if n != 5000]


# Replaying


def test_letters_of_a_table_are_run_once_more() -> None:
    run = fails("o").run(["one", "two", "six", "four"])
    again = fails("two").replay(run.dead_letters)
    assert again.output["value"].tolist() == ["ONE", "FOUR"]
    [before], [after] = run.dead_letters.iloc[[1]].to_dict("records"), again.dead_letters.to_dict("records")
    for name in ("event_id", "source", "line_no", "line", "first_failed_at"):
        if name != "first_failed_at":
            assert after[name] == before[name]
    assert abs(after["first_failed_at"] - before["first_failed_at"]) < pd.Timedelta("2us")
    assert after["attempts"] == 2 and after["last_failed_at"] >= before["last_failed_at"]
    third = fails("nothing").replay(again.dead_letters)
    assert third.output["value"].tolist() == ["TWO"]


def test_a_part_of_a_table_is_enough_and_other_tables_are_none() -> None:
    run = fails().run(ODD)
    part = run.dead_letters[run.dead_letters["line"].str.len() < 10]
    assert fails("?").replay(part).output["value"].tolist() == [line.upper() for line in ODD if len(line) < 10]
    with pytest.raises(RunError, match="no dead letters: column 'event_id' is missing"):
        fails().replay(run.output)
    with pytest.raises(RunError, match="no dead letters"):
        fails().replay(7)  # type: ignore[arg-type]


def test_letters_that_come_through_are_taken_out_of_the_queue(tmp_path: Path) -> None:
    fails("o").run(["one", "two", "six", "four"], dead_letters=tmp_path / "letters")
    run = fails("two").replay(tmp_path / "letters", output=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "ONE\nFOUR\n"
    [left] = DeadLetterQueue(tmp_path / "letters").letters()
    assert (left["line"], left["line_no"], left["attempts"], left["message"]) == ("two", 1, 2, "has 'two'")
    assert run.state == "finished"
    assert sorted(os.listdir(tmp_path / "letters")) == ["letters-00000001.jsonl", "letters.lock"]


class Ends:
    def __call__(self, line: str) -> None:
        raise ValueError("never")

    def flush(self) -> Any:
        raise RuntimeError("nor at the end")


def test_what_has_no_whole_line_stays(tmp_path: Path) -> None:
    Pipeline("ends", max_line_bytes=10).add("end", Ends).run(["a", "x" * 11], dead_letters=tmp_path / "letters")
    kinds = [letter["kind"] for letter in DeadLetterQueue(tmp_path / "letters").letters()]
    assert sorted(kinds) == ["oversize", "processing", "processing"]
    run = fails("nothing").replay(tmp_path / "letters")
    assert run.output["value"].tolist() == ["A"]
    left = [(letter["kind"], letter["line_no"]) for letter in DeadLetterQueue(tmp_path / "letters").letters()]
    assert sorted(left, key=str) == [("oversize", 1), ("processing", None)]


def test_a_part_of_a_line_is_not_run_as_the_line(tmp_path: Path) -> None:
    pipeline = Pipeline("short", max_line_bytes=20).add("keep", str)
    run = pipeline.run([12345678, "x" * 21, {"a": 1}, "good"], dead_letters=tmp_path / "letters")
    assert run.dead_letters[["line", "kind"]].values.tolist() == [
        ["12345", "decode"],
        ["x" * 20, "oversize"],
        ["{'a':", "decode"],
    ]
    for letters in (run.dead_letters, tmp_path / "letters"):
        again = Pipeline("any").add("keep", str).replay(letters)
        assert again.ledger["received"] == 0
        assert "3 dead letters" in again.notices["message"][0] and "stay" in again.notices["message"][0]
    assert len(texts(tmp_path / "letters")) == 3


def test_what_is_shown_to_be_whole_is_run(tmp_path: Path) -> None:
    class Entry:
        def __str__(self) -> str:
            return '{"level": "warn"}'

    Pipeline("texts").add("keep", str).run([Entry()], dead_letters=tmp_path)
    assert Pipeline("texts").add("keep", str).replay(tmp_path).output["value"].tolist() == [str(Entry())]
    assert texts(tmp_path) == []


class EndsBadly:
    def __call__(self, line: str) -> str:
        return line

    def flush(self) -> Any:
        raise RuntimeError("at the end")


def test_what_fails_at_the_end_of_a_replay_is_a_letter_more(tmp_path: Path) -> None:
    fails().run(["a", "b"], dead_letters=tmp_path)
    for count in (1, 2):
        Pipeline("ends").add("end", EndsBadly).replay(tmp_path)
        letters = [(letter["line_no"], letter["message"]) for letter in DeadLetterQueue(tmp_path).letters()]
        assert letters == [(None, "at the end")] * count


def forked() -> Pipeline:
    pipeline = Pipeline("forked")
    pipeline.add("fork", lambda line: [("bad", line), ("bad", line), ("good", line)], to=("bad", "good"))
    pipeline.add("bad", lambda line: 1 / 0)
    pipeline.add("good", str.upper)
    return pipeline


def test_a_line_that_fails_in_several_branches_is_several_letters(tmp_path: Path) -> None:
    forked().run(["a", "b"], dead_letters=tmp_path / "letters")
    assert texts(tmp_path / "letters") == ["a", "a", "b", "b"]
    for attempts in (2, 3):
        run = forked().replay(tmp_path / "letters")
        assert run.output["value"].tolist() == ["A", "B"]
        letters = [*DeadLetterQueue(tmp_path / "letters").letters()]
        assert texts(tmp_path / "letters") == ["a", "a", "b", "b"]
        assert {letter["attempts"] for letter in letters} == {attempts}


KILLED = """
import os, shutil, sys
from pathlib import Path
from streamlab import Pipeline
from streamlab.dead_letters import DeadLetterQueue

def pipeline(hard):
    def number(line):
        if int(line) % hard == 0:
            raise ValueError(line)
        return line
    made = Pipeline("forked").add("fork", lambda line: [("x", line), ("y", line)], to=("x", "y"))
    return made.add("x", number).add("y", number)

def outcome():
    letters = [(letter["event_id"], letter["line"], letter["attempts"]) for letter in DeadLetterQueue("queue").letters()]
    return letters, Path("out").read_text() if Path("out").exists() else None

def killed(step):
    child = os.fork()
    if not child:
        taken = 0
        def counted(real):
            def call(*args, **options):
                nonlocal taken
                taken += 1
                if taken == step:
                    os._exit(9)
                return real(*args, **options)
            return call
        for name in ("rename", "unlink", "rmdir", "mkdir", "fsync", "ftruncate", "pwrite", "open"):
            setattr(os, name, counted(getattr(os, name)))
        pipeline(3).replay("queue", output="out")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

os.chdir(sys.argv[1])
bounded = DeadLetterQueue("before", max_bytes=16_000, when_full="drop_oldest")
pipeline(1).run(map(str, range(9)), dead_letters=bounded, output=os.devnull)
wanted, step = None, 0
while True:
    shutil.copytree("before", "queue")
    interrupted = killed(step)
    if interrupted and (Path("queue/replay").exists() or not Path("out").exists()):
        assert pipeline(3).replay("queue", output="out").state == "finished"
    wanted = wanted or outcome()
    assert outcome() == wanted, (step, outcome(), wanted)
    shutil.rmtree("queue")
    Path("out").unlink()
    if step and not interrupted:
        break
    step += 1
print(len(list(Path("before").glob("*.jsonl"))), len(wanted[0]), step)
"""


def test_a_replay_that_is_killed_at_any_step_is_gone_on_with(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    segments, letters, steps = map(int, done.stdout.split())
    assert segments > 1 and letters == 6 and steps > 30


def test_a_queue_is_made_to_last_while_it_goes_on_to_its_next_segment(tmp_path: Path) -> None:
    queue = DeadLetterQueue(tmp_path, max_bytes=8_000, when_full="drop_oldest")
    queue.begin("one")
    done = threading.Event()

    def lasts() -> None:
        while not done.is_set():
            queue.sync()

    with ThreadPoolExecutor(1) as saver:
        syncing = saver.submit(lasts)
        try:
            for _ in range(600):
                queue.write(b"x" * 1001 + b"\n")  # each in a segment of its own
        finally:
            done.set()
    syncing.result()
    queue.close()


def keeps() -> Pipeline:
    return Pipeline("keeps").add("keep", str)


KILLED_RUN = """
import os, signal, sys, time
from pathlib import Path
from streamlab import Pipeline
from streamlab.checkpoint import Checkpoint
folder, name, lines = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
before = sum(path.stat().st_size for path in folder.glob("letters/*.jsonl"))
def fail(line):
    if line == "die":
        while sum(path.stat().st_size for path in folder.glob("letters/*.jsonl")) == before:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(line)
options = {"checkpoint": Checkpoint(folder / name, interval=1000), "dead_letters": folder / "letters"}
Pipeline("fails").add("fail", fail).run(lines, output=folder / f"{name}.out", **options)
"""


def killed(folder: Path, name: str) -> list[str]:
    """Kill a run that has written letters, and has not saved that; return its lines."""
    lines = [*(f"line {n} of {name}" for n in range(8)), "die"]
    done = subprocess.run([sys.executable, "-c", KILLED_RUN, folder, name, *lines], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return lines


def test_letters_of_killed_runs_stay_until_these_are_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    lines = {name: killed(tmp_path, name) for name in ("one", "two")}
    fails().run(["of another"], output=tmp_path / "out", checkpoint=tmp_path / "three", dead_letters=folder)
    before = texts(folder)
    run = keeps().replay(folder)
    assert run.output["value"].tolist() == ["of another"]
    assert run.notices["kind"].tolist() == ["left"] and "when it is gone on with" in run.notices["message"][0]
    assert texts(folder) == before[:-1]
    for name in lines:
        options: dict[str, Any] = {"checkpoint": tmp_path / name, "dead_letters": folder}
        assert fails("line").run(lines[name], output=tmp_path / f"{name}.out", **options).state == "finished"
    assert keeps().replay(folder).output["value"].tolist() == [*lines["one"][:-1], *lines["two"][:-1]]
    assert os.listdir(folder) == ["letters.lock"]


def test_letters_of_a_run_that_was_given_up_can_be_purged(tmp_path: Path) -> None:
    killed(tmp_path, "one")
    shutil.rmtree(tmp_path / "one")
    queue = DeadLetterQueue.at(tmp_path / "letters")
    count = len([*queue.letters()])
    assert queue.purge() == 0 and len([*queue.letters()]) == count
    [notice] = queue.notices
    assert notice.kind == "left" and "purge --all" in notice.message
    assert queue.purge(all=True) == count
    assert os.listdir(tmp_path / "letters") == ["letters.lock"]


def test_a_run_that_was_given_up_and_is_gone_on_with_writes_its_letters_again(tmp_path: Path) -> None:
    lines = killed(tmp_path, "one")
    assert DeadLetterQueue.at(tmp_path / "letters").purge(all=True) > 0
    options: dict[str, Any] = {"checkpoint": tmp_path / "one", "dead_letters": tmp_path / "letters"}
    assert fails("line").run(lines, output=tmp_path / "one.out", **options).state == "finished"
    assert texts(tmp_path / "letters") == lines[:-1]


def stops() -> Pipeline:
    return Pipeline("stops").add("stop", lambda line: 1 / 0, on_error="stop")


def test_a_replay_that_was_interrupted_is_not_gone_on_with_by_another(tmp_path: Path) -> None:
    fails().run(["a"], dead_letters=tmp_path / "letters")
    assert stops().replay(tmp_path / "letters", output=tmp_path / "one").state == "failed"
    with pytest.raises(RunError, match="was interrupted, and this one cannot go on with it") as refused:
        stops().replay(tmp_path / "letters", output=tmp_path / "two")
    assert str(tmp_path / "one") in str(refused.value) and "--restart" in str(refused.value)
    assert "another checkpoint" not in str(refused.value)
    assert texts(tmp_path / "letters") == ["a"]


def test_a_replay_that_is_gone_on_with_says_that_it_keeps_to_what_was_chosen(tmp_path: Path) -> None:
    fails().run(["a"], dead_letters=tmp_path / "letters")
    assert stops().replay(tmp_path / "letters").notices.empty
    mended = Pipeline("stops").add("stop", lambda line: line).replay(tmp_path / "letters")
    [message] = mended.notices.query("kind == 'continued'")["message"]
    assert "was interrupted" in message and "--restart" in message
    assert mended.output["value"].tolist() == ["a"]


def test_letters_that_were_copied_without_their_lock_are_there(tmp_path: Path) -> None:
    fails().run(["a", "b"], dead_letters=tmp_path / "letters")
    (tmp_path / "copied").mkdir()
    for segment in (tmp_path / "letters").glob("*.jsonl"):
        shutil.copy(segment, tmp_path / "copied")
    assert [letter["line"] for letter in LetterBox.at(tmp_path / "copied").letters()] == ["a", "b"]
    assert keeps().replay(tmp_path / "copied").output["value"].tolist() == ["a", "b"]
    assert texts(tmp_path / "copied") == []


def test_a_replay_that_is_refused_does_not_bind_the_next(tmp_path: Path) -> None:
    fails().run(["a"], dead_letters=tmp_path / "letters")
    (tmp_path / "one").write_text("mine\n")
    with pytest.raises(SinkError, match="is there already and not empty"):
        keeps().replay(tmp_path / "letters", output=tmp_path / "one")
    fails().run(["b"], dead_letters=tmp_path / "letters")
    assert keeps().replay(tmp_path / "letters").output["value"].tolist() == ["a", "b"]


def test_a_queue_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="there is no dead letter queue in"):
        fails().replay(tmp_path / "nowhere")


def test_a_torn_letter_is_none_yet(tmp_path: Path) -> None:
    fails().run(["a", "b"], dead_letters=tmp_path)
    [segment] = tmp_path.glob("*.jsonl")
    with segment.open("a") as file:
        file.write('{"event_id": "x", "li')
    queue = DeadLetterQueue(tmp_path)
    assert [letter["line"] for letter in queue.letters()] == ["a", "b"]
    assert not queue.notices


LATE = Failure(1, 1e300, "p", "processing", "E", "m", "line", number=1)
NEVER = encoded(next(letters_of([LATE], "x", ""))).decode().strip()
FOREIGN = ["no JSON", NEVER, '{"mine": 1}', "7", "[]", "", '{"event_id": "x-1"}', "[" * 10_000, "\udcff\udc80"]


@pytest.mark.parametrize("foreign", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_line_is_told_of_and_left_alone(tmp_path: Path, foreign: str) -> None:
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    fails().run(["a", "b", "c"], **options)
    [segment] = (tmp_path / "state" / "dead_letters").glob("*.jsonl")
    raw = foreign.encode("utf-8", "surrogateescape") + b"\n"
    first, *others = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join((first, raw, *others, raw)))
    queue = DeadLetterQueue.at(tmp_path / "state")
    assert [letter["line"] for letter in queue.letters()] == ["a", "b", "c"]
    assert [notice.message.partition(": ")[0] for notice in queue.notices] == [f"{segment}, lines 2, 5"]
    run = fails("b").replay(tmp_path / "state")
    assert run.output["value"].tolist() == ["A", "C"]
    assert "lines 2, 5: these are no dead letters" in run.notices["message"][0]
    assert fails().run(["a", "b", "c", "d"], **options).state == "finished"
    assert texts(tmp_path / "state" / "dead_letters") == ["b", "d"]
    assert segment.read_bytes().split(b"\n").count(raw[:-1]) == (2 if foreign else 3)


def test_letters_go_on_with_a_checkpoint(tmp_path: Path) -> None:
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    lines = [f"line {number}" for number in range(100)]
    first: Run = fails("7").run(lines, **options)
    second = fails("7").run([*lines, "line 107"], **options)
    known = first.dead_letters["event_id"].tolist()
    assert second.dead_letters["event_id"].tolist()[:-1] == known
    assert second.dead_letters["line"].iloc[-1] == "line 107"
    assert second.dead_letters.attrs["total"] == len(known) + 1
    assert len(texts(tmp_path / "state" / "dead_letters")) == len(known) + 1


def test_a_run_that_goes_on_leaves_the_letters_of_others(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dead_letters": tmp_path / "letters"}
    fails().run(["a"], output=tmp_path / "a", checkpoint=tmp_path / "one", **options)
    fails().run(["b"], output=tmp_path / "b", checkpoint=tmp_path / "two", **options)
    run = fails().run(["a", "c"], output=tmp_path / "a", checkpoint=tmp_path / "one", **options)
    assert texts(tmp_path / "letters") == ["a", "b", "c"]
    assert run.dead_letters["line"].tolist() == ["a", "c"]


@pytest.mark.parametrize("word", ["7", "nothing"])
def test_a_run_goes_on_after_a_replay_and_after_a_purge(tmp_path: Path, word: str) -> None:
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    lines = [f"line {number}" for number in range(20)]
    fails().run(lines, **options)
    fails(word).replay(tmp_path / "state")
    left = [line for line in lines if word in line]
    assert texts(tmp_path / "state" / "dead_letters") == left
    fails().run([*lines, "more"], **options)
    assert texts(tmp_path / "state" / "dead_letters") == [*left, "more"]
    assert DeadLetterQueue.at(tmp_path / "state").purge() == len(left) + 1
    run = fails().run([*lines, "more", "and more"], **options)
    assert texts(tmp_path / "state" / "dead_letters") == ["and more"]
    assert run.ledger["dead_lettered"] == 22


def test_letters_of_branches_that_failed_again_go_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    forked().run(["a"], **options)
    forked().replay(tmp_path / "state")
    run = forked().run(["a", "b"], **options)
    assert run.state == "finished"
    assert texts(tmp_path / "state" / "dead_letters") == ["a", "a", "b", "b"]


def test_files_of_others_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "20250105.jsonl").write_text('{"mine": 1}\n')
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state", "dead_letters": tmp_path}
    fails().run(["a"], **options)
    fails().run(["a", "b"], **options)
    assert texts(tmp_path) == ["a", "b"]
    DeadLetterQueue(tmp_path).purge()
    assert (tmp_path / "20250105.jsonl").read_text() == '{"mine": 1}\n'


def test_files_that_have_names_like_those_of_the_queue_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    fails().run(["one"], dead_letters=folder, output=tmp_path / "out", checkpoint=tmp_path / "state")
    for number, name in enumerate(["letters-app.log", "letters-1.jsonl", "letters-00000001.jsonl.old", "lock"]):
        (folder / name).write_text(f"{number}\n")
    run = fails("-").run(folder, dead_letters=folder, output=None)
    assert sorted(run.output["value"]) == ["0", "1", "2", "3"]


def test_a_file_of_the_user_that_is_called_lock_stays(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("three words here\n")
    fails().run(["a"], dead_letters=tmp_path)
    assert (tmp_path / "lock").read_text() == "three words here\n"


@pytest.mark.parametrize("text", [b"one two three four", bytes(50), b"9" * 90, b"\xff\n", b""])
def test_a_queue_whose_lock_and_notes_a_crash_has_spoilt_goes_on(tmp_path: Path, text: bytes) -> None:
    fails().run(["a"], dead_letters=tmp_path)
    (tmp_path / "letters.lock").write_bytes(text)
    (tmp_path / "letters-0123abcd.run").write_bytes(text)
    fails().run(["b"], dead_letters=tmp_path)
    assert keeps().replay(tmp_path).output["value"].tolist() == ["a", "b"]


def test_checkpoint_and_queue_may_be_in_one_folder(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "checkpoint": tmp_path / "both",
        "dead_letters": tmp_path / "both",
        "output": tmp_path / "out",
    }
    fails("b").run(["a", "b"], **options)
    assert fails("b").run(["a", "b", "bc"], **options).state == "finished"
    assert texts(tmp_path / "both") == ["b", "bc"] and (tmp_path / "out").read_text() == "A\n"
    assert keeps().replay(tmp_path / "both").output["value"].tolist() == ["b", "bc"]


def test_a_segment_that_is_shorter_than_it_was_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"output": tmp_path / "out", "checkpoint": tmp_path / "state"}
    fails().run(["a", "b"], **options)
    [segment] = (tmp_path / "state" / "dead_letters").glob("*.jsonl")
    segment.write_text("")
    with pytest.raises(SinkError, match=r"is shorter than the .* bytes that were written to it"):
        fails().run(["a", "b", "c"], **options)


def test_a_purge_forgets_a_replay_that_was_interrupted(tmp_path: Path) -> None:
    fails().run(["a"], dead_letters=tmp_path)
    run = Pipeline("stop").add("stop", lambda line: 1 / 0, on_error="stop").replay(tmp_path)
    assert run.state == "failed"
    DeadLetterQueue(tmp_path).purge()
    assert Pipeline("keep").add("keep", str).replay(tmp_path).ledger["received"] == 0


def test_a_queue_that_cannot_be_gone_on_with_is_let_go_of(tmp_path: Path) -> None:
    queue = DeadLetterQueue(tmp_path)
    queue.begin("run")
    queue.write(b"".join(queue.packed([])) or b"x\n")
    mark = queue.mark()
    queue.close()
    [segment] = tmp_path.glob("*.jsonl")
    content = segment.read_bytes()
    segment.write_bytes(b"")
    with pytest.raises(SinkError, match="is shorter than") as error:
        queue.resume(mark, 0, "run")
    segment.write_bytes(content)
    again = DeadLetterQueue(tmp_path)
    again.resume(mark, 0, "run")
    again.close()
    assert error.value.__traceback__ is not None  # which holds on to the first


@pytest.mark.parametrize("folder", [5, "", None])
def test_what_is_no_folder_is_refused(folder: Any) -> None:
    with pytest.raises(SinkError, match="is no folder for dead letters: give the path of one"):
        DeadLetterQueue(folder)
