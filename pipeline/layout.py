"""Where things lie under one home folder (``data/`` by default, or ``EAST_HOME``).

::

    data/NAME/clips.parquet                     the clip table of dataset NAME
    data/NAME/audio.sqlite                      what is known of its audio files: size, time, digests
    data/NAME/audio/...                         its audio, where the project made it
    data/NAME/stores/EXTRACTOR/OUTPUT.zarr|.h5  features
    data/NAME/runs/RUN/                         trained students and probes
    data/NAME/report/                           comparison: tables, figures, page
    data/NAME/tables/TABLE/                     tables that recipes fill: Markdown, CSV, LaTeX
    data/NAME/sweeps/SWEEP/                     searches over settings: trials, best recipe
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

HOME_VARIABLE = "EAST_HOME"
Format = Literal["zarr", "hdf5"]
SUFFIXES: dict[Format, str] = {"zarr": ".zarr", "hdf5": ".h5"}


def home() -> Path:
    """The folder all relative defaults start from."""
    return Path(os.environ.get(HOME_VARIABLE, "data"))


def dataset_dir(name: str) -> Path:
    """Folder of a dataset by name."""
    return home() / name


def table_path(name: str) -> Path:
    """Clip table of a dataset."""
    return dataset_dir(name) / "clips.parquet"


def index_path(name: str) -> Path:
    """What is known of the audio files of a dataset; local, never shared."""
    return dataset_dir(name) / "audio.sqlite"


def store_path(dataset: str, extractor: str, output: str, format: Format = "zarr") -> Path:
    """Store of one output of one extractor over one dataset."""
    return dataset_dir(dataset) / "stores" / extractor / f"{output}{SUFFIXES[format]}"


def find_store(dataset: str, extractor: str, output: str) -> Path | None:
    """The store in whichever format it is there, or None; of both, the one that was written last."""
    paths = [store_path(dataset, extractor, output, kind) for kind in SUFFIXES]
    return max((path for path in paths if path.exists()), key=_written, default=None)


def _written(path: Path) -> float:
    """When a store was last finished or taken up again, in seconds of the system's clock."""
    root = path / "zarr.json"
    return (root if root.exists() else path).stat().st_mtime


def list_stores(dataset: str) -> list[Path]:
    """All stores of a dataset, sorted by extractor and output."""
    base = dataset_dir(dataset) / "stores"
    return sorted(path for suffix in SUFFIXES.values() for path in base.glob(f"*/*{suffix}"))


def runs_dir(dataset: str) -> Path:
    """Folder of a dataset's runs."""
    return dataset_dir(dataset) / "runs"


def report_dir(dataset: str) -> Path:
    """Folder of a dataset's report."""
    return dataset_dir(dataset) / "report"


def tables_dir(dataset: str) -> Path:
    """Folder of the tables that recipes fill."""
    return dataset_dir(dataset) / "tables"


def sweeps_dir(dataset: str) -> Path:
    """Folder of a dataset's searches over settings."""
    return dataset_dir(dataset) / "sweeps"
