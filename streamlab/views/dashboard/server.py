"""Serves the dashboard of runs from a thread."""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from urllib.parse import quote
from weakref import WeakSet

import uvicorn
from fastapi import FastAPI

from streamlab.errors import DashboardError
from streamlab.run import Run
from streamlab.views.dashboard.app import create_app
from streamlab.views.dashboard.runs import Runs
from streamlab.views.dashboard.sockets import check, listen, names_of, url_of

#: Seconds that the server may take to begin, and the thread to end.
START_SECONDS, STOP_SECONDS = 10.0, 5.0


class Dashboard:
    """The dashboard of a run, served in the background from the moment it is made until `stop`.

    Args:
        run: live or finished.
        port: by default 8000, or the next one that is free; 0 is any that is free.
        host: where to listen; any other address than this machine's own needs a token.
        token: what whoever looks must know.
        names: what the server may be called in a browser's address, beside localhost and the host.
        sockets: what `listen` gave for the same port and host, to have the port before there is a run.

    Attributes:
        port: the port it listens on.

    Raises:
        DashboardError: the port is taken, the host is not loopback and there is no token, or the server does not start.

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
        token: str | None = None,
        names: Collection[str] = (),
        sockets: Sequence[socket.socket] | None = None,
    ) -> None:
        try:
            check(host, token)
            self._server = _Server(list(sockets or listen(host, port, token=token)), host, token, names)
        except BaseException:
            for sock in sockets or ():
                sock.close()
            raise
        self._shown = self._server.runs.add(run)
        self._server.start()
        self.port = self._server.port

    @classmethod
    def of(
        cls, run: Run, port: int | None, host: str, *, token: str | None = None, names: Collection[str] = ()
    ) -> Dashboard:
        """Return the dashboard of a run, on a server of this process that fits if there is one; see `Run.dashboard`."""
        with _opening:
            for server in list(_servers):
                if server.running and server.fits(port, host, token, names):
                    dashboard = cls.__new__(cls)
                    dashboard._server, dashboard.port = server, server.port
                    dashboard._shown = server.runs.add(run)
                    return dashboard
            return cls(run, port, host, token=token, names=names)

    @property
    def url(self) -> str:
        """Where to point a browser; with the token, if there is one."""
        newest = self._server.runs.get()
        page = "" if newest is None or newest is self._shown else f"/runs/{self._shown.number}/"
        token = self._server.token
        return self._server.url + page + (f"{'' if page else '/'}?token={quote(token, safe='')}" if token else "")

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._server.running and self._server.runs.get(self._shown.number) is self._shown

    def fits(self, port: int | None, host: str, token: str | None, names: Collection[str]) -> bool:
        """Tell whether it answers, and is what is asked for."""
        return self.running and self._server.fits(port, host, token, names)

    def stop(self) -> None:
        """Show the run no more; if it was the server's last, return when its thread has ended and its port is free.

        More than once is fine.
        """
        with _opening:  # nobody is given a server that is about to end
            if self._server.runs.all() == [self._shown]:
                self._server.end()  # with its run: what is being asked about it is answered
            else:
                self._server.runs.remove(self._shown.number)
        if not self._server.running:
            self._server.stop()

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Dashboard({self.url}{'' if self.running else ', stopped'})"

    def _repr_html_(self) -> str:
        if not self.running:
            return "<p>dashboard, stopped</p>"
        url = html.escape(self.url)
        return f'<p>dashboard of {html.escape(self._shown.run.pipeline.name)}: <a href="{url}" target="_blank">{url}</a></p>'


#: Servers of this process, and the lock of who looks for one or makes one.
_servers: WeakSet[_Server] = WeakSet()
_opening = threading.RLock()


class _Server:
    """A thread that serves runs on sockets.

    Attributes:
        runs: what it shows.
        url: its address.
    """

    def __init__(self, sockets: list[socket.socket], host: str, token: str | None, names: Collection[str]) -> None:
        self.runs = Runs()
        self.token = token
        self.port: int = sockets[0].getsockname()[1]
        self.url = url_of(host, self.port)
        self._host, self._names = host, frozenset(names)
        self._sockets = sockets
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        app = create_app(self.runs, names=(*names_of(host), *names), token=token)
        self._server = _Uvicorn(app, app.state.feed.end)
        self._thread = threading.Thread(target=self._serve, name=f"streamlab-dashboard-{self.port}", daemon=True)

    @property
    def running(self) -> bool:
        """Whether it answers."""
        served = self._server.started and not self._server.should_exit
        return served and self._thread.is_alive() and os.getpid() == self._process

    def fits(self, port: int | None, host: str, token: str | None, names: Collection[str]) -> bool:
        """Tell whether it is what is asked for."""
        return port in (None, self.port) and (host, token) == (self._host, self.token) and self._names >= set(names)

    def start(self) -> None:
        """Begin, and return when it answers.

        Raises:
            DashboardError: it does not.
        """
        self._thread.start()
        self._server.ready.wait(START_SECONDS)
        if not self.running:
            self.stop()
            raise DashboardError(f"the dashboard did not start on port {self.port}: {self._error}") from self._error
        _servers.add(self)

    def end(self) -> None:
        """Take no more questions."""
        self._server.end()

    def stop(self) -> None:
        """Return when the thread has ended and the port is free."""
        with self._lock:
            self.end()
            self._thread.join(STOP_SECONDS)
            for sock in self._sockets:
                sock.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=self._sockets)
        except BaseException as error:  # told to who waits for the start; SystemExit is uvicorn's way to say so
            self._error = error
        finally:
            self._server.ready.set()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, but told when to end by an event: it would look ten times a second, and rest before it ends.

    Args:
        app: what to serve.
        ending: is called when the end has been asked for, in the event loop: to end answers that go on and on.

    Attributes:
        ready: set when it serves, or will never.
    """

    def __init__(self, app: FastAPI, ending: Callable[[], object]) -> None:
        super().__init__(
            uvicorn.Config(
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
        )
        self.ready = threading.Event()
        self._ending = ending
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
        self._ending()
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # the loop's next round takes leave of idle connections
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # of clients that do not read what they were sent
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)  # the loop's next round closes their sockets
