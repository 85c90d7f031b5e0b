"""``streamlab lab``: in the repository, and from a wheel in an environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

from streamlab import NotebookError
from streamlab.lab import notebooks, open_lab
from tests.waiting import until

ROOT = Path(__file__).parents[1]
SECONDS = 60
NOT_THERE = "the notebooks are not part of this installation; they are in streamlab's repository"
#: A JupyterLab that says how it was called, and ends with what it is asked to.
STUB = """
import json, os, sys
from pathlib import Path
Path(os.environ["CALLED"]).write_text(json.dumps(sys.argv[1:]))
sys.exit(int(os.environ.get("CODE", "0")))
"""
#: One that ends at the second Ctrl-C, as JupyterLab does that asks whether the first was meant.
ASKING = """
import os, signal, sys
from pathlib import Path
called = Path(os.environ["CALLED"])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
called.write_text("up")
signal.sigwait({signal.SIGINT})
called.write_text("asked")
signal.sigwait({signal.SIGINT})
sys.exit(7)
"""
#: One that has something to do before it ends, as JupyterLab has, which ends its kernels.
ENDING = """
import os, signal, sys
from pathlib import Path
called = Path(os.environ["CALLED"])
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
called.write_text("up")
signal.sigwait({signal.SIGTERM})
called.write_text("ended")
sys.exit(5)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", str(ROOT), "--no-deps", "-w", str(folder))
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that streamlab is installed in, and that has the other packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    assert (site / "streamlab").is_dir()
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH, in which JupyterLab is a stub."""
    (tmp_path / "stub" / "jupyterlab").mkdir(parents=True)
    (tmp_path / "stub" / "jupyterlab" / "__init__.py").touch()
    (tmp_path / "stub" / "jupyterlab" / "__main__.py").write_text(STUB)
    (tmp_path / "work").mkdir()
    return tmp_path / "stub"


def pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr


def variables(path: Path, **more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(path), "CALLED": str(path / "called.json")} | more


def lab(environment: Path, cwd: Path, variables: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Call the program that is installed."""
    command = [str(environment / "bin" / "streamlab"), "lab", *words]
    done = subprocess.run(
        command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
    )
    assert "Traceback" not in done.stderr
    return done


def called(stub: Path) -> list[str]:
    words: list[str] = json.loads((stub / "called.json").read_text())
    return words


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# In the repository


def test_in_the_repository_the_notebooks_are_its_own(tmp_path: Path) -> None:
    assert notebooks(tmp_path / "lab") == ROOT / "notebooks"
    assert not (tmp_path / "lab").exists()


def test_open_lab_passes_options_on_and_returns_the_exit_code(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(stub, CODE="3").items():
        monkeypatch.setenv(name, value)
    folder = stub / "my lab" / "notebooks"
    assert open_lab(folder, ["--no-browser", "--port", "9999"]) == 3
    root = f"--ServerApp.root_dir={stub / 'my lab'}"
    assert called(stub) == [str(folder / "explore.ipynb"), root, "--no-browser", "--port", "9999"]


def test_open_lab_without_jupyterlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotebookError, match=r'JupyterLab is not installed: pip install "streamlab\[notebook\]"'):
        open_lab(tmp_path, [])


# From a wheel


def test_notebooks_are_copied_with_their_data_beside_them(environment: Path, stub: Path) -> None:
    work = stub.parent / "work"
    assert lab(environment, work, variables(stub), "mine").returncode == 0
    assert called(stub) == ["mine/notebooks/explore.ipynb", "--ServerApp.root_dir=mine"]
    copied = files(work / "mine")
    assert copied == files(environment / "share" / "streamlab")
    names = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {name for name in copied if name.startswith("notebooks/")} == {f"notebooks/{name}" for name in names}
    for name in ("sample.log", "dpkg.log"):
        assert copied[f"data/{name}"] == (ROOT / "data" / name).read_bytes()
    data = {line for line in copied["notebooks/explore.ipynb"].decode().split('"') if line.startswith("../data/")}
    assert all(name.removeprefix("../") in copied for name in data)


def test_what_is_there_already_stays_as_it_is(environment: Path, stub: Path) -> None:
    mine = stub.parent / "work" / "mine"
    (mine / "notebooks").mkdir(parents=True)
    (mine / "notebooks" / "explore.ipynb").write_text("what I made of it")
    (mine / "notebooks" / "own.ipynb").write_text("my own")
    for _ in range(2):
        assert lab(environment, mine.parent, variables(stub), "mine").returncode == 0
        found = files(mine)
        assert found["notebooks/explore.ipynb"] == b"what I made of it"
        assert found["notebooks/own.ipynb"] == b"my own"
        assert "data/sample.log" in found


