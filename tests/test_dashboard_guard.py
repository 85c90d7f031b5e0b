"""Who may ask a dashboard, and what every answer says of itself: each route of the application, by real HTTP."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import streamlab
from streamlab import DashboardError, Run
from streamlab.views.dashboard import Dashboard, create_app
from streamlab.views.dashboard.guard import HEADERS
from streamlab.views.dashboard.page import ASSETS
from streamlab.views.dashboard.runs import Runs
from tests.served import connect, paths_of

TOKEN = "sesame & öpen+1/2%"
NAVIGATE = {"Sec-Fetch-Mode": "navigate"}
#: What stands for the parameters of a path.
REAL = {"number": "1", "line_no": "0"}
#: Routes that there are at least.
KNOWN = {
    "/",
    "/stats",
    "/trace",
    "/trace/0",
    "/errors",
    "/graph",
    "/paths",
    "/events",
    "/metrics",
    "/figures",
    "/drawing",
    "/healthz",
    "/readyz",
    "/runs",
    "/main.js",
    "/plotly.js",
    "/runs/1/",
    "/runs/1/events",
    "/runs/1/trace/0",
    "/runs/1/style.css",
}
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "evil.example.localhost",
    "localhost@evil.example",
    "localhost:80@evil.example",
    "localhost, evil.example",
    "localhost.",
    "localhost:x",
    "127.0.0.1.evil.example",
    "127.1",
    "2130706433",
    "0.0.0.0",
    "192.0.2.1",
    "[::1]evil.example",
    "[::2]",
    "::1",
    "",
]
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "Cross-Site"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Origin": "file://"},
]
METHODS = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"]


#: The paths of all routes, with real values for their parameters.
ROUTES = [re.sub(r"\{(\w+)(?::\w+)?\}", lambda name: REAL[name[1]], path) for path in paths_of(create_app(Runs()).routes)]
every_route = pytest.mark.parametrize("path", ROUTES)


def ask(client: httpx.Client, method: str, path: str, headers: Any = None, **more: Any) -> tuple[httpx.Response, bytes]:
    """Return an answer, and as much of its body as comes at once: events do not end, so they are left."""
    with client.stream(method, path, headers=headers, **more) as answer:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, (method, path, answer)
        assert "server" not in answer.headers
        endless = answer.headers.get("content-type", "").startswith("text/event-stream") and method == "GET"
        return answer, next(answer.iter_raw()) if endless else answer.read()


def status(client: httpx.Client, method: str, path: str, headers: Any = None, **more: Any) -> int:
    return ask(client, method, path, headers, **more)[0].status_code


def bearer(token: str, scheme: str = "Bearer") -> dict[str, Any]:
    return {"Authorization": f"{scheme} {token}".encode()}


@pytest.fixture(scope="module")
def run() -> Run:
    return streamlab.run(["info: a", "warn: b"], trace=True)


@pytest.fixture(scope="module")
def client(run: Run) -> Iterator[httpx.Client]:
    with Dashboard(run, port=0) as dashboard, connect(dashboard) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(run: Run) -> Iterator[Dashboard]:
    with Dashboard(run, port=0, token=TOKEN) as dashboard:
        yield dashboard


@pytest.fixture
def stranger(guarded: Dashboard) -> Iterator[httpx.Client]:
    """Yield who has no cookies, of a server with a token."""
    with connect(guarded) as client:
        yield client


def test_the_routes_are_those_of_the_application() -> None:
    assert set(ROUTES) >= KNOWN
    assert set(ROUTES) >= {f"{where}/{name}" for name in ASSETS for where in ("", "/runs/1")}
    assert len(ROUTES) == len(set(ROUTES))


# Every route, of a server that is open to this machine


@every_route
def test_it_answers_with_all_headers(client: httpx.Client, path: str) -> None:
    answer, body = ask(client, "GET", path)
    assert answer.status_code == 200
    assert body


@every_route
def test_the_head_ends_and_has_no_body(client: httpx.Client, path: str) -> None:
    answer, body = ask(client, "HEAD", path)
    assert (answer.status_code, body) == (200, b"")
    with client.stream("GET", path) as whole:
        assert answer.headers["content-type"] == whole.headers["content-type"]
        assert answer.headers.get("content-length", "").isdigit() == ("content-length" in whole.headers)


@every_route
def test_nothing_comes_after_a_head(client: httpx.Client, path: str) -> None:
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30) as sock:
        sock.sendall(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        came = b"".join(iter(lambda: sock.recv(65536), b""))
    assert came.startswith(b"HTTP/1.1 200 ")
    assert came.endswith(b"\r\n\r\n")
    assert came.count(b"\r\n\r\n") == 1


@every_route
def test_other_names_are_refused(client: httpx.Client, path: str) -> None:
    for method in ("GET", "HEAD"):
        statuses = {host: status(client, method, path, {"Host": host}) for host in FOREIGN_HOSTS}
        assert statuses == dict.fromkeys(FOREIGN_HOSTS, 400)


@every_route
def test_other_sites_are_refused(client: httpx.Client, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert [status(client, method, path, headers) for headers in FOREIGN] == [403] * len(FOREIGN)


@every_route
def test_it_can_only_be_read(client: httpx.Client, path: str) -> None:
    for method in METHODS:
        answer, _ = ask(client, method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@every_route
def test_its_own_pages_and_who_types_the_address_may_ask(client: httpx.Client, path: str) -> None:
    own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert status(client, "GET", path, own) == 200
    assert status(client, "GET", path, {"Sec-Fetch-Site": "none"}) == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_names_of_this_machine(client: httpx.Client, host: str) -> None:
    assert status(client, "GET", "/stats", {"Host": host}) == 200


def test_a_refusal_says_what_to_do(client: httpx.Client, stranger: httpx.Client) -> None:
    assert b"use http://localhost, or allow the name (--allow-host)" in ask(client, "GET", "/", {"Host": "evil"})[1]
    assert b"type the address" in ask(client, "GET", "/", {"Origin": "null"})[1]
    assert b"use GET or HEAD" in ask(client, "POST", "/")[1]
    assert b"?token=" in ask(stranger, "GET", "/")[1]


@pytest.mark.parametrize("hosts", [["localhost", "evil.example"], ["localhost", "localhost"], []])
def test_a_request_has_one_host(client: httpx.Client, hosts: list[str]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30) as sock:
        sock.sendall(f"GET /stats HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_host_in_the_address_does_not_stand_for_the_one_in_the_header(client: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=30) as sock:
        sock.sendall(b"GET http://localhost/stats HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_what_is_not_there_is_guarded_as_well(client: httpx.Client, stranger: httpx.Client) -> None:
    for path in (
        "/nowhere",
        "/runs/2/stats",
        "/runs/2/",
        "/runs/x/",
        "/trace/9",
        "/docs",
        "/openapi.json",
        "/static/main.js",
    ):
        assert status(client, "GET", path) in (404, 422)
        assert status(client, "GET", path, {"Host": "evil.example"}) == 400
        assert status(client, "GET", path, {"Origin": "null"}) == 403
        assert status(client, "POST", path) == 405
        assert status(stranger, "GET", path) == 401


def test_a_fault_of_its_own_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    run = streamlab.run(["a"])
    monkeypatch.setattr(run, "graph", lambda: 1 / 0)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(run), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/graph")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


# Every route, of a server with a token


@every_route
def test_without_the_token_it_is_refused(stranger: httpx.Client, path: str) -> None:
    port = stranger.base_url.port
    strangers: list[dict[str, Any]] = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        bearer("wrong"),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "1"),
        bearer(TOKEN.upper()),
        bearer(TOKEN, "Basic"),
        bearer(TOKEN, "Token"),
        {"Authorization": TOKEN.encode()},
        {"Cookie": f"streamlab-{port}=wrong"},
        {"Cookie": f"streamlab-{port}="},
        {"Cookie": f"streamlab-{port}={TOKEN}".encode()},
        {"Cookie": f"token={TOKEN}".encode()},
        {"X-Token": TOKEN.encode()},
        NAVIGATE,
    ]
    for headers in strangers:
        for method in ("GET", "HEAD"):
            answer, _ = ask(stranger, method, path, headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), headers
            assert "set-cookie" not in answer.headers
    for words in ([""], ["wrong"], [TOKEN[:-1]], [TOKEN + " "], [TOKEN.upper()], ["", "x"]):
        for headers in ({}, NAVIGATE):
            answer, _ = ask(stranger, "GET", path, headers, params={"token": words})
            assert (answer.status_code, "set-cookie" in answer.headers) == (401, False), words
    assert status(stranger, "GET", path, params={"Token": TOKEN}) == 401


@every_route
def test_the_token_in_a_header_is_enough(stranger: httpx.Client, path: str) -> None:
    for scheme in ("Bearer", "bearer"):
        for method in ("GET", "HEAD"):
            answer, _ = ask(stranger, method, path, bearer(TOKEN, scheme))
            assert answer.status_code == 200
            assert "set-cookie" not in answer.headers


@every_route
def test_the_token_in_the_address_is_had_once_for_a_cookie(stranger: httpx.Client, path: str) -> None:
    answer, _ = ask(stranger, "GET", path, params={"token": TOKEN})
    assert answer.status_code == 200
    assert_sets_a_cookie(answer)
    assert status(stranger, "GET", path) == 200  # by the cookie alone
    assert status(stranger, "HEAD", path) == 200
    assert status(stranger, "GET", path, {"Host": "evil.example"}) == 400
    assert status(stranger, "GET", path, {"Origin": "null"}) == 403
    assert status(stranger, "POST", path) == 405


@every_route
def test_a_browser_is_sent_to_where_the_token_is_not_in_the_address(stranger: httpx.Client, path: str) -> None:
    params = {"a": "b c&d", "token": TOKEN, "limit": "3", "empty": ""}
    answer, body = ask(stranger, "GET", path, NAVIGATE, params=params)
    assert (answer.status_code, body) == (303, b"")
    assert_sets_a_cookie(answer)
    assert answer.headers["location"].startswith("./")
    assert not any(word in answer.headers["location"] for word in ("token", "sesame"))
    goal = httpx.URL(urljoin(str(answer.url), answer.headers["location"]))
    assert (goal.host, goal.port, goal.path) == ("localhost", stranger.base_url.port, path)
    assert dict(goal.params) == {"a": "b c&d", "limit": "3", "empty": ""}
    assert status(stranger, "GET", str(goal)) == 200
    assert ask(stranger, "GET", path, NAVIGATE, params={"token": TOKEN})[0].status_code == 200  # it is known by now


def assert_sets_a_cookie(answer: httpx.Response) -> None:
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    name, _, value = cookie.partition("=")
    assert name == f"streamlab-{answer.url.port}"
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=Strict"}
    assert re.fullmatch("[0-9a-f]{64}", value)
    assert "sesame" not in value


def test_the_cookie_of_another_token_is_none(run: Run, stranger: httpx.Client) -> None:
    with Dashboard(run, port=0, token="another") as other, connect(other) as client:
        cookie = ask(client, "GET", "/", params={"token": "another"})[0].headers["set-cookie"].split(";")[0].split("=")[1]
    assert status(stranger, "GET", "/", {"Cookie": f"streamlab-{stranger.base_url.port}={cookie}"}) == 401


def test_the_cookie_is_found_among_others_and_broken_ones_do_no_harm(stranger: httpx.Client) -> None:
    cookie = ask(stranger, "GET", "/", params={"token": TOKEN})[0].headers["set-cookie"].split(";")[0]
    stranger.cookies.clear()
    for others in ("a=b", "a/b,(c)=d", 'a={"b": "c, d"}', "a", "=", "\xff=\xff", "a[]=b", 'a="b'):
        for order in (f"{others}; {cookie}", f"{cookie}; {others}"):
            assert status(stranger, "GET", "/", {"Cookie": order.encode("latin-1")}) == 200, order
    assert status(stranger, "GET", "/", {"Cookie": "=;;\x01=\xff".encode("latin-1")}) == 401


@pytest.mark.parametrize(
    "query", ["", "&next=//evil.example", "&a=%0d%0aSet-Cookie:x=y", "&://evil.example", "&%5C%5Cevil.example"]
)
@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "///evil.example",
        "//evil.example/",
        "//evil.example//",
        "//evil.example/..",
        "/%5Cevil.example",
        "/%5C%5Cevil.example",
        "/%2F%2Fevil.example",
        "/%2Fevil.example",
        "/..//evil.example",
        "/..%2F..%2F/evil.example",
        "/.//evil.example",
        "/https://evil.example",
        "/https:evil.example",
        "/https%3A%2F%2Fevil.example",
        "/javascript:alert(1)",
        "/@evil.example",
        "/%09//evil.example",
        "/%0d%0aLocation:%20https://evil.example",
        "/a/%0d%0aSet-Cookie:x=y",
        "/;//evil.example",
        "/%3F//evil.example",
        "/%23//evil.example",
        "/%ff",
        "/runs/1//evil.example",
    ],
)
def test_nobody_is_sent_elsewhere(guarded: Dashboard, path: str, query: str) -> None:
    token = str(httpx.QueryParams({"token": TOKEN}))
    request = f"GET {path}?{token}{query} HTTP/1.1\r\nHost: localhost:{guarded.port}\r\nSec-Fetch-Mode: navigate\r\n"
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=30) as sock:
        sock.sendall(f"{request}Connection: close\r\n\r\n".encode())
        head = b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\r\n\r\n")[0].decode("latin-1")
    first, *lines = head.split("\r\n")
    assert first.startswith("HTTP/1.1 303 ")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    names = [name.lower() for name, _ in headers]
    assert names.count("location") == names.count("set-cookie") == 1
    [location] = [value for name, value in headers if name.lower() == "location"]
    assert location.startswith("./")
    assert "\\" not in location and "sesame" not in location
    here = f"http://localhost:{guarded.port}"
    for base in (here + path, f"{here}/"):
        goal = urlsplit(urljoin(base, location))
        assert (goal.scheme, goal.netloc) == ("http", f"localhost:{guarded.port}")


def test_what_is_looked_at_first(stranger: httpx.Client) -> None:
    host, site = {"Host": "evil.example"}, {"Origin": "https://evil.example"}
    for token in ({}, bearer(TOKEN), bearer("wrong")):
        assert status(stranger, "POST", "/stats", host | site | token) == 400
        assert status(stranger, "POST", "/stats", site | token) == 403
        assert status(stranger, "POST", "/stats", token) == 405
    assert status(stranger, "GET", "/stats", host | site) == 400
    assert status(stranger, "GET", "/stats", site) == 403
    assert status(stranger, "GET", "/stats") == 401
    assert status(stranger, "GET", "/nowhere") == 401
    assert status(stranger, "GET", "/nowhere", bearer(TOKEN)) == 404


def test_the_token_helps_nobody_over_the_other_refusals(stranger: httpx.Client) -> None:
    for headers, expected in ({"Host": "evil.example"}, 400), ({"Sec-Fetch-Site": "cross-site"}, 403):
        answer, _ = ask(stranger, "GET", "/", headers | NAVIGATE, params={"token": TOKEN})
        assert answer.status_code == expected
        assert "set-cookie" not in answer.headers and "location" not in answer.headers
    answer, _ = ask(stranger, "POST", "/", params={"token": TOKEN})
    assert (answer.status_code, "set-cookie" in answer.headers) == (405, False)


# Other addresses and names


def own_address() -> str:
    """Return an address of this machine that is not loopback; none is sent anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_on_all_addresses_answers_under_each_of_them_and_under_no_other_name(run: Run, host: str) -> None:
    if not can_bind(host):
        pytest.skip(f"{host} is no address here")
    addresses = [address for address in ("127.0.0.1", "127.0.0.2", own_address()) if can_bind(address)]
    if host == "::" and is_for_one_kind():
        addresses = []
    with Dashboard(run, port=0, host=host, token=TOKEN) as dashboard:
        for address in [*addresses, "[::1]"] if host == "::" else addresses:
            with httpx.Client(base_url=f"http://{address}:{dashboard.port}", timeout=30, trust_env=False) as client:
                assert status(client, "GET", "/stats", bearer(TOKEN)) == 200
                assert status(client, "GET", "/stats") == 401
                assert status(client, "GET", "/stats", {"Host": socket.gethostname()} | bearer(TOKEN)) == 200
                for other in ("evil.example", "192.0.2.77", "0.0.0.0", "[::]", "", "*", f"{address}.evil.example"):
                    assert status(client, "GET", "/stats", {"Host": other} | bearer(TOKEN)) == 400
                origin = {"Origin": f"http://{address}:{dashboard.port}"}
                assert status(client, "GET", "/stats", origin | bearer(TOKEN)) == 200


