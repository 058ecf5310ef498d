"""Run folders of narrow students whose scores move with the audio, as trained ones do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline import registry
from pipeline.audio.extractor import build_extractor
from pipeline.distillation.students.contract import Student, build_student, save_card, save_weights

CLASSES = ["low", "middle", "high"]
CLIP_S = 2.0


def lively_run(folder: Path, name: str = "cnn-small", *, width: float = 0.25, **about: object) -> Path:
    """Write ``student.json`` and ``student.safetensors`` of a student that has heard something."""
    card = registry.find_student(name)
    front_end = build_extractor(registry.find_front_end(card.front_end))
    torch.manual_seed(0)
    student = build_student(name, n_classes=len(CLASSES), n_mels=front_end.card.outputs[0].channels, width=width)
    audio = torch.from_numpy(music(front_end.card.rate_hz))
    mel = front_end(audio, torch.full((len(audio),), audio.shape[1]))["logmel"]
    _settle(student, mel.features.clone(), mel.n_frames)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder, student)
    facts = {"classes": CLASSES, "task": "multi-label", "front_end": card.front_end, "clip_s": CLIP_S}
    licences = [["MIT", f"code of {card.front_end}"], ["CC-BY-4.0", "audio of tests"]]
    facts |= {"licence": "CC-BY-4.0 (audio of tests)", "licences": licences, "thresholds": [0.4, 0.5, 0.6]}
    save_card(folder, student, facts | about)
    return folder


def music(rate_hz: int, *, clips: int = 8, duration_s: float = CLIP_S, seed: int = 0) -> np.ndarray:
    """Chords that decay over noise, each clip another one: [clips, samples] float32."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    made = []
    for _ in range(clips):
        tones, decay = rng.uniform(80, 4_000, (6, 1)), np.exp(-time_s * rng.uniform(0.5, 4))
        noise = rng.normal(0, 10 ** rng.uniform(-4, -1), len(time_s))
        made.append(np.sin(2 * np.pi * tones * time_s).mean(0) * decay + noise)
    return (0.5 * np.array(made)).clip(-1, 1).astype(np.float32)


def _settle(student: Student, mel: torch.Tensor, n_frames: torch.Tensor) -> None:
    """Statistics of these clips, then a last layer whose logits have a mean of 0 and a deviation of 2."""
    student.train()
    with torch.no_grad():
        for _ in range(30):
            student(mel, n_frames)
        student.eval()
        logits = student(mel, n_frames).logits
        layers = [m for m in student.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
        last = [m for m in layers if m.weight.shape[0] == len(CLASSES)][-1]
        gain = 2 / logits.std(0)
        last.weight.mul_(gain.reshape(-1, *[1] * (last.weight.dim() - 1)))
        if last.bias is not None:
            last.bias.copy_((last.bias - logits.mean(0)) * gain)
