"""What the command line says: on standard error, so that standard output is data only."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator

import click

from streamlab.failures import Failure
from streamlab.run import ENDED, Run
from streamlab.sinks.text import visible
from streamlab.views.crew import counted
from streamlab.views.numbers import short

#: Failed lines to tell of, and how much of each.
FAILURES, LENGTH = 5, 500
#: Columns of a progress bar, and of what is around it.
BAR, AROUND_BAR = 36, 22


class Terminal:
    """Says things on standard error.

    Args:
        quiet: say nothing but errors.
        data: whether the data goes to standard output, so that there must be no progress bar between its lines.
    """

    def __init__(self, quiet: bool = False, data: bool = True) -> None:
        self.quiet = quiet
        self.data = data
        self._noticed = 0  # the number of the last notice that was told of

    def note(self, text: str) -> None:
        """Say something that is good to know."""
        if not self.quiet:
            _say(text)

    def notices(self, run: Run) -> None:
        """Tell of what happened beside the lines, once each."""
        said, self._noticed = run.new_notices(self._noticed)
        for message in said:
            self.note(f"{run.pipeline.name}: {message}")

    def error(self, error: BaseException) -> None:
        """Say what went wrong, in one line."""
        _say(f"streamlab: error: {sentence(error)}")

    def report(self, run: Run) -> None:
        """Say how a run ended, and tell of its last failures."""
        said = f" ({run.reason})"  # as an error
        self.note(f"{run.pipeline.name}: {run.summary().removesuffix(said)}")
        rows = [] if self.quiet else run.latest_errors(FAILURES)
        if rows:
            total = run.errors.attrs["total"]
            which = f"the last {len(rows)} of {total} failures" if total > len(rows) else f"{total} failed"
            self.note(f"{which}:")
        for row in reversed(rows):
            said = Failure(**row).where(run.pipeline.name)
            self.note(f"  {said if len(said) <= LENGTH else said[:LENGTH] + '...'}")

    @contextlib.contextmanager
    def progress(self, run: Run) -> Iterator[Callable[[], None]]:
        """Show how far a run has come, if it is known and there is a place for it; give what to call to renew it."""
        apart = not self.data or not _is_terminal(sys.stdout)
        if self.quiet or run.progress is None or not _is_terminal(sys.stderr) or not apart:
            yield lambda: None
            return
        label, width = run.pipeline.name, BAR if not run.crew() else BAR // 3
        room = shutil.get_terminal_size().columns - len(label) - width - AROUND_BAR
        with click.progressbar(
            length=1000, label=label, file=sys.stderr, width=width, item_show_func=lambda text: text
        ) as bar:

            def renew() -> None:
                bar.update(int((run.progress or 0.0) * 1000) - bar.pos)
                said = workers(run)
                if said:
                    bar.current_item = said if len(said) <= room else None
                    bar.render_progress()

            yield renew
            renew()


def workers(run: Run) -> str:
    """Return how many workers a run has, about how many lines they have worked on, and how many are committed.

    >>> import streamlab
    >>> workers(streamlab.run(["a run without a cluster"]))
    ''
    """
    rows = run.crew()
    if not rows:
        return ""
    about = f", ≈ {short(run.estimate)} lines" if run.state not in ENDED else ""
    return f"{counted(rows)}{about}, {short(run.ledger['received'])} committed"


def sentence(error: BaseException) -> str:
    """Return what an exception says; of one that streamlab did not make, what kind it is as well."""
    own = type(error).__module__.startswith("streamlab.")
    return str(error) if own else f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    """Write one line; that nobody reads it is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(visible(text), err=True)


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # there is none; it has been closed
        return False
