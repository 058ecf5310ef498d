"""musicnn 0.1.0 from file, default patches: ``python -P musicnn_original.py WEIGHTS FOLDER``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.append(str(Path(__file__).parent))
import numpy as np
from clock import measure

np.float = float
np.product = np.prod
from musicnn.extractor import extractor


def embed(path: Path) -> None:
    """As the package's own example does; it reads the weights anew for each file."""
    with contextlib.redirect_stdout(sys.stderr):
        extractor(str(path), model="MTT_musicnn", extract_features=True)


measure(sys.argv[2], embed)
