"""What a store of very many clips costs: made, opened, verified, subset, merged, trained from.

``python -m tests.benchmarks.bench_scale [--clips N] [STEP ...]`` makes a data set of N clips (one
million unless told otherwise): a clip table with labels and splits, audio files that are really
there (eight clips each, hard links of a few), a teacher's store (1 frame x 16 channels, float16)
and a small mel store, both through the same writer as an extraction: shards, journal, fold.  Then
each step is done in a process of its own, and its seconds, clips per second and peak memory are
printed; short steps are done three times and the best is shown.  Seconds do not count the start of
Python and the step's own preparation; the last column does.  CPU seconds are what others on the
same machine do not disturb.

This module is a plug-in, too (see ``EAST_PLUGINS``): it brings the teacher.
"""
# ruff: noqa: E402

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import numpy as np

from pipeline.cards import ExtractorCard, OutputCard

ALONE = True
NAME, CHANNELS, RATE_HZ, CLIP_S, CLIPS_PER_FILE, FILES_PER_FOLDER = "scale", 16, 8_000, 0.25, 8, 1_000
CLASSES = ("piano", "voice", "drums", "guitar")
NEW_SHARE = 0.01
_READ_CLIPS = 1 << 15

Work = Callable[[], object]


def _card() -> ExtractorCard:
    return ExtractorCard(
        name="scale-teacher", version=1, kind="teacher", summary="for a benchmark", builder="bench_scale:build",
        rate_hz=RATE_HZ, outputs=(OutputCard("clip", CHANNELS, 0.0, 0.0),), default_outputs=("clip",), parameters={},
        licence_weights="none", min_s=0.1, batch_clips=256,
    )  # fmt: skip


CARDS = (_card(),)


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Any, weights: tuple[Path, ...]) -> Any:
    """A teacher that takes no time: level and peak of a clip, spread over the channels."""
    import torch

    from pipeline.audio.extractor import Extractor, Frames

    class Teacher(Extractor):
        def __init__(self) -> None:
            super().__init__()
            self.card, self.outputs, self.mode = card, outputs, mode

        def extract(self, audio: torch.Tensor, n_valid: torch.Tensor) -> dict[str, Frames]:
            base = torch.stack([audio.square().mean(-1).sqrt(), audio.abs().amax(-1)], -1)
            spread = base @ torch.linspace(-1.0, 1.0, 2 * CHANNELS).reshape(2, CHANNELS)
            return {"clip": Frames(spread[:, None], (n_valid > 0).long())}

        def count_frames(self, output: str, n_samples: int) -> int:
            return int(n_samples > 0)

    return Teacher()


@dataclass(frozen=True)
class Bench:
    """One folder with everything in it, for ``n`` clips."""

    folder: Path
    n: int

    @property
    def data(self) -> Path:
        return self.folder / NAME

    @property
    def teacher(self) -> Path:
        return self.data / "stores" / "scale-teacher" / "clip.zarr"

    @property
    def mel(self) -> Path:
        return self.data / "stores" / "mel-small" / "logmel.zarr"

    @property
    def packed(self) -> Path:
        return self.folder / "clip.h5"

    def out(self, name: str) -> Path:
        """A place that is free."""
        path = self.folder / "out" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        return path

    def table(self) -> Any:
        from pipeline.manifest import read_table

        return read_table(self.data / "clips.parquet")


def _path(file: int) -> str:
    return f"fma/{file // FILES_PER_FOLDER:03d}/{file:06d}.wav"


