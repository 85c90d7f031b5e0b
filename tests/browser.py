"""A real Chromium that looks at dashboards; as a program, it takes the pictures of the documentation.

    python -m tests.browser [FOLDER]

runs a web shop's access log through a pipeline and writes ``dashboard-light.png``, ``dashboard-dark.png``,
``dashboard-phone.png`` and, of a run on a cluster, ``dashboard-cluster.png``, by default to ``docs``.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from data.generate import lines as generated
from streamlab import EMIT, Pipeline, Retry, Run

#: Milliseconds that a page may take until it shows what it should; it takes far fewer, but machines are sometimes busy.
PATIENCE = 30_000

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: Runs before anything of the page: what the page's policy forbids is an error on the console, layout shifts, long tasks
#: and the time that each event takes to be received are kept.
INIT = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`));
window.__shifts = [];
window.__long = [];
window.__received = [];
const keep = (type, list) =>
  new PerformanceObserver((seen) => list.push(...seen.getEntries())).observe({ type, buffered: true });
keep("layout-shift", window.__shifts);
keep("longtask", window.__long);
window.EventSource = class extends EventSource {
  set onmessage(receive) {
    super.onmessage = (event) => {
      const began = performance.now();
      receive(event);
      window.__received.push(performance.now() - began);
    };
  }
};
"""


def chromium() -> str | None:
    """Return where Chromium is; ``None`` if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def is_required() -> bool:
    """Tell whether a missing Chromium is a failure: in CI, or where STREAMLAB_BROWSER says so."""
    return bool(os.environ.get("CI")) or os.environ.get("STREAMLAB_BROWSER") == "required"


@contextmanager
def opened() -> Iterator[Browser]:
    """Open the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page, and all that should not be said of it.

    Attributes:
        page: the page.
        troubles: messages on the console, errors, requests that failed, dialogs, windows.
        asked: addresses of all requests.
        hits: calls of ``__hit``, which are for payloads.
    """

    page: Page
    troubles: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    hits: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        page = self.page
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("requestfailed", self._miss)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda popup: self.troubles.append(f"window: {popup.url}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def _miss(self, request: Request) -> None:
        if not (request.url.endswith("/events") and request.failure == "net::ERR_ABORTED"):  # the page closes its stream
            self.troubles.append(f"failed: {request.url} {request.failure}")

    def hosts(self) -> set[str]:
        """Return whom the page asked."""
        return {urlsplit(url).netloc for url in self.asked if not url.startswith("data:")}

    def go(self, url: str) -> Page:
        """Go to a dashboard, and return when it shows a run."""
        self.page.goto(url)
        expect(self.page.locator("#link")).to_have_attribute("data-link", "live")
        return self.page


def until(page: Page, done: str, argument: Any = None) -> None:
    """Wait until a function of the page, in JavaScript, says so. The page's policy forbids Playwright's own way."""
    page.evaluate(
        f"""async ([argument, patience]) => {{
          const done = {done};
          for (const began = performance.now(); !done(argument);) {{
            if (performance.now() - began > patience) throw new Error(`not so after ${{patience}} ms: ${{done}}`);
            await new Promise(requestAnimationFrame);
          }}
        }}""",
        [argument, PATIENCE],
    )


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """Return a context for one visit."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, "locale": "en-US"} | options)
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    context.add_init_script(INIT)
    return context


@contextmanager
def visit(browser: Browser, url: str | None = None, **options: Any) -> Iterator[Visit]:
    """Open a page of its own, perhaps at a dashboard; it has had no trouble at the end of the block.

    Args:
        browser: the browser.
        url: the dashboard's.
        options: those of a browser's context.
    """
    with new_context(browser, **options) as context:
        seen = Visit(context.new_page())
        context.expose_binding("__hit", lambda _, *arguments: seen.hits.append(arguments))
        if url is not None:
            seen.go(url)
        yield seen
        assert not seen.troubles, seen.troubles
        assert not seen.hits, seen.hits


# Runs to look at


class Lines:
    """A source that a test lets flow: a line at a time, evenly, until it is ended.

    Args:
        line: makes the line of a number.
        pause: seconds between two lines.
    """

    def __init__(self, line: Callable[[int], str], pause: float = 0.002) -> None:
        self._line = line
        self._pause = pause
        self._end = threading.Event()

    def __iter__(self) -> Iterator[str]:
        number = 0
        while not self._end.wait(self._pause):
            yield self._line(number)
            number += 1

    def end(self) -> None:
        """End the source."""
        self._end.set()


_REQUEST = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>[^\]]+)\] "(?P<method>[A-Z]+) (?P<path>\S+) [^"]*" (?P<status>\d{3}) (?P<size>\d+|-)'
)


