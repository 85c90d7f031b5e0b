"""The command line in a notebook: ``%load_ext streamlab``, then ``%%streamlab`` and ``%streamlab``."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Mapping
from glob import escape, glob
from itertools import pairwise
from keyword import iskeyword
from pathlib import Path
from typing import Any

from IPython.core.completer import has_open_quotes, protect_filename
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from streamlab.config import load_pipeline
from streamlab.demo import demo
from streamlab.errors import StreamlabError
from streamlab.pipeline import Pipeline, nearest
from streamlab.run import Run
from streamlab.traces import TRACE_WORDS

_trace = argument("--trace", choices=list(TRACE_WORDS), help="keep what happened to lines; alone, it is =on")
_name = argument("--as", dest="name", metavar="NAME", help="the variable that the run is to be")


def load(shell: InteractiveShell) -> None:
    """Add the magics to a shell, and what completes their words."""
    shell.register_magics(StreamlabMagics)
    for word in ("%streamlab", "%%streamlab"):
        shell.set_hook("complete_command", _complete, str_key=word)


@magics_class
class StreamlabMagics(Magics):
    """``%%streamlab`` runs the lines of a cell, ``%streamlab`` files."""

    @magic_arguments()
    @argument("pipeline", nargs="?", help="a variable, MODULE:NAME, FILE.py[:NAME] or FILE.yaml; by default the demo")
    @_trace
    @_name
    @no_var_expand
    @cell_magic("streamlab")
    def over_cell(self, line: str, cell: str) -> Run:
        """Run the cell's lines through a pipeline, to the end; gives the run.

        Example:
            %%streamlab logs --trace
            info: system booted
            warn: disk space low
        """
        asked = self._asked(StreamlabMagics.over_cell, line)
        pipeline = self._pipeline(asked.pipeline)
        try:
            return self._named(
                asked, pipeline.run(cell.removesuffix("\n").split("\n"), trace=TRACE_WORDS.get(asked.trace, False))
            )
        except StreamlabError as error:
            raise UsageError(str(error)) from None

    @magic_arguments()
    @argument("source", nargs="+", help="files, globs or folders, compressed or not")
    @argument("--pipeline", help="a variable, MODULE:NAME, FILE.py[:NAME] or FILE.yaml; by default the demo")
    @argument("--output", metavar="FILE", help="write the output to a new file; without it the last 10,000 outputs are kept")
    @argument("--follow", action="store_true", help="go on reading files as they grow, are rotated, vanish and appear")
    @argument("--checkpoint", metavar="DIR", help="save every second how far the run is, and go on from there if it ended")
    @_trace
    @_name
    @line_magic("streamlab")
    def over_files(self, line: str) -> Run:
        """Start a pipeline over files, and give the live run at once.

        Example:
            %streamlab /var/log/app.log --pipeline logs --trace --as live
        """
        asked = self._asked(StreamlabMagics.over_files, line)
        pipeline = self._pipeline(asked.pipeline)
        source: Any = asked.source[0] if len(asked.source) == 1 else [Path(name) for name in asked.source]
        try:
            run = pipeline.start(
                source,
                trace=TRACE_WORDS.get(asked.trace, False),
                output=asked.output,
                follow=asked.follow,
                checkpoint=asked.checkpoint,
            )
            return self._named(asked, run)
        except StreamlabError as error:
            raise UsageError(str(error)) from None

    def _asked(self, magic: Any, line: str) -> Namespace:
        """Return the words of a line, by what they are; ``--trace`` may stand alone."""
        words = _words(line)
        for before, word in pairwise(words):
            if before == "--trace" and word in TRACE_WORDS and word not in self.shell.user_ns and not os.path.exists(word):
                raise UsageError(f"the mode of traces is written --trace={word}")
        words = ["--trace=on" if word == "--trace" else word for word in words]
        parse = magic.parser.parse_args if "--" in words else magic.parser.parse_intermixed_args  # which does not know it
        asked: Namespace = parse(words)
        if asked.name is not None and (not asked.name.isidentifier() or iskeyword(asked.name)):
            raise UsageError(f"--as {asked.name}: a variable cannot be named so")
        return asked

    def _named(self, asked: Namespace, run: Run) -> Run:
        if asked.name is not None:
            self.shell.push({asked.name: run})
        return run

    def _pipeline(self, where: str | None) -> Pipeline:
        """Return the pipeline that a word means: a variable's, or where one is to be loaded from."""
        if where is None:
            return demo
        variables: Mapping[str, Any] = self.shell.user_ns
        found = variables.get(where)
        if isinstance(found, Pipeline):
            return found
        if where in variables:
            raise UsageError(f"{where} is a {type(found).__name__}, not a streamlab.Pipeline")
        if where == demo.name:
            return demo
        if where.isidentifier():
            known = _pipelines(variables)
            raise UsageError(f"there is no pipeline {where!r}{nearest(where, known) if known else ' here'}")
        try:
            return load_pipeline(where)
        except StreamlabError as error:
            raise UsageError(str(error)) from None


def _words(line: str) -> list[str]:
    """Return the words of a line, as a shell takes them apart."""
    words = shlex.shlex(line, posix=True)
    words.whitespace_split, words.commenters = True, ""
    if os.name == "nt":
        words.escape = ""  # there, it is part of a path
    try:
        return list(words)
    except ValueError as error:
        raise UsageError(f"{line}: {str(error).lower()}") from None


def _pipelines(variables: Mapping[str, Any]) -> list[str]:
    return [name for name, value in variables.items() if isinstance(value, Pipeline) and not name.startswith("_")]


def _complete(shell: InteractiveShell, event: Any) -> list[str]:
    """Return the words that may come next: pipelines of this notebook, files, options."""
    word = event.symbol
    before = event.text_until_cursor.removesuffix(word).split()
    if not before:  # the magic's own name
        return []
    of_cell = before[0] == "%%streamlab"
    if word.startswith("-"):
        of_files = ["--pipeline", "--output", "--follow", "--checkpoint"]
        return ["--trace", "--as", *([] if of_cell else of_files)]
    if of_cell or before[-1] == "--pipeline":
        return _pipelines(shell.user_ns)
    if has_open_quotes(event.text_until_cursor) or "\\" in event.text_until_cursor:
        return []  # IPython completes it, and closes the quotes
    return [protect_filename(f"{path}/" if os.path.isdir(path) else path) for path in sorted(glob(f"{escape(word)}*"))]
