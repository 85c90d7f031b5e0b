"""What the endpoints answer, as schemas of the application's OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from streamlab.processors import Kept
from streamlab.runners import State


class Answer(BaseModel):
    """An answer has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Ledger(Answer):
    """``received + forked = emitted + filtered + absorbed + dead_lettered + in_flight``."""

    received: int
    forked: int
    emitted: int
    filtered: int
    absorbed: int
    dead_lettered: int
    in_flight: int


class Metrics(Ledger):
    """One processor's row of the metrics table."""

    errors: int
    retries: int
    time_s: float
    mean_us: float | None
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    lines_per_s: float
    utilization: float


class Stats(Answer):
    """State, ledger and metrics."""

    pipeline: str
    state: State
    uptime_s: float
    lines: Ledger
    processors: dict[str, Metrics]


class Branch(Answer):
    """One row of the traces table; ``path`` is a list of names."""

    line_no: int
    branch: int
    line: str
    path: list[str]
    fate: str
    output: Any
    duration_us: float | None
    attempts: int
    kept: str


class Traces(Answer):
    """The last lines, newest first."""

    traces: list[Branch]


class Out(Answer):
    """A value that a processor gave, and where it went."""

    to: str
    value: Any


class Hop(Answer):
    """One processor's visit."""

    processor: str
    value: Any
    outputs: list[Out]
    duration_us: float | None
    attempts: int
    error: str | None


class Story(Answer):
    """One line: its branches and hops; ``note`` says why hops are missing."""

    line_no: int
    line: str
    branches: list[Branch]
    hops: list[Hop]
    note: str


class Error(Answer):
    """One row of the errors table; ``time`` is in seconds since the epoch."""

    line_no: int | None
    time: float
    processor: str | None
    kind: str
    error: str
    message: str
    line: str
    attempts: int
    traceback: str


class Errors(Answer):
    """The last failures, newest first."""

    errors: list[Error]


class Notice(Answer):
    """One row of the notices table: what happened beside the lines; ``time`` is in seconds since the epoch."""

    time: float
    kind: str
    where: str
    message: str
    lost_lines: int
    lost_bytes: int
    count: int


class Notices(Answer):
    """The last notices, newest first."""

    notices: list[Notice]


class Node(Metrics):
    """A processor of the graph; ``state`` is where what it keeps is, ``timed`` the size of its timed sample."""

    name: str
    kind: str
    state: Kept | None
    to: list[str | None]
    on_error: str
    timed: int


class Edge(Answer):
    """What went from one processor to another; ``null`` is the source, or the way out."""

    origin: str | None = Field(alias="from")
    to: str | None
    count: int


class Graph(Answer):
    """The pipeline, with counts."""

    pipeline: str
    entry: str
    nodes: list[Node]
    edges: list[Edge]


class Path(Answer):
    """A way through the graph, how branches that went it ended, and how many; ``share`` is of all branches."""

    path: str
    fate: str
    count: int
    share: float


class Paths(Answer):
    """The ways that most branches went."""

    paths: list[Path]


class Shown(Answer):
    """A run of this server."""

    number: int
    pipeline: str
    state: State


class Shelf(Answer):
    """The runs of this server, oldest first."""

    runs: list[Shown]


class Health(Answer):
    """Whether the run is well."""

    status: Literal["ok", "failed"]
    state: State
    reason: str | None = None


class Detail(Answer):
    """What is wrong with a request."""

    detail: str


class Figures(Answer):
    """Charts, as plotly has them, ``until`` a moment in seconds since the epoch."""

    until: float
    throughput: dict[str, Any]
    latency: dict[str, Any]
    problems: dict[str, Any]
    flow: dict[str, Any]


class Place(Answer):
    """Where a processor (or, without a name, an end of the graph) is drawn, in pixels."""

    name: str | None
    colour: str | None
    end: Literal["source", "output"] | None
    x: float
    y: float
    width: float
    height: float


class Line(Answer):
    """How an edge is drawn: an SVG path, the middle of its label, and whether it leads back."""

    origin: str | None = Field(alias="from")
    to: str | None
    path: str
    x: float
    y: float
    back: bool


class Drawing(Answer):
    """The graph as it is drawn."""

    width: float
    height: float
    nodes: list[Place]
    edges: list[Line]
