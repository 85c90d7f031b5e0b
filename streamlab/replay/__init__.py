"""Running dead letters once more: those of a table, or those of a queue, which are taken out of it if they come through."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from streamlab.appending import sync_folder
from streamlab.dead_letters import DeadLetterQueue
from streamlab.dead_letters.box import LetterBox, unsettled
from streamlab.dead_letters.letter import LETTER_COLUMNS, LetterFields, is_whole, line_key
from streamlab.errors import RunError, StreamlabError
from streamlab.launch import Options, execute
from streamlab.notices import Notice
from streamlab.replay.chosen import Chosen
from streamlab.run import Run
from streamlab.sources.letters import LetterSource

Choice = Callable[[LetterFields], bool]
_Letter = TypeVar("_Letter", bound=Mapping[str, Any])


class _Again(DeadLetterQueue):
    """The letters that failed again; they are named after what they were, but it is the replay that writes them, alone."""

    def _wrote(self, letter: LetterFields, dead: int) -> bool:
        return True


def replay(pipeline: object, letters: Any, options: Options) -> Run:
    """Do what `Pipeline.replay` does.

    Raises:
        RunError: they are no dead letters.
        SinkError: there is no queue in the folder, or a run is writing to it.
    """
    if isinstance(letters, (str, os.PathLike)):
        letters = LetterBox.at(letters)
    if isinstance(letters, LetterBox):
        return replay_queue(pipeline, letters, options)
    return replay_table(pipeline, letters, options)


def replay_table(pipeline: object, letters: Any, options: Options) -> Run:
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
    parts: list[Notice] = []
    rows = [*_once(_whole([_plain(row) for row in letters.to_dict("records")], "the table", parts))]
    return execute(pipeline, LetterSource(lambda done: islice(rows, done, None), notices=parts), options)


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


def _whole(letters: Iterable[_Letter], name: str, notices: list[Notice]) -> Iterator[_Letter]:
    """Yield the letters that have a whole line; tell how many have not."""
    parts = 0
    for letter in letters:
        if is_whole(letter):
            yield letter
        else:
            parts += 1
    if parts:
        message = (
            f"{parts:,} dead letter{'' if parts == 1 else 's'} of {name} cannot be run once more, and stay: no whole line"
            " was kept, as it was too long or no text, or they failed at the end of input"
        )
        notices.append(Notice("left", name, message))


def _settled(letters: Iterable[LetterFields], queue: LetterBox, notices: list[Notice]) -> Iterator[LetterFields]:
    """Yield the letters that are there to stay; tell how many are not."""
    others = 0
    for letter in letters:
        if queue.settled(letter):
            yield letter
        else:
            others += 1
    if others:
        notices.append(unsettled(others, queue.name))


def replay_queue(
    pipeline: object,
    queue: LetterBox,
    options: Options,
    choice: Choice = lambda letter: True,
    *,
    all: bool = False,
    restart: bool = False,
) -> Run:
    """Run the letters of a queue; those that come through are taken out of it, those that fail again stay.

    The replay is a run with a checkpoint of its own, in the queue's folder: one that is killed is gone on with by the next
    call, whatever that one chooses, so that no letter is lost, and what is written to a file is not doubled.

    Args:
        pipeline: the pipeline, mended by now.
        queue: the queue; no run may be writing to it.
        options: how to run; checkpoint and dead letters are the replay's own.
        choice: tells which letters to take, by default all that have a whole line; others of the same lines go with them.
        all: nobody will go on with the runs that were killed: take their letters, too, see `LetterBox.give_up`.
        restart: begin anew where one was interrupted; what that one has put out, comes once more.

    Raises:
        SinkError: a run is writing to the queue, or the output cannot be written.
        RunError: a replay was interrupted, and this one cannot go on with it.
    """
    queue.hold()
    try:
        if all:
            queue.give_up()
        work = os.path.join(queue.name, "replay")
        if restart:
            _remove(work)
        shutil.rmtree(_done(work), ignore_errors=True)
        os.makedirs(work, mode=0o700, exist_ok=True)
        chosen = Chosen(work)
        try:
            run = _replay(pipeline, queue, chosen, options, choice)
        finally:
            chosen.close()
        if run.state == "finished":
            _remove(work)
        return run
    finally:
        queue.release()


def _done(work: str) -> str:
    return f"{work}-done"


def _remove(work: str) -> None:
    """Remove the folder of a replay: at once, so that half of it is never gone on with."""
    shutil.rmtree(_done(work), ignore_errors=True)
    if os.path.isdir(work):
        os.rename(work, _done(work))
        sync_folder(work)
        shutil.rmtree(_done(work))


def _replay(pipeline: object, queue: LetterBox, chosen: Chosen, options: Options, choice: Choice) -> Run:
    notices: list[Notice] = []
    anew = not chosen.complete
    if anew:
        with chosen.transaction():
            chosen.choose(_whole(_settled(filter(choice, queue.letters()), queue, notices), queue.name, notices))
    else:
        message = (
            f"a replay of {queue.name} was interrupted: it is gone on with, and takes the letters that it had chosen,"
            " whatever is chosen now; streamlab dlq replay --restart begins anew"
        )
        notices.append(Notice("continued", queue.name, message))
    notices += queue.notices
    queue.notices.clear()
    again = _Again(os.path.join(chosen.folder, "again"), max_bytes=2**62)
    try:
        run = execute(
            pipeline,
            LetterSource(chosen.after, f"dead letters of {queue.name}", notices),
            replace(options, checkpoint=os.path.join(chosen.folder, "checkpoint"), dead_letters=again),
        )
    except StreamlabError as error:  # nothing was run
        if anew:
            _remove(chosen.folder)  # so that this one does not bind the next
            raise
        raise RunError(
            f"a replay of {queue.name} was interrupted, and this one cannot go on with it:"
            f" {str(error).partition(': give what it was')[0]}; give the same pipeline and the same output, or begin anew"
            " with all letters that are in the queue: streamlab dlq replay --restart"
        ) from error
    if run.state == "finished":
        with chosen.transaction():
            chosen.failed_again(again.letters())
            queue.change(chosen.instead)
            queue.add(chosen.others())
    return run
