"""The work of one shard, without Dask: decode ahead, run the networks in batches, write."""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from pipeline import registry
from pipeline.audio.extractor import Extractor, build_extractor
from pipeline.audio.quiet import quiet_decoders
from pipeline.audio.timing import n_samples
from pipeline.errors import AudioError, PlanError
from pipeline.extraction.decoding import ClipAudio, Group, decode_groups
from pipeline.extraction.jobs import ClipJob, ClipTrouble, ExtractorSpec, OutputJob, ShardJob, ShardResult
from pipeline.stores import State
from pipeline.stores.journal import ShardRecord

_KEEP_EXTRACTORS = 4


def run_shard(job: ShardJob) -> ShardResult:
    """Decode a shard's clips once, run every extractor over them, write every store's shard.

    A clip that fails gives no features and is recorded with its reason; the others are not
    touched by it: its place in the batch is silence, so that the batches stay the same.
    """
    shard, wanted = _Shard(job), job.computed_rows()
    if not wanted:
        return shard.result()
    torch.set_num_threads(job.threads)
    quiet_decoders()
    specs = list(dict.fromkeys(output.spec for output in job.outputs if len(output.planned) < len(job.clips)))
    extractors = {spec: load_extractor(spec, job.device) for spec in specs}
    decode_s = network_s = 0.0
    groups = decode_groups(
        job.clips,
        clip_s=job.clip_s,
        rates_hz=sorted({extractor.card.rate_hz for extractor in extractors.values()}),
        views=sorted({(extractor.card.rate_hz, spec.view) for spec, extractor in extractors.items() if spec.view}),
        group_clips=max(spec.batch_clips for spec in specs),
        dead=dict(job.dead),
        n_threads=_decode_threads(job),
        skip=frozenset(range(len(job.clips))).difference(wanted),
    )
    for group in groups:
        began = time.perf_counter()
        for spec, extractor in extractors.items():
            _run_network(shard, spec, extractor, group, job)
        shard.note(group)
        network_s += time.perf_counter() - began
        decode_s += group.decode_s
    return shard.result(decode_s, network_s)


def load_extractor(spec: ExtractorSpec, device: str) -> Extractor:
    """Build an extractor once per worker process; its views are heard by the same one."""
    return _build(spec.clean(), device)


@lru_cache(maxsize=_KEEP_EXTRACTORS)
def _build(spec: ExtractorSpec, device: str) -> Extractor:
    card = registry.find_extractor(spec.name)
    return build_extractor(card, outputs=spec.outputs, mode=spec.mode, weights=spec.weights, device=device)


