"""What all runs stand on: a table of real files, its right content, the command that extracts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import badfiles
from extracting import ROOT, table_of
from faults.plan import Format
from plugins import RATE_HZ, signal_key

from pipeline.extraction.decoding import decode_groups
from pipeline.extraction.task import make_clip
from pipeline.layout import SUFFIXES
from pipeline.manifest import ClipTable, write_table
from pipeline.stores import open_store

N, CLIP_S = 160, 0.5
TEACHER, OUTPUT = "fake-steady", "frames"
N_WORKERS, SHARD_CLIPS = 2, 16
#: Two shards per worker are under way at any time.
IN_FLIGHT_CLIPS = 2 * N_WORKERS * SHARD_CLIPS
_FILE_HZ = 16_000


@dataclass(frozen=True)
class Ground:
    """Made once.

    Attributes:
        folder: of the audio, the table and the memory of preflights.
        clips: clip by key in the log of computed signals; a clip that cannot be decoded has none.
        digest: content digest of the store that nothing interrupted.
        stores: that store, by format.
    """

    folder: Path
    clips: Mapping[str, str]
    digest: str
    stores: Mapping[Format, Path]


def make_ground(folder: Path) -> Ground:
    """Write audio and table, and extract it in both formats without any fault."""
    table = _write_table(folder)
    clips = _keys_of(table)
    stores: dict[Format, Path] = {}
    digests = set()
    for kind in SUFFIXES:
        home, log = folder / f"right-{kind}", folder / f"right-{kind}.log"
        with log.open("w") as out:
            n_workers = N_WORKERS if kind == "zarr" else 0
            status = start(folder, home, kind, log.with_suffix(".clips"), out, n_workers=n_workers).wait()
        assert status == 0, log.read_text()
        computed = Counter(log.with_suffix(".clips").read_text().split())
        assert all(computed[key] == 1 for key in clips), "an undisturbed run computes each clip once"
        stores[kind] = store_path(home, kind)
        with open_store(stores[kind]) as reader:
            assert reader.meta.complete
            digests.add(reader.meta.content_digest)
    assert len(digests) == 1, "both formats have one content digest"
    return Ground(folder, clips, digests.pop(), stores)


def _write_table(folder: Path) -> ClipTable:
    """WAV and FLAC in turn; the last but one is shorter than a clip, the last one no audio at all."""
    music = folder / "music"
    music.mkdir(parents=True, exist_ok=True)
    paths = []
    for row in range(N):
        suffix, container = (("wav", "WAV"), ("flac", "FLAC"))[row % 2]
        seconds = CLIP_S if row < N - 2 else CLIP_S / 2
        samples = badfiles.music(_FILE_HZ, seconds, seed=row)
        paths.append(badfiles.write(music / f"{row:03d}.{suffix}", samples, _FILE_HZ, container, "PCM_16"))
    paths[-1].write_bytes(b"no music at all")
    table = table_of(paths, music, clip_s=CLIP_S)
    write_table(table, folder / "tiny.parquet")
    return table


def _keys_of(table: ClipTable) -> dict[str, str]:
    jobs = [
        make_clip(clip_id, table.audio_path(row), table.start_s[row], table.duration_s[row])
        for row, clip_id in enumerate(table.clip_id.tolist())
    ]
    groups = decode_groups(jobs, clip_s=table.clip_s, rates_hz=[RATE_HZ], group_clips=SHARD_CLIPS, dead={})
    found = {
        signal_key(clip.at_rate[RATE_HZ][0]): jobs[group.first + place].clip_id
        for group in groups
        for place, clip in enumerate(group.clips)
        if clip.error is None
    }
    assert len(found) == N - 1, "each clip but the broken one has a key of its own"
    return found


def store_path(home: Path, format: Format) -> Path:
    """Where a run's store is to be."""
    return home / "tiny" / "stores" / TEACHER / f"{OUTPUT}{SUFFIXES[format]}"


def start(
    folder: Path, home: Path, format: Format, clips_log: Path, out: TextIO, *, n_workers: int = N_WORKERS
) -> subprocess.Popen[str]:
    """``east -v extract`` of the table, as a terminal would start it; it speaks into ``out``."""
    return east(
        folder, home, "-v", "extract", "--data", folder / "tiny.parquet", "--teacher", f"{TEACHER}/{OUTPUT}",
        "--student", "none", "--workers", n_workers, "--format", format, "--allow-failures", 1,
        clips_log=clips_log, out=out,
    )  # fmt: skip


def east(
    folder: Path, home: Path, *arguments: object, clips_log: Path | None = None, out: TextIO
) -> subprocess.Popen[str]:
    """``east ARGUMENTS`` in a session of its own."""
    own = {
        "EAST_HOME": str(home),
        "EAST_WEIGHTS": str(folder / "weights"),
        "EAST_PLUGINS": "plugins",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    if clips_log is not None:
        own["FAKE_LOG"] = str(clips_log)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | own,
        start_new_session=True,
    )
