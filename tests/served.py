"""Asking a dashboard, and knowing what can be asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
from starlette.routing import BaseRoute

from streamlab.views.dashboard import Dashboard


def connect(dashboard: Dashboard, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=f"http://localhost:{dashboard.port}", timeout=30, trust_env=False, **options)


def paths_of(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """Yield the paths of routes, of those inside others too."""
    for route in routes:
        nested = getattr(route, "original_router", route)
        if hasattr(nested, "routes"):
            yield from paths_of(nested.routes)
        else:
            yield route.path  # type: ignore[attr-defined]
