"""The dashboard: a run over HTTP, read-only, for browsers and programs on this machine.

FastAPI and uvicorn are imported here and nowhere else, and only when a dashboard is made: to listen, which a program had
better do before it does anything else, takes neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlab.errors import DashboardError
from streamlab.views.dashboard.sockets import listen

if TYPE_CHECKING:
    from streamlab.views.dashboard.app import create_app
    from streamlab.views.dashboard.server import Dashboard

__all__ = ["Dashboard", "create_app", "listen"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from streamlab.views.dashboard import app, server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("streamlab"):
            raise
        raise DashboardError(
            f'the dashboard needs FastAPI and uvicorn ({error}): pip install "streamlab[dashboard]"'
        ) from error
    return {"create_app": app.create_app, "Dashboard": server.Dashboard}[name]
