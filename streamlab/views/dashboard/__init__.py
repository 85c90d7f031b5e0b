"""The dashboard: a run over HTTP, read-only, for browsers and programs on this machine.

FastAPI and uvicorn are imported here and nowhere else, so that streamlab does without them until it is asked for this.
"""

from streamlab.errors import DashboardError

try:
    from streamlab.views.dashboard.app import create_app
    from streamlab.views.dashboard.server import Dashboard
    from streamlab.views.dashboard.sockets import listen
except ModuleNotFoundError as error:
    if (error.name or "").startswith("streamlab"):
        raise
    raise DashboardError(f'the dashboard needs FastAPI and uvicorn ({error}): pip install "streamlab[dashboard]"') from error

__all__ = ["Dashboard", "create_app", "listen"]
