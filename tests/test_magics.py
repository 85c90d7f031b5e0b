"""``%%streamlab`` and ``%streamlab``, in a shell of IPython's."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from streamlab import Pipeline, Run
from streamlab.demo import demo
from tests.waiting import until

DATA = Path(__file__).parents[1] / "data"
#: Two lines for the shell's `logs`, which makes them loud.
LINES = "warn: hot\ninfo: ok"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A notebook's shell in a folder of its own, with streamlab loaded and a pipeline ``logs``."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.warn_venv = False
    config.Completer.use_jedi = False  # it adds Python's own words to all that is offered
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    try:
        ran(shell, "%load_ext streamlab")
        shell.push({"logs": Pipeline("logs").add("loud", str.upper).add("unused", str.lower), "five": 5, "nothing": None})
        yield shell
    finally:
        atexit.unregister(shell.atexit_operations)  # of so many shells they would take a minute
        InteractiveShell.clear_instance()


def ran(shell: InteractiveShell, cell: str) -> Any:
    """Run a cell, and return what it gives."""
    done = shell.run_cell(cell)
    done.raise_error()
    return done.result


def values(run: Run) -> list[Any]:
    until(lambda: run.state == "finished")
    return run.output["value"].tolist()


def write(name: str, text: str = "warn: hot\n") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


# Cells


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        "",
        "\n\n",
        "\nbetween\n\n",
        "a\u2028b\n\u2029\nc\x85d",
        "lone \r in\n\r\nform\x0cfeed \x0b \x1c \x1d \x1e",
        "    indented\n\ttab \n%streamlab x\n%%streamlab\n!ls\n?what?",
        "quotes \" ' ''' \\n {five} $five",
        "🦊\n\x00",
    ],
)
def test_a_cells_lines_are_exactly_its_lines(shell: InteractiveShell, text: str) -> None:
    run = ran(shell, f"%%streamlab logs --trace\n{text}\n")
    expected = shell.user_ns["logs"].run(text.split("\n"), trace=True)
    assert run.state == "finished"
    assert run.output.equals(expected.output)
    assert run.traces["line"].tolist() == expected.traces["line"].tolist()
    assert len(run.traces) == len(text.split("\n"))


def test_without_a_pipeline_it_is_the_demo(shell: InteractiveShell) -> None:
    run = ran(shell, f"%%streamlab\n{LINES}")
    assert (run.pipeline.name, values(run)) == ("demo", ["[WARN: HOT]", "[info: ok]"])


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ("logs", False),
        ("logs --trace", True),
        ("--trace logs", True),
        ("logs\t--trace", True),
        ("--trace=hops logs", "hops"),
    ],
)
def test_traces_are_kept_as_asked(shell: InteractiveShell, words: str, mode: Any) -> None:
    run = ran(shell, f"%%streamlab {words}\n{LINES}")
    expected = shell.user_ns["logs"].run(LINES.split("\n"), trace=mode)
    assert (run.pipeline.name, len(run.traces)) == ("logs", len(expected.traces))
    if mode:
        assert run.trace(1).recorded == expected.trace(1).recorded


def test_a_run_can_have_a_name(shell: InteractiveShell) -> None:
    run = ran(shell, f"%%streamlab logs --as hot\n{LINES}")
    assert run is shell.user_ns["hot"]
    assert ran(shell, "hot['loud'].received") == 2
    assert ran(shell, f"%%streamlab --as hot\n{LINES}") is shell.user_ns["hot"] is not run


@pytest.mark.parametrize("where", ["streamlab.demo:demo", "streamlab.demo", "own.py", "own.py:mine", "own:mine"])
def test_a_pipeline_from_elsewhere(shell: InteractiveShell, where: str) -> None:
    write("own.py", "from streamlab import Pipeline\nmine = Pipeline('mine').add('loud', '[{}]'.format)\n")
    try:
        assert values(ran(shell, f"%%streamlab {where}\nx")) == ["[x]"]
    finally:
        for name in ("own", "streamlab_pipeline_own"):
            sys.modules.pop(name, None)


def test_a_pipeline_from_a_yaml_file(shell: InteractiveShell) -> None:
    assert values(ran(shell, f"%%streamlab {DATA / 'logs.yaml'}\n{LINES}")) == ["[WARN: HOT]", "[info: ok]"]
    write("my logs.yaml", (DATA / "logs.yaml").read_text())
    assert values(ran(shell, f"%%streamlab 'my logs.yaml'\n{LINES}")) == ["[WARN: HOT]", "[info: ok]"]


# Files


@pytest.mark.parametrize(
    "words",
    [
        "one.log",
        "--trace one.log",
        "'my own.log'",
        r"my\ own.log",
        '"it\'s.log"',
        "'a --trace b.log'",
        "folder/o*.log",
        "--pipeline demo one.log",
        "-- --dash.log",
    ],
)
def test_a_file(shell: InteractiveShell, words: str) -> None:
    for name in ("one.log", "my own.log", "it's.log", "a --trace b.log", "folder/own.log", "--dash.log"):
        write(name)
    shell.push({"demo": demo})
    run = ran(shell, f"%streamlab {words}")
    assert (values(run), run.pipeline.name) == (["[WARN: HOT]"], "demo")


@pytest.mark.parametrize(
    "words",
    ["b.log a.log", "b.log --trace a.log", "--pipeline logs b.log a.log", "[ab].log", "*.log --pipeline=logs", "."],
)
def test_several_files(shell: InteractiveShell, words: str) -> None:
    for name in ("a", "b"):
        write(f"{name}.log", f"{name}\n")
    known = "" if "pipeline" in words else " --pipeline logs"
    assert values(ran(shell, f"%streamlab {words}{known}")) == (["B", "A"] if "b.log" in words else ["A", "B"])


def test_files_are_run_in_the_background(shell: InteractiveShell) -> None:
    write("a.log", "x\n" * 20_000)
    run = ran(shell, "live = %streamlab a.log --pipeline logs --trace=hops --as other\nlive")
    assert run is shell.user_ns["other"]
    with run:
        assert values(run) == ["X"] * 10_000
        assert run.trace(19_999).recorded


def test_output_to_a_file(shell: InteractiveShell) -> None:
    write("a.log", f"{LINES}\n")
    assert ran(shell, "%streamlab a.log --output 'out put.log' --pipeline logs").wait().state == "finished"
    assert Path("out put.log").read_text() == f"{LINES}\n".upper()


def test_a_file_is_followed_and_gone_on_with(shell: InteractiveShell) -> None:
    words = "%streamlab a.log --follow --checkpoint state --output out --pipeline logs"
    for text, so_far in (("x\n", "X\n"), ("y\n", "X\nY\n")):
        with Path("a.log").open("a") as log:
            log.write(text)
        with ran(shell, words):
            until(lambda so_far=so_far: Path("out").exists() and Path("out").read_text() == so_far)  # type: ignore[misc]


def test_the_magics_can_be_loaded_again(shell: InteractiveShell) -> None:
    ran(shell, "%reload_ext streamlab")
    assert values(ran(shell, f"%%streamlab logs\n{LINES}")) == ["WARN: HOT", "INFO: OK"]
    assert offered(shell, "%%streamlab l") == ["logs"]


def test_a_question_is_answered(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    ran(shell, "%streamlab?")
    said = capsys.readouterr().out
    for part in ("--pipeline", "--output", "--trace", "--as", "globs", "Example:"):
        assert part in said


# What went wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lgos", "there is no pipeline 'lgos'; did you mean 'logs'?"),
        ("five", "five is a int, not a streamlab.Pipeline"),
        ("nothing", "nothing is a NoneType, not a streamlab.Pipeline"),
        ("empty", "pipeline 'empty' has no processors"),
        ("none.yaml", "there is no file 'none.yaml'"),
        ("streamlab.demo:dmeo", "did you mean 'demo'?"),
        ("logs --wrong", "unrecognized arguments: --wrong"),
        ("--trace=most", "invalid choice: 'most' (choose from"),
        ("logs --trace hops", "the mode of traces is written --trace=hops"),
        ("logs --as 1x", "--as 1x: a variable cannot be named so"),
        ("logs --as class", "--as class: a variable cannot be named so"),
        ("'logs", "no closing quotation"),
    ],
)
def test_wrong_use_of_a_cell(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    shell.push({"empty": Pipeline("empty")})
    assert said in refused(shell, f"%%streamlab {words}\n{LINES}", capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "required: source"),
        ("app.lgo", "did you mean 'app.log'?"),
        ("app.log 'no such.log'", "there is no file 'no such.log'"),
        ("no*.log", "no file matches 'no*.log'"),
        ("app.log --pipeline lgos", "did you mean 'logs'?"),
        ("app.log --output no/out", "there is no folder no"),
        ("app.log --trace all", "the mode of traces is written --trace=all"),
        ("it's.log", "no closing quotation"),
    ],
)
def test_wrong_use_of_a_line(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    write("app.log")
    assert said in refused(shell, f"%streamlab {words}", capsys)
    assert Path("app.log").read_text() == "warn: hot\n"


def refused(shell: InteractiveShell, cell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a cell that is wrong, and return the one line that it says."""
    capsys.readouterr()
    done = shell.run_cell(cell)
    said = "".join(capsys.readouterr())
    assert isinstance(done.error_in_exec, UsageError)
    assert said.startswith("UsageError: ") and said.count("\n") == 1
    return said


