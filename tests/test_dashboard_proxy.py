"""The dashboard behind jupyter-server-proxy: a real Jupyter server, under its own address and below a path."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

import streamlab
from streamlab.views.dashboard import Dashboard

SECONDS = 60


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = os.environ | {name: str(tmp_path_factory.mktemp(name)) for name in folders}
    port, root = free_port(), tmp_path_factory.mktemp("root")
    words = [
        *(sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", "--IdentityProvider.token=T", f"--ServerApp.root_dir={root}"),
    ]
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://localhost:{port}"
            with httpx.Client(base_url=address, timeout=30, trust_env=False, headers={"Authorization": "token T"}) as client:
                wait_for(client, process)
                yield client
        finally:
            process.terminate()


def wait_for(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/api").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"Jupyter did not start: exit code {process.poll()}")


def test_page_files_tables_and_events_come_through(jupyter: httpx.Client) -> None:
    run = streamlab.run(["info: a", "warn: b"], trace=True)
    with Dashboard(run, port=0) as dashboard:
        below = f"/proxy/{dashboard.port}/"
        page = jupyter.get(below)
        assert page.status_code == 200
        for address in re.findall(r'(?:src|href)="([^"#:]+)"', page.text):
            assert jupyter.get(below + address).status_code == 200, address
        assert jupyter.get(f"{below}stats").json() == run.stats()
        assert jupyter.get(f"{below}runs/1/stats").json() == run.stats()
        with jupyter.stream("GET", f"{below}events", headers={"Accept": "text/event-stream"}) as events:
            data = next(line for line in events.iter_lines() if line.startswith("data: "))
        assert json.loads(data.removeprefix("data: "))["stats"]["lines"] == run.ledger


def test_other_sites_are_still_kept_out(jupyter: httpx.Client) -> None:
    with Dashboard(streamlab.run(["a"]), port=0) as dashboard:
        refused = jupyter.get(f"/proxy/{dashboard.port}/stats", headers={"Sec-Fetch-Site": "cross-site"})
        assert refused.status_code == 403
