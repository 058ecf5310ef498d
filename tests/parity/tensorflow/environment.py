"""The environment of the TensorFlow originals: OpenL3, MusiCNN, YAMNet. Python 3.11 only.

``requirements.txt`` names what the originals build on, ``dependencies.txt`` what those need in turn.
Both are installed as they stand: kapre asks for the package ``tensorflow``, and the code runs as
well on ``tensorflow-cpu``; musicnn 0.1.0 asks for a numpy of 2019.

The setup script of openl3 0.4.2 fetches twelve files of weights. It is given empty ones instead,
so that nothing is downloaded, and the wheel made so is kept out of pip's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_BESIDE = Path(__file__).parent
_LISTS = (_BESIDE / "requirements.txt", _BESIDE / "dependencies.txt")
_NO_FETCHING = """\
import gzip
import urllib.request


def empty(url, path):
    with gzip.open(path, "wb"):
        pass


urllib.request.urlretrieve = empty
"""


def build(folder: Path) -> Path:
    """Make the environment in ``folder`` where it is not there yet; its interpreter.

    Raises:
        RuntimeError: no Python 3.11.
        subprocess.CalledProcessError: an installation failed.
    """
    folder = folder.absolute()
    python, ready = folder / "bin" / "python", folder / ".ready"
    wanted = "".join(path.read_text("utf-8") for path in _LISTS)
    if not ready.exists() or ready.read_text("utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([_python_3_11(), "-m", "venv", str(folder)], check=True)
        _install(python, *(f"--requirement={path}" for path in _LISTS))
        _install(python, "musicnn==0.1.0")
        _install_openl3(python)
        ready.write_text(wanted, "utf-8")
    return python


def _install(python: Path, *arguments: str, path: str = "") -> None:
    variables = os.environ | ({"PYTHONPATH": path} if path else {})
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *arguments]
    subprocess.run(command, check=True, env=variables)


def _install_openl3(python: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(_NO_FETCHING, "utf-8")
        _install(python, "--no-build-isolation", "--no-cache-dir", "openl3==0.4.2", path=folder)


def _python_3_11() -> str:
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    if found is None:
        raise RuntimeError("The TensorFlow originals need Python 3.11 (python3.11 on the path).")
    return found