@pytest.mark.parametrize(
    ("words", "folder", "options"),
    [
        ([], "streamlab-lab", []),
        (["--no-browser"], "streamlab-lab", ["--no-browser"]),
        (["--port", "9999", "-y"], "streamlab-lab", ["--port", "9999", "-y"]),
        (["a/b c", "--no-browser", "--ServerApp.base_url=/x//y"], "a/b c", ["--no-browser", "--ServerApp.base_url=/x//y"]),
        (["mine", "--", "--help"], "mine", ["--help"]),
    ],
)
def test_options_are_jupyterlabs(environment: Path, stub: Path, words: list[str], folder: str, options: list[str]) -> None:
    assert lab(environment, stub.parent / "work", variables(stub, CODE="5"), *words).returncode == 5
    assert called(stub) == [f"{folder}/notebooks/explore.ipynb", f"--ServerApp.root_dir={folder}", *options]
    assert (stub.parent / "work" / folder / "data" / "sample.log").exists()
    assert [path.name for path in (stub.parent / "work").iterdir()] == [folder.split("/")[0]]


def test_without_jupyterlab_it_says_what_to_install(environment: Path, stub: Path) -> None:
    (stub / "sitecustomize.py").write_text("import sys\nsys.modules['jupyterlab'] = None\n")
    done = lab(environment, stub.parent / "work", variables(stub))
    said = 'streamlab: error: JupyterLab is not installed: pip install "streamlab[notebook]"\n'
    assert (done.stdout, done.stderr, done.returncode) == ("", said, 2)


def test_a_folder_that_cannot_be_written_is_told_of(environment: Path, stub: Path) -> None:
    work = stub.parent / "work"
    (work / "file").write_text("mine")
    (work / "half").mkdir()
    (work / "half" / "data").write_text("mine")
    for name in ("file/below", "half"):
        done = lab(environment, work, variables(stub), name)
        assert (done.stdout, done.returncode) == ("", 2)
        assert done.stderr.startswith(f"streamlab: error: the notebooks cannot be copied to {name}: ")
        assert done.stderr.count("\n") == 1
    done = lab(environment, work, variables(stub), "file")
    assert (done.returncode, "'file' is a file" in done.stderr) == (2, True)
    assert not (stub / "called.json").exists()
    assert (work / "file").read_text() == (work / "half" / "data").read_text() == "mine"


def test_an_installation_without_the_notebooks_says_so(wheel: Path, environment: Path, stub: Path) -> None:
    """Where pip installs to a folder, it puts shared files where their list does not say."""
    pip("install", "--no-deps", "--no-index", "--target", str(stub), str(wheel))
    done = lab(environment, stub.parent / "work", variables(stub))
    assert (done.stderr, done.returncode) == (f"streamlab: error: {NOT_THERE}\n", 2)


def test_a_copy_that_was_not_installed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("streamlab.lab.__file__", str(tmp_path / "streamlab" / "lab.py"))
    monkeypatch.setattr(metadata, "files", not_installed)
    with pytest.raises(NotebookError, match=NOT_THERE):
        notebooks(tmp_path / "lab")
    assert not (tmp_path / "lab").exists()


def test_ctrl_c_is_jupyterlabs(environment: Path, stub: Path) -> None:
    (stub / "jupyterlab" / "__main__.py").write_text(ASKING)
    seen = stub / "called.json"
    command = [str(environment / "bin" / "streamlab"), "lab"]
    with subprocess.Popen(
        command, cwd=stub.parent / "work", env=variables(stub), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            for said in ("up", "asked"):
                until(lambda said=said: seen.exists() and seen.read_text() == said)  # type: ignore[misc]
                os.killpg(process.pid, signal.SIGINT)
            assert process.wait(SECONDS) == 7
            assert process.stderr is not None and process.stderr.read() == ""
        finally:
            process.kill()


def test_sigterm_is_jupyterlabs(environment: Path, stub: Path) -> None:
    (stub / "jupyterlab" / "__main__.py").write_text(ENDING)
    seen = stub / "called.json"
    command = [str(environment / "bin" / "streamlab"), "lab"]
    with subprocess.Popen(command, cwd=stub.parent / "work", env=variables(stub)) as process:
        try:
            until(lambda: seen.exists() and seen.read_text() == "up")
            process.terminate()
            assert process.wait(SECONDS) == 5
            assert seen.read_text() == "ended"
        finally:
            process.kill()


def test_help_is_helpful(environment: Path, stub: Path) -> None:
    for words in (["--help"], ["mine", "-h"]):
        done = lab(environment, stub.parent / "work", variables(stub), *words)
        assert done.returncode == 0
        for part in ("Usage: streamlab lab", "FOLDER", "./streamlab-lab", "OPTIONS are JupyterLab's", "--no-browser"):
            assert part in done.stdout
    assert not list((stub.parent / "work").iterdir())
