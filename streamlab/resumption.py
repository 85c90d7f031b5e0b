"""Going on where a run ended: what must be the same, and who takes up what was saved."""

from __future__ import annotations

import os
import secrets
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from streamlab.checkpoint import Checkpoint
from streamlab.dead_letters import DeadLetterQueue
from streamlab.errors import CheckpointError
from streamlab.failures import KEPT_LETTERS
from streamlab.journal import Journal
from streamlab.pipeline import Pipeline
from streamlab.sinks import Durable, OnFiles, Sink
from streamlab.sources import Resumable, Source
from streamlab.state import joined

_ANEW = "give what it was, or begin anew with another checkpoint and another output"
_FOLDER = "folder"


def states(checkpoint: Checkpoint, saved: Mapping[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    """Return what is saved of processors, by name; refuse what none of the pipeline can go on with."""
    changes: dict[str, list[Any]] = defaultdict(list)
    for part in sorted(name for name in saved if name.startswith("state")):  # "state/NAME", or "state@PARTITION.NUMBER/NAME"
        changes[part.partition("/")[2]].append(saved[part])
    kept = {name: joined(of) for name, of in changes.items()}
    for name, state in kept.items():
        processor = pipeline.processors.get(name)
        now = None if processor is None else processor.keeps
        if now != state["of"]:
            raise CheckpointError(
                f"the checkpoint {checkpoint.folder} has state of processor {name!r}, {state['of']}, which in pipeline"
                f" {pipeline.name!r} is {'not there' if processor is None else now or 'one without state'}: {_ANEW}"
            )
    return kept


def _facts(
    checkpoint: Checkpoint, pipeline: Pipeline, source: Source, sink: Sink, letters: DeadLetterQueue | None
) -> dict[str, str | None]:
    """Return what must be the same for a run to go on with another one, and where the checkpoint is."""
    return {
        "pipeline": pipeline.name,
        # Of its very class: one that inherits from it may count in another way.
        "kind of source": vars(type(source)).get("kind", type(source).__name__),
        "output": _place(sink),
        "dead letters": None if letters is None else os.path.abspath(letters.name),
        _FOLDER: os.path.abspath(checkpoint.folder),
    }


def _place(sink: Sink) -> str:
    """Return where outputs go: the path of a file in full, else what the sink is called."""
    paths = [file for file in (sink.files() if isinstance(sink, OnFiles) else []) if isinstance(file, str)]
    return os.path.abspath(paths[0]) if paths else sink.name


def check_facts(
    checkpoint: Checkpoint,
    saved: Mapping[str, Any] | None,
    pipeline: Pipeline,
    source: Source,
    sink: Sink,
    letters: DeadLetterQueue | None,
) -> None:
    """Refuse to go on with what is not the same, and have the checkpoint note what it is."""
    facts = _facts(checkpoint, pipeline, source, sink, letters)
    for name, now in facts.items():
        if saved is not None and name != _FOLDER and not _same(saved[name], now, saved[_FOLDER], facts[_FOLDER]):
            raise CheckpointError(f"the checkpoint {checkpoint.folder} has {name} {saved[name]!r}, and not {now!r}: {_ANEW}")
    checkpoint.facts = facts | {"lineage": secrets.token_hex(6) if saved is None else saved["lineage"]}


def _same(then: str | None, now: str | None, folder_then: Any, folder_now: Any) -> bool:
    """Tell whether two facts are the same; of paths also if, seen from the checkpoint, they are: it was moved with them."""
    if then == now or then is None or now is None or not (os.path.isabs(then) and os.path.isabs(now)):
        return then == now
    return os.path.relpath(then, folder_then) == os.path.relpath(now, folder_now)


def begin(opened: ExitStack, sink: Sink, letters: DeadLetterQueue | None, journal: Journal) -> None:
    """Have everything where it begins."""
    if letters is not None:
        letters.begin(journal.lineage, journal.version)
        opened.callback(letters.close)
    if isinstance(sink, Durable):  # last, so that the output is as it was if any of them refuses
        sink.begin()
        opened.callback(sink.close)


def resume(
    opened: ExitStack,
    saved: Mapping[str, Any],
    source: Source,
    sink: Sink,
    letters: DeadLetterQueue | None,
    journal: Journal,
) -> None:
    """Put everything where it was saved to be."""
    if isinstance(source, Resumable) and saved["source"] is not None:
        source.resume(saved["source"])
    if letters is not None:
        letters.resume(saved["letters"], saved["books"]["failures"][1], journal.lineage, journal.version)
        opened.callback(letters.close)
        journal.failures.letters.extend(letters.recent(journal.lineage, KEPT_LETTERS))
    if isinstance(sink, Durable):
        sink.resume(saved["sink"], ended=saved["books"]["ended"])
        opened.callback(sink.close)