def is_for_one_kind() -> bool:
    """Tell whether a socket for IPv6 is not for IPv4 too; systems differ."""
    with socket.socket(socket.AF_INET6) as sock:
        return bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def can_bind(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
        return True


def test_an_address_of_the_machine_is_a_name_only_where_it_was_reached(run: Run) -> None:
    with Dashboard(run, port=0, host="0.0.0.0", token=TOKEN) as dashboard, connect(dashboard) as client:
        assert status(client, "GET", "/stats", {"Host": "127.0.0.3"} | bearer(TOKEN)) == 400


def test_another_address_of_this_machine_is_a_name_when_it_is_the_one_asked_for(run: Run) -> None:
    with Dashboard(run, port=0, host="127.0.0.2") as dashboard, connect(dashboard) as client:
        assert dashboard.url == f"http://127.0.0.2:{dashboard.port}"
        assert status(client, "GET", f"{dashboard.url}/stats") == 200
        assert status(client, "GET", f"{dashboard.url}/stats", {"Host": "127.0.0.3"}) == 400


def test_names_are_added(run: Run) -> None:
    with Dashboard(run, port=0, names=["Lab.example", "10.0.0.7"]) as dashboard, connect(dashboard) as client:
        for host in ("lab.example", "LAB.EXAMPLE:8443", "10.0.0.7:1", "localhost", "127.0.0.1"):
            assert status(client, "GET", "/stats", {"Host": host}) == 200
        for host in ("evil.example", "x.lab.example", "lab.example.evil.example", "10.0.0.70"):
            assert status(client, "GET", "/stats", {"Host": host}) == 400
        own = {"Host": "lab.example:8443", "Origin": "https://lab.example:8443"}
        assert status(client, "GET", "/stats", own) == 200
        assert status(client, "GET", "/stats", own | {"Origin": "https://lab.example"}) == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com", "*"])
def test_without_a_token_other_machines_are_kept_out_and_it_is_said_what_to_do(run: Run, host: str) -> None:
    with pytest.raises(DashboardError) as refusal:
        Dashboard(run, port=0, host=host)
    for word in ("needs a token", "token=", "--token", "STREAMLAB_TOKEN", "127.0.0.1", "ssh -L"):
        assert word in str(refusal.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("token", ["", " ", "\t"])
def test_an_empty_token_is_none(run: Run, token: str, host: str) -> None:
    with pytest.raises(DashboardError, match="token is empty"):
        Dashboard(run, port=0, host=host, token=token)
    with pytest.raises(DashboardError, match="token is empty"):
        create_app(run, token=token)


# Whatever is sent


def answered(app: Any, headers: list[tuple[bytes, bytes]], query: bytes = b"", path: str = "/healthz") -> tuple[int, Any]:
    """Return status and headers of what an application answers to raw bytes."""
    start, *_ = messages(app, "GET", headers, query, path)
    return start["status"], dict(start["headers"])


def messages(app: Any, method: str, headers: list[tuple[bytes, bytes]], query: bytes, path: str) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> Any:  # who asked has said all, and stays
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "root_path": "",
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    asyncio.run(app(scope, receive, send))
    return sent


OPEN, CLOSED = (create_app(streamlab.run(["a"]), token=token) for token in (None, TOKEN))
#: Names that the two are called; a port may follow.
OWN = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.IGNORECASE)
raw = st.one_of(
    st.binary(max_size=40),
    st.from_regex(rb"(https?://)?[\w.\[\]:@ ]{0,20}", fullmatch=True),
    st.sampled_from(
        [b"localhost", b"127.0.0.1:8000", b"[::1]", b"http://localhost:8000", b"null", b"localhost:\xb2", b"\xff"]
    ),
)
hosts = st.one_of(
    raw,
    st.tuples(st.sampled_from([b"localhost", b"127.0.0.1", b"[::1]"]), st.binary(max_size=8)).map(b"".join),
    st.tuples(st.binary(max_size=8), st.sampled_from([b"localhost", b"127.0.0.1", b"[::1]"])).map(b"".join),
)
cookies = raw | st.binary(max_size=40).map(b"streamlab-8000=".__add__)
authorizations = raw | st.binary(max_size=40).map(b"Bearer ".__add__)


@every_route
def test_the_application_itself_sends_no_body_for_a_head(path: str) -> None:
    start, *rest = messages(OPEN, "HEAD", [(b"host", b"localhost")], b"", path)
    assert start["status"] in (200, 404)  # this run keeps no traces
    assert rest
    assert not any(message.get("body") for message in rest)
    assert not rest[-1].get("more_body", False)


@given(host=st.lists(hosts, max_size=2), origin=st.lists(raw, max_size=2), cookie=cookies, authorization=authorizations)
@example(host=[b"localhost:\xb9"], origin=[b"http://[\xff"], cookie=b"streamlab-8000=\xff", authorization=b"Bearer \xff")
@example(host=[b"localhost"], origin=[], cookie=b'streamlab-8000="\\777"', authorization=b"Bearer")
@example(host=[b"localhost"], origin=[b"http://\xe2\x84\x80"], cookie=b"streamlab-8000=\xb2", authorization=b"bearer  ")
def test_no_header_makes_it_fail_or_answer_who_may_not_ask(
    host: list[bytes], origin: list[bytes], cookie: bytes, authorization: bytes
) -> None:
    headers = [(b"host", one) for one in host] + [(b"origin", one) for one in origin]
    headers += [(b"cookie", cookie), (b"authorization", authorization)]
    is_own = len(host) == 1 and OWN.fullmatch(host[0]) is not None
    for app, best in ((OPEN, 200), (CLOSED, 401)):
        answer, labels = answered(app, headers)
        assert answer == 400 if not is_own else answer in (best, 403)
        assert is_own is False or bool(origin) or answer == best
        for name, value in HEADERS.items():
            assert labels[name.lower().encode()] == value.encode()


@given(
    query=st.binary(max_size=40) | st.binary(max_size=40).map(b"token=".__add__), path=st.text(max_size=20).map("/".__add__)
)
@example(query=b"token=%ff%00&\xff", path="/")
@example(query=b"token=%ED%A0%80", path="/\ud800")
@example(query=b"&".join([b"a=b"] * 2000), path="/")
def test_no_address_makes_it_fail_or_answer_who_has_no_token(query: bytes, path: str) -> None:
    headers = [(b"host", b"localhost"), (b"sec-fetch-mode", b"navigate")]
    assert answered(CLOSED, headers, query, path)[0] == 401


@given(path=st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map("/".__add__), query=st.binary(max_size=20))
@example(path="//evil.example", query=b"")
@example(path="/\\evil.example", query=b"\\")
@example(path="/a\r\nLocation: b", query=b"\r\n")
def test_whatever_the_address_a_browser_stays_here(path: str, query: bytes) -> None:
    token = str(httpx.QueryParams({"token": TOKEN})).encode()
    headers = [(b"host", b"localhost"), (b"sec-fetch-mode", b"navigate")]
    answer, labels = answered(CLOSED, headers, token + b"&" + query, path)
    assert answer == 303
    location = labels[b"location"].decode("ascii")
    assert location.startswith("./")
    assert location.isprintable() and "\\" not in location
    assert urlsplit(urljoin("http://localhost:8000/", location)).netloc == "localhost:8000"
