"""The endpoints, over tables of the runs that a server shows. Pure: no thread, no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from streamlab import report
from streamlab.errors import TraceError
from streamlab.paths import Fate
from streamlab.policy import FAILURE_KINDS
from streamlab.run import Run
from streamlab.story import LineTrace
from streamlab.tables import plain
from streamlab.views import figures
from streamlab.views.dashboard import answers
from streamlab.views.dashboard.feed import MOST_TICKS, Feed, encoded, listed
from streamlab.views.dashboard.guard import Guard
from streamlab.views.dashboard.page import ASSETS, asset
from streamlab.views.dashboard.prometheus import CONTENT_TYPE, exposition
from streamlab.views.dashboard.runs import Runs, Shown
from streamlab.views.dashboard.sockets import check_token
from streamlab.views.drawing import draw

#: Rows that one answer has at most; who asks for more gets these.
MOST_ROWS = 1000

Limit = Annotated[int, Query(ge=1, description=f"rows, newest first; more than {MOST_ROWS} is taken as {MOST_ROWS}")]
Text = Annotated[str, Query(max_length=1000)]
Name = Annotated[str | None, Query(description="name of a processor")]
Kind = Annotated[str | None, Query(description=f"failure kind: {', '.join(FAILURE_KINDS)}")]


class SafeJSON(JSONResponse):
    """JSON as `encoded` writes it."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return encoded(content).encode("ascii")


def create_app(run: Run | Runs, *, names: Collection[str] = (), token: str | None = None) -> FastAPI:
    """Return the dashboard of a run, or of several, as an application to serve.

    The newest run is at the root, each one below ``/runs/NUMBER/``; addresses in answers are relative. ``app.state.feed``
    has the events, to be ended before the server is.

    Args:
        run: live or finished.
        names: what requests may call this server in ``Host``, beside localhost, 127.0.0.1 and [::1]; ``*`` for the address
            that they came in at.
        token: what requests must know; ``None`` for none.

    Raises:
        DashboardError: the token is empty.

    Example:
        >>> import asyncio, httpx, streamlab
        >>> served = httpx.ASGITransport(create_app(streamlab.run(["warn: hot"], trace=True)))
        >>> client = httpx.AsyncClient(transport=served, base_url="http://localhost")
        >>> asyncio.run(client.get("/trace")).json()["traces"][0]["path"]
        ['start', 'warn', 'end']
    """
    check_token(token)
    runs = run if isinstance(run, Runs) else Runs(run)
    options: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None, "redirect_slashes": False}
    app = _Guarded(names, token, title="streamlab", responses=REFUSED, **options)
    app.state.feed = Feed(runs)

    async def numbered(number: Annotated[int, Path(ge=1, description="number of the run")]) -> Shown:
        return _found(runs, number)

    async def newest() -> Shown:
        return _found(runs, None)

    for prefix, which in (("", newest), ("/runs/{number}", numbered)):
        router = APIRouter(prefix=prefix, responses=NOT_FOUND)
        _add_page(router, which)
        _add_tables(router, which)
        _add_views(router, which, app.state.feed)
        _add_health(router, which)
        app.include_router(router)

    @app.get("/runs", response_model=answers.Shelf)
    async def shelf() -> SafeJSON:
        return SafeJSON({"runs": listed(runs)})

    @app.exception_handler(TraceError)
    async def not_kept(request: Request, error: TraceError) -> SafeJSON:
        return SafeJSON({"detail": str(error)}, 404)

    return app


class _Guarded(FastAPI):
    """An application with the guard around all of it, its answers to its own failures included."""

    def __init__(self, names: Collection[str], token: str | None, **options: Any) -> None:
        self._names, self._token = names, token
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        return Guard(super().build_middleware_stack(), self._names, self._token)


def _found(runs: Runs, number: int | None) -> Shown:
    shown = runs.get(number)
    if shown is None:
        what = f"run {number} is not here; /runs lists those that are" if number else "there is no run any more"
        raise HTTPException(404, what)
    return shown


Which = Callable[..., Awaitable[Shown]]
Described = dict[int | str, dict[str, Any]]


def _text(media: str, **more: Any) -> dict[str, Any]:
    """Return the description of an answer that is not JSON."""
    return {"content": {media: {"schema": {"type": "string"}}}, **more}


NOT_FOUND: Described = {404: {"model": answers.Detail, "description": "It is not there."}}
#: What the guard answers.
REFUSED: Described = {
    400: _text("text/plain", description="The request does not call this server by one of its names."),
    401: _text("text/plain", description="The server has a token, and the request does not."),
    403: _text("text/plain", description="Another site asked."),
}

# The endpoints are coroutines although they wait for nothing: they run in the one thread that serves, which has nothing
# else to do, instead of in a pool of more.


def _add_page(router: APIRouter, which: Which) -> None:
    @router.get("/", response_class=Response, responses={200: _text("text/html")}, dependencies=[Depends(which)])
    async def index() -> Response:
        return HTMLResponse(asset("index.html"))

    def add(name: str, media: str) -> None:
        @router.get(f"/{name}", response_class=Response, name=name, include_in_schema=False)
        async def file(request: Request) -> Response:
            zipped = "gzip" in request.headers.get("accept-encoding", "")
            content = await asyncio.to_thread(asset, name, zipped)  # the first time it takes long
            return Response(content, media_type=media, headers={"Content-Encoding": "gzip"} if zipped else None)

    for name, media in ASSETS.items():
        add(name, media)


