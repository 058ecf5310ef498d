"""Help for tests of extraction: small folders of audio, tables over them, the command in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import badfiles
import numpy as np

from pipeline import layout
from pipeline.events import Listener, ignore
from pipeline.extraction.extract import extract
from pipeline.extraction.settings import ExtractReport, ExtractSettings
from pipeline.manifest import ClipTable
from pipeline.manifest.table import strings
from pipeline.stores import StoreMeta, open_store

ROOT = Path(__file__).resolve().parents[1]
CLIP_S = 1.0


def write_clips(folder: Path, n: int, *, suffix: str = "flac") -> list[Path]:
    """``n`` files of one second, each another tune."""
    folder.mkdir(parents=True, exist_ok=True)
    rate_hz, container, subtype = badfiles.CODECS[suffix]
    paths = [folder / f"{row:03d}.{suffix}" for row in range(n)]
    for row, path in enumerate(paths):
        if not path.exists():
            badfiles.write(path, badfiles.music(rate_hz, CLIP_S, seed=row), rate_hz, container, subtype)
    return paths


def table_of(paths: Sequence[Path], root: Path, *, clip_s: float = CLIP_S, name: str = "tiny") -> ClipTable:
    """One clip per file, from its start."""
    n = len(paths)
    names = [path.relative_to(root).as_posix() for path in paths]
    return ClipTable(
        name=name,
        root=str(root),
        classes=(),
        task="multi-label",
        clip_s=clip_s,
        clip_id=strings(names),
        path=strings(names),
        split=strings([""] * n),
        group=strings([""] * n),
        start_s=np.zeros(n),
        duration_s=np.full(n, clip_s),
        labels=np.zeros((n, 0), np.int8),
    )


def run(table: ClipTable, *requests: str, listener: Listener = ignore, **changes: object) -> ExtractReport:
    """Extract in this process unless told otherwise."""
    settings = {"n_workers": 0, "device": "cpu"} | changes
    return extract(table, ExtractSettings(requests=requests, **settings), listener)  # type: ignore[arg-type]


def meta_of(table: ClipTable, extractor: str, output: str, format: layout.Format = "zarr") -> StoreMeta:
    with open_store(layout.store_path(table.name, extractor, output, format)) as reader:
        return reader.meta


def command(*arguments: str | Path, **extra: str) -> subprocess.Popen[str]:
    """``east ARGUMENTS`` in a session of its own, as a terminal would start it."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | extra,
        start_new_session=True,
    )


@contextmanager
def tidy(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill the process at the end if it is still there."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
