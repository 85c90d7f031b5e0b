"""A YAML file, read safely, whose parts know where they stand: what is wrong with one is told with file and line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from streamlab.errors import PipelineError
from streamlab.hints import TEXT, fitted, hints_of
from streamlab.pipeline import nearest

if TYPE_CHECKING:
    import yaml


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A part of a file.

    Attributes:
        node: what YAML made of it.
        loader: turns nodes into values.
        path: the file.
        of: what it is part of, for messages.
    """

    node: yaml.Node
    loader: yaml.SafeLoader
    path: str
    of: str = ""

    def wrong(self, text: str) -> PipelineError:
        """Return the error that says what is wrong with it."""
        place = f"{self.path}, line {self.node.start_mark.line + 1}"
        return PipelineError(f"{place}{f', {self.of}' if self.of else ''}: {text}")

    def named(self, of: str) -> Entry:
        """Return the same part under the name that messages should give it."""
        return replace(self, of=of)

    def fields(self, known: Iterable[str] | None = None) -> dict[str, Entry]:
        """Return the entries of a mapping.

        Args:
            known: what its keys may be; ``None`` for any text.

        Raises:
            PipelineError: it is none, or one of its keys is not known; the message names the nearest.
        """
        import yaml

        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong(f"here should be a mapping, with keys and values, not {self._shown()}")
        self._made(self.loader.flatten_mapping, self.node)  # takes in what "<<" refers to
        fields = {}
        for key, value in self.node.value:
            name = key.value
            if not isinstance(key, yaml.ScalarNode) or (known is not None and name not in known):
                raise replace(self, node=key).wrong(f"there is no key {name!r} here{nearest(str(name), known or ())}")
            fields[name] = replace(self, node=value)
        return fields

    def items(self) -> list[Entry]:
        """Return the entries of a list."""
        import yaml

        if not isinstance(self.node, yaml.SequenceNode):
            raise self.wrong(f"here should be a list, not {self._shown()}")
        return [replace(self, node=node) for node in self.node.value]

    def value(self, name: str, hint: Any = Any) -> Any:
        """Return what it stands for.

        Args:
            name: what to call it in messages.
            hint: the type that it should have.

        Raises:
            PipelineError: it has another, or stands for nothing that is safe to make.
        """
        value = self._made(lambda node: self.loader.construct_object(node, deep=True), self.node)
        try:
            return fitted(value, hint)
        except TypeError as error:
            quoted = f"; in quotes it would be text: {self.node.value!r}" if self._unquoted(error) else ""
            raise self.wrong(f"{name} must be {error}, not {self._shown()}{quoted}") from None
        except ValueError as error:
            raise self.wrong(f"{name}: {error}") from error

    def calls(self, target: Callable[..., Any], what: str, arguments: Entry | None) -> Any:
        """Return what the class or function that it names makes of a mapping of arguments, or of none.

        What a function takes as ``*names`` is a list called ``names``; one that takes ``**others`` takes any keys.

        Raises:
            PipelineError: an argument is unknown, missing or of the wrong type, or it raised.
        """
        parameters = inspect.signature(target).parameters
        several = [p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL]
        others = [p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD]
        hints = {name: list[hint] if name in several else hint for name, hint in hints_of(target).items()}  # type: ignore[valid-type]
        rest = hints.get(others[0], Any) if others else Any
        fields = arguments.fields(None if others else parameters) if arguments is not None else {}
        given = {name: entry.value(name, hints.get(name, rest)) for name, entry in fields.items()}
        lacking = {name for name, p in parameters.items() if p.default is p.empty}.difference(given, several, others)
        if lacking:
            raise self.wrong(f"{what} must be told {' and '.join(map(repr, sorted(lacking)))}")
        items = [item for name in several for item in given.pop(name, ())]
        try:
            return target(*items, **given)
        except Exception as error:  # it is the user's, or Polars'
            raise (arguments or self).wrong(f"{what}: {error}") from error

    def _made(self, make: Callable[[Any], Any], node: yaml.Node) -> Any:
        """Return what the loader makes of a node."""
        import yaml

        try:
            return make(node)
        except yaml.MarkedYAMLError as error:
            raise from_yaml(self.path, error) from error
        except (ValueError, OverflowError, RecursionError) as error:  # the 30th of February, and so on
            raise self.wrong(f"this cannot be read: {error}") from error

    def _shown(self) -> str:
        import yaml

        if isinstance(self.node, yaml.ScalarNode):
            return (
                repr(self.node.value) if self.node.style or self.node.tag.endswith(":str") else self.node.value or "nothing"
            )
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "a mapping"

    def _unquoted(self, wanted: TypeError) -> bool:
        """Tell whether it is no text only because YAML saw something else in it."""
        import yaml

        other = not self.node.tag.endswith((":str", ":null"))
        return isinstance(self.node, yaml.ScalarNode) and other and TEXT in str(wanted)


def read_document(path: str) -> Entry:
    """Return what a YAML file holds.

    Raises:
        PipelineError: it cannot be read, is no YAML, is empty, or has a key twice.
    """
    import yaml

    try:
        with open(path, "rb") as file:
            loader = yaml.SafeLoader(file)
            node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise from_yaml(path, error) from error
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise PipelineError(f"{path}: there are too many levels in it") from error
    if node is None:
        raise PipelineError(f"{path}: there is nothing in it")
    whole = Entry(node, loader, path)
    for key, first in _twice(node):
        raise replace(whole, node=key).wrong(f"{key.value!r} is there twice; first in line {first.start_mark.line + 1}")
    return whole


def from_yaml(path: str, error: yaml.YAMLError) -> PipelineError:
    """Return what is wrong with a file, from what YAML says."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{path}, line {mark.line + 1}" if mark is not None else path
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return PipelineError(f"{place}: this is no YAML that can be read: {problem}")


def _twice(node: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield keys that are there twice, with the first of each; a node that has several names is looked at once."""
    import yaml

    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        known: dict[Any, yaml.Node] = {}
        for key, value in node.value:
            waiting += [key, value]
            if isinstance(key, yaml.ScalarNode):
                first = known.setdefault((key.tag, key.value), key)
                if first is not key:
                    yield key, first
