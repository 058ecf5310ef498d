"""Students on one CPU thread: a training step and the tagging of one clip, as ratios to cnn-small.

``run()`` gives, for each registered student, clips of ten seconds per second of processor time over
those of ``cnn-small``: ``NAME_train`` in batches of 8 (forward, backward, AdamW), ``NAME_infer`` one
clip at a time, on mels that are ready.  Processor time, not wall time: other work disturbs it less.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch

from pipeline import registry
from pipeline.cards import StudentCard
from pipeline.distillation.students.contract import Student, build_student

REFERENCE = "cnn-small"
CLIP_S, CLASSES = 10.0, 20


def run(*, rounds: int = 5, batch: int = 8, names: tuple[str, ...] = (), clip_s: float = CLIP_S) -> dict[str, float]:
    """Ratios of rates; students take turns, and the best of ``rounds`` counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cards = [card for name, card in sorted(registry.students().items()) if not names or name in names]
        jobs = {f"{card.name}_{what}": job for card in cards for what, job in _jobs(card, batch, clip_s).items()}
        best = dict.fromkeys(jobs, float("inf"))
        for turn in range(rounds + 1):
            for name, job in jobs.items():
                if turn > 1 and best[name] > 2.0:
                    continue  # seconds a step: two turns say enough
                began = time.process_time()
                job()
                best[name] = min(best[name], time.process_time() - began if turn else float("inf"))
    finally:
        torch.set_num_threads(threads)
    return {name: best[f"{REFERENCE}_{name.rpartition('_')[2]}"] / spent for name, spent in best.items()}


def _jobs(card: StudentCard, batch: int, clip_s: float) -> dict[str, Callable[[], object]]:
    output = registry.find_front_end(card.front_end).outputs[0]
    mel = torch.randn(batch, round(clip_s / output.hop_s), output.channels)
    n_frames = torch.full((batch,), mel.shape[1])
    learning, ready = (build_student(card.name, n_classes=CLASSES, n_mels=output.channels) for _ in range(2))
    optimiser = torch.optim.AdamW(learning.parameters(), lr=1e-4, fused=True)
    ready.eval()

    def train() -> None:
        _step(learning.train(), optimiser, mel, n_frames)

    @torch.inference_mode()
    def infer() -> None:
        ready(mel[:1], n_frames[:1])

    return {"train": train, "infer": infer}


def _step(student: Student, optimiser: torch.optim.Optimizer, mel: torch.Tensor, n_frames: torch.Tensor) -> None:
    optimiser.zero_grad()
    student(mel, n_frames).logits.square().mean().backward()
    optimiser.step()


def test_it_runs_small() -> None:
    ratios = run(rounds=1, batch=2, names=("cnn-small", "cnn-tiny"), clip_s=1.0)
    assert ratios.keys() == {f"cnn-{size}_{what}" for size in ("small", "tiny") for what in ("train", "infer")}
    assert ratios["cnn-small_train"] == ratios["cnn-small_infer"] == 1.0
    assert all(value > 0 for value in ratios.values())


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
