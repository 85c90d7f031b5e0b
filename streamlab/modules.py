"""Finding what a user named in text: something in a Python module or file."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from types import ModuleType

from streamlab.errors import PipelineError


def split(reference: str) -> tuple[str, str | None]:
    """Return file or module, and the name in it, if there is one.

    >>> split("app.pipelines:logs"), split("c:logs.py")
    (('app.pipelines', 'logs'), ('c:logs.py', None))
    """
    if reference.endswith((".py", ".yaml", ".yml")):  # a colon in it belongs to the path, as after a drive
        return reference, None
    where, colon, name = reference.rpartition(":")
    return (where, name) if colon else (reference, None)


def module_of(where: str) -> ModuleType:
    """Import and return a module, by its name or by its file's.

    Raises:
        PipelineError: it is not there, or cannot be imported; the message says why.
    """
    return _from_file(where) if where.endswith(".py") else _from_module(where)


def existing(path: str) -> str:
    """Return the path of a file.

    Raises:
        PipelineError: it is not there; the message names one that is called nearly so.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        folder, base = os.path.split(path)
        there = os.listdir(folder or os.curdir) if os.path.isdir(folder or os.curdir) else []
        near = difflib.get_close_matches(base, there, n=1)
        raise PipelineError(
            f"there is no file {path!r}{f'; did you mean {os.path.join(folder, near[0])!r}?' if near else ''}"
        )
    return path


def look_in(folder: str) -> None:
    """Let modules in a folder be imported."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _from_file(path: str) -> ModuleType:
    path = existing(path)
    look_in(os.path.dirname(os.path.abspath(path)))  # as Python does for a script: modules beside it can be imported
    stem = os.path.splitext(os.path.basename(path))[0]
    name = f"streamlab_pipeline_{stem}" if stem in sys.modules or not stem.isidentifier() else stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PipelineError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up by its name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(path, error) from error
    return module


def _from_module(name: str) -> ModuleType:
    look_in(os.getcwd())  # "python -m streamlab" looks there, the installed command would not
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error  # it is there, what it imports is not
        hint = f"; there is a file: {name}.py" if os.path.isfile(f"{name}.py") else ""
        raise PipelineError(
            f"there is no module {name!r} (from {os.getcwd()}){hint}; a file is given with its .py, as FILE.py:NAME"
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(where: str, error: BaseException) -> PipelineError:
    """Return the error for a module that raised, with the last place in it that is the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith("<frozen") and f.filename != __file__]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own and not isinstance(error, SyntaxError) else ""
    return PipelineError(f"{where} cannot be imported: {type(error).__name__}: {error}{place}")
