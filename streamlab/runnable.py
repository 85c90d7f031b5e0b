"""What a pipeline can be asked to do with lines: the door from the graph up to what runs it, opened when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from streamlab.checkpoint import Checkpoint
    from streamlab.dead_letters import DeadLetterQueue
    from streamlab.launch import Cluster, Folder, Output
    from streamlab.redaction import Redact
    from streamlab.run import Run
    from streamlab.runners.endurance import OnOutage
    from streamlab.traces import TraceMode


class Runnable:
    """Runs, in the foreground and the background, and runs dead letters once more; a `Pipeline` is one."""

    def run(
        self,
        source: Any,
        *,
        trace: TraceMode = False,
        trace_limit: int = 1000,
        output: Output = None,
        workers: int | None = None,
        isolation: Literal["thread", "process"] = "thread",
        follow: bool = False,
        checkpoint: Folder | Checkpoint | None = None,
        dead_letters: Folder | DeadLetterQueue | None = None,
        on_outage: OnOutage = "fail",
        redact: Redact | None = None,
        watchdog: float | None = 10.0,
        cluster: Cluster = None,
        partitions: int | None = None,
        epoch_lines: int = 200_000,
        max_in_flight: int = 4,
        ordered: bool = False,
    ) -> Run:
        """Run over a source to its end, and return the finished run; it may have failed, see `Run.state`.

        Args:
            source: a path, glob or folder, ``"-"`` for standard input, or any iterable of lines.
            trace: ``False``, ``True`` (the last lines, failed and slow ones), ``"all"`` (path and fate of every line) or
                ``"hops"`` (the last lines with every value on the way).
            trace_limit: how many of the last lines to keep.
            output: a path, a sink, or a function that is called with each output; by default the run keeps them. A path
                that ends with ``/`` is a folder of files of lines, one that ends with ``.parquet`` a folder of Parquet
                files.
            workers: processes for plain functions, by default one. Worth it when a line takes them 10 µs or more; what a
                function keeps to itself from line to line is then kept in each process apart. Of a local cluster, its
                workers, by default as many as there are cores.
            isolation: ``"process"``: plain functions run in a process of their own even with one worker, so that a line
                on which they crash or hang costs that line only.
            follow: go on reading files as they grow, are rotated, vanish and appear, until the run is stopped.
            checkpoint: a folder, in which it is saved every second how far the run is. When it is there already, the run
                goes on where the one before ended, however that was: lines, output, dead letters, state, counters.
            dead_letters: a folder for the lines that fail for good; by default one in the checkpoint, if there is one.
            on_outage: when output cannot be written for now: ``"fail"``, or ``"wait"`` until it can.
            redact: covers what nobody is to read before anything is kept in traces, errors and dead letters: patterns as of
                `streamlab.processors.redact`, or a function of a text. The output stays as it is.
            watchdog: seconds that a processor may be at one line before `Run.notices` says where it is; ``None`` for never.
                On a cluster, seconds without a commit.
            cluster: have workers of a cluster do it: ``"local"`` for processes of this machine, the address of a Dask
                scheduler, or a `dask.distributed.Client`.
            partitions: on a cluster, parts of what processors keep by key; by default as many as threads of
                workers, at most 64.
            epoch_lines: on a cluster, lines that are committed together, about.
            max_in_flight: on a cluster, epochs under way at a time.
            ordered: on a cluster, refuse an output that is not in the order of the lines, as parts of a folder are not.

        Raises:
            PipelineError: the graph does not hold together.
            SourceError: the source cannot be opened.
            SinkError: the output cannot be opened.
            CheckpointError: another run has the checkpoint, or it does not fit.
            KeyboardInterrupt: Ctrl-C; the run has been stopped.
        """
        from streamlab.launch import Options, execute

        options = Options(
            trace=trace,
            trace_limit=trace_limit,
            output=output,
            workers=workers,
            isolation=isolation,
            follow=follow,
            checkpoint=checkpoint,
            dead_letters=dead_letters,
            on_outage=on_outage,
            redact=redact,
            watchdog=watchdog,
            cluster=cluster,
            partitions=partitions,
            epoch_lines=epoch_lines,
            max_in_flight=max_in_flight,
            ordered=ordered,
        )
        return execute(self, source, options)

    def start(
        self,
        source: Any,
        *,
        trace: TraceMode = False,
        trace_limit: int = 1000,
        output: Output = None,
        workers: int | None = None,
        isolation: Literal["thread", "process"] = "thread",
        follow: bool = False,
        checkpoint: Folder | Checkpoint | None = None,
        dead_letters: Folder | DeadLetterQueue | None = None,
        on_outage: OnOutage = "fail",
        redact: Redact | None = None,
        watchdog: float | None = 10.0,
        cluster: Cluster = None,
        partitions: int | None = None,
        epoch_lines: int = 200_000,
        max_in_flight: int = 4,
        ordered: bool = False,
    ) -> Run:
        """Start over a source in the background, and return the live run at once.

        Arguments and errors are those of `run`. Without ``output`` the run keeps the last 10,000 outputs.
        """
        from streamlab.launch import Options, launch

        options = Options(
            trace=trace,
            trace_limit=trace_limit,
            output=output,
            workers=workers,
            isolation=isolation,
            follow=follow,
            checkpoint=checkpoint,
            dead_letters=dead_letters,
            on_outage=on_outage,
            redact=redact,
            watchdog=watchdog,
            cluster=cluster,
            partitions=partitions,
            epoch_lines=epoch_lines,
            max_in_flight=max_in_flight,
            ordered=ordered,
        )
        return launch(self, source, options)

    def resume(self, checkpoint: Folder | Checkpoint, **options: Any) -> Run:
        """Go on with the run whose checkpoint this is, over the same source and to the same output, to its end.

        Args:
            checkpoint: its folder.
            options: as for `run`; by default as that run had them, but for ``cluster``, which may be another or none.

        Raises:
            CheckpointError: there is none, or its source or output was no path or address: then say ``run`` with both, and
                with ``checkpoint=``.

        Example:
            >>> import pathlib, tempfile
            >>> folder = pathlib.Path(tempfile.mkdtemp())
            >>> _ = (folder / "a.log").write_text("one\\n")
            >>> from streamlab import Pipeline
            >>> pipeline = Pipeline("p").add("upper", str.upper)
            >>> run = pipeline.run(folder / "a.log", output=folder / "out", checkpoint=folder / "state")
            >>> _ = (folder / "a.log").write_text("one\\ntwo\\n")
            >>> pipeline.resume(folder / "state").ledger["received"], (folder / "out").read_text()
            (2, 'ONE\\nTWO\\n')
        """
        from streamlab.launch import Options, execute
        from streamlab.resumption import remembered

        return execute(self, *remembered(checkpoint, Options, options))

    def replay(
        self,
        letters: pd.DataFrame | Folder | DeadLetterQueue,
        *,
        trace: TraceMode = False,
        trace_limit: int = 1000,
        output: Output = None,
        workers: int | None = None,
        isolation: Literal["thread", "process"] = "thread",
        on_outage: OnOutage = "fail",
        redact: Redact | None = None,
    ) -> Run:
        """Run the lines of dead letters once more, through the whole pipeline, and return the finished run.

        What fails again is in its `Run.dead_letters`, as the letter that it was. Of a queue those letters that come through
        are taken out; a replay that was interrupted is gone on with. Letters without a whole line are left out, and told of
        in `Run.notices`: of what failed at the end of input, of lines that were too long, and of what was no text.

        Args:
            letters: a table such as `Run.dead_letters`, or a part of it; or a queue, or its folder.
            trace: as for `run`.
            trace_limit: as for `run`.
            output: as for `run`.
            workers: as for `run`.
            isolation: as for `run`.
            on_outage: as for `run`.
            redact: as for `run`.

        Raises:
            RunError: they are no dead letters.
            SinkError: a run is writing to the queue; the output cannot be opened.

        Example:
            >>> from streamlab import Pipeline
            >>> run = Pipeline("p").add("number", int).run(["1", "two", "3"])
            >>> Pipeline("p").add("number", len).replay(run.dead_letters).output["value"].tolist()
            [3]
        """
        from streamlab.launch import Options
        from streamlab.replay import replay

        options = Options(
            trace=trace,
            trace_limit=trace_limit,
            output=output,
            workers=workers,
            isolation=isolation,
            on_outage=on_outage,
            redact=redact,
        )
        return replay(self, letters, options)
