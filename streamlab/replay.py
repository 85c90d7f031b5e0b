"""Running dead letters once more: those of a table, or those of a queue, which are taken out of it if they come through."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import msgspec

from streamlab.appending import Appending, sync_folder
from streamlab.dead_letters import LETTER_COLUMNS, DeadLetterQueue, line_key
from streamlab.errors import RunError
from streamlab.launch import Options, execute
from streamlab.pipeline import Pipeline
from streamlab.run import Run
from streamlab.sources.letters import LetterSource

Choice = Callable[[Mapping[str, Any]], bool]


def replay_table(pipeline: Pipeline, letters: Any, options: Options) -> Run:
    """Run the letters of a DataFrame such as `Run.dead_letters`.

    Raises:
        RunError: it has not the columns of one.
    """
    columns = getattr(letters, "columns", ())
    missing = [name for name in LETTER_COLUMNS if name not in columns]
    if missing:
        raise RunError(
            f"these are no dead letters: column {missing[0]!r} is missing; pass run.dead_letters, or a queue's folder"
        )
    rows = [_plain(row) for row in letters.to_dict("records")]
    return execute(pipeline, LetterSource(lambda: _once(filter(whole, rows))), options)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table as a letter has it: times as seconds, nothing as ``None``."""
    import pandas as pd

    fields: dict[str, Any] = {}
    for name, value in row.items():
        fields[name] = None if pd.api.types.is_scalar(value) and pd.isna(value) else value
        if isinstance(fields[name], pd.Timestamp):
            fields[name] = round(fields[name].timestamp(), 6)
    return fields


def _once(letters: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield one letter of each line, as each takes the whole line through the pipeline."""
    seen = set()
    for letter in letters:
        if (key := line_key(letter)) not in seen:
            seen.add(key)
            yield letter


def whole(letter: Mapping[str, Any]) -> bool:
    """Tell whether a letter has a whole line: not what failed at the end of input, nor what was too long."""
    return letter["line_no"] is not None and letter["kind"] != "oversize"


def replay_queue(pipeline: Pipeline, queue: DeadLetterQueue, options: Options, choice: Choice = lambda letter: True) -> Run:
    """Run the letters of a queue; those that come through are taken out of it, those that fail again stay.

    The replay is a run with a checkpoint of its own, in the queue's folder: one that is killed is gone on with by the next
    call, whatever that one chooses, so that no letter is lost, and what is written to a file is not doubled.

    Args:
        pipeline: the pipeline, mended by now.
        queue: the queue; no run may be writing to it.
        options: how to run; checkpoint and dead letters are the replay's own.
        choice: tells which letters to take, by default all that have a whole line; others of the same lines go with them.

    Raises:
        SinkError: a run is writing to the queue, or the output cannot be written.
    """
    queue.begin()
    try:
        work = os.path.join(queue.name, "replay")
        shutil.rmtree(f"{work}-done", ignore_errors=True)
        chosen = os.path.join(work, "chosen.jsonl")
        if not os.path.exists(chosen):
            shutil.rmtree(work, ignore_errors=True)
            os.makedirs(work, mode=0o700)
            _write(chosen, _once(letter for letter in queue.letters() if whole(letter) and choice(letter)))
        again = DeadLetterQueue(os.path.join(work, "again"), max_bytes=2**62)
        run = execute(
            pipeline,
            LetterSource(lambda: _read(chosen), f"dead letters of {queue.name}"),
            replace(options, checkpoint=os.path.join(work, "checkpoint"), dead_letters=again),
        )
        if run.state == "finished":
            done = set(map(line_key, _read(chosen)))
            rest = (letter for letter in queue.letters() if line_key(letter) not in done)
            queue.replace(chain(rest, again.letters()))
            os.rename(work, f"{work}-done")  # at once, so that half of it is never gone on with
            sync_folder(work)
            shutil.rmtree(f"{work}-done")
        return run
    finally:
        queue.close()


def _write(path: str, letters: Iterator[Mapping[str, Any]]) -> None:
    """Write a file that is there whole or not at all."""
    part = Appending(f"{path}.part")
    part.cut(0)
    for letter in letters:
        part.write(msgspec.json.encode(letter) + b"\n")
    part.sync()
    part.close()
    os.rename(f"{path}.part", path)
    sync_folder(path)


def _read(path: str) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        for line in file:
            yield msgspec.json.decode(line)
