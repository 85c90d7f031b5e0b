"""Rows about runs on a cluster: whoever is killed, stopped or cut off, what comes out is what an embedded run gives."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clusters import LINES, TTL, Host, Lab, Watch, checked, embedded, kill, lab, moment
from tests.soak.rows import counted, folder, row

#: Seconds after a cut within which there is to be a commit.
RECOVERED = 40.0
#: Rounds of a row.
ROUNDS = 20

#: What befalls a run: it is given the lab, the run's folder, what watches the output, and what chooses.
Disaster = Callable[[Lab, Path, Watch, random.Random], None]


def rounds(share: float, disaster: Disaster, *hosts: Host, at_most: float | None = None) -> str:
    """Have a disaster befall one run after the other; each is to come out as an embedded one does.

    Args:
        share: of the rounds.
        disaster: what befalls them.
        hosts: where the processes are; by default all are here.
        at_most: seconds between two commits.

    Returns:
        How often, and the longest time without a commit.
    """
    count, random_, longest = counted(share, ROUNDS, 2), random.Random(7), []
    with folder() as place:
        expected = embedded(place)
        with lab(place, *hosts) as made:
            for number in range(count):
                longest.append(one_round(made, place / f"run-{number}", disaster, random_, expected))
                print(f"round {number}: no commit for {longest[-1]:.1f} s", flush=True)
                assert at_most is None or longest[-1] < at_most, f"no commit for {longest[-1]:.1f} s"
    middle = statistics.median(longest)
    return (
        f"{count} times; output, metrics, paths and ledger of {LINES:,} lines as of an embedded run;"
        f" no commit for {middle:.1f} s in the middle, {max(longest):.1f} s at most"
    )


def one_round(made: Lab, run: Path, disaster: Disaster, random_: random.Random, expected: tuple) -> float:  # type: ignore[type-arg]
    """Return the longest time without a commit since a disaster came upon a run."""
    made.mend()
    run.mkdir()
    watch = Watch(run / "out.log")
    try:
        made.start_driver(run)
        watch.grown(1, made.driver)
        watch.wait(moment(random_))
        watch.begin()
        disaster(made, run, watch, random_)
        watch.ended(made.driver, made.mend)  # a worker that was cut off ends, and so does its nanny
        checked(run, expected)
    except AssertionError:
        kept = Path(f"/tmp/streamlab-soak-failed-{os.getpid()}-{run.name}")
        shutil.copytree(made.folder, kept)
        print(f"what there is of it: {kept}", flush=True)
        raise
    finally:
        kill(made.driver)
    return watch.longest


def gone_on(made: Lab, run: Path, random_: random.Random) -> None:
    made.start_driver(run, random_.choice(["run", "resume"]))


# Killed


@row("a cluster: a worker is killed, SIGKILL, at a random moment")
def worker_killed(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        kill(made.worker(random_.randrange(2)))

    return rounds(share, disaster)


@row("a cluster: a worker and its nanny are killed, and replaced")
def nanny_killed(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        kill(made.nannies[random_.randrange(2)])
        watch.wait(moment(random_))
        made.mend()

    return rounds(share, disaster)


@row("a cluster: the driver is killed, and gone on with")
def driver_killed(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        kill(made.driver)
        gone_on(made, run, random_)

    return rounds(share, disaster)


@row("a cluster: the scheduler is killed, and started once more")
def scheduler_killed(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        kill(made.scheduler)
        watch.wait(moment(random_, 3.0))
        made.mend()

    return rounds(share, disaster)


@row("a cluster: all of it is killed at once, and the driver")
def all_killed(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        kill(made.driver, made.scheduler, *made.nannies.values())
        made.mend()
        gone_on(made, run, random_)

    return rounds(share, disaster)


# Stopped


@contextmanager
def stopped(process: object) -> Iterator[None]:
    """Have a process do nothing for a while."""
    process.send_signal(signal.SIGSTOP)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)  # type: ignore[attr-defined]


@row("a cluster: a worker stands still for longer than it may, SIGSTOP, and goes on")
def worker_stopped(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        worker = made.worker(random_.randrange(2))
        if worker is not None:
            with stopped(worker):
                watch.wait(TTL + random_.uniform(2.0, 6.0))

    return rounds(share, disaster, at_most=RECOVERED)


@row("a cluster: the driver stands still, and goes on")
def driver_stopped(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        assert made.driver is not None
        with stopped(made.driver):
            watch.wait(random_.uniform(5.0, TTL + 6.0))

    return rounds(share, disaster, at_most=RECOVERED)


@row("a cluster: the scheduler stands still for some seconds, and goes on")
def scheduler_stopped(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        assert made.scheduler is not None
        with stopped(made.scheduler):
            watch.wait(random_.uniform(2.0, 8.0))

    return rounds(share, disaster, at_most=RECOVERED)


# Cut off


@contextmanager
def hosts() -> Iterator[list[Host]]:
    """Give four hosts on a network of this machine's own: for the scheduler, the driver and two workers."""
    bridge, made = f"slbr{os.getpid() % 100_000}", []
    try:
        for command in (f"link add {bridge} type bridge", f"link set {bridge} up"):
            ip(command)
        for number in range(4):
            name = f"sl{os.getpid() % 100_000}{'abcd'[number]}"
            made.append(Host(f"10.93.7.{number + 1}", name))
            for command in (
                f"netns add {name}",
                f"link add {name}-br type veth peer name eth0 netns {name}",
                f"link set {name}-br master {bridge} up",
                f"-n {name} addr add 10.93.7.{number + 1}/24 dev eth0",
                f"-n {name} link set eth0 up",
                f"-n {name} link set lo up",
            ):
                ip(command)
        yield made
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces can be made here: {error}")
    finally:
        for host in made:
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True)


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


@row("a cluster on three hosts and one more: the link of a worker is cut for 20 s and longer")
def worker_cut(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        cut(made.worker_hosts[random_.randrange(2)], watch, random_.uniform(20.0, 30.0))

    with hosts() as given:
        return rounds(share, disaster, *given, at_most=RECOVERED)


@row("a cluster on hosts: the link of a worker is down for 2 s and up for 2 s, five times")
def worker_flaps(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        host = made.worker_hosts[random_.randrange(2)]
        for _ in itertools.repeat(None, 5):
            cut(host, watch, 2.0)
            watch.wait(2.0)

    with hosts() as given:
        return rounds(share, disaster, *given, at_most=RECOVERED)


@row("a cluster on hosts: the link of the driver is cut for 20 s")
def driver_cut(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        cut(made.driver_host, watch, 20.0)

    with hosts() as given:
        return rounds(share, disaster, *given, at_most=RECOVERED)


@row("a cluster on hosts: the link of the scheduler is cut for 20 s")
def scheduler_cut(share: float) -> str:
    def disaster(made: Lab, run: Path, watch: Watch, random_: random.Random) -> None:
        cut(made.scheduler_host, watch, 20.0)

    with hosts() as given:
        return rounds(share, disaster, *given, at_most=RECOVERED)


def cut(host: Host, watch: Watch, seconds: float) -> None:
    """Cut a link for so long."""
    host.link("down")
    try:
        watch.wait(seconds)
    finally:
        host.link("up")
