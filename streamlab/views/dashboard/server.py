"""Serves the dashboard of a run from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

import uvicorn

from streamlab.errors import DashboardError
from streamlab.run import Run
from streamlab.views.dashboard.app import create_app
from streamlab.views.dashboard.sockets import listen, name_of, url_of

#: Seconds that the server may take to begin, and the thread to end.
START_SECONDS, STOP_SECONDS = 10.0, 5.0


class Dashboard:
    """The dashboard of a run, served in the background from the moment it is made until `stop`.

    Args:
        run: live or finished.
        port: by default 8000, or the next one that is free; 0 is any that is free.
        host: an address of this machine only.
        sockets: what `listen` gave for the same port and host, to have the port before there is a run.

    Attributes:
        url: where to point a browser.
        port: the port it listens on.

    Raises:
        DashboardError: the port is taken, the host is not loopback, or the server does not start.

    Example:
        >>> import streamlab
        >>> from urllib.request import urlopen
        >>> with Dashboard(streamlab.run(["warn: hot"]), port=0) as dashboard:
        ...     urlopen(f"{dashboard.url}/healthz").read()
        b'{"status":"ok","state":"finished"}'
    """

    def __init__(
        self,
        run: Run,
        port: int | None = None,
        host: str = "127.0.0.1",
        *,
        sockets: Sequence[socket.socket] | None = None,
    ) -> None:
        self._sockets = list(sockets or listen(host, port))
        self.port: int = self._sockets[0].getsockname()[1]
        self.url = url_of(host, self.port)
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._server = _Server(_config(run, host))
        self._thread = threading.Thread(target=self._serve, name=f"streamlab-dashboard-{self.port}", daemon=True)
        self._thread.start()
        self._server.ready.wait(START_SECONDS)
        if not self.running:
            self.stop()
            raise DashboardError(f"the dashboard did not start on port {self.port}: {self._error}") from self._error

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._server.started and not self._server.should_exit and self._thread.is_alive()

    def stop(self) -> None:
        """Stop serving, and return when the thread has ended and the port is free; more than once is fine."""
        with self._lock:
            self._server.end()
            self._thread.join(STOP_SECONDS)
            for sock in self._sockets:
                sock.close()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Dashboard({self.url}{'' if self.running else ', stopped'})"

    def _serve(self) -> None:
        try:
            self._server.run(sockets=self._sockets)
        except BaseException as error:  # told to who waits for the start; SystemExit is uvicorn's way to say so
            self._error = error
        finally:
            self._server.ready.set()


def _config(run: Run, host: str) -> uvicorn.Config:
    app = create_app(run, names=(name_of(host),))
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,  # logging is the user's to configure
        log_level="critical",  # a client's malformed request is no news
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=128,
        timeout_graceful_shutdown=1,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, but told when to end by an event: it would look ten times a second, and rest before it ends.

    Attributes:
        ready: set when it serves, or will never.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Ask for the end, from any thread."""
        self.should_exit = True
        if self._loop is not None and self._wake is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._wake.set)

    async def main_loop(self) -> None:
        """Serve until the end is asked for."""
        self._wake, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self.ready.set()
        while not await self.on_tick(0):  # renews the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what nobody waits on at once; give the rest its time as uvicorn does."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # the loop's next round takes leave of idle connections
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