# Completion


def offered(shell: InteractiveShell, text: str, at: int | None = None) -> list[str]:
    """Return what TAB offers at the end of a text, or where the cursor is."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text) if at is None else at))
    return [one.text for one in found]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%%streamlab ", ["logs", "other"]),
        ("%%streamlab lo", ["logs"]),
        ("%%streamlab -", ["--trace", "--as"]),
        ("%streamlab -", ["--trace", "--as", "--pipeline", "--output", "--follow", "--checkpoint"]),
        ("%streamlab app.log --pipeline ", ["logs", "other"]),
        ("%streamlab app.log --pipeline lo", ["logs"]),
        ("%streamlab ", ["a\\ b.log", "app.log", "sub/"]),
        ("%streamlab ap", ["app.log"]),
        ("%streamlab ./ap", ["./app.log"]),
        ("%streamlab sub/", ["sub/z.log"]),
        ("%streamlab {here}/ap", ["{here}/app.log"]),
        ('logs["lo', ["loud"]),
        ('run["', ["loud", "unused"]),
    ],
)
def test_what_is_offered(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], text: str, words: list[str]) -> None:
    for name in ("app.log", "a b.log", ".hidden", "sub/z.log", "sub/.hidden"):
        write(name)
    other = Pipeline("other").add("loud", str.upper)
    shell.push({"other": other, "_kept": other, "run": shell.user_ns["logs"].run(["a"])})
    here = str(Path.cwd())
    assert offered(shell, text.replace("{here}", here)) == [word.replace("{here}", here) for word in words]
    assert "".join(capsys.readouterr()) == ""


def test_wherever_the_cursor_is_nothing_breaks(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("%streamlab --pipeline x", "%%streamlab logs --as x", "streamlab 'a b' [x] **"):
        for at in range(len(text) + 1):
            offered(shell, text, at)
    assert "".join(capsys.readouterr()) == ""
