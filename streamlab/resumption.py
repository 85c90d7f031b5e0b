"""Going on where a run ended: what must be the same, and who takes up what was saved."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePath
from types import NoneType
from typing import Any

from streamlab.addresses import is_address
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
#: Among what a run was asked: the options that could not be written down.
_UNSAID = "unsaid"


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


def asked(source: Any, options: Any) -> str:
    """Return what a run was asked to do, as text, as far as that can be written down; see `remembered`."""
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    fields["checkpoint"] = None
    said: dict[str, Any] = {
        name: value for name, value in fields.items() if isinstance(value, (str, int, float, bool, NoneType))
    }
    for name, value in (("source", source), ("output", options.output), ("dead_letters", options.dead_letters)):
        written = _written(value)
        if written is not None or value is None:
            said[name] = written
    patterns = options.redact
    if isinstance(patterns, (list, tuple)) and all(isinstance(pattern, str) for pattern in patterns):
        said["redact"] = [*patterns]
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    unsaid = [name for name, value in fields.items() if name not in said and value != defaults[name] and name != "output"]
    return json.dumps(said | {_UNSAID: unsaid})


def _written(value: Any) -> Any:
    """Return a path in full, an address, or a list of paths; ``None`` of what is nothing of that."""
    if isinstance(value, list) and value and all(isinstance(item, PurePath) for item in value):
        return [os.path.abspath(item) for item in value]
    if not isinstance(value, (str, PurePath)):
        return None
    text = os.fspath(value)
    if text == "-" or is_address(text):
        return text
    return os.path.abspath(os.path.expanduser(text)) + ("/" if text.endswith("/") else "")


def remembered(given: Any, kind: type[Any], changed: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the source and the options of the run whose checkpoint this is.

    Args:
        given: the checkpoint, or its folder.
        kind: the class of the options.
        changed: what is to be another way.

    Raises:
        CheckpointError: there is none, or its source, its output or an option cannot be named.
    """
    checkpoint = given if isinstance(given, Checkpoint) else Checkpoint(given)
    if not os.path.isdir(checkpoint.folder):
        raise CheckpointError(f"there is no checkpoint {checkpoint.folder}: it is the folder that a run had as checkpoint=")
    checkpoint.begin()
    try:
        saved = checkpoint.load()
    finally:
        checkpoint.close()
    said: dict[str, Any] = {} if saved is None or saved.get("asked") is None else json.loads(saved["asked"])
    for name in ("source", "output"):
        if name not in said and name not in changed:
            raise CheckpointError(
                f"the checkpoint {checkpoint.folder} does not say what the {name} was, as it was no path and no"
                " address: say run(source, output=..., checkpoint=...) with what they were"
            )
    for name in said.pop(_UNSAID, ()):
        if name not in changed:
            raise CheckpointError(
                f"the checkpoint {checkpoint.folder} does not say what {name}= was, as it was no plain value: give it again,"
                f" resume(..., {name}=...)"
            )
    if "cluster" in changed:  # how many workers there are is about where it ran
        said.pop("workers", None)
        if changed["cluster"] is None:
            for name in kind.OF_CLUSTERS:
                said.pop(name, None)
    source = said.pop("source", None)
    if isinstance(source, list):
        source = [Path(path) for path in source]
    return source, kind(**{**said, "checkpoint": given, **changed})


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
