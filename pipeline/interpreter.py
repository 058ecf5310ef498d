"""Python processes of our own, which run this program's code and none that lies in the current folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def python(*words: str) -> list[str]:
    """A command line of this Python.

    By itself ``python -c`` and ``python -m`` look for modules in the current folder first, which may be
    anyone's download: a ``json.py`` there would be run.
    """
    return [sys.executable, "-P", *words]


def python_path() -> dict[str, str]:
    """The variable by which such a process finds this very code, also in a checkout that is not installed.

    Where this code is installed like any package, it is found without; to look there first would only put
    other packages before Python's own modules.
    """
    if _ROOT.name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
