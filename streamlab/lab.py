"""``streamlab lab``: JupyterLab on the notebooks that come with streamlab."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from streamlab.errors import NotebookError

#: Where the notebooks and their data are, in an installation; as in the repository, they are in folders beside each other.
SHARED = "share/streamlab/"
FOLDERS = ("notebooks", "data")


def notebooks(folder: Path) -> Path:
    """Return the folder of the notebooks: the repository's own, else one that they are copied to.

    Args:
        folder: where to copy them to; what is there already stays as it is.

    Raises:
        NotebookError: they are not installed, or cannot be copied.
    """
    repository = Path(__file__).parents[1]
    if (repository / "notebooks" / "explore.ipynb").exists():
        return repository / "notebooks"
    try:
        copied = [_copy(origin, folder / name) for name, origin in _installed()]
    except OSError as error:
        raise NotebookError(f"the notebooks cannot be copied to {folder}: {error.strerror or error}") from error
    if not copied:
        raise NotebookError("the notebooks are not part of this installation; they are in streamlab's repository")
    return folder / "notebooks"


def _installed() -> Iterator[tuple[str, Path]]:
    """Yield the notebooks and their data: the path as it is to be, and where the file is."""
    try:
        files = metadata.files("streamlab") or ()
    except metadata.PackageNotFoundError:  # it is a folder on the path
        return
    for file in files:
        _, shared, name = file.as_posix().partition(SHARED)
        origin = Path(str(file.locate()))
        if shared and name.split("/")[0] in FOLDERS and origin.exists():  # pip install --target puts it elsewhere
            yield name, origin


def _copy(origin: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(origin, target)
    return target


def open_lab(folder: Path, options: Sequence[str]) -> int:
    """Open JupyterLab on a folder, and return its exit code when it ends.

    Raises:
        NotebookError: it is not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise NotebookError('JupyterLab is not installed: pip install "streamlab[notebook]"')
    first = folder / "explore.ipynb"
    lab = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", str(first), f"--ServerApp.root_dir={folder.parent}", *options]
    )
    before = signal.signal(signal.SIGTERM, lambda *_: lab.terminate())  # meant for JupyterLab, which ends its kernels
    try:
        while True:
            try:
                return lab.wait()
            except KeyboardInterrupt:  # it is JupyterLab's too, which asks whether it was meant
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