def _add_tables(router: APIRouter, which: Which) -> None:
    @router.get("/stats", response_model=answers.Stats)
    async def stats(shown: Shown = Depends(which)) -> Response:
        return _shared(shown, "stats", shown.run.stats)

    @router.get("/trace", response_model=answers.Traces)
    async def traces(
        shown: Shown = Depends(which),
        limit: Limit = 100,
        search: Text = "",
        processor: Name = None,
        fate: Annotated[Fate | None, Query(description="how a branch of the line ended")] = None,
    ) -> Response:
        limit = min(limit, MOST_ROWS)

        def rows() -> dict[str, Any]:
            lines = shown.lines(limit, search=search, processor=processor, fate=fate)
            return {"traces": plain([row for line in lines for row in line.rows()][:limit])}

        return _shared(shown, ("trace", limit, search, processor, fate), rows)

    @router.get("/trace/{line_no}", response_model=answers.Story)
    async def trace(line_no: int, shown: Shown = Depends(which)) -> SafeJSON:
        return SafeJSON(story(shown.line(line_no)))

    @router.get("/errors", response_model=answers.Errors)
    async def errors(
        shown: Shown = Depends(which),
        limit: Limit = 100,
        processor: Name = None,
        kind: Kind = None,
    ) -> Response:
        limit = min(limit, MOST_ROWS)

        def rows() -> dict[str, Any]:
            return {"errors": shown.run.latest_errors(limit, processor=processor, kind=kind)}

        return _shared(shown, ("errors", limit, processor, kind), rows)

    @router.get("/notices", response_model=answers.Notices)
    async def notices(shown: Shown = Depends(which), limit: Limit = 100) -> Response:
        limit = min(limit, MOST_ROWS)
        return _shared(shown, ("notices", limit), lambda: {"notices": shown.run.latest_notices(limit)})

    @router.get("/graph", response_model=answers.Graph)
    async def graph(shown: Shown = Depends(which)) -> Response:
        return _shared(shown, "graph", shown.run.graph)

    @router.get("/paths", response_model=answers.Paths)
    async def paths(shown: Shown = Depends(which)) -> Response:
        return _shared(shown, "paths", lambda: {"paths": report.paths(shown.run.snapshot())})


def _shared(shown: Shown, what: Hashable, make: Callable[[], Any]) -> Response:
    """Return what ``make`` makes as JSON; made and written once for all who ask, see `Shown.shared`."""
    return Response(shown.shared(what, lambda: encoded(make()).encode("ascii")), media_type="application/json")


def _add_views(router: APIRouter, which: Which, feed: Feed) -> None:
    @router.get("/events", response_class=Response, responses={200: _text("text/event-stream")})
    async def events(
        request: Request,
        shown: Shown = Depends(which),
        last: Annotated[str, Header(alias="Last-Event-ID")] = "",
        since: Annotated[str, Query(description="the same as Last-Event-ID")] = "",
    ) -> Response:
        if "streamlab.bodiless" in request.scope:
            return EventStream(())
        numbered = shown.number if "number" in request.path_params else None  # the newest may become another
        return EventStream(feed.events(numbered, last or since))

    @router.get("/metrics", response_class=Response, responses={200: _text("text/plain")})
    async def metrics(shown: Shown = Depends(which)) -> Response:
        text = shown.shared("metrics", lambda: exposition(shown.run))
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    @router.get("/figures", response_model=answers.Figures)
    async def charts(shown: Shown = Depends(which), focus: Name = None) -> SafeJSON:
        return SafeJSON(_figures(shown.run, focus))

    @router.get("/drawing", response_model=answers.Drawing)
    async def drawing(shown: Shown = Depends(which), down: bool = False) -> SafeJSON:
        plan, names = draw(shown.run.graph(), down=down).plain(), list(shown.run.pipeline.processors)
        for place in plan["nodes"]:
            place["colour"] = figures.colour(names, place["name"]) if place["name"] in names else None
        return SafeJSON(plan)


def _add_health(router: APIRouter, which: Which) -> None:
    @router.get("/healthz", response_model=answers.Health, responses={503: {"model": answers.Health}})
    @router.get("/readyz", response_model=answers.Health, responses={503: {"model": answers.Health}})
    async def health(shown: Shown = Depends(which)) -> SafeJSON:
        state = shown.run.state
        if state != "failed":
            return SafeJSON({"status": "ok", "state": state})
        return SafeJSON({"status": "failed", "state": state, "reason": shown.run.reason}, 503)


class EventStream(StreamingResponse):
    """Server-Sent Events, see https://html.spec.whatwg.org/multipage/server-sent-events.html."""

    media_type = "text/event-stream"


def _figures(run: Run, focus: str | None) -> dict[str, Any]:
    ticks, moments = run.moments(-MOST_TICKS)
    return {
        "until": moments[-1][0]["time"] if moments else 0.0,
        "throughput": figures.throughput(moments, focus),
        "latency": figures.latency(moments, focus),
        "problems": figures.problems(moments, focus, since=ticks - len(moments)),
        "flow": figures.flow(report.paths(run.snapshot()), list(run.pipeline.processors)),
    }


def story(trace: LineTrace) -> dict[str, Any]:
    """Return one line's trace as plain data: ``line_no, line, branches, hops, note``; a path is a list of names."""
    told = {"line_no": trace.line_no, "line": trace.line, "branches": trace.rows()}
    result: dict[str, Any] = plain(told | {"hops": trace.hop_rows(), "note": trace.note})
    return result
