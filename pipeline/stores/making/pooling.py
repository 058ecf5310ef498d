"""What pooling does to frames: statistics over groups of them, valid ones only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.errors import SettingError

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pooling:
    """How frames are pooled.

    Attributes:
        how: names of statistics joined by ``-``, such as ``mean-std``; they stand side by side on the channel axis.
        group: frames that become one; 0 for all of a clip.
    """

    how: str
    group: int = 0

    @property
    def statistics(self) -> tuple[str, ...]:
        """The statistics in order.

        Raises:
            SettingError: an unknown one, or one that stands twice.
        """
        names = tuple(self.how.split("-"))
        if not set(names) <= STATISTICS.keys() or len(set(names)) < len(names):
            raise SettingError(
                f"--how {self.how!r} is no way to pool: {', '.join(STATISTICS)}, or several of them, once each, joined "
                "by -, such as mean-std."
            )
        return names

    def frames(self, frames: int) -> int:
        """Frames that so many become; the last group may be a partial one."""
        return -(-frames // (self.group or max(1, frames)))

    def n_frames(self, n_frames: np.ndarray) -> np.ndarray:
        """[clips] valid frames after pooling: a group counts where one of its frames is valid."""
        return -(-n_frames // self.group) if self.group else np.minimum(n_frames, 1)


def pool_frames(features: np.ndarray, n_frames: np.ndarray, pooling: Pooling) -> np.ndarray:
    """Pool clips in float64; groups without a valid frame are zero.

    Shape:
        features: [clips, frames, channels]; n_frames: [clips]
        returns: [clips, pooled frames, statistics x channels] float64
    """
    clips, frames, channels = features.shape
    groups = pooling.frames(frames)
    size = pooling.group or max(1, frames)
    padded = np.zeros((clips, groups * size, channels), np.float64)
    padded[:, :frames] = features
    values = padded.reshape(clips, groups, size, channels)
    valid = (np.arange(groups * size) < n_frames[:, None]).reshape(clips, groups, size, 1)
    counts = valid.sum(axis=2)
    parts = [STATISTICS[name](values, valid, np.maximum(counts, 1)) for name in pooling.statistics]
    return np.where(counts > 0, np.concatenate(parts, axis=-1), 0.0)


def pool_canaries(canaries: Mapping[str, np.ndarray], pooling: Pooling) -> dict[str, np.ndarray]:
    """Canaries of the pooled features: the signals as they are, what became of them pooled.

    All signals are equally long, so the decoded ones have as many valid frames as the first.
    """
    pooled = dict(canaries)
    if not {"features", "decoded_features", "n_frames"} <= canaries.keys():
        return {}
    n_frames = canaries["n_frames"]
    for name in ("features", "decoded_features"):
        valid = n_frames if name == "features" else np.full(len(canaries[name]), n_frames[0])
        pooled[name] = pool_frames(canaries[name], valid, pooling).astype(np.float32)
    return pooled | {"n_frames": pooling.n_frames(n_frames).astype(np.int32)}


def _mean(values: np.ndarray, valid: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.asarray((values * valid).sum(axis=2) / counts)


def _std(values: np.ndarray, valid: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of the whole group, not of a sample: 0 for a single frame."""
    off = (values - _mean(values, valid, counts)[:, :, None]) * valid
    return np.asarray(np.sqrt((off * off).sum(axis=2) / counts))


def _max(values: np.ndarray, valid: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(valid, values, -np.inf).max(axis=2))


def _min(values: np.ndarray, valid: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(valid, values, np.inf).min(axis=2))


STATISTICS: dict[str, Statistic] = {"mean": _mean, "std": _std, "max": _max, "min": _min}
