"""Pipelines by what a user calls them: in a Python module or file, or written as YAML.

::

    pipeline: logs
    processors:
      - name: start
        use: route                      # a built-in, or MODULE:NAME, or ./FILE.py:NAME
        with: {cases: {warn: warn}, default: end}
      - name: warn
        use: upper
        to: end
      - name: end
        use: template
        with: {text: "[{line}]"}

``with`` is what the built-in is called with, and where it takes an expression, text in SQL; all other keys are options of
`Pipeline.add`, and ``EMIT`` is the target that leaves the pipeline. Nothing in such a file is run but what ``use`` names.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from streamlab import processors
from streamlab.document import Entry, read_document
from streamlab.errors import PipelineError
from streamlab.hints import hints_of
from streamlab.modules import existing, look_in, module_of, split
from streamlab.paths import EMIT
from streamlab.pipeline import Pipeline, nearest
from streamlab.policy import ON_ERROR, Retry
from streamlab.processors import Columnar

#: The built-ins by name.
BUILTINS: dict[str, type[Columnar]] = {
    name: found
    for name in processors.__all__
    if isinstance(found := getattr(processors, name), type) and issubclass(found, Columnar) and found is not Columnar
}
#: What a pipeline may be given in a file, and a processor.
_LIMITS = tuple(name for name in inspect.signature(Pipeline).parameters if name != "name")
_OPTIONS = tuple(name for name in inspect.signature(Pipeline.add).parameters if name not in ("self", "name", "target"))


def load_pipeline(reference: str) -> Pipeline:
    """Find and return a pipeline.

    Args:
        reference: ``MODULE:NAME``, ``FILE.py:NAME`` or ``FILE.yaml``; ``:NAME`` may be left out where there is only one.

    Raises:
        PipelineError: it is not there, or is no pipeline; the message says where and why.

    >>> load_pipeline("streamlab.demo:demo")
    Pipeline('demo': start, warn, end)
    """
    where, name = split(reference)
    if where.endswith((".yaml", ".yml")):
        if name is not None:
            raise PipelineError(f"{reference}: a YAML file is one pipeline; leave :{name} out")
        return read_pipeline(where)
    if not where or not (name is None or name.isidentifier()):
        raise PipelineError(f"{reference!r} names no pipeline: give MODULE:NAME, FILE.py:NAME or FILE.yaml")
    module = module_of(where)
    found = {key: value for key, value in vars(module).items() if isinstance(value, Pipeline)}
    if name is None:
        return _only(where, found)
    if name in found:
        return found[name]
    if hasattr(module, name):
        kind = type(getattr(module, name)).__name__
        raise PipelineError(f"{where}: {name} is not a Pipeline but of type {kind}{nearest(name, found) if found else ''}")
    raise PipelineError(f"{where}: there is no pipeline {name!r} in it{nearest(name, found) if found else ', nor another'}")


def _only(where: str, found: dict[str, Pipeline]) -> Pipeline:
    distinct = {id(pipeline): pipeline for pipeline in found.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    if not found:
        raise PipelineError(f"{where}: there is no pipeline in it")
    raise PipelineError(f"{where}: there are several pipelines in it; say which: {where}:{'|'.join(found)}")


def read_pipeline(path: str) -> Pipeline:
    """Return the pipeline that is written in a YAML file.

    Raises:
        PipelineError: something in it is wrong; the message says what, and in which line.
    """
    path = existing(path)
    document = read_document(path)
    fields = document.fields(("pipeline", *_LIMITS, "processors"))
    name = os.path.splitext(os.path.basename(path))[0]
    if "pipeline" in fields:
        name = fields["pipeline"].value("pipeline", str)
    limits = {limit: fields[limit].value(limit, int) for limit in _LIMITS if limit in fields}
    try:
        pipeline = Pipeline(name, **limits)
    except PipelineError as error:
        raise document.wrong(str(error)) from error
    if "processors" not in fields:
        raise document.wrong("there must be a key 'processors', with a list of them")
    builder = _Builder(pipeline, os.path.dirname(path))
    for entry in fields["processors"].items():
        builder.add(entry)
    builder.check()
    if not pipeline.processors:
        raise fields["processors"].wrong("there must be at least one processor")
    return pipeline


@dataclass(slots=True)
class _Builder:
    """A pipeline while it is read.

    Attributes:
        folder: where the file is, which is where the files are that it names.
        modules: the Python modules that it names, each imported once.
        places: for each processor the entries that say where its values go, by name of the key, and its own as ``""``.
    """

    pipeline: Pipeline
    folder: str
    modules: dict[str, ModuleType] = field(default_factory=dict)
    places: dict[str, dict[str, Entry]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Add a processor to the pipeline."""
        named = entry.fields(("name", "use", "with", *_OPTIONS))
        for key in ("name", "use"):
            if key not in named:
                raise entry.wrong(f"a processor must have a key {key!r}")
        name = named["name"].value("name", str)
        if name == EMIT.name:
            raise named["name"].wrong("EMIT is where values leave the pipeline; give the processor another name")
        fields = {key: found.named(f"processor {name!r}") for key, found in named.items()}
        hints = hints_of(Pipeline.add)
        options = {key: fields[key].value(key, hints[key]) for key in _OPTIONS if key in fields and key != "retry"}
        if "retry" in fields:
            options["retry"] = fields["retry"].calls(Retry, "retry", fields["retry"])
        target = self._target(fields["use"], fields.get("with"))
        try:
            self.pipeline.add(name, target, **options)
        except PipelineError as error:
            raise entry.wrong(str(error)) from error
        self.places[name] = {"": entry.named(f"processor {name!r}"), **fields}

    def _target(self, use: Entry, arguments: Entry | None) -> Any:
        """Return what a processor runs."""
        reference = use.value("use", str)
        target = BUILTINS[reference] if reference in BUILTINS else self._python(use, reference)
        if isinstance(target, type) and issubclass(target, Columnar):
            return use.calls(target, reference, arguments)
        if arguments is not None:
            raise arguments.wrong(f"'with' is for built-ins, and {reference} is none")
        return target

    def _python(self, use: Entry, reference: str) -> Any:
        """Return what is called so in a Python module, or in a file that is named from where this one is."""
        where, name = split(reference)
        if name is None or not where:
            problem = nearest(reference, BUILTINS)
            raise use.wrong(
                f"there is no built-in {reference!r}{problem}; one of yours is named MODULE:NAME or ./FILE.py:NAME"
            )
        try:
            module = self._module(where)
        except PipelineError as error:
            raise use.wrong(str(error)) from error
        if not hasattr(module, name):
            raise use.wrong(f"there is no {name!r} in {where}{nearest(name, (n for n in vars(module) if n[:1] != '_'))}")
        return getattr(module, name)

    def _module(self, where: str) -> ModuleType:
        if where.endswith(".py"):
            where = os.path.normpath(os.path.join(self.folder, os.path.expanduser(where)))
        if where not in self.modules:
            look_in(os.path.abspath(self.folder))
            self.modules[where] = module_of(where)
        return self.modules[where]

    def check(self) -> None:
        """Refuse ways that lead nowhere."""
        known = self.pipeline.processors
        for name, processor in known.items():
            places = self.places[name]
            for target in processor.to:
                if target is not EMIT and target not in known:
                    place = places.get("to") or places.get("with") or places[""]
                    raise place.wrong(f"{target!r} is no processor{nearest(str(target), [*known, 'EMIT'])}")
            if processor.on_error not in (*known, *ON_ERROR):
                problem = nearest(processor.on_error, [*known, *ON_ERROR])
                raise places["on_error"].wrong(f"on_error: {processor.on_error!r} is no processor{problem}")
