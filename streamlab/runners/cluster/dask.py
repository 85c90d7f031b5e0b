"""Dask as the engine: a cluster of this machine's own processes, or one that is there (https://distributed.dask.org)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import operator
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError, wait
from importlib.metadata import version
from typing import Any

try:
    import dask.config
    from distributed import Client, Scheduler, get_worker
    from distributed.deploy.spec import SpecCluster
    from distributed.deploy.subprocess import Subprocess
    from distributed.scheduler import KilledWorker
except ImportError as error:
    from streamlab.errors import RunError

    raise RunError(f"a cluster needs Dask ({error}): pip install 'streamlab[cluster]'") from error

from streamlab.crew import WorkerInfo
from streamlab.errors import RunError
from streamlab.runners.cluster.backend import Gone, Killed
from streamlab.runners.host import cores

#: Seconds to find a scheduler at its address.
CONNECT_SECONDS = 10.0
#: Seconds without a word after which a connection, or a worker, counts as lost. Connections shorter than that warn.
TCP_SECONDS, WORKER_SECONDS = "12s", "10s"
#: Dask's nannies have workers give memory back at once; batches then take new pages all the time, a fifth of the processor
#: seconds of cheap work. ``None``: as the C library does by itself.
MEMORY = {"DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": '{"MALLOC_TRIM_THRESHOLD_": None}'}
#: Seconds after which a worker of a local cluster that finds no scheduler ends.
LONELY_SECONDS = 60.0
#: Seconds between two looks at whether results can still come.
POLL_SECONDS = 0.25


class DaskBackend:
    """Has functions called on the workers of a Dask cluster.

    Args:
        cluster: ``"local"``, a scheduler's address, or a client, which stays open.
        workers: processes of a local cluster; by default as many as there are cores.

    Raises:
        RunError: it is nothing of that.
    """

    def __init__(self, cluster: str | Client, workers: int | None = None) -> None:
        if not isinstance(cluster, (str, Client)):
            raise RunError(f"cluster={cluster!r}: give 'local', a scheduler's address, or a dask.distributed.Client")
        self._count = workers or cores()
        self._cluster: SpecCluster | None = None
        self._client: Client | None = None
        self._given = cluster if isinstance(cluster, Client) else None
        self._security = cluster.security if isinstance(cluster, Client) else None
        self._address = cluster.scheduler.address if isinstance(cluster, Client) else cluster
        self.name = "a local cluster" if cluster == "local" else f"the cluster at {self._address}"
        self._alike: set[str] = set()  # addresses of workers that have the same version
        self._topic = ""  # what workers tell goes there
        self._ended = threading.Event()
        self._direct = False  # whether workers can be reached from here; else results come by way of the scheduler

    def open(self) -> None:
        """Start the local cluster, or connect; as of `Backend.open`."""
        defaults = {"comm": {"timeouts": {"tcp": TCP_SECONDS}}, "admin": {"large-graph-warning-threshold": "1 GiB"}}
        dask.config.update_defaults({"distributed": defaults})
        if self._given is None:  # what is wrong is told by notices; whoever has a client sees to the logs, too
            for logger in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
                logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._close_client()
        self._alike.clear()
        try:
            if self._address == "local":
                self._cluster = self._cluster or _local(self._count)
                self._client, self._direct = Client(self._cluster, set_as_default=False), True
            elif self._given is not None and self._given.status == "running":
                self._client = self._given
            elif not _reached(self._address, CONNECT_SECONDS):  # a client would go on trying
                raise Gone(f"there is no scheduler at {self._address}")
            else:
                self._client = Client(self._address, timeout=CONNECT_SECONDS, security=self._security, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise Gone(f"there is no scheduler at {self._address}: {error}") from error
        except ValueError as error:  # no address
            raise RunError(
                f"cluster={self._address!r} is no address: give 'local', a scheduler's address such as"
                " 'tcp://10.0.0.5:8786', or a dask.distributed.Client"
            ) from error
        workers = self.workers()
        self._direct = self._direct or (bool(workers) and all(_reached(worker.address) for worker in workers))

    def listen(self, topic: str, tell: Callable[[str, int], None]) -> None:
        """Hear how far workers are; as of `Backend.listen`."""
        self._topic = topic
        self._call(lambda client: client.subscribe_topic(topic, lambda event: tell(*event[1])))

    def _check_versions(self, addresses: Collection[str]) -> None:
        """See that workers have this version of streamlab.

        Raises:
            RunError: they do not.
        """
        here = _version()
        told = self._call(lambda client: client.run(_version, workers=[*addresses], on_error="return")) if addresses else {}
        for address, there in told.items():
            if isinstance(there, OSError):  # it is gone, and nobody has noticed yet
                continue
            if isinstance(there, Exception):
                raise RunError(f"worker {address} cannot import streamlab: {there}; install the same version there: {here}")
            if there != here:
                raise RunError(
                    f"worker {address} has streamlab {there[0]} and Python {there[1]}, and here it is {here[0]} and"
                    f" {here[1]}: what is sent there must mean the same"
                )
            self._alike.add(address)

    def _call(self, call: Callable[[Client], Any]) -> Any:
        client = self._client
        if client is None or client.status != "running":
            raise Gone(f"the connection to the scheduler at {self._address} was lost")
        try:
            return call(client)
        except (OSError, TimeoutError, CancelledError) as error:
            raise Gone(f"the connection to the scheduler at {self._address} was lost: {error}") from error
        except Exception as error:
            if client.status == "running":
                raise
            # what a client raises that is closed meanwhile has many names: it has no scheduler any more to ask
            raise Gone(f"the connection to the scheduler at {self._address} was lost: {error}") from error

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that are there; as of `Backend.workers`."""
        found = self._call(lambda client: client.scheduler_info(n_workers=-1))["workers"]
        self._check_versions(found.keys() - self._alike)
        return [
            WorkerInfo(str(info["name"]), address, info["nthreads"], info.get("metrics", {}).get("memory", 0))
            for address, info in sorted(found.items(), key=lambda item: str(item[1]["name"]))
        ]

    def submit(self, name: str, function: Callable[..., Any], *args: Any, home: WorkerInfo | None = None) -> Any:
        """Have a function called; as of `Backend.submit`."""
        where = {} if home is None else {"workers": [home.address]}
        return self._noticed(
            lambda client: client.submit(_there, self._topic, function, *args, key=name, pure=False, **where)
        )

    def put(self, data: bytes) -> Any:
        """Bring data to a worker; as of `Backend.put`."""
        return self._call(lambda client: client.scatter(data, hash=False, direct=self._direct))

    def item(self, handle: Any, key: Any) -> Any:
        """Return the task for an item of a result."""
        name = f"{handle.key}-{key}"
        return self._noticed(lambda client: client.submit(operator.itemgetter(key), handle, key=name, pure=False))

    def _noticed(self, submit: Callable[[Client], Any]) -> Any:
        future = self._call(submit)
        future.add_done_callback(lambda _: self._ended.set())
        return future

    def done(self, handle: Any) -> bool:
        """Tell whether a task has ended."""
        return bool(handle.done())

    def wait(self, seconds: float) -> None:
        """Wait until a task ends."""
        self._ended.wait(seconds)
        self._ended.clear()

    def results(self, handles: Sequence[Any]) -> list[Any]:
        """Return results; as of `Backend.results`."""
        try:
            results: list[Any] = self._call(lambda client: self._gathered(client, handles))
        except KilledWorker as error:
            raise Killed(str(error.task)) from error
        return results

    def _gathered(self, client: Client, handles: Sequence[Any]) -> list[Any]:
        """Return results; Dask would wait for those that were lost with a worker, which may never be there again."""
        coming = client.gather(list(handles), direct=self._direct, asynchronous=True)
        gathering = asyncio.run_coroutine_threadsafe(coming, client.loop.asyncio_loop)
        while not wait([gathering], POLL_SECONDS).done:
            if client.status != "running" or not all(map(self.done, handles)):
                gathering.cancel()
                raise Gone("results were lost with the worker that had them")
        found: list[Any] = gathering.result()
        return found

    def release(self, handles: Sequence[Any]) -> None:
        """Forget results."""
        for handle in handles:
            handle.release()

    def cancel(self, handles: Sequence[Any]) -> None:
        """Forget tasks."""
        with contextlib.suppress(Gone):
            self._call(lambda client: client.cancel(list(handles), force=True))

    def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None and client is not self._given:
            with contextlib.suppress(Exception):  # of a connection that is lost already
                client.close(timeout=2)

    def close(self) -> None:
        """Let go of the cluster; a local one ends."""
        if self._given is not None and self._client is self._given and self._topic:
            with contextlib.suppress(Gone):  # of a connection that is lost already
                self._call(lambda client: client.unsubscribe_topic(self._topic))
        self._close_client()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close(timeout=5)


