"""Rows about brokers and what listens: whoever is killed, what was acknowledged is there."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.brokers import PROGRAM, free_port, killed_again_and_again, nats_server, redis_server
from tests.soak.rows import counted, folder, row
from tests.waiting import until

#: Lines that a run may get through before it is killed.
EVERY = 1_000


@row("Redis stream to a file and to a stream, runs killed again and again")
def redis_streams(share: float) -> str:
    from tests import test_redis

    lines, said = [f"line {number}" for number in range(counted(share, 100_000, 5_000))], []
    for output in ("file", "stream"):
        with folder() as place, redis_server(place, lasting=True) as server:
            broker = test_redis.Broker(server)
            broker.fill("in", lines)

            def is_done(broker: Any = broker) -> bool:
                groups = broker.client.xinfo_groups("in")
                return bool(groups) and groups[0]["lag"] == groups[0]["pending"] == 0

            file = place / "out.log"
            if output == "file":
                kills = killed(f"{broker.url}/in?consumer=me", str(file), place, lambda file=file: newlines(file), is_done)
                content = file.read_text().splitlines()
            else:
                written = lambda broker=broker: int(broker.client.xlen("out"))  # noqa: E731
                kills = killed(f"{broker.url}/in?consumer=me", f"{broker.url}/out?exclusive=yes", place, written, is_done)
                content = broker.content("out")
            broker.client.close()
        assert content == [line.upper() for line in lines]
        said.append(f"to a {output}: {kills} killed")
    return f"{len(lines):,} messages, {', '.join(said)}; 0 lost, 0 doubled, in order"


@row("JetStream to a file, and a file to JetStream, runs killed again and again")
def jetstream(share: float) -> str:
    from tests import test_nats

    lines, said = [f"line {number}" for number in range(counted(share, 100_000, 5_000))], []
    for way in ("from", "to"):
        with folder() as place, nats_server(place / "server") as server:
            broker = test_nats.Broker(server)
            broker.make("logs")
            file = place / "file.log"
            if way == "from":
                for start in range(0, len(lines), 10_000):
                    broker.fill("logs.a", lines[start : start + 10_000])
                source, output = f"{broker.url}/logs?ack_wait=1", str(file)
                kills = killed(
                    source,
                    output,
                    place,
                    lambda file=file: newlines(file),
                    lambda broker=broker, file=file: newlines(file) >= len(lines) and broker.under_way("logs") == 0,
                )
                content = file.read_text().splitlines()
            else:
                file.write_text("".join(f"{line}\n" for line in lines))
                stored = lambda broker=broker: broker.stored("logs")  # noqa: E731
                kills = killed(
                    str(file), f"{broker.url}/logs.a", place, stored, lambda stored=stored: stored() >= len(lines)
                )
                content = broker.content("logs")
        assert sorted(content) == sorted(line.upper() for line in lines), way
        said.append(f"{way} a stream: {kills} killed")
    return f"{len(lines):,} messages, {', '.join(said)}; 0 lost, 0 doubled"


def killed(source: str, output: str, place: Path, written: Callable[[], int], is_done: Callable[[], bool]) -> int:
    (place / "run").mkdir()
    return killed_again_and_again(source, output, place / "run", written, EVERY, is_done)


def newlines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@row("HTTP ingest that answers when lines are safe, 100 SIGKILLs: what was answered is there, once")
def http(share: float) -> str:
    count, port, random_ = counted(share, 100, 5), free_port(), random.Random(7)
    accepted: list[str] = []
    unsure: set[str] = set()
    stop = threading.Event()

    def send() -> None:
        number = 0
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not stop.is_set():
                lines = [f"line {n}" for n in range(number, number + 20)]
                try:
                    answer = client.post(f"http://127.0.0.1:{port}/ingest", content="\n".join(lines), headers=PLAIN)
                except httpx.HTTPError:
                    unsure.update(lines)  # a client sends them again: they may come twice
                    time.sleep(0.01)
                    continue
                if answer.status_code == 202:
                    accepted.extend(lines)
                    number += 20

    with folder() as place:
        sender = threading.Thread(target=send)
        sender.start()
        file = place / "out.log"
        source = f"http://127.0.0.1:{port}/ingest?ack=true&token=false"
        try:
            for _ in range(count):
                before = len(accepted)
                command = [sys.executable, "-c", PROGRAM, source, str(file), str(place / "checkpoint")]
                with subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                    until(lambda before=before: len(accepted) > before)  # type: ignore[misc]
                    time.sleep(random_.uniform(0, 0.3))
                    process.kill()
        finally:
            stop.set()
            sender.join()
        came = Counter(file.read_text().splitlines())
    lost = [line for line in accepted if line.upper() not in came]
    doubled = [line for line in accepted if came[line.upper()] > 1 and line not in unsure]
    assert not lost and not doubled, (lost[:5], doubled[:5])
    again = sum(came.values()) - len(came)
    return f"{count} killed, {len(accepted):,} lines answered for: 0 lost; {again} came twice, of bodies that had no answer"


PLAIN = {"Content-Type": "text/plain"}
