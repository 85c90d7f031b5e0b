"""What a run writes itself: it is not to be read by the same run, or that would go round for ever."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from streamlab.errors import SourceError
from streamlab.identity import Key, key_of

#: Tells of a name in a folder whether it is of a file that is the run's own.
Mine = Callable[[str], bool]


class Own:
    """Tells which files a run writes: those given, by whatever name they are found, and those it has in folders.

    Args:
        files: paths, or descriptors, of files that may be there or not.
        folders: a folder, such as that of a checkpoint, and what tells of a name there whether it is one of its files.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "out").touch(); (folder / "in").touch()
    >>> own = Own([str(folder / "out")])
    >>> [own.has(str(path), path.stat()) for path in (folder / "out", folder / "in")]
    [True, False]
    """

    def __init__(self, files: Sequence[str | int] = (), folders: Sequence[tuple[str, Mine]] = ()) -> None:
        self._files = files
        self._folders = folders
        self.look()

    def look(self) -> None:
        """Look what there is of it by now."""
        self._keys = set(_keys(self._files))
        self._homes = [(key, mine) for folder, mine in self._folders for key in _keys([folder])]
        self._mine: dict[str, list[Mine]] = {}

    def has(self, path: str, status: os.stat_result) -> bool:
        """Tell whether a file that is at a path was the run's own when it last looked."""
        if key_of(status) in self._keys:
            return True
        if not self._homes:
            return False
        folder, name = os.path.split(os.path.realpath(path) if os.path.islink(path) else path)
        if folder not in self._mine:
            keys = set(_keys([folder or os.curdir]))
            self._mine[folder] = [mine for key, mine in self._homes if key in keys]
        return any(mine(name) for mine in self._mine[folder])

    def refuse(self, path: str) -> None:
        """Refuse a path that was given to be read, and leads to what the run writes.

        Raises:
            SourceError: it does.
        """
        with suppress(OSError):
            status = os.stat(path)
            if self.has(path, status):
                raise SourceError(
                    f"{path} is what this run itself writes (its output, dead letters or checkpoint), and cannot be read by"
                    " it as well: write somewhere else"
                )


def _keys(paths: Iterable[str | int]) -> Iterator[Key]:
    for path in paths:
        with suppress(OSError):  # it is not there yet
            yield key_of(os.stat(path))
