"""The letters that a replay has chosen, one a line, and what came of them: in a database, as there may be millions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from streamlab.dead_letters.letter import LetterFields, decoded, encoded, line_key
from streamlab.errors import SinkError

_TABLES = """
create table if not exists chosen (
    number integer primary key, lineage text, source text, line_no integer, event_id text, letter blob,
    unique (lineage, source, line_no)
);
create table if not exists again (number integer, event_id text, letter blob);
create index if not exists again_number on again (number);
create index if not exists again_event_id on again (event_id);
"""
_NUMBER = "select number, event_id from chosen where lineage = ? and source = ? and line_no = ?"


class Chosen:
    """A folder with chosen letters.

    Args:
        folder: there already.

    Attributes:
        folder: where they are.

    Raises:
        SinkError: it cannot be written.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._path = os.path.join(folder, "chosen.db")
        try:
            self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise SinkError(f"{self._path} cannot be written: {error}") from error

    @property
    def complete(self) -> bool:
        """Whether letters have been chosen, perhaps none."""
        [(version,)] = self._database.execute("pragma user_version")
        return bool(version)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that is done in it, or nothing.

        Raises:
            SinkError: it cannot be kept.
        """
        try:
            self._database.execute("begin immediate")
            try:
                yield
            except BaseException:
                if self._database.in_transaction:  # SQLite may have rolled back by itself
                    self._database.execute("rollback")
                raise
            self._database.execute("commit")
        except sqlite3.Error as error:
            raise SinkError(f"{self._path} cannot be written: {error}") from error

    def choose(self, letters: Iterable[LetterFields]) -> None:
        """Take letters, the first of each line, as each takes the whole line through the pipeline; in a `transaction`."""
        rows = ((*line_key(letter), letter["event_id"], encoded(letter)) for letter in letters)
        self._database.executemany(
            "insert or ignore into chosen (lineage, source, line_no, event_id, letter) values (?, ?, ?, ?, ?)", rows
        )
        self._database.execute("pragma user_version = 1")

    def after(self, count: int) -> Iterator[LetterFields]:
        """Yield them, but for the first so many."""
        for (letter,) in self._database.execute("select letter from chosen where number > ? order by number", (count,)):
            yield decoded(letter)

    def failed_again(self, letters: Iterable[LetterFields]) -> None:
        """Take the letters that came of them; in a `transaction`."""
        self._database.execute("delete from again")  # of a replay that was killed before it could be cleared away
        for letter in letters:
            number, _ = self._database.execute(_NUMBER, line_key(letter)).fetchone() or (None, None)
            self._database.execute("insert into again values (?, ?, ?)", (number, letter["event_id"], encoded(letter)))

    def instead(self, letter: LetterFields) -> list[LetterFields] | None:
        """Return what is to be in the place of a letter of the queue; ``None`` if it has nothing to do with the replay.

        In the place of one that was chosen is what came of it, in the place of others of the same line is nothing.
        """
        found = self._database.execute(_NUMBER, line_key(letter)).fetchone()
        if found is None:
            self._database.execute("delete from again where event_id = ? and number is null", (letter["event_id"],))
            return None
        number, event_id = found
        if event_id != letter["event_id"]:
            return []
        rows = self._database.execute("select letter from again where number = ? order by rowid", (number,))
        return [decoded(again) for (again,) in rows]

    def others(self) -> Iterator[LetterFields]:
        """Yield letters that came of no letter, as at the end of input, and were not found by `instead`."""
        for (letter,) in self._database.execute("select letter from again where number is null order by rowid"):
            yield decoded(letter)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
