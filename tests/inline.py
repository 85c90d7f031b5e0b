"""A cluster in this process: tasks are done when they are submitted, on what a real one would be sent. It can be unkind."""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from streamlab.crew import WorkerInfo
from streamlab.runners.cluster import job
from streamlab.runners.cluster.backend import Gone


@dataclass
class Done:
    """A task that has ended."""

    name: str
    result: Any = None
    error: BaseException | None = None


class Inline:
    """Does tasks at once; with a seed it loses connections and what workers keep, at random."""

    name = "this process"

    def __init__(self, workers: int = 2, seed: int | None = None, share: float = 0.1) -> None:
        self.count = workers
        self.opened = 0
        self._chance = None if seed is None else random.Random(seed)
        self._share = share
        self._lost = False

    def open(self) -> None:
        self.opened += 1
        self._lost = False

    def listen(self, topic: str, tell: Callable[[str, int], None]) -> None:
        self._tell = tell

    def workers(self) -> Sequence[WorkerInfo]:
        self._check()
        return [WorkerInfo(f"w{number}", f"inline://{self.opened}/{number}", 1, 0) for number in range(self.count)]

    def _check(self) -> None:
        if self._lost:
            raise Gone("the connection was lost")

    def _strikes(self) -> bool:
        return self._chance is not None and self._chance.random() < self._share

    def submit(self, name: str, function: Callable[..., Any], *args: Any, home: WorkerInfo | None = None) -> Done:
        self._check()
        if self._strikes():
            self._lost = True
            raise Gone("the connection was lost")
        if self._strikes():
            job._sites.clear()  # as if the worker had been started anew
        if (
            failed := next((arg for arg in _flat(args) if isinstance(arg, Done) and arg.error is not None), None)
        ) is not None:
            return Done(name, error=failed.error)
        sent = pickle.loads(pickle.dumps([_result(arg) for arg in args]))
        try:
            return Done(name, function(*sent, worker=home.name if home else "w0"))
        except Exception as error:
            return Done(name, error=error)

    def put(self, data: bytes) -> Done:
        self._check()
        return Done("put", data)

    def item(self, handle: Done, key: Any) -> Done:
        self._check()
        result = None if handle.error is not None else handle.result[key]
        return Done(f"{handle.name}-{key}", result, handle.error)

    def done(self, handle: Done) -> bool:
        return True

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def results(self, handles: Sequence[Done]) -> list[Any]:
        self._check()
        for handle in handles:
            if handle.error is not None:
                raise handle.error
        return [handle.result for handle in handles]

    def release(self, handles: Sequence[Done]) -> None: ...

    def cancel(self, handles: Sequence[Done]) -> None: ...

    def close(self) -> None: ...


def _flat(args: Sequence[Any]) -> list[Any]:
    return [item for arg in args for item in (arg if isinstance(arg, list) else [arg])]


def _result(arg: Any) -> Any:
    if isinstance(arg, list):
        return [_result(item) for item in arg]
    return arg.result if isinstance(arg, Done) else arg
