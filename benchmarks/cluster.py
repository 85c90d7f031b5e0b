"""``python -m benchmarks.cluster``: what a cluster gains and costs, on this machine.

Turns are taken one after the other, and each is of a process of its own, whose workers start and end with it:

- work that the processor is the limit of, by one worker and by two: lines a second, once the cluster is there;
- the demo, from file to file, embedded and by two workers: processor seconds of all processes, start included;
- the seconds until a local cluster is there;
- what an epoch costs the driver and the scheduler: empty work in small epochs, processor seconds of each by epoch and by
  task, from which follows how many workers one driver can keep at work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster

from benchmarks.workers import heavy
from data.generate import lines
from streamlab import Pipeline
from streamlab.demo import demo

SEED = 7


def own_seconds() -> float:
    """Return the processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def children_seconds() -> float:
    """Return those of the processes that it has started, and that are there."""
    seconds = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            seconds += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return seconds


def turn(pipeline: Pipeline, source: Path, options: dict[str, Any]) -> dict[str, float]:
    """Run once, and return the seconds until there was a cluster, from there to the end, and processor seconds."""
    start = time.perf_counter()
    run = pipeline.start(source, output=lambda value: None, **options) if "output" not in options else None
    run = run or pipeline.start(source, **options)
    there = time.perf_counter()
    before = own_seconds()
    children = 0.0
    while run.wait(0.5).state != "finished":  # looking at processes takes time, too
        children = max(children, children_seconds())
        if run.state == "failed":
            raise RuntimeError(run.reason)
    end = time.perf_counter()
    return {
        "start": there - start,
        "seconds": end - there,
        "driver": own_seconds() - before,
        "processor": own_seconds() + children,
        "lines": run.ledger["received"],
    }


def _apart(make: Callable[..., dict[str, float]], given: tuple[Any, ...], answers: Any) -> None:
    answers.put(make(*given))


def apart(make: Callable[..., dict[str, float]], *given: Any) -> dict[str, float]:
    """Do it in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_apart, args=(make, given, answers))
    process.start()
    answer: dict[str, float] = answers.get()
    process.join()
    return answer


def bound(source: Path, output: Path, workers: int) -> dict[str, float]:
    """Work that takes a worker some tens of microseconds a line."""
    made = turn(
        Pipeline("heavy").add("heavy", heavy),
        source,
        {"output": output, "cluster": "local", "workers": workers, "epoch_lines": 20_000},
    )
    output.unlink()
    return made


def cheap(source: Path, output: Path, workers: int) -> dict[str, float]:
    """The demo; without workers it is embedded."""
    made = turn(demo, source, {"output": output, **({"cluster": "local", "workers": workers} if workers else {})})
    output.unlink()
    return made


class Same:
    """Keeps nothing of a value, and gives it back."""

    def __call__(self, value: str) -> None:
        return None


def epochs(source: Path, epoch_lines: int, partitions: int) -> dict[str, float]:
    """Next to no work in many epochs, with a scheduler that is a process of its own, as on a real cluster."""
    pipeline = Pipeline("nothing").add("nothing", Same, key=lambda line: line[-1:])
    options = {"epoch_lines": epoch_lines, "partitions": partitions}
    workers = {"nthreads": 1, "dashboard": False}
    with (
        SubprocessCluster(n_workers=2, worker_kwargs=workers, scheduler_kwargs={"dashboard": False}) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        scheduler = psutil.Process(cluster.scheduler.process.pid)
        before = sum(scheduler.cpu_times()[:2])
        made = turn(pipeline, source, {**options, "cluster": client})
        return made | {"scheduler": sum(scheduler.cpu_times()[:2]) - before}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--lines", type=int, default=500_000, help="of the work that the processor is the limit of")
    parser.add_argument("--demo-lines", type=int, default=5_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        output = folder / "out"
        source = folder / "json.log"
        source.write_text("\n".join(lines("json", args.lines, SEED)) + "\n")
        one, two, starts = [], [], []
        for _ in range(args.turns):
            one.append(apart(bound, source, output, 1))
            two.append(apart(bound, source, output, 2))
            starts.append(two[-1]["start"])
        rate = [statistics.median(t["lines"] / t["seconds"] for t in turns) for turns in (one, two)]
        best = [max(t["lines"] / t["seconds"] for t in turns) for turns in (one, two)]
        print(
            f"processor-bound: {rate[0]:,.0f} lines/s by one worker, {rate[1]:,.0f} by two: {rate[1] / rate[0]:.2f} times by"
            f" medians, {best[1] / best[0]:.2f} by best turns",
            flush=True,
        )
        print(f"start of a local cluster: {statistics.median(starts):.2f} s, {max(starts):.2f} at most", flush=True)
        source = folder / "app.log"
        text = "\n".join(lines("app", 500_000, SEED)) + "\n"
        with source.open("w") as file:
            for _ in range(args.demo_lines // 500_000):
                file.write(text)
        alone, together = [], []
        for _ in range(args.turns):
            alone.append(apart(cheap, source, output, 0))
            together.append(apart(cheap, source, output, 2))
        seconds = [statistics.median(t["processor"] for t in turns) for turns in (alone, together)]
        least = [min(t["processor"] for t in turns) for turns in (alone, together)]
        walls = [statistics.median(t["seconds"] for t in turns) for turns in (alone, together)]
        print(
            f"demo: {args.demo_lines:,} lines take {seconds[0]:.2f} processor seconds embedded and {seconds[1]:.2f} by two"
            f" workers: {seconds[1] / seconds[0]:.2f} times by medians, {least[1] / least[0]:.2f} by best turns;"
            f" {walls[0]:.2f} and {walls[1]:.2f} s",
            flush=True,
        )
        source.write_text(text[: len(text) // 5])
        for partitions in (2, 16):
            cost = [apart(epochs, source, 2_000, partitions) for _ in range(2)][-1]
            count = cost["lines"] / 2_000
            tasks = 2 * (2 + partitions) + partitions  # ranges, their reports and blocks; partitions
            print(
                json.dumps(
                    {
                        "partitions": partitions,
                        "epochs": round(count),
                        "tasks an epoch": tasks,
                        **{
                            f"{who} ms {what}": round(cost[who] / count / many * 1e3, 2)
                            for who in ("driver", "scheduler")
                            for what, many in (("an epoch", 1), ("a task", tasks))
                        },
                        "epochs a second": round(count / cost["seconds"], 1),
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
