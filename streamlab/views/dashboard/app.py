"""The endpoints, over a run's tables. Pure: no thread, no socket."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp

from streamlab.errors import TraceError
from streamlab.run import Run
from streamlab.tables import plain
from streamlab.traces import LineTrace
from streamlab.views.dashboard.guard import Guard
from streamlab.views.dashboard.page import page

#: Rows that one answer has at most; who asks for more gets these.
MOST_ROWS = 1000

Limit = Annotated[int, Query(ge=1, description=f"rows, newest first; more than {MOST_ROWS} is taken as {MOST_ROWS}")]


class SafeJSON(JSONResponse):
    r"""JSON in ASCII: so it can say bytes of a log that were not UTF-8, lone surrogates in ``str``, as ``\udcff``."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def create_app(run: Run, *, names: Collection[str] = ()) -> FastAPI:
    """Return the dashboard of a run as an application to serve.

    Args:
        run: live or finished.
        names: what requests may call this server in ``Host``, beside localhost, 127.0.0.1 and [::1].

    Example:
        >>> import asyncio, httpx, streamlab
        >>> served = httpx.ASGITransport(create_app(streamlab.run(["warn: hot"], trace=True)))
        >>> client = httpx.AsyncClient(transport=served, base_url="http://localhost")
        >>> asyncio.run(client.get("/trace")).json()["traces"][0]["path"]
        ['start', 'warn', 'end']
    """
    app = _Guarded(names, title=f"streamlab: {run.pipeline.name}", docs_url=None, redoc_url=None, openapi_url=None)
    _add_tables(app, run)
    _add_health(app, run)
    return app


class _Guarded(FastAPI):
    """An application with the guard around all of it, its answers to its own failures included."""

    def __init__(self, names: Collection[str], **options: Any) -> None:
        self._names = names
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        return Guard(super().build_middleware_stack(), self._names)


# The endpoints are coroutines although they wait for nothing: they run in the one thread that serves, which has nothing
# else to do, instead of in a pool of more.


def _add_tables(app: FastAPI, run: Run) -> None:
    @app.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page(run.stats(), _reason(run)))

    @app.get("/stats")
    async def stats() -> SafeJSON:
        return SafeJSON(run.stats())

    @app.get("/trace")
    async def traces(limit: Limit = 100) -> SafeJSON:
        return SafeJSON({"traces": run.latest_traces(min(limit, MOST_ROWS))})

    @app.get("/trace/{line_no}")
    async def trace(line_no: int) -> SafeJSON:
        return SafeJSON(story(run.trace(line_no)))

    @app.get("/errors")
    async def errors(limit: Limit = 100) -> SafeJSON:
        return SafeJSON({"errors": run.latest_errors(min(limit, MOST_ROWS))})

    @app.get("/graph")
    async def graph() -> SafeJSON:
        return SafeJSON(run.graph())

    @app.exception_handler(TraceError)
    async def not_kept(request: Request, error: TraceError) -> SafeJSON:
        return SafeJSON({"detail": str(error)}, 404)


def _add_health(app: FastAPI, run: Run) -> None:
    @app.get("/healthz")
    @app.get("/readyz")
    async def health() -> SafeJSON:
        reason = _reason(run)
        if reason is None:
            return SafeJSON({"status": "ok", "state": run.state})
        return SafeJSON({"status": "failed", "state": run.state, "reason": reason}, 503)


def _reason(run: Run) -> str | None:
    """Return why the run failed; ``None`` unless it did."""
    if run.state != "failed":
        return None
    return f"{type(run.exception).__name__}: {run.exception}"


def story(trace: LineTrace) -> dict[str, Any]:
    """Return one line's trace as plain data: ``line_no, line, branches, hops, note``; a path is a list of names."""
    branches = [row | {"path": row["path"].split(" > ") if row["path"] else []} for row in trace.branches]
    told = {"line_no": trace.line_no, "line": trace.line, "branches": branches}
    result: dict[str, Any] = plain(told | {"hops": trace.hop_rows(), "note": trace.note})
    return result
