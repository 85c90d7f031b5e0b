"""A Dask cluster of processes of its own, and a run on it that goes on while they are killed, stopped and cut off."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from streamlab import Pipeline
from streamlab.checkpoint import Checkpoint
from streamlab.run import Run
from tests import crashes
from tests.brokers import free_port
from tests.waiting import until

COUNTERS = ("received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight", "errors", "retries")
#: Seconds without a word after which Dask is to count a worker as lost, and a connection.
TTL, TCP = 10, 12
#: Lines of a run, and of an epoch.
LINES, EPOCH = 24_000, 1_000
#: What a scheduler's log says once it can be connected to.
UP = b"Scheduler at:"
#: Seconds that a run may take after a disaster.
PATIENCE = 75.0


class Nth:
    """Numbers what comes, since the beginning."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, value: dict[str, Any]) -> dict[str, Any]:
        self.seen += 1
        return {**value, "of all" if "of its level" in value else "of its level": self.seen}


def slow(line: str) -> dict[str, Any] | None:
    """Take apart a line; of some it fails, others it drops, and it takes its time."""
    found = crashes.parse(line)
    if found is not None and found["number"] % 50 == 0:
        time.sleep(0.01)
    return found


def numbering() -> Pipeline:
    """Return a pipeline that keeps state by key, and without one."""
    pipeline = Pipeline("numbering")
    pipeline.add("parse", slow).add("level", Nth, key="level").add("all", Nth)
    return pipeline.add("write", lambda value: json.dumps(value, sort_keys=True))


@dataclass(frozen=True)
class Host:
    """Where processes are: an address, and the network namespace that has it.

    Attributes:
        address: the IP address.
        namespace: its name; empty for that of this process.
    """

    address: str = "127.0.0.1"
    namespace: str = ""

    @property
    def prefix(self) -> Sequence[str]:
        """What a command begins with, to run there."""
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def link(self, way: str) -> None:
        """Set the link of a namespace ``up`` or ``down``."""
        subprocess.run(["ip", "link", "set", f"{self.namespace}-br", way], check=True)


HERE = Host()


@dataclass
class Lab:
    """A scheduler, workers with their nannies, and a driver.

    Args:
        folder: where they work.
        scheduler_host: where the scheduler is.
        worker_hosts: where each worker is.
        driver_host: where the driver is.
    """

    folder: Path
    scheduler_host: Host = HERE
    worker_hosts: Sequence[Host] = (HERE, HERE)
    driver_host: Host = HERE
    scheduler: psutil.Popen | None = None
    nannies: dict[int, psutil.Popen] = field(default_factory=dict)
    driver: psutil.Popen | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        self.address = f"tcp://{self.scheduler_host.address}:{self.port}"

    # The cluster

    def start_scheduler(self) -> None:
        options = ["--host", self.scheduler_host.address, "--port", str(self.port), "--no-dashboard"]
        log = self.folder / "scheduler.log"
        before = log.read_bytes().count(UP) if log.exists() else 0
        self.scheduler = self._started("scheduler", self.scheduler_host, "dask", "scheduler", *options)
        until(lambda: log.read_bytes().count(UP) > before)

    def start_worker(self, number: int) -> None:
        host = self.worker_hosts[number]
        options = ["--host", host.address, "--no-dashboard", "--nthreads", "1", "--local-directory", str(self.folder)]
        self.nannies[number] = self._started(f"worker-{number}", host, "dask", "worker", self.address, *options)

    def start(self) -> None:
        """Start a scheduler and the workers."""
        self.start_scheduler()
        for number in range(len(self.worker_hosts)):
            self.start_worker(number)

    def mend(self) -> None:
        """Start what is not there any more."""
        if not alive(self.scheduler):
            self.start_scheduler()
        for number, nanny in self.nannies.items():
            if not alive(nanny):
                self.start_worker(number)

    def worker(self, number: int) -> psutil.Process | None:
        """Return the process of a worker, the one that its nanny watches."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in self.nannies[number].children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any("spawn_main" in word for word in child.cmdline()):
                        return child
        return None

    def _started(self, name: str, host: Host, *command: str) -> psutil.Popen:
        with (self.folder / f"{name}.log").open("ab") as log:
            return psutil.Popen(
                [*host.prefix, sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env()
            )

    # The run

    def start_driver(self, run: Path, way: str = "run") -> None:
        """Start a run, or go on with it, in a process of its own."""
        self.driver = self._started("driver", self.driver_host, "tests.clusters", str(run), self.address, way)

    def close(self) -> None:
        """End all."""
        for process in (self.driver, *self.nannies.values(), self.scheduler):
            if process is not None:
                kill(process)


def env() -> Mapping[str, str]:
    """Return the environment of what is not the driver: how soon it is to count others as lost."""
    settings = {"COMM__TIMEOUTS__TCP": f"{TCP}s", "SCHEDULER__WORKER_TTL": f"{TTL}s"}
    return os.environ | {f"DASK_DISTRIBUTED__{name}": value for name, value in settings.items()}


def alive(process: psutil.Process | None) -> bool:
    """Tell whether a process is there, and has not ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if isinstance(process, psutil.Popen):
            process.poll()
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kill(*processes: psutil.Process | None) -> None:
    """Kill processes and their children, all at once."""
    doomed: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process is not None and alive(process):
                doomed += [process, *process.children(recursive=True)]
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            process.wait(5)


