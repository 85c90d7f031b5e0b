"""docs/processors.md has all built-ins, and what it shows is so."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from streamlab.config import BUILTINS, load_pipeline

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "processors.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_each_result_that_is_shown_is_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in a comment after a line that is an expression."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    scope: dict[str, Any] = {}
    shown, came = [], []
    for block in blocks("python"):
        for statement in ast.parse(block).body:
            text = block.splitlines()[(statement.end_lineno or 1) - 1]
            if isinstance(statement, ast.Expr) and "    # " in text:
                shown.append(text.split("    # ")[1])
                came.append(repr(eval(ast.unparse(statement), scope)))
            else:
                exec(ast.unparse(statement), scope)
    assert shown == came
    assert len(shown) > len(BUILTINS)


def test_each_built_in_is_there_with_its_arguments() -> None:
    described = dict(re.findall(r"^### (\w+)\n\n`\w+\((.*?)\)`", TEXT, re.MULTILINE))
    assert described == {name: arguments(builtin) for name, builtin in BUILTINS.items()}
    assert sorted(re.findall(r"\[`(\w+)`\]\(#\1\)", TEXT)) == sorted(BUILTINS)


def arguments(builtin: Any) -> str:
    """Return the arguments of a built-in as the page writes them."""
    parts = []
    for parameter in inspect.signature(builtin).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not {"*", "*patterns"}.intersection(parts):
            parts.append("*")
        default = f"={_written(parameter.default)}" if parameter.default is not parameter.empty else ""
        parts.append(str(parameter.replace(annotation=parameter.empty, default=parameter.empty)) + default)
    return ", ".join(parts)


def _written(default: Any) -> str:
    if type(default) is int:
        return f"{default:_}"
    return f'"{default}"' if isinstance(default, str) and '"' not in default else repr(default)


def test_the_yaml_on_the_page(tmp_path: Path) -> None:
    sample, *others = blocks("yaml")
    assert sample == (ROOT / "data" / "logs.yaml").read_text(encoding="utf-8")
    [errors] = others
    (tmp_path / "errors.yaml").write_text(errors, encoding="utf-8")
    run = load_pipeline(str(tmp_path / "errors.yaml")).run(ROOT / "data" / "access.log")
    counts = [int(value.split()[0]) for value in run.output["value"]]
    assert (len(counts), sorted(counts, reverse=True)) == (3, counts)
    assert run.errors.empty
