"""``streamlab dlq``: look at the lines that failed for good, run them once more, or let them go."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Literal

import click

from streamlab.config import load_pipeline
from streamlab.dead_letters.box import LetterBox
from streamlab.dead_letters.letter import LetterFields, encoded
from streamlab.launch import Options
from streamlab.policy import FAILURE_KINDS
from streamlab.replay import replay_queue
from streamlab.run_options import run_options
from streamlab.sinks.text import visible
from streamlab.views.terminal import Terminal

#: Letters that are listed, and characters of a line and of a message.
LISTED, LENGTH = 20, 100


def _chosen(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose letters."""
    for option in (
        click.option("--processor", metavar="NAME", help="Only letters that this processor failed on."),
        click.option("--kind", type=click.Choice(FAILURE_KINDS), help="Only letters of this kind of failure."),
        click.option("--id", "ids", multiple=True, metavar="ID", help="Only the letter of this event_id; may be repeated."),
    ):
        function = option(function)
    return function


def _choice(processor: str | None, kind: str | None, ids: tuple[str, ...]) -> Callable[[LetterFields], bool]:
    return lambda letter: (
        processor in (None, letter["processor"])
        and kind in (None, letter["kind"])
        and (not ids or letter["event_id"] in ids)
    )


@click.group()
def dlq() -> None:
    """Dead letters: the lines that failed for good.

    QUEUE is the folder of a dead letter queue, or of a checkpoint, which has one.
    """


@dlq.command("list")
@click.argument("queue")
@_chosen
@click.option("--limit", type=click.IntRange(min=1), default=LISTED, show_default=True, metavar="N", help="Last letters.")
@click.option("--json", "as_json", is_flag=True, help="All of them, whole, as JSON lines.")
def list_letters(
    queue: str, processor: str | None, kind: str | None, ids: tuple[str, ...], limit: int, as_json: bool
) -> int:
    """Show the last letters, and how many there are of which kind."""
    found = LetterBox.at(queue)
    letters = filter(_choice(processor, kind, ids), found.letters())
    if as_json:
        for letter in letters:
            click.echo(encoded(letter), nl=False)
    else:
        _show(letters, limit)
    for notice in found.notices:
        click.echo(visible(notice.message), err=True)
    return 0


def _show(letters: Iterator[LetterFields], limit: int) -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for letter in deque(_counted(letters, kinds), limit):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter["last_failed_at"]))
        where = letter["source"] + ("" if letter["line_no"] is None else f", line {letter['line_no']}")
        tried = f", tried {letter['attempts']} times" if letter["attempts"] > 1 else ""
        click.echo(visible(f"{letter['event_id']}  {when}  {where}{tried}"))
        click.echo(visible(f"  {letter['processor'] or 'source'}: {letter['kind']}: {_cut(_said(letter))}"))
        click.echo(visible(f"  {_cut(letter['line'])}"))
    total = kinds.total()
    summary = ", ".join(f"{count} {of or 'source'}: {kind}" for (of, kind), count in kinds.most_common())
    click.echo(visible(f"{total} dead letter{'' if total == 1 else 's'}{f' ({summary})' if total else ''}"), err=True)


def _counted(letters: Iterator[LetterFields], kinds: Counter[tuple[str, str]]) -> Iterator[LetterFields]:
    for letter in letters:
        kinds[letter["processor"] or "", letter["kind"]] += 1
        yield letter


def _said(letter: LetterFields) -> str:
    error, message = letter["error"], letter["message"]
    return str(message) if error == letter["kind"] else f"{error}: {message}"


def _cut(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[:LENGTH]}..."


@dlq.command()
@click.argument("queue")
@click.option("--pipeline", required=True, metavar="WHERE", help="MODULE:NAME, FILE.py[:NAME] or FILE.yaml, mended by now.")
@click.option("--output", metavar="FILE", default="-", help="Write the output to a new file instead of standard output.")
@_chosen
@click.option("--all", "every", is_flag=True, help="Also letters of runs that were killed, if nobody will go on with these.")
@click.option("--restart", is_flag=True, help="Begin anew where a replay was interrupted; what it put out comes once more.")
@run_options
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on standard error but errors.")
def replay(
    queue: str,
    pipeline: str,
    output: str,
    processor: str | None,
    kind: str | None,
    ids: tuple[str, ...],
    every: bool,
    restart: bool,
    workers: int | None,
    isolation: Literal["thread", "process"],
    on_outage: Literal["fail", "wait"],
    redact: tuple[str, ...],
    quiet: bool,
) -> int:
    """Run letters once more, through the whole pipeline; those that come through are taken out of the queue.

    A replay that was interrupted is gone on with, given the same pipeline and output; or begun anew, with --restart.

    What a run had not saved when it was killed, it writes again when it is gone on with: such letters stay, but with --all.
    If the run is gone on with after that, their lines come twice.
    """
    options = Options(output=output, workers=workers, isolation=isolation, on_outage=on_outage, redact=redact or None)
    terminal = Terminal(quiet, data=output == "-")
    choice = _choice(processor, kind, ids)
    run = replay_queue(load_pipeline(pipeline), LetterBox.at(queue), options, choice, all=every, restart=restart)
    terminal.notices(run)
    if run.exception is not None:
        terminal.error(run.exception)
    terminal.report(run)
    if run.state == "finished" and not run.ledger["received"]:
        click.echo("no letter was replayed", err=True)
    return 0 if run.state == "finished" else 1


def _agreed(question: str) -> bool:
    """Ask; nobody who could answer is a no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        return False


@dlq.command()
@click.argument("queue")
@click.option("--all", "every", is_flag=True, help="Also letters of runs that were killed, if nobody will go on with these.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(queue: str, every: bool, yes: bool) -> int:
    """Let letters go; while a run writes to the queue, those that it is just writing stay.

    What a run had not saved when it was killed, it writes again when it is gone on with: such letters stay, but with --all.
    """
    letters = LetterBox.at(queue)
    if not yes and not _agreed(f"Let all dead letters in {letters.name} go?"):
        click.echo("no dead letter was purged; --yes does not ask", err=True)
        raise click.Abort
    purged = letters.purge(all=every)
    click.echo(f"{purged} dead letter{'' if purged == 1 else 's'} purged", err=True)
    for notice in letters.notices:
        click.echo(visible(notice.message), err=True)
    return 0