@contextlib.contextmanager
def lab(folder: Path, *hosts: Host) -> Iterator[Lab]:
    """Give a cluster that is up: of the scheduler, the driver and two workers, in that order, if there are ``hosts``."""
    made = Lab(folder, hosts[0], hosts[2:], hosts[1]) if hosts else Lab(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()


class Watch:
    """Watches an output from outside: it grows when an epoch is committed.

    Attributes:
        longest: seconds between two commits, at most, since `begin`; the last one may be yet to come.
        commits: how often it has grown.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._size = 0
        self.commits = 0
        self.begin()

    def begin(self) -> None:
        """Measure from now on."""
        self._last, self.longest = time.monotonic(), 0.0

    def look(self) -> None:
        """See how far it is."""
        now, size = time.monotonic(), self._file.stat().st_size if self._file.exists() else 0
        if size > self._size:
            self.longest = max(self.longest, now - self._last)
            self._last, self.commits = now, self.commits + 1
        self._size = size  # a run that is gone on with may cut it

    def wait(self, seconds: float) -> None:
        """Look, for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.01)

    def grown(self, commits: int, process: psutil.Process | None) -> None:
        """Look until it has grown so often, or the process has ended."""
        end, wanted = time.monotonic() + PATIENCE, self.commits + commits
        while self.commits < wanted and alive(process):
            assert time.monotonic() < end, f"no commit within {PATIENCE:g} s"
            self.wait(0.02)

    def ended(self, process: psutil.Process | None, mend: Callable[[], None]) -> None:
        """Look until a process has ended; ``mend`` what else has, again and again."""
        end = time.monotonic() + PATIENCE
        while alive(process):
            mend()
            assert time.monotonic() < end, f"not at its end within {PATIENCE:g} s"
            self.wait(0.02)
        self.look()


def outcome(run: Run) -> dict[str, Any]:
    """Return what there is to be compared of a run, besides its output, as it comes out of JSON."""
    metrics = run.metrics
    counts = {name: [int(metrics.loc[name, column]) for column in COUNTERS] for name in metrics.index}
    paths = sorted(zip(run.paths["path"], run.paths["fate"], run.paths["count"].tolist(), strict=True))
    made = {"state": run.state, "ledger": run.ledger, "counts": counts, "paths": paths}
    found: dict[str, Any] = json.loads(json.dumps(made, default=str))
    return found


def checked(run: Path, expected: tuple[bytes, Mapping[str, Any]]) -> None:
    """See that a run which has ended has done what an embedded one does.

    Raises:
        AssertionError: it has not.
    """
    output, found = expected
    assert (run / "outcome.json").exists(), f"the run has failed: {run}"
    done = json.loads((run / "outcome.json").read_text())
    for name, value in found.items():
        assert done[name] == value, f"{name}: {done[name]}, and not {value}"
    ledger = done["ledger"]
    ends = ("emitted", "filtered", "absorbed", "dead_lettered", "in_flight")
    assert ledger["received"] + ledger["forked"] == sum(ledger[name] for name in ends), ledger
    assert (run / "out.log").read_bytes() == output, "the output is another one"


def embedded(folder: Path, lines: int = LINES) -> tuple[bytes, Mapping[str, Any]]:
    """Run embedded in a folder, over lines that are left there; return the output, and all that is to be compared."""
    crashes.write_lines(folder / "in.log", lines)
    run = numbering().run(folder / "in.log", output=folder / "out.log")
    return (folder / "out.log").read_bytes(), outcome(run)


def drive(run: Path, address: str, way: str) -> None:
    """Run on the cluster to the end, and write what came of it."""
    checkpoint = Checkpoint(run / "checkpoint", interval=0.05)
    if way == "resume":
        done = numbering().resume(checkpoint, cluster=address)
    else:
        source, options = run.parent / "in.log", {"partitions": 2, "epoch_lines": EPOCH}
        done = numbering().run(source, output=run / "out.log", checkpoint=checkpoint, cluster=address, **options)  # type: ignore[arg-type]
    for notice in done.notices.itertuples():
        print(*notice, file=sys.stderr)
    if done.exception is not None:
        raise done.exception
    (run / "outcome.new").write_text(json.dumps(outcome(done)))
    (run / "outcome.new").rename(run / "outcome.json")


def moment(random_: random.Random, longest: float = 1.5) -> float:
    """Return the seconds after a commit when a disaster is to come."""
    return random_.uniform(0.0, longest)


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("DASK_")]:
        del os.environ[name]
    drive(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
