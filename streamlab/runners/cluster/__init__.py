"""The same pipeline on several machines: stages over ranges of lines, and over partitions of what keeps state.

``driving``     the driver: has epochs done, commits them in order
``planning``    what a source has, cut into epochs
``shipping``    lines that workers cannot read themselves
``epochs``      an epoch as the tasks that it is submitted as
``job``         what all tasks of a run have in common, and what a worker keeps
``tasks``       what workers do: read ranges, see what comes to a partition
``exchange``    rows on their way from one stage to the next, by ``partitions``
``collector``   what a task gathers, to be told in a ``report``, as a ``delta`` of the ledger
``merging``     reports of an epoch put together
``keeping``     what processors keep, as of the last commit
``backend``     what is needed of a distributed engine; ``dask`` has it
"""

from __future__ import annotations

from typing import Any

from streamlab.errors import RunError
from streamlab.runners.cluster.backend import Backend, Gone


def backend_of(cluster: Any, workers: int | None) -> Backend:
    """Return the engine that ``cluster=`` stands for, ready.

    Args:
        cluster: ``"local"``, a scheduler's address, a `dask.distributed.Client`, or a `Backend`.
        workers: processes of a local cluster; by default as many as there are cores.

    Raises:
        RunError: there is none, or it has workers of its own.
    """
    if workers is not None and cluster != "local":
        raise RunError(f"workers={workers} are those of a local cluster, and {cluster} has its own: leave it out")
    if isinstance(cluster, Backend):
        backend = cluster
    else:
        from streamlab.runners.cluster.dask import DaskBackend

        backend = DaskBackend(cluster, workers)
    try:
        backend.open()
    except BaseException as error:
        backend.close()
        if not isinstance(error, Gone):
            raise
        raise RunError(f"{error}; start it, or give another cluster=") from error
    return backend
