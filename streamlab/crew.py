"""The workers of a cluster, as a run tells of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as the engine sees it now.

    Attributes:
        name: what it is called, also after it has been started anew.
        address: where it is.
        threads: tasks that it works on at a time.
        memory: bytes that it uses.
    """

    name: str
    address: str
    threads: int
    memory: int
