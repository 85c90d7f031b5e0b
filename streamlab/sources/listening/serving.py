"""An HTTP server in a source's event loop: how many may talk to it, and for how long they may say nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds between two looks at connections that say nothing.
SWEEP_SECONDS = 1.0
#: Seconds that answers under way have at the end.
GRACE_SECONDS = 0.5


class HttpReceiver:
    """Serves an application on a socket.

    Args:
        sock: listens; it is closed at the end.
        app: gets the requests.
        ending: is called in the event loop when the end has come: to have those answered who wait.
        refused: is called about once a second while connections are refused, with how many were.
        max_connections: how many there may be; others are refused.
        head_timeout: seconds in which the next request of a connection has to begin, up to its body.
    """

    def __init__(
        self,
        sock: socket.socket,
        app: ASGIApp,
        ending: Callable[[], object],
        refused: Callable[[int], object],
        *,
        max_connections: int,
        head_timeout: float,
    ) -> None:
        self._sock = sock
        self._server = _Server(app, ending, refused, max_connections, head_timeout)

    async def receive(self, stopping: asyncio.Event) -> None:
        """Serve until cancelled; when no more lines are to be taken, the application says so."""
        try:
            await self._server.serve(sockets=[self._sock])
        finally:
            self._sock.close()


class _Server(uvicorn.Server):
    """uvicorn's server, but it ends when it is cancelled, at once, and looks at connections that say nothing."""

    def __init__(
        self,
        app: ASGIApp,
        ending: Callable[[], object],
        refused: Callable[[int], object],
        max_connections: int,
        head_timeout: float,
    ) -> None:
        self._limits = _Limits(max_connections)
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=type("_LimitedProtocol", (_Protocol,), {"limits": self._limits}),  # uvicorn makes them by their class
                ws="none",
                lifespan="off",
                log_config=None,  # logging is the user's to configure
                log_level="critical",  # a client's malformed request is no news
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=max(round(head_timeout), 1),
            )
        )
        self._ending = ending
        self._refused = refused
        self._head_timeout = head_timeout

    async def main_loop(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        with suppress(asyncio.CancelledError):
            while True:
                await self.on_tick(0)  # renews the Date header
                await asyncio.sleep(min(SWEEP_SECONDS, self._head_timeout / 4))
                for connection in self._connections():
                    if connection.waits_since(loop.time()) > self._head_timeout:
                        connection.transport.abort()
                self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers that are under way be given, for a moment; then close all connections."""
        loop = asyncio.get_running_loop()
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        self._ending()
        until = loop.time() + GRACE_SECONDS
        for connection in self._connections():
            connection.shutdown()
        while (self.server_state.connections or self.server_state.tasks) and loop.time() < until:
            await asyncio.sleep(0.005)
        for connection in self._connections():
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the loop's next round closes the sockets
        self._tell()

    def _tell(self) -> None:
        count, self._limits.refused = self._limits.refused, 0
        if count:
            self._refused(count)

    def _connections(self) -> list[_Protocol]:
        found: Any = list(self.server_state.connections)
        return [connection for connection in found if connection.transport is not None]


@dataclass(slots=True)
class _Limits:
    """How many connections there may be.

    Attributes:
        most: so many.
        refused: how many were too many, since that was told.
    """

    most: int
    refused: int = 0


class _Protocol(H11Protocol):
    """One connection.

    Attributes:
        limits: what all connections of a server share.
    """

    limits: _Limits
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > self.limits.most:
            self.limits.refused += 1
            transport.abort()

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def waits_since(self, now: float) -> float:
        """Return for how many seconds the beginning of a request has been waited for; 0 during one."""
        idle = self.cycle is None or self.cycle.response_complete
        return now - self._since if idle else 0.0
