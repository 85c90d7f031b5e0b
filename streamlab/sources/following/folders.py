"""Which names are in folders: listed anew only when a folder may have changed."""

from __future__ import annotations

import os
import time
from functools import cached_property

from streamlab.sources.compressed import extension

#: Nanoseconds for which a folder must not have changed, until its time tells whether it is as it was: some file systems
#: count in seconds.
QUIET = 3_000_000_000


class Listing:
    """The names in a folder.

    Args:
        folder: its path.
        entries: the names, and their inodes.

    Attributes:
        names: in order.
    """

    def __init__(self, folder: str, entries: list[tuple[str, int]]) -> None:
        self._folder = folder
        self._entries = sorted(entries)
        self.names = [name for name, _ in self._entries]

    def __eq__(self, other: object) -> bool:
        """Tell whether the same names lead to the same files."""
        return isinstance(other, Listing) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def plain(self) -> list[str]:
        """The paths of those that are not packed."""
        return [os.path.join(self._folder, name) for name in self.names if not extension(name)]

    def paths(self, inode: int) -> list[str]:
        """Return the paths that lead to an inode."""
        return [os.path.join(self._folder, name) for name in self._by_inode.get(inode, ())]

    @cached_property
    def _by_inode(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name, inode in self._entries:
            found.setdefault(inode, []).append(name)
        return found


def is_away(folder: str, device: int | None) -> bool:
    """Tell whether a folder is not there, may not be looked into, or is on another device: its files may come back with it.

    Args:
        folder: its path.
        device: where its files were, if that is known.
    """
    try:
        there = os.stat(os.path.join(folder, os.curdir)).st_dev
    except OSError:
        return True
    return device is not None and device != there


class Folders:
    """Lists folders."""

    def __init__(self) -> None:
        self._quiet: dict[str, tuple[int, Listing]] = {}  # with when they changed

    def look(self, folder: str) -> Listing:
        """Return what is in a folder now; nothing when it is not there, or may not be read."""
        folder = folder or os.curdir
        try:
            changed = os.stat(folder).st_mtime_ns
            known = self._quiet.pop(folder, None)
            if known is None or known[0] != changed:
                with os.scandir(folder) as entries:
                    known = changed, Listing(folder, [(entry.name, entry.inode()) for entry in entries])
        except OSError:
            return Listing(folder, [])
        if time.time_ns() - changed > QUIET:
            self._quiet[folder] = known
        return known[1]