def _there(topic: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function on a worker, which says who it is and how far.

    Raises:
        RunError: it raised an ``OSError``: where results are asked for that would be one of the connection.
    """
    worker = get_worker()
    name = str(worker.name)
    more: dict[str, Any] = {"worker": name}
    if "say" in inspect.signature(function).parameters:
        more["say"] = lambda lines: worker.log_event(topic, (name, lines))
    try:
        return function(*args, **more)
    except OSError as error:
        raise RunError(f"worker {name}: {type(error).__name__}: {error}") from error


def _reached(address: str, seconds: float = 1.0) -> bool:
    """Tell whether something can be connected to from here.

    Raises:
        ValueError: it is no address.
    """
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError:
        return False
    return True


def _version() -> tuple[str, str]:
    import streamlab.runners.cluster.tasks  # noqa: F401 - so that the first task need not wait for it

    return version("streamlab"), f"{sys.version_info.major}.{sys.version_info.minor}"


class _Process(Subprocess):
    """A worker in a process of its own, with a nanny that starts it anew when it dies.

    It does not import the user's main module, as a child of this process would.
    """

    def __init__(self, scheduler: str, name: int, memory_limit: int) -> None:
        self._spec = {
            "cls": "distributed.Nanny",
            "opts": {
                "name": name,
                "nthreads": 1,
                "host": "127.0.0.1",
                "dashboard": False,
                "memory_limit": memory_limit,
                "death_timeout": LONELY_SECONDS,  # else one that begins as this process is killed would wait for ever
            },
        }
        self.scheduler = scheduler
        super().__init__()

    async def _start(self) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dask", "spec", self.scheduler, "--spec", json.dumps(self._spec)),
            env=MEMORY | os.environ | {"PYTHONPATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # else Ctrl-C, which is for the run, would end it
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )


def _local(count: int) -> SpecCluster:
    """Start a scheduler in this process, and workers in others."""
    from distributed.system import MEMORY_LIMIT

    # A line that ends the process of one worker ends that of another one as well: one more try is enough.
    with dask.config.set({"distributed.scheduler.worker-ttl": WORKER_SECONDS, "distributed.scheduler.allowed-failures": 1}):
        cluster = SpecCluster(
            scheduler={
                "cls": Scheduler,
                "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"},
            },
            workers={
                number: {"cls": _Process, "options": {"name": number, "memory_limit": MEMORY_LIMIT // count}}
                for number in range(count)
            },
            name="streamlab",
            silence_logs=logging.CRITICAL,
        )
    try:
        until = time.monotonic() + 30
        while len(cluster.scheduler.workers) < count and time.monotonic() < until:
            time.sleep(0.01)
    except BaseException:  # Ctrl-C: workers would go on for as long as this process does
        cluster.close(timeout=5)
        raise
    return cluster
