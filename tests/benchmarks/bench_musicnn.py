"""MusiCNN's speed here and in the original TensorFlow code, audio-seconds per second.

Ours, in this project's environment::

    python tests/benchmarks/bench_musicnn.py --threads 1

The original, in an environment of its own (Python 3.11, ``tensorflow-cpu==2.15.1``,
``numpy==1.26.4``, ``librosa==0.11.0``), with the wheel of ``musicnn`` 0.1.0 unpacked in FOLDER::

    python tests/benchmarks/bench_musicnn.py --threads 1 --original FOLDER

Both take ten-second clips from the waveform to the pools.  Ours gives five patches 1.488 s apart;
the original is run on these, and on its default of three patches that do not overlap, one patch per
call as it does and in one batch.  The best of several rounds is printed, by wall clock and by the
process's own CPU time, which others on the same machine disturb less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

RATE_HZ = 16_000
CLIP_S = 10
N_CLIPS = 8


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--original", default="", metavar="FOLDER")
    chosen = options.parse_args()
    audio = np.random.default_rng(0).normal(0, 0.1, (N_CLIPS, CLIP_S * RATE_HZ)).astype(np.float32)
    runs = original_runs(chosen.original, audio, chosen.threads) if chosen.original else our_runs(audio, chosen.threads)
    for name, run in runs:
        run()
        wall, cpu = min_times(run, chosen.rounds)
        total_s = N_CLIPS * CLIP_S
        print(f"{name:44s} {total_s / wall:6.0f} audio-s/s, {total_s / cpu:6.0f} per core by CPU time", flush=True)


def min_times(run: Callable[[], object], rounds: int) -> tuple[float, float]:
    times = []
    for _ in range(rounds):
        start, start_cpu = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - start, time.process_time() - start_cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def our_runs(audio: np.ndarray, n_threads: int) -> Iterator[tuple[str, Callable[[], object]]]:
    import torch

    from pipeline import weights
    from pipeline.audio.extractor import build_extractor
    from pipeline.registry import find_teacher

    torch.set_num_threads(n_threads)
    batch, n_valid = torch.from_numpy(audio), torch.full((len(audio),), audio.shape[1])
    for name in ("musicnn", "musicnn-msd"):
        card = find_teacher(name)
        files = weights.fetch_all(card.weights)
        for mode in ("fast", "exact"):
            extractor = build_extractor(card, mode=mode, weights=files)
            yield f"{name} {mode}, pools, 5 patches", lambda extractor=extractor: extractor(batch, n_valid)


def original_runs(folder: str, audio: np.ndarray, n_threads: int) -> Iterator[tuple[str, Callable[[], object]]]:
    import librosa
    import tensorflow as tf

    sys.path.insert(0, folder)
    tf.compat.v1.disable_eager_execution()
    from musicnn import models

    x = tf.compat.v1.placeholder(tf.float32, [None, 187, 96])
    with tf.name_scope("model"):
        made = models.define_model(x, tf.constant(False), "MTT_musicnn", 50)
    settings = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=n_threads, inter_op_parallelism_threads=1)
    session = tf.compat.v1.Session(config=settings)
    session.run(tf.compat.v1.global_variables_initializer())  # random weights take the same time

    def patches(signal: np.ndarray, hop: int) -> np.ndarray:
        mel = librosa.feature.melspectrogram(y=signal, sr=RATE_HZ, hop_length=256, n_fft=512, n_mels=96).T
        logmel = np.log10(10_000 * mel.astype(np.float16).astype(np.float32) + 1)
        return np.stack([logmel[at : at + 187] for at in range(0, len(logmel) - 186, hop)])

    def run(hop: int, batched: bool) -> None:
        for signal in audio:
            made_patches = patches(signal, hop)
            for batch in [made_patches] if batched else np.split(made_patches, len(made_patches)):
                session.run(made[-3:], feed_dict={x: batch})

    yield "original, pools, 3 patches, one per call", lambda: run(187, False)
    yield "original, pools, 3 patches, one batch", lambda: run(187, True)
    yield "original, pools, 5 patches, one batch", lambda: run(93, True)


if __name__ == "__main__":
    main()
