"""A connection to NATS servers, which lives in an event loop with a thread of its own, and comes back when it was lost.

The library can reconnect too. Here a lost connection is left for a new one instead: then whatever was under way in it is
known to be void, and who used it begins anew in one way, whatever was wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, wait
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from streamlab.brokers import Address, back_off, checked, shown
from streamlab.errors import StreamlabError
from streamlab.notices import Notice

if TYPE_CHECKING:
    from nats.aio.client import Client
    from tenacity import RetryCallState

T = TypeVar("T")

#: Where a server is, if nothing else is said.
DEFAULT_URL = "nats://127.0.0.1:4222"
#: Variables of the environment with user and password for an address without them begin so.
LOGIN = "STREAMLAB_NATS"
#: Seconds between two looks whether the connection, or the thread, is still there.
LOOK = 0.1
#: Seconds that a farewell may take, and then the end of the connection.
FAREWELL, END = 1.5, 0.3


class Lost(Exception):
    """The connection is not there, or went away while it was used."""


class Connection:
    """A connection that is used from other threads.

    Args:
        url: of the servers, by commas if there are several: ``nats://user:password@host:4222``, ``tls://`` for TLS.
        name: whose connection it is, for notices.
        notices: where to put what happens to it.
        timeout: seconds after which a server that does not answer is taken to be away.
        error: what to raise.
        options: more arguments of ``nats.connect``, such as ``user_credentials``, ``tls``, ``token``.
        prepare: is awaited with this and each new client before that is used; what it raises says that it cannot be.
        leave: is awaited with the client before that is closed.

    Raises:
        StreamlabError: an ``error``; the package is missing, the URL is none, or the servers cannot be reached.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        notices: deque[Notice],
        timeout: float,
        error: type[StreamlabError],
        options: dict[str, Any],
        prepare: Callable[[Connection, Client], Awaitable[None]],
        leave: Callable[[Client], Awaitable[None]] | None = None,
    ) -> None:
        try:
            import nats  # noqa: F401  (not in the thread: there nobody would see what is missing)
        except ImportError:
            raise error("NATS needs the package nats-py: pip install 'streamlab[nats]'") from None
        self._servers, self._login = servers_of(url, error)
        self._name = name
        self._notices = notices
        self._timeout = timeout
        self._error = error
        self._options = options
        self._prepare = prepare
        self._leave = leave
        self._client: Client | None = None
        self._reason = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._begun = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="streamlab-nats", daemon=True)
        self._thread.start()
        self._begun.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    # For other threads

    def run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns that is made for the connection.

        Raises:
            Lost: there is no connection, or it went away.
        """
        running = self._run(work)
        try:
            future = asyncio.run_coroutine_threadsafe(running, self._loop)
        except RuntimeError:  # the loop is closed
            running.close()
            raise Lost("it was closed") from None
        while not wait([future], LOOK).done:
            if not self._thread.is_alive():
                raise Lost("it was closed")
        try:
            return future.result()
        except CancelledError:
            raise Lost(self._reason or "it was closed") from None

    def soon(self, work: Callable[[], object]) -> None:
        """Call a function in the loop's thread, soon; never, if the connection is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """Leave, and end the thread; more than once is fine."""
        self.soon(self._closing.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(FAREWELL + END + 1.0)

    # For coroutines in the loop

    def do(self, client: Client, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine with a client, until it is done or that is lost; if it fails, the client is taken for lost."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(client, task))

    def drop(self, client: Client, reason: str) -> None:
        """Take a client for lost: another one is made."""
        if self._client is client:
            self._client, self._reason = None, reason

    def _done(self, client: Client, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.drop(client, text_of(problem))

    async def _run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        if self._client is None:
            raise Lost(self._reason)
        task = self._loop.create_task(work(self._client))
        self._tasks.add(task)
        try:
            return await task
        finally:
            self._tasks.discard(task)

    # The thread

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._begin_and_stay())

    async def _begin_and_stay(self) -> None:
        try:
            client = self._client = await self._connected()
        except Exception as problem:
            self._failure = problem
            if not isinstance(problem, StreamlabError):
                where = ", ".join(shown(server) for server in self._servers)
                self._failure = self._error(
                    f"{where} cannot be reached: {text_of(problem)}; see that a NATS server with JetStream runs there"
                    " (nats-server -js) and lets you in, or give another url="
                )
                self._failure.__cause__ = problem
            return
        finally:
            self._begun.set()
        staying = self._loop.create_task(self._stay(client))
        await self._closing.wait()
        while not staying.done():  # once is not always enough: asyncio.wait_for can lose it, and the library may keep it
            staying.cancel()
            await asyncio.wait([staying], timeout=LOOK)
        if self._client is not None and self._leave is not None:
            with contextlib.suppress(Exception):  # whatever it is, who is left finds out by himself
                await asyncio.wait_for(self._leave(self._client), FAREWELL)
        if self._client is not None:
            await _end(self._client)

    async def _stay(self, client: Client) -> None:
        """Look after the connection, and make a new one whenever it was lost."""
        import tenacity

        while True:
            while self._client is client and client.is_connected:
                await asyncio.sleep(LOOK)
            self.drop(client, self._reason or "the connection was lost")
            for task in list(self._tasks):
                task.cancel()
            message = f"{self._name} is away ({self._reason}): it is tried until it is there"
            self._notices.append(Notice("disconnected", self._name, message))
            await _end(client)
            attempts = tenacity.AsyncRetrying(wait=back_off(), sleep=asyncio.sleep, before_sleep=self._tell)
            self._servers = _with_discovered(self._servers, client)
            client = await attempts(self._connected)
            self._client = client
            self._notices.append(Notice("reconnected", self._name, f"{self._name} is there again"))

    async def _connected(self) -> Client:
        """Return a new connection, ready for use."""
        from nats.aio.client import Client

        client = Client()
        settings: dict[str, Any] = {
            "allow_reconnect": False,
            "connect_timeout": self._timeout,
            "error_cb": self._told,
            "max_outstanding_pings": 1,
            "max_reconnect_attempts": 1,
            "name": "streamlab",
            "ping_interval": self._timeout / 2,
            "reconnect_time_wait": 0,
        }
        try:
            await client.connect(self._servers, **settings | self._login | self._options)
            await self._prepare(self, client)
        except BaseException as problem:
            await _end(client)
            if type(problem).__name__ == "NoServersError" and self._reason:
                raise Lost(self._reason) from problem
            raise
        self._reason = ""
        return client

    def _tell(self, state: RetryCallState) -> None:
        """Say what else is wrong than that the server is away: the stream, for one."""
        problem = state.outcome and state.outcome.exception()
        if isinstance(problem, StreamlabError) and str(problem) != self._reason:
            self._reason = str(problem)
            self._notices.append(Notice("disconnected", self._name, self._reason))

    async def _told(self, problem: Exception) -> None:
        self._reason = text_of(problem)


async def _end(client: Client) -> None:
    """Close a connection, whatever state it is in; one that the other side does not take leave of is cut off."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(client.close(), END)
    # The library waits until all has been sent, which to a server that stands still is never, and keeps the socket. It
    # has no other way to it than this one.
    for name in ("_io_writer", "_bare_io_writer"):
        writer = getattr(getattr(client, "_transport", None), name, None)
        if writer is not None:
            writer.transport.abort()
    await asyncio.sleep(0)


def _with_discovered(servers: list[str], client: Client) -> list[str]:
    """Return servers, and those that they have told of."""
    scheme = servers[0].partition("://")[0]
    return list(dict.fromkeys((*servers, *(f"{scheme}://{uri.netloc}" for uri in client.discovered_servers))))


def servers_of(url: str, error: type[Exception]) -> tuple[list[str], dict[str, str]]:
    """Return the URLs of servers that are written as one, without user and password; and those, for ``nats.connect``.

    Raises:
        Exception: an ``error``; one of them is no URL.

    >>> servers_of("nats://me:se%2Fcret@a:4222,b", ValueError)
    (['nats://a:4222', 'nats://b:4222'], {'user': 'me', 'password': 'se/cret'})
    """
    scheme, found, hosts = url.partition("://")
    if not found:
        scheme, hosts = "nats", url
    login: dict[str, str] = {}
    servers: list[str] = []
    for server in hosts.split(","):
        own, _, host = server.rpartition("://")
        parts = urlsplit(checked(f"{own or scheme}://{host}", error))
        users, _, host = parts.netloc.rpartition("@")
        name, _, password = users.partition(":")
        if password:
            login = login or {"user": unquote(name), "password": unquote(password)}
        elif name:
            login = login or {"token": unquote(name)}
        servers.append(f"{parts.scheme}://{host}" + ("" if re.search(r":\d+$", host) else ":4222"))
    return servers, login


def subject_of(address: Address, error: type[StreamlabError], what: str) -> str:
    """Return the name in the path of an address.

    Raises:
        StreamlabError: an ``error``; there is none.
    """
    if len(address.path) != 1:
        raise error(f"{shown(address.server)} says no {what}: write nats://host:4222/{what.upper()}")
    return address.path[0]


def text_of(problem: BaseException) -> str:
    """Return what is wrong, for people."""
    return (str(problem).removeprefix("nats: ") or type(problem).__name__).strip()