def _make_table(bench: Bench, n: int) -> Any:
    from pipeline.manifest import ClipTable, clip_id

    n_files = -(-n // CLIPS_PER_FILE)
    paths = [_path(file) for file in range(n_files) for _ in range(CLIPS_PER_FILE)][:n]
    start_s = CLIP_S * (np.arange(n) % CLIPS_PER_FILE)
    rng = np.random.default_rng(0)
    split = np.array(["train", "valid", "test"], object)[
        np.repeat(rng.choice(3, n_files, p=(0.9, 0.05, 0.05)), CLIPS_PER_FILE)
    ]
    split[: 3 * CLIPS_PER_FILE] = np.repeat(np.array(["train", "valid", "test"], object), CLIPS_PER_FILE)[: len(split)]
    return ClipTable(
        name=NAME, root=str(bench.data / "audio"), classes=CLASSES, task="multi-label", clip_s=CLIP_S,
        clip_id=np.array(list(map(clip_id, paths, start_s)), object), path=np.array(paths, object),
        split=split[:n].astype(object), group=np.array(paths, object), start_s=start_s,
        duration_s=np.full(n, CLIP_S), labels=(rng.random((n, len(CLASSES))) < 0.25).astype(np.int8),
    )  # fmt: skip


def _make_audio(bench: Bench, n: int) -> None:
    import soundfile

    rng = np.random.default_rng(1)
    n_files = -(-n // CLIPS_PER_FILE)
    for first in range(0, n_files, FILES_PER_FOLDER):
        folder = bench.data / "audio" / Path(_path(first)).parent
        folder.mkdir(parents=True, exist_ok=True)
        for file in range(first, min(first + FILES_PER_FOLDER, n_files)):
            place = bench.data / "audio" / _path(file)
            if place.exists():
                continue
            if file == first:
                noise = 0.1 * rng.standard_normal(int(CLIPS_PER_FILE * CLIP_S * RATE_HZ))
                soundfile.write(place, noise, RATE_HZ, "PCM_16")
            else:
                os.link(bench.data / "audio" / _path(first), place)


def _file_digests(bench: Bench, n: int) -> np.ndarray:
    """[clips, 32]: all files of a folder hold the same bytes."""
    files = np.arange(n) // CLIPS_PER_FILE // FILES_PER_FOLDER
    digests = [
        np.frombuffer(hashlib.sha256((bench.data / "audio" / _path(k * FILES_PER_FOLDER)).read_bytes()).digest(), "u1")
        for k in range(int(files.max()) + 1)
    ]
    return np.stack(digests)[files]


# --- steps: each prepares, and gives what is measured ------------------------------------------------------


def table(bench: Bench) -> Work:
    """make the clip table, write it as Parquet"""
    from pipeline.manifest import write_table

    _make_audio(bench, bench.n)
    return lambda: write_table(_make_table(bench, bench.n), bench.data / "clips.parquet")


def read_clip_table(bench: Bench) -> Work:
    """read and check the clip table"""
    from pipeline.manifest import require_valid

    return lambda: require_valid(bench.table())


def index(bench: Bench) -> Work:
    """index of the audio files (SQLite): stat, write, read"""
    from pipeline.extraction.census import Census
    from pipeline.manifest.index import AudioIndex

    found, digests = bench.table(), _file_digests(bench, bench.n)
    known = dict(zip(found.path.tolist(), map(bytes, digests), strict=True))

    def work() -> None:
        with AudioIndex(bench.data / "audio.sqlite") as base:
            census = Census(found, base, {}, lambda event: None)
            base.remember([(path, stamp, known[path]) for path, stamp in census.stamps.items()])
            if len(base.file_digests(census.stamps)) != len(census.stamps):
                raise AssertionError

    return work


def make(bench: Bench) -> Work:
    """make the store: shards, journal, fold"""
    shutil.rmtree(bench.teacher, ignore_errors=True)
    return _filling(bench, bench.n, bench.teacher, "scale-teacher")


def make_mel(bench: Bench) -> Work:
    """make the mel store"""
    shutil.rmtree(bench.mel, ignore_errors=True)
    return _filling(bench, bench.n, bench.mel, "mel-small")


def grow(bench: Bench) -> Work:
    """grow a copy of the store by 1 % new clips"""
    path = bench.out("grown.zarr")
    shutil.copytree(bench.teacher, path)
    return _filling(bench, bench.n + max(1, round(NEW_SHARE * bench.n)), path, "scale-teacher")


def open_unfinished(bench: Bench) -> Work:
    """open the store as a kill just before its end leaves it: everything in the journal"""
    from pipeline.stores import open_store

    path = bench.out("unfinished.zarr")
    _filling(bench, bench.n, path, "scale-teacher", finish=False)()
    return lambda: open_store(path).close()


def _filling(bench: Bench, n: int, path: Path, name: str, *, finish: bool = True) -> Work:
    """Fill a store with random features the way the driver of an extraction does."""
    from pipeline.extraction.census import Census
    from pipeline.extraction.run_stores import make_spec, preview_stores
    from pipeline.extraction.settings import ExtractSettings
    from pipeline.manifest.index import AudioIndex
    from pipeline.stores import StoreWriter

    clips = _make_table(bench, n)
    settings = ExtractSettings(requests=(name,))
    spec = make_spec(name, settings, lambda event: None)
    (found,) = preview_stores(_make_table(bench, bench.n), spec, settings, Census(clips, AudioIndex(None), {}, print))
    digests, rng = _file_digests(bench, bench.n), np.random.default_rng(2)
    digests = np.concatenate([digests, digests])[:n]

    def work() -> None:
        with StoreWriter(path, found.meta, clips.clip_id, make_canaries=dict) as writer:
            target = writer.target
            for shard in writer.pending_shards():
                rows = slice(shard * target.shard_clips, min((shard + 1) * target.shard_clips, n))
                m = rows.stop - rows.start
                writer.record(
                    target.write(
                        shard, clip_ids=clips.clip_id[rows].tolist(),
                        features=rng.random((m, target.frames, target.channels), np.float32),
                        n_frames=np.full(m, target.frames), state=np.ones(m, np.uint8), failure=[""] * m,
                        file_digest=digests[rows], samples_digest=rng.integers(0, 256, (m, 32), np.uint8),
                    )
                )  # fmt: skip
            if finish:
                writer.finish({})

    return work


def import_only(bench: Bench) -> Work:
    """start of Python and imports alone"""
    from pipeline.stores import open_store

    return lambda: open_store


def open_zarr(bench: Bench) -> Work:
    """open, Zarr"""
    from pipeline.stores import open_store

    return lambda: open_store(bench.teacher).close()


def open_hdf5(bench: Bench) -> Work:
    """open, HDF5"""
    from pipeline.stores import open_store

    return lambda: open_store(bench.packed).close()


def info(bench: Bench) -> Work:
    """east store info"""
    return _east("store", "info", bench.teacher)


def read_all(bench: Bench) -> Work:
    """read all features in order"""
    return _reading(bench.teacher, bench.n)


def read_all_hdf5(bench: Bench) -> Work:
    """read all features in order, HDF5"""
    return _reading(bench.packed, bench.n)


def _reading(path: Path, n: int) -> Work:
    from pipeline.stores import open_store

    reader = open_store(path)
    return lambda: [reader.read(np.arange(a, min(a + _READ_CLIPS, n))).max() for a in range(0, n, _READ_CLIPS)]


def read_random(bench: Bench) -> Work:
    """read 10 % of the clips at random, 256 at a time"""
    from pipeline.stores import open_store

    reader = open_store(bench.teacher)
    order = np.random.default_rng(3).permutation(bench.n)[: max(1, bench.n // 10)]
    return lambda: [reader.read(part).max() for part in np.array_split(order, range(256, len(order), 256))]


def hash_bytes(bench: Bench) -> Work:
    """read and SHA-256 of all the store's files (what verify cannot beat)"""
    from pipeline.files import sha256_of

    return lambda: [sha256_of(path) for path in bench.teacher.rglob("*") if path.is_file()]


def verify(bench: Bench) -> Work:
    """east store verify"""
    return _east("store", "verify", bench.teacher, "--no-canaries")


def verify_hdf5(bench: Bench) -> Work:
    """east store verify, HDF5"""
    return _east("store", "verify", bench.packed, "--no-canaries")


def subset_split(bench: Bench) -> Work:
    """east store subset by split (5 %)"""
    return _east("store", "subset", bench.teacher, bench.out("test.zarr"), "--data", NAME, "--split", "test")


def subset_ids(bench: Bench) -> Work:
    """east store subset by 10 % of the ids"""
    ids = bench.folder / "ids.txt"
    ids.write_text("\n".join(bench.table().clip_id[::10].tolist()) + "\n")
    return _east("store", "subset", bench.teacher, bench.out("tenth.zarr"), "--ids", ids)


def merge(bench: Bench) -> Work:
    """east store merge of two halves"""
    from pipeline.stores.making.subset import subset_store

    halves, ids = (bench.out("left.zarr"), bench.out("right.zarr")), bench.table().clip_id
    for part, path in zip((ids[: bench.n // 2], ids[bench.n // 2 :]), halves, strict=True):
        subset_store(str(bench.teacher), path, part.tolist())
    return _east("store", "merge", bench.out("whole.zarr"), *halves)


def convert(bench: Bench) -> Work:
    """east store convert to HDF5"""
    bench.packed.unlink(missing_ok=True)
    return _east("store", "convert", bench.teacher, bench.packed)


def diff(bench: Bench) -> Work:
    """east store diff, Zarr and HDF5"""
    return _east("store", "diff", bench.teacher, bench.packed)


def push(bench: Bench) -> Work:
    """east store push to a folder"""
    return _east("store", "push", bench.teacher, bench.out("shared"))


def plan(bench: Bench) -> Work:
    """east extract --dry-run, nothing to do"""
    return _east("extract", "--data", NAME, "--teacher", "scale-teacher", "--student", "none", "--dry-run")


def extract_new(bench: Bench) -> Work:
    """east extract after 1 % new clips came, in one process"""
    return _extract_new(bench, NEW_SHARE)


def extract_all(bench: Bench) -> Work:
    """east extract of all clips, in one process"""
    shutil.move(bench.teacher, bench.out("aside.zarr"))
    return _east(*_EXTRACT)


_EXTRACT = ("extract", "--data", NAME, "--teacher", "scale-teacher", "--student", "none", "--workers", "0",
            "--no-preflight")  # fmt: skip


def _extract_new(bench: Bench, share: float) -> Work:
    from pipeline.manifest import write_table

    n = bench.n + max(1, round(share * bench.n))
    _make_audio(bench, n)
    write_table(_make_table(bench, n), bench.data / "clips.parquet")
    return _east(*_EXTRACT)


def prepare(bench: Bench) -> Work:
    """what east train does before its first step: table, stores, probe, scores of all clips, join"""
    import pipeline.distillation.trainer  # noqa: F401 - its imports are not what is measured

    return lambda: _material(bench)


def epoch(bench: Bench) -> Work:
    """one epoch of training a linear head on it, in batches of 256 (cnn-small's own steps are not counted)"""
    import torch

    from pipeline.distillation.batches import Feed
    from pipeline.distillation.losses.bce import masked_bce
    from pipeline.distillation.sampling import plan_batches

    material = _material(bench)
    features, answers = material.features["train"], material.answers
    plan = plan_batches(256, 0.5, labelled=len(features), unlabelled=0, seed=0)
    feed = Feed(features, answers, plan, steps=-(-len(features) // 256))
    head = torch.nn.Linear(features.columns[0].store.shape[2], len(CLASSES))
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)

    def work() -> None:
        for batch in feed:
            optimiser.zero_grad()
            logits = head(batch.mel.features.mean(1))
            masked_bce(logits, batch.goal.targets, batch.goal.known).backward()
            optimiser.step()

    return work


def _material(bench: Bench) -> Any:
    from pipeline.distillation import trainer
    from pipeline.distillation.settings import TrainSettings

    settings = TrainSettings(data=NAME, teacher=("scale-teacher",), name="epoch")
    return trainer._gather(trainer._open(settings, lambda event: None), lambda event: None)


def _east(*arguments: object) -> Work:
    """The command as a user types it, in this process."""
    import cli

    def work() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(list(map(str, arguments)))

    return work


STEPS: dict[str, tuple[Callable[[Bench], Work], int]] = {
    "table": (table, 1), "read_table": (read_clip_table, 3), "index": (index, 1), "make": (make, 1),
    "make_mel": (make_mel, 1), "imports": (import_only, 3), "open_zarr": (open_zarr, 3), "info": (info, 3),
    "read_all": (read_all, 3), "read_random": (read_random, 3), "hash": (hash_bytes, 3), "verify": (verify, 3),
    "subset_split": (subset_split, 1), "subset_ids": (subset_ids, 1), "merge": (merge, 1), "convert": (convert, 1),
    "open_hdf5": (open_hdf5, 3), "read_all_hdf5": (read_all_hdf5, 3), "verify_hdf5": (verify_hdf5, 1),
    "diff": (diff, 3), "push": (push, 1), "plan": (plan, 1),
    "open_unfinished": (open_unfinished, 1), "grow": (grow, 1), "prepare": (prepare, 1),
    "epoch": (epoch, 1), "extract_new": (extract_new, 1),
}  # fmt: skip
#: Only when named: takes minutes for each hundred thousand clips.
EXTRA: dict[str, tuple[Callable[[Bench], Work], int]] = {"extract_all": (extract_all, 1)}


def measure(bench: Bench, name: str) -> dict[str, float]:
    """Do one step in this process."""
    prepare, _ = {**STEPS, **EXTRA}[name]
    work = prepare(bench)
    began, busy = time.perf_counter(), sum(os.times()[:4])
    work()
    seconds, cpu_s = time.perf_counter() - began, sum(os.times()[:4]) - busy
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    """As the kernel tells it of this program alone; elsewhere of the process and what started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def in_process(bench: Bench, name: str, most_rounds: int = 3) -> dict[str, float]:
    """Do one step in processes of its own, and keep the fastest."""
    found = []
    environment = os.environ | {
        "EAST_HOME": str(bench.folder), "EAST_PLUGINS": "bench_scale", "EAST_WEIGHTS": str(bench.folder / "weights"),
        "PYTHONPATH": os.pathsep.join(sys.path[:3]),
    }  # fmt: skip
    for _ in range(min(most_rounds, {**STEPS, **EXTRA}[name][1])):
        began = time.perf_counter()
        command = [sys.executable, str(HERE / "bench_scale.py"), "--child", "--clips", str(bench.n), "--folder"]
        done = subprocess.run(
            [*command, str(bench.folder), name], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        value: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        found.append(value | {"process_s": time.perf_counter() - began})
    return min(found, key=lambda value: value["seconds"])


def run(
    size: int = 1_000_000, names: Iterable[str] = STEPS, folder: Path | None = None, rounds: int = 3
) -> dict[str, float]:
    """Seconds of each step for ``size`` clips."""
    with tempfile.TemporaryDirectory(prefix="scale-") as made:
        bench = Bench(folder or Path(made), size)
        bench.data.mkdir(parents=True, exist_ok=True)
        seconds = {}
        print(
            f"{size:,} clips\n{'seconds':>10} {'cpu s':>8} {'clips/s':>12} {'peak MB':>8} {'process':>8}  step",
            flush=True,
        )
        for name in names:
            value = in_process(bench, name, rounds)
            seconds[name] = value["seconds"]
            rate = size / max(value["seconds"], 1e-9)
            what = ({**STEPS, **EXTRA}[name][0].__doc__ or "").strip()
            costs = f"{value['seconds']:10.2f} {value['cpu_s']:8.2f}"
            print(
                f"{costs} {rate:12,.0f} {value['peak_mb']:8,.0f} {value['process_s']:8.1f}  {name}: {what}", flush=True
            )
        return seconds


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="STEP", help=f"of {', '.join((*STEPS, *EXTRA))}; all but the last")
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to work; left there. A temporary one is removed.")
    parser.add_argument("--rounds", type=int, default=3, help="how often short steps are done; the best counts")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measure(Bench(asked.folder, asked.clips), asked.names[0])))
    else:
        run(asked.clips, asked.names or STEPS, asked.folder, asked.rounds)


if __name__ == "__main__":
    main()
