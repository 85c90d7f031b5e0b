"""The command line: ``streamlab [run] [SOURCE]...``, and ``validate``, ``dlq`` and ``lab``.

Data goes to standard output, all else to standard error.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from streamlab import __version__, addresses
from streamlab.checkpoint import Checkpoint
from streamlab.config import load_pipeline
from streamlab.dead_letters import MAX_BYTES, WHEN_FULL, DeadLetterQueue, WhenFull
from streamlab.dead_letters.files import queue_in
from streamlab.demo import LINES, demo
from streamlab.dlq import dlq
from streamlab.errors import StreamlabError
from streamlab.lab import notebooks, open_lab
from streamlab.launch import Options
from streamlab.run_options import run_options
from streamlab.segments import cut
from streamlab.session import INTERRUPTED, READER_GONE, Address, Job, perform
from streamlab.sinks.text import visible
from streamlab.traces import TRACE_WORDS
from streamlab.views.terminal import Terminal

EXIT_CODES = """\b
Exit codes:
  0    the run finished, or was ended by SIGTERM after it had drained;
       lines that failed are told of, and do not change this
  1    the run failed
  2    wrong use: an unknown file, option or pipeline, a port that is taken
  130  Ctrl-C while the run was going on (once it has finished: 0)
  141  the reader of standard output went away, as with "| head"
A second Ctrl-C ends at once."""

EXAMPLES = """\b
Examples:
  streamlab --trace                             the built-in demo
  streamlab app.log --trace                     a file, traced, with the dashboard
  streamlab --pipeline logs.py 'logs/*.gz' --no-dashboard --output out.log
  streamlab --pipeline logs.yaml app.log
  streamlab --follow /var/log/app.log --checkpoint state --output out.log
  streamlab validate logs.yaml
  journalctl -f | streamlab --pipeline app.pipelines:alerts"""

#: Formats of ``--export-traces``, known before a long run rather than after it.
TRACE_FILES = (".csv", ".jsonl", ".ndjson", ".parquet")
#: Where notebooks are copied to.
LAB_FOLDER = "streamlab-lab"


@contextmanager
def _reader_may_go() -> Iterator[None]:
    """Exit as programs do whose reader has gone away, as with ``| head``; click would take that for a failure."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise click.exceptions.Exit(READER_GONE) from None


class DefaultRun(click.Group):
    """Commands of which ``run`` is the one that is meant when none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``run`` in front, unless there is a command or a question to the program itself."""
        if not args or args[0] not in (*self.commands, "-h", "--help", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the words, and print what they ask for about the program itself."""
        with _reader_may_go():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _reader_may_go():
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of ``run`` too."""
        params = (*self.commands["run"].params, *self.get_params(ctx))
        records = [param.get_help_record(ctx) for param in params if isinstance(param, click.Option)]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)


class OptionalMode(click.Command):
    """A command whose ``--trace`` may stand alone; click would take the next word, a file's name, for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the mode out."""
        end = args.index("--") if "--" in args else len(args)
        args = ["--trace=on" if arg == "--trace" and at < end else arg for at, arg in enumerate(args)]
        return super().parse_args(ctx, args)


class OptionalFolder(click.Command):
    """A command whose folder may be left out before options that are another program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the folder out."""
        if args and args[0].startswith("-"):
            args = [LAB_FOLDER, *args]
        return super().parse_args(ctx, args)


def seconds(text: str) -> float:
    """Return what an option says as seconds.

    Raises:
        click.BadParameter: it is no number above 0.
    """
    try:
        return addresses.seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group(
    cls=DefaultRun,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="[run] [SOURCE]... [OPTIONS]",
    options_metavar="",
    epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
)
@click.version_option(__version__, prog_name="streamlab")
def commands() -> None:
    """Run a pipeline over lines, watch it, and keep account of every line.

    SOURCE is a file, a glob or a folder, compressed or not; - is standard input; an address (redis://, nats://, kafka://,
    syslog+tcp://, syslog+udp://, http://) is taken from or listened to. Without one, standard input is read if it is a pipe
    or a file, else the demo's lines are; with --pipeline, only at a terminal.
    """


