"""Which files a path, a glob or a folder stands for."""

from __future__ import annotations

import difflib
import glob
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress

from streamlab.errors import SourceError
from streamlab.identity import Key, key_of


def find_files(where: str | os.PathLike[str]) -> list[str]:
    """Return the files that ``where`` names, in natural order, each once: ``app.2.log`` comes before ``app.10.log``.

    Args:
        where: a file; a folder, which stands for the files in it whose names do not start with a dot; or a glob, in
            which ``**`` is any number of folders. A leading ``~`` is the home folder.

    Raises:
        SourceError: there is no such file, nothing matches, or it may not be read.
    """
    path = os.path.expanduser(os.fspath(where))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        files = _matching(path) if glob.has_magic(path) else []
        if not files:
            raise SourceError(_missing(path)) from None
    except (OSError, ValueError) as error:  # a name too long or with a NUL in it is no file either
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{_short(path)} cannot be read: {reason}{_if_text(path)}") from error
    else:
        files = _in_folder(path) if stat.S_ISDIR(mode) else [path]
    for file in files:
        if not os.access(file, os.R_OK):
            raise SourceError(f"{file} may not be read by this user: change its permissions (chmod +r) or leave it out")
    return files


def files_now(where: str) -> list[str]:
    """Return the files that a path, glob or folder names by now, perhaps none, in any order; see `find_files`.

    Raises:
        OSError: it cannot be known.
    """
    try:
        mode = os.stat(where).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return list(filter(os.path.isfile, glob.iglob(where, recursive=True))) if glob.has_magic(where) else []
    if not stat.S_ISDIR(mode):
        return [where] if stat.S_ISREG(mode) else []
    with os.scandir(where) as entries:
        # What cannot be looked at, such as a link that leads to itself, is no reason to read nothing of the folder.
        return [entry.path for entry in entries if not entry.name.startswith(".") and os.path.isfile(entry.path)]


def is_pattern(where: str) -> bool:
    """Tell whether a path that does not exist is a glob."""
    return glob.has_magic(where) and not os.path.lexists(where)


def natural(path: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by their value.

    >>> sorted(["b10", "b9", "a"], key=natural)
    ['a', 'b9', 'b10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path) if part]


def _matching(pattern: str) -> list[str]:
    return _once(filter(os.path.isfile, glob.glob(pattern, recursive=True)))


def _once(paths: Iterable[str]) -> list[str]:
    """Return the paths in order, without links to files that come under their own names, or have come before."""
    found: dict[Key, str] = {}
    for path in sorted(paths, key=lambda path: (os.path.islink(path), natural(path))):
        with suppress(OSError):  # it has just gone
            found.setdefault(key_of(os.stat(path)), path)
    return sorted(found.values(), key=natural)


def _in_folder(folder: str) -> list[str]:
    try:
        paths = [os.path.join(folder, name) for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        reason = f"{error.strerror}; change its permissions, or name the files"
        raise SourceError(f"the folder {folder} cannot be listed: {reason}") from error
    files = _once(filter(os.path.isfile, paths))
    if not files:
        inner = ", though there are folders in it" if any(map(os.path.isdir, paths)) else ""
        hint = os.path.join(folder, "**", "*")
        raise SourceError(f"there are no files in the folder {folder}{inner}; {hint!r} would be all files below it")
    return files


def _missing(path: str) -> str:
    folder, name = os.path.split(path)
    if glob.has_magic(path):
        return f"no file matches {path!r} (from {os.getcwd()}); ** stands for any number of folders"
    there = folder or os.curdir
    if not os.path.isdir(there):
        while folder and not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        return f"there is no file {_short(path)}: {folder or os.getcwd()} is as far as that path goes{_if_text(path)}"
    near = difflib.get_close_matches(name, _names(there), n=1)
    hint = f"; did you mean {os.path.join(folder, near[0])!r}?" if near else ""
    return f"there is no file {_short(path)} (from {os.getcwd()}){hint}{_if_text(path)}"


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # only for a hint


def _short(path: str) -> str:
    return repr(path) if len(path) <= 200 else f"{path[:200]!r}..."


def _if_text(path: str) -> str:
    """Return a hint when the path looks like a line of text or an address."""
    if "://" in path:
        return "; addresses are not read, only files"
    if re.search(r"\s", path):
        return "; to give lines rather than a path, pass a list: [line, line]"
    return ""