def web_shop() -> Pipeline:
    """Return a pipeline over access logs that has something of everything: routes, a filter, state, retries, errors."""
    shop = Pipeline("web shop")
    draw = Random(7)

    @shop.processor(to="route", on_error="repair")
    def parse(line: str) -> dict[str, Any]:
        found = _REQUEST.match(line)
        if found is None:
            raise ValueError(f"no request in {line[:60]!r}")
        fields: dict[str, Any] = found.groupdict()
        return fields | {"status": int(fields["status"]), "size": int(fields["size"].replace("-", "0"))}

    @shop.processor(to="route")
    def repair(line: str) -> dict[str, Any]:
        client, _, rest = line.partition(" ")
        if client.startswith("#"):
            raise ValueError("a comment is no request")
        return {"client": client, "path": rest.split('"')[0], "method": "GET", "status": 400, "size": 0}

    @shop.processor(to=("static", "orders", "failures", "pages"))
    def route(request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if request["status"] >= 500:
            return "failures", request
        if request["path"].startswith("/static"):
            return "static", request
        return ("orders" if "/orders" in request["path"] else "pages"), request

    @shop.processor
    def static(request: dict[str, Any]) -> None:
        return None

    @shop.processor(to="enrich")
    def pages(request: dict[str, Any]) -> dict[str, Any]:
        return request | {"page": request["path"].split("/")[1] or "home"}

    @shop.processor(to=("enrich", "audit"), retry=Retry(3, initial_interval=0.002))
    def orders(request: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        if draw.random() < 0.12:
            raise ConnectionError("stock.example does not answer")
        order = request | {"page": "orders"}
        return [("enrich", order), ("audit", order)]

    @shop.processor(to="publish")
    def enrich(request: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.0004 + 0.002 * draw.random() ** 8)  # asks where the client is
        return request | {"country": ("de", "fr", "jp", "br")[hash(request["client"]) % 4]}

    @shop.processor(to="publish")
    class failures:
        def __init__(self) -> None:
            self.since: dict[str, int] = {}

        def __call__(self, request: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            path = request["path"]
            self.since[path] = self.since.get(path, 0) + 1
            return ("publish", request | {"alert": True}) if len(self.since) % 3 == 0 else None

    @shop.processor
    def audit(request: dict[str, Any]) -> dict[str, Any]:
        return {"audit": request["path"]}

    @shop.processor
    def publish(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if request["size"] > 50_100:
            raise OverflowError(f"{request['size']} bytes are too many for {request['path']}")
        return EMIT, request

    return shop


def access_log(count: int = 10_000) -> Callable[[int], str]:
    """Return what makes the lines of an access log; now and then one is cut off, or a comment."""
    log = list(generated("access", count, seed=7))

    def line(number: int) -> str:
        if number % 241 == 90:
            return f"# rotated, part {number // 241}"
        text = log[number % count]
        return text[:40] if number % 173 == 60 else text

    return line


class Busy(Lines):
    """Lines that come in waves."""

    def __iter__(self) -> Iterator[str]:
        draw = Random(11)
        for number, line in enumerate(super().__iter__()):
            self._pause = 0.0004 + 0.003 * (0.5 + draw.random()) * (1.2 + (-1) ** (number // 1500))
            yield line


# Pictures


def take_pictures(folder: Path, seconds: float = 45.0) -> list[Path]:
    """Write the pictures of a live run, and return where they are."""
    source = Busy(access_log())
    with web_shop().start(source, trace=True) as live, live.dashboard(port=0) as dashboard, opened() as browser:
        _let_it_run(live, seconds)
        wide, phone = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
        pictures = [
            _picture(browser, dashboard.url, folder / "dashboard-light.png", viewport=wide, color_scheme="light"),
            _picture(browser, dashboard.url, folder / "dashboard-dark.png", viewport=wide, color_scheme="dark"),
            _picture(
                browser, dashboard.url, folder / "dashboard-phone.png", viewport=phone, color_scheme="light", is_mobile=True
            ),
        ]
        source.end()
    return [*pictures, take_picture_of_cluster(folder, seconds)]


def take_picture_of_cluster(folder: Path, seconds: float = 45.0) -> Path:
    """Write the picture of a live run on a cluster, and return where it is."""
    source, wide = Busy(access_log()), {"width": 1440, "height": 1000}
    with (
        web_shop().start(source, trace=True, cluster="local", workers=4, epoch_lines=500) as live,
        live.dashboard(port=0) as dashboard,
        opened() as browser,
    ):
        _let_it_run(live, seconds)
        path = folder / "dashboard-cluster.png"
        picture = _picture(browser, dashboard.url, path, viewport=wide, color_scheme="light")
        source.end()
    return picture


def _let_it_run(live: Run, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and live.state == "running":
        time.sleep(0.1)


def _picture(browser: Browser, url: str, path: Path, **options: Any) -> Path:
    with visit(browser, url, **options) as seen:
        expect(seen.page.locator("#throughput .main-svg").first).to_be_visible()
        seen.page.wait_for_function("() => document.querySelector('#throughput').data[0].x.length > 5")
        expect(seen.page.locator(".rate", has_text="/s").first).to_be_visible()
        seen.page.wait_for_timeout(2500)  # rates are of the last two seconds
        seen.page.screenshot(path=path)
    return path


if __name__ == "__main__":
    for picture in take_pictures(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(f"{picture}  {picture.stat().st_size // 1024} kB")