@commands.command(cls=OptionalMode, epilog=EXIT_CODES)
@click.argument("source", nargs=-1)
@click.option("--pipeline", metavar="WHERE", help="MODULE:NAME, FILE.py[:NAME] or FILE.yaml; by default the demo.")
@click.option(
    "--output",
    metavar="FILE",
    default="-",
    help="Write the output to a new file instead of standard output; to a folder of files of lines, if it ends with /, or of"
    " Parquet files, if it ends with .parquet.",
)
@click.option(
    "--trace",
    type=click.Choice(list(TRACE_WORDS)),
    metavar="[=MODE]",
    help="Keep what happened to the last lines, the failed and the slowest;"
    " =all: path and fate of every line; =hops: each processor's values too.",
)
@click.option(
    "--trace-limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Last lines to keep.",
)
@click.option(
    "--export-traces", metavar="FILE", help="Write the traces to a .csv, .jsonl or .parquet file; implies --trace."
)
@run_options
@click.option("--follow", is_flag=True, help="Go on reading files as they grow, are rotated, vanish and appear.")
@click.option(
    "--checkpoint",
    metavar="DIR",
    help="Save every second how far the run is, and go on from there if it ended: lines, output, dead letters, state.",
)
@click.option(
    "--checkpoint-interval",
    type=seconds,
    metavar="SECONDS",
    help="Save this often instead of every second; more rarely where saving takes long.",
)
@click.option(
    "--dead-letters", metavar="DIR", help="Keep lines that fail for good here; by default in the checkpoint. See dlq."
)
@click.option(
    "--dead-letters-max-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Bytes that these lines may have on disk; by default {MAX_BYTES}.",
)
@click.option(
    "--dead-letters-when-full",
    type=click.Choice(WHEN_FULL),
    help="What to do when they have: wait for a purge (the default), drop the oldest, or fail.",
)
@click.option(
    "--watchdog",
    type=seconds,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Tell of a processor, and where in it, that has been at one line for so long.",
)
@click.option("--no-dashboard", is_flag=True, help="No dashboard: end when the input ends.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Port of the dashboard; by default 8000, or the next free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the dashboard; others need a token.")
@click.option(
    "--token",
    envvar="STREAMLAB_TOKEN",
    metavar="TEXT",
    help="Ask for this before showing the dashboard; better given as STREAMLAB_TOKEN, which other users cannot see.",
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="A name by which browsers may call the dashboard; may be repeated."
)
@click.option(
    "--otlp", metavar="URL", help="Send metrics and sampled traces to an OpenTelemetry collector, by OTLP over HTTP."
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on standard error but errors.")
def run(
    source: tuple[str, ...],
    pipeline: str | None,
    output: str,
    trace: str | None,
    trace_limit: int,
    export_traces: str | None,
    workers: int,
    isolation: Literal["thread", "process"],
    follow: bool,
    checkpoint: str | None,
    checkpoint_interval: float | None,
    dead_letters: str | None,
    dead_letters_max_bytes: int | None,
    dead_letters_when_full: WhenFull | None,
    on_outage: Literal["fail", "wait"],
    watchdog: float,
    redact: tuple[str, ...],
    no_dashboard: bool,
    port: int | None,
    host: str,
    token: str | None,
    allow_host: tuple[str, ...],
    otlp: str | None,
    quiet: bool,
) -> int:
    """Run a pipeline over lines; the command when none is named.

    SOURCE is a file, a glob or a folder, compressed or not; - is standard input; an address (redis://, nats://, kafka://,
    syslog+tcp://, syslog+udp://, http://) is taken from or listened to. Without one, standard input is read if it is a pipe
    or a file, else the demo's lines are; with --pipeline, only at a terminal.
    """
    if not output:
        raise click.UsageError("--output '' names no file: give one, or leave it out for standard output")
    if output == "-" and sys.stdout is None:
        raise click.UsageError("standard output is closed: give --output FILE")
    if export_traces is not None:
        _check_export(export_traces)
    if follow and not source:
        raise click.UsageError("--follow needs a SOURCE: a file, a glob or a folder")
    if no_dashboard:
        _check_nothing_for_the_dashboard()
    if checkpoint_interval is not None and checkpoint is None:
        raise click.UsageError("--checkpoint-interval needs --checkpoint DIR")
    lines = _source(source, given=pipeline is not None)
    job = Job(
        source=lines,
        pipeline=demo if pipeline is None else load_pipeline(pipeline),
        options=Options(
            trace=TRACE_WORDS[trace or "on"] if trace or export_traces else False,
            trace_limit=trace_limit,
            output=output,
            workers=workers,
            isolation=isolation,
            follow=follow,
            checkpoint=checkpoint
            if checkpoint_interval is None
            else Checkpoint(checkpoint or "", interval=checkpoint_interval),
            dead_letters=_queue(dead_letters, checkpoint, dead_letters_max_bytes, dead_letters_when_full),
            on_outage=on_outage,
            redact=redact or None,
            watchdog=watchdog,
        ),
        export_traces=export_traces,
        address=None if no_dashboard else Address(host, port, token, allow_host),
        otlp=otlp,
        summary=lines is not LINES or pipeline is not None,
    )
    return perform(job, Terminal(quiet, data=output == "-"))


@commands.command(epilog="Exit codes: 0, or 2 if there is something wrong.")
@click.argument("pipeline", nargs=-1, required=True)
@click.option("--mermaid", is_flag=True, help="Print the graph too, as a Mermaid flowchart; what else is said is a comment.")
def validate(pipeline: tuple[str, ...], mermaid: bool) -> int:
    """Check pipelines without running them.

    PIPELINE is MODULE:NAME, FILE.py[:NAME] or FILE.yaml, as for --pipeline.
    """
    terminal, wrong = Terminal(), False
    for where in pipeline:
        try:
            found = load_pipeline(where)
            found.check()
        except StreamlabError as error:
            terminal.error(error)
            wrong = True
            continue
        counts = f"{_several(len(found.processors), 'processor')}, {_several(len(cut(found)), 'segment')}"
        click.echo(visible(f"{'%% ' if mermaid else ''}{where}: pipeline {found.name!r}: {counts}"))
        if mermaid:
            click.echo(found.mermaid())
    return 2 if wrong else 0


@commands.command(cls=OptionalFolder, context_settings={"ignore_unknown_options": True})
@click.argument("folder", default=LAB_FOLDER, type=click.Path(file_okay=False, path_type=Path))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def lab(folder: Path, options: tuple[str, ...]) -> int:
    """Open JupyterLab on streamlab's notebooks, in FOLDER.

    The notebooks are copied there (by default to ./streamlab-lab) unless they are there already; in streamlab's own
    repository they are opened where they are. OPTIONS are JupyterLab's, such as --no-browser.
    """
    return open_lab(notebooks(folder), options)


commands.add_command(dlq)


def _check_nothing_for_the_dashboard() -> None:
    """Refuse options that would do nothing; a token from the environment may stay there."""
    context = click.get_current_context()
    for name in ("host", "port", "token", "allow_host"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is about the dashboard: leave it or --no-dashboard out")


def _queue(
    folder: str | None, checkpoint: str | None, max_bytes: int | None, when_full: WhenFull | None
) -> DeadLetterQueue | str | None:
    """Return the dead letter queue, with the bounds that were given for it."""
    if max_bytes is None and when_full is None:
        return folder
    if folder is None and checkpoint is None:
        raise click.UsageError("there are no dead letters to bound: give --dead-letters DIR, or --checkpoint DIR")
    where = queue_in(checkpoint or "") if folder is None else folder
    return DeadLetterQueue(where, max_bytes=max_bytes or MAX_BYTES, when_full=when_full or "block")


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _source(names: Sequence[str], *, given: bool) -> Any:
    """Return what to read.

    Args:
        names: of the sources.
        given: whether a pipeline is: then the demo's lines are only for who sits at a terminal and tries it out.
    """
    if not names:
        return _input() if given else "-" if _is_piped() else LINES
    if len(names) > 1 and "-" in names:
        raise click.UsageError("- (standard input) cannot be read together with files")
    if len(names) > 1 and any("://" in name for name in names):
        raise click.UsageError("an address cannot be read together with other sources")
    for name in names:
        if name in TRACE_WORDS and not os.path.exists(name):
            raise click.UsageError(f"there is no file {name!r}; the mode of traces is written --trace={name}")
    return names[0] if len(names) == 1 else [Path(name) for name in names]


def _input() -> Any:
    """Return standard input, whatever it is; no lines if it is closed; the demo's if it is a terminal."""
    if sys.stdin is None:
        return []
    return LINES if os.isatty(0) else "-"


def _is_piped() -> bool:
    """Tell whether standard input is a pipe or a file: neither a terminal, nor closed, nor /dev/null."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _check_export(path: str) -> None:
    """Refuse early what would be refused at the end of the run."""
    if Path(path).suffix not in TRACE_FILES:
        raise click.UsageError(f"--export-traces {path}: the name must end in {', '.join(TRACE_FILES)}")
    if not Path(path).parent.is_dir():
        raise click.UsageError(f"--export-traces {path}: there is no folder {Path(path).parent}")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line, and exit.

    Args:
        args: the words after the program's name; by default the process's own.
    """
    try:
        code = commands.main(args, prog_name="streamlab", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except StreamlabError as error:  # before the run: what was asked for is not there
        Terminal().error(error)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code)