def run_network(
    extractor: Extractor, audio: np.ndarray, n_valid: np.ndarray, device: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """One batch through one extractor; features and valid frames by output, as numpy.

    Shape:
        audio: [batch, samples] float32; n_valid: [batch] int64

    Raises:
        PlanError: the GPU's memory is too small for the batch.
    """
    try:
        found = extractor(torch.from_numpy(audio).to(device), torch.from_numpy(n_valid).to(device))
    except torch.OutOfMemoryError as error:
        raise PlanError(
            f"{extractor.card.name} does not fit into the memory of {device} with {len(audio)} clips at once. "
            "Use a smaller --batch, or --mode half."
        ) from error
    return {
        name: (frames.features.float().cpu().numpy(), frames.n_frames.cpu().numpy()) for name, frames in found.items()
    }


def peak_bytes() -> int:
    """Largest resident size of this process so far.

    Where the kernel tells it of this program alone: ``ru_maxrss`` begins with the size of the process
    that started it.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text("ascii", "replace"))):
        return 1024 * int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Shard:
    """The arrays of a shard while it is filled, one set of features for each output."""

    def __init__(self, job: ShardJob) -> None:
        n = len(job.clips)
        self.job, self.clips = job, job.clips
        self.features = {
            output.target.name: np.zeros((n, output.target.frames, output.target.channels), np.float32)
            for output in job.outputs
        }
        self.n_frames = {output.target.name: np.zeros(n, np.int32) for output in job.outputs}
        self.state = np.full(n, State.DONE, np.uint8)
        self.failure = [""] * n
        self.digests = np.zeros((2, n, 32), np.uint8)
        self.troubles: list[ClipTrouble] = []

    def note(self, group: Group) -> None:
        """Take down digests and what went wrong."""
        for row, clip in enumerate(group.clips, start=group.first):
            clip_id = self.clips[row].clip_id
            if clip.skipped:
                continue
            if clip.error is not None:
                self._fail(row, clip.error)
            else:
                self.digests[0, row] = np.frombuffer(clip.file_digest, np.uint8)
                self.digests[1, row] = np.frombuffer(clip.samples_digest, np.uint8)
                if clip.short:
                    self.failure[row] = f"short: {clip.short}"
                    self.troubles.append(ClipTrouble(clip_id, "short", clip.short))

    def _fail(self, row: int, error: AudioError) -> None:
        self.state[row], self.failure[row] = State.FAILED, f"{error.kind}: {error.reason}"
        for name, features in self.features.items():
            features[row] = 0
            self.n_frames[name][row] = 0
        self.troubles.append(ClipTrouble(self.clips[row].clip_id, error.kind, error.reason))

    def result(self, decode_s: float = 0.0, network_s: float = 0.0) -> ShardResult:
        """Publish the shard in every store, and report."""
        wanted = self.job.computed_rows()
        return ShardResult(
            shard=self.job.shard,
            records=tuple((output.target.name, self.write(output)) for output in self.job.outputs),
            troubles=tuple(self.troubles),
            n_clips=len(wanted),
            audio_s=sum(self.clips[row].duration_s for row in wanted),
            decode_s=decode_s,
            network_s=network_s,
            peak_bytes=peak_bytes(),
            computed=tuple(row for row in wanted if self.digests[0, row].any()),
            file_digest=self.digests[0],
            samples_digest=self.digests[1],
        )

    def write(self, output: OutputJob) -> ShardRecord:
        """Publish one store's shard: what was computed, and over it what was copied."""
        name, copied = output.target.name, output.copied
        state, failure, digests = self.state.copy(), list(self.failure), self.digests.copy()
        if copied is not None:
            self.features[name][copied.rows] = copied.features
            self.n_frames[name][copied.rows] = copied.n_frames
            state[copied.rows] = copied.state
            digests[0, copied.rows], digests[1, copied.rows] = copied.file_digest, copied.samples_digest
            for row, text in zip(copied.rows.tolist(), copied.failure, strict=True):
                failure[row] = text
        return output.target.write(
            self.job.shard,
            clip_ids=[clip.clip_id for clip in self.clips],
            features=self.features[name],
            n_frames=self.n_frames[name],
            state=state,
            failure=failure,
            file_digest=digests[0],
            samples_digest=digests[1],
        )


def _run_network(shard: _Shard, spec: ExtractorSpec, extractor: Extractor, group: Group, job: ShardJob) -> None:
    wanted = [output for output in job.outputs if output.spec == spec]
    for first in range(0, len(group.clips), spec.batch_clips):
        part = group.clips[first : first + spec.batch_clips]
        places = range(group.first + first, group.first + first + len(part))
        if all(row in output.planned for output in wanted for row in places):
            continue
        if all(clip.error is not None or clip.skipped for clip in part):
            continue  # nothing but silence
        found = run_network(extractor, *_stack(part, extractor.card.rate_hz, spec.view, job.clip_s), job.device)
        rows = slice(group.first + first, group.first + first + len(part))
        for output in wanted:
            features, n_frames = found[output.output]
            shard.features[output.target.name][rows, : features.shape[1]] = features
            shard.n_frames[output.target.name][rows] = n_frames


def _stack(clips: Sequence[ClipAudio], rate_hz: int, view: int, clip_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Audio [batch, samples] and valid samples [batch]; failed and copied clips are silence."""
    n = n_samples(clip_s, rate_hz)
    audio = np.zeros((len(clips), n), np.float32)
    n_valid = np.full(len(clips), n, np.int64)
    for row, clip in enumerate(clips):
        if clip.error is None and not clip.skipped:
            audio[row], n_valid[row] = clip.heard(rate_hz, view)
    return audio, n_valid


def _decode_threads(job: ShardJob) -> int:
    """One thread beside a CPU network; on a GPU the cores are free for decoding."""
    return max(1, min(8, (os.cpu_count() or 2) // 2)) if job.device.startswith("cuda") else 1


def clip_path(path: Path | str) -> str:
    """A path as a job carries it: URLs as they are, files absolute."""
    text = str(path)
    return text if "://" in text else str(Path(text).absolute())


def make_clip(clip_id: str, path: Path | str, start_s: float, duration_s: float) -> ClipJob:
    """A clip job from a row of the clip table."""
    return ClipJob(clip_id, clip_path(path), float(start_s), float(duration_s))
