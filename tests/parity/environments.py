"""The environments that originals run in, built on demand below ``.parity/``.

``torch``: this project's own interpreter, with a folder of pinned packages, installed without their
dependencies, in front of its path.  The compiled parts of ``torchaudio`` and all of ``torchvision``
are out of reach for a CPU build of torch: scripts of originals that import them load single Python
files of theirs by path, or put a stand-in in their place, and say so.

``tensorflow``: an interpreter of its own, see ``tensorflow/environment.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".parity"
TORCH_PACKAGES = (
    "panns-inference==0.1.1",
    "epanns-inference==0.1.1",
    "conette==0.3.2",
    "torchlibrosa==0.1.0",
    "torchvggish==0.2",
    "resampy==0.4.3",
    "hear21passt==0.0.26",
    "timm==0.4.12",
    "torchaudio==2.8.0",
)


@dataclass(frozen=True)
class Environment:
    """An interpreter and what is in front of its path."""

    python: Path
    path: Path | None = None

    def run(self, script: Path, *arguments: str) -> None:
        """Run a script. ``-P`` keeps its folder from hiding packages of the same name.

        Raises:
            RuntimeError: it failed; with the end of what it said.
        """
        variables = os.environ | ({"PYTHONPATH": str(self.path)} if self.path else {})
        done = subprocess.run(
            [str(self.python), "-P", str(script), *arguments],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{script.name} failed in {self.python}:\n{done.stderr[-3000:]}")


def build(name: str) -> Environment:
    """The environment of that name, built where it is not there yet."""
    return {"torch": _torch, "tensorflow": _tensorflow}[name]()


def describe(name: str) -> str:
    """Its versions, for the table."""
    packages = ", ".join(TORCH_PACKAGES)
    if name == "torch":
        import torch

        return f"Python {sys.version.split()[0]}, torch {torch.__version__}, {packages}"
    from parity.tensorflow import environment

    pins = (Path(environment.__file__).parent / "requirements.txt").read_text("utf-8").splitlines()
    return ", ".join(["Python 3.11", *(line for line in pins if "==" in line), "openl3==0.4.2", "musicnn==0.1.0"])


def _torch() -> Environment:
    folder = FOLDER / "torch"
    ready = folder / ".ready"
    if not ready.exists() or ready.read_text("utf-8").split() != list(TORCH_PACKAGES):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        subprocess.run([*command, *TORCH_PACKAGES], check=True)
        ready.write_text("\n".join(TORCH_PACKAGES), "utf-8")
    return Environment(Path(sys.executable), folder)


def _tensorflow() -> Environment:
    from parity.tensorflow import environment

    return Environment(environment.build(FOLDER / "tensorflow"))
