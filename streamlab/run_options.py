"""Options that more than one command has: how what runs lines is to do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes for plain Python functions, by default 1; of --cluster local its workers, by default all cores.",
    ),
    click.option(
        "--isolation",
        type=click.Choice(["thread", "process"]),
        default="thread",
        show_default=True,
        help="process: what a function does to its process costs that line only.",
    ),
    click.option(
        "--on-outage",
        type=click.Choice(["fail", "wait"]),
        default="fail",
        show_default=True,
        help="What to do when output cannot be written for now, as when the disk is full.",
    ),
    click.option(
        "--redact",
        multiple=True,
        metavar="PATTERN",
        help="Cover this in traces, errors and dead letters: email, ipv4, credit_card, token or a regular expression.",
    ),
)


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options ``workers``, ``isolation``, ``on_outage`` and ``redact`` to a command.

    >>> [parameter.name for parameter in click.command("c")(run_options(lambda: None)).params]
    ['workers', 'isolation', 'on_outage', 'redact']
    """
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
