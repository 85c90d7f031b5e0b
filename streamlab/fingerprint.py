"""The version of a pipeline: another one when its graph, or the code of its functions, is another."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from streamlab.pipeline import Pipeline


def version(pipeline: Pipeline) -> str:
    """Return the version of a pipeline, twelve letters and digits; the same in every process of the same Python.

    It changes with the graph, the options of built-ins, and the code of functions and methods; not with what these call.

    >>> from streamlab.demo import demo
    >>> version(demo) == version(demo.copy())
    True
    """
    text = [json.dumps(pipeline.describe(), sort_keys=True)]
    for processor in pipeline.processors.values():
        text += [processor.name, *_texts(processor.target)]
    return hashlib.blake2b("\0".join(text).encode("utf-8", "replace"), digest_size=6).hexdigest()


def _texts(target: Any) -> Iterator[str]:
    if isinstance(target, functools.partial):
        yield from _texts(target.func)
    elif isinstance(target, FunctionType):
        yield from _of_code(target.__code__)
    elif isinstance(target, type):
        for name, member in sorted(vars(target).items()):
            if isinstance(member, FunctionType):
                yield name
                yield from _of_code(member.__code__)
    else:
        text = str(target)
        yield type(target).__qualname__ if " at 0x" in text else text  # the address is another one in each process


def _of_code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        elif isinstance(constant, frozenset):
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)
