"""Clips per second of the whole extraction over what its parts take alone, in one process.

``panns``: CNN14 of full width with random weights; the whole pipeline over the bare network on
ready tensors.  ``musicnn``: so light that decoding counts; the whole pipeline over network plus
decoding, each measured apart, one after the other.  Steady state: from the first shard to the
last, with networks loaded and stores made.  Audio is FLAC at 22,050 Hz, ten seconds a clip.

This module is a plug-in, too (see ``EAST_PLUGINS``): its cards build networks with random weights.
"""
# ruff: noqa: E402

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import badfiles
import narrow_musicnn
import narrow_panns
import numpy as np
import torch
from extracting import run as run_extraction
from extracting import table_of

from pipeline import cluster
from pipeline.audio.extractor import Extractor, Mode
from pipeline.cards import ExtractorCard
from pipeline.events import Event, TaskFinished, TaskStarted, ignore
from pipeline.extraction.decoding import Group, decode_groups
from pipeline.extraction.run_stores import make_spec
from pipeline.extraction.settings import ExtractSettings
from pipeline.extraction.task import load_extractor, make_clip
from pipeline.extraction.teachers.musicnn.card import CARDS as MUSICNN
from pipeline.extraction.teachers.panns.card import CARDS as PANNS
from pipeline.manifest import ClipTable

CLIP_S, RATE_HZ, ROUNDS, DISTINCT = 10.0, 22_050, 3, 8
TARGETS = {"panns: whole / network": 0.9, "musicnn: whole / (network + decoding)": 0.9}


def _random_panns(width: int) -> ExtractorCard:
    card = replace(narrow_panns.narrow(PANNS[0], width), name=f"random-panns-{width}")
    return replace(card, weights=(), builder="bench_extraction:build_panns")


def _narrow_musicnn() -> ExtractorCard:
    card = narrow_musicnn.build(MUSICNN[0], outputs=("pools",), mode="fast", folder=Path()).card
    return replace(card, name="narrow-musicnn", weights=(), builder="bench_extraction:build_musicnn")


CARDS = (_random_panns(64), _random_panns(2), _narrow_musicnn())


def build_panns(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> Extractor:
    assert not weights
    with tempfile.TemporaryDirectory() as folder:
        width = int(str(card.parameters["width"]))
        return narrow_panns.build(PANNS[0], outputs=outputs, mode=mode, folder=Path(folder), width=width)


def build_musicnn(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> Extractor:
    assert (card.name, weights) == ("narrow-musicnn", ())
    return narrow_musicnn.build(MUSICNN[0], outputs=outputs, mode=mode, folder=Path())


def run(size: int = 16) -> dict[str, float]:
    """Ratios and rates over ``size`` clips; below 16, networks are narrow, and the ratios mean nothing."""
    full = size >= 16
    rounds = ROUNDS if full else 1
    panns, musicnn = ("random-panns-64", "musicnn") if full else ("random-panns-2", "narrow-musicnn")
    with tempfile.TemporaryDirectory() as folder, environment(Path(folder), "bench_extraction"):
        heavy = _measure(_write_table(Path(folder), size, "few"), panns, rounds)
        light = _measure(_write_table(Path(folder), size * (8 if full else 1), "many"), musicnn, rounds)
    both = 1 / (1 / light["network"] + 1 / light["decoding"])
    return {
        "panns: whole / network": heavy["whole"] / heavy["network"],
        "musicnn: whole / (network + decoding)": light["whole"] / both,
        "musicnn: whole / network": light["whole"] / light["network"],
        **{f"panns {name} clips/s": value for name, value in heavy.items()},
        **{f"musicnn {name} clips/s": value for name, value in light.items()},
    }


@contextmanager
def environment(home: Path, plugins: str) -> Iterator[None]:
    """Stores below a folder of their own, extractors from a plug-in."""
    before = dict(os.environ)
    os.environ.update({"EAST_PLUGINS": plugins, "EAST_HOME": str(home / "home")})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_table(folder: Path, n: int, name: str) -> ClipTable:
    audio = folder / name
    audio.mkdir()
    paths = [audio / f"{row}.flac" for row in range(n)]
    for row, path in enumerate(paths):
        if row < DISTINCT:
            badfiles.write(path, badfiles.music(RATE_HZ, CLIP_S, seed=row), RATE_HZ, "FLAC", "PCM_16")
        else:
            shutil.copyfile(paths[row % DISTINCT], path)
    return table_of(paths, audio, clip_s=CLIP_S, name=name)


def _measure(table: ClipTable, request: str, rounds: int) -> dict[str, float]:
    """Clips per second of network, decoding and the whole, in turns; the best of each."""
    spec = make_spec(request, ExtractSettings((request,)), ignore)
    extractor = load_extractor(spec, "cpu")
    torch.set_num_threads(cluster.choose_layout(0, "cpu").threads)
    clips = [make_clip(clip_id, table.audio_path(row), 0.0, CLIP_S) for row, clip_id in enumerate(table.clip_id)]
    rates = (extractor.card.rate_hz,)

    def decode() -> list[Group]:
        groups = decode_groups(clips, clip_s=CLIP_S, rates_hz=rates, group_clips=spec.batch_clips, dead={})
        return list(groups)

    batches = [torch.from_numpy(np.stack([clip.at_rate[rates[0]][0] for clip in group.clips])) for group in decode()]

    def network() -> None:
        for batch in batches:
            extractor(batch, torch.full((len(batch),), batch.shape[1]))

    network()
    best = dict.fromkeys(("network", "decoding", "whole"), 0.0)
    for number in range(rounds):
        seconds = {
            "network": _timed(network),
            "decoding": _timed(decode),
            "whole": _timed_whole(table, request, number),
        }
        best = {name: max(value, len(clips) / seconds[name]) for name, value in best.items()}
    return best


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _timed_whole(table: ClipTable, request: str, number: int) -> float:
    marks: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, TaskStarted | TaskFinished) and event.task == "extract":
            marks.append(time.perf_counter())

    run_extraction(replace(table, name=f"{table.name} {number}"), request, listener=listen, preflight=False)
    return marks[1] - marks[0]


if __name__ == "__main__":
    for name, value in run(*map(int, sys.argv[1:2])).items():
        print(f"{name:<40} {value:,.2f}")
