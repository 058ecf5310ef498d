"""The student and its loss as a Lightning module: one step, its guard, and the optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Frames
from pipeline.distillation.augment import Masks, mixup, spec_augment
from pipeline.distillation.averaging import averaged
from pipeline.distillation.batches import Batch
from pipeline.distillation.losses.compose import compose
from pipeline.distillation.losses.projection import Projections
from pipeline.distillation.losses.schedule import lam_at
from pipeline.distillation.losses.settings import LossSettings, choose_stages
from pipeline.distillation.students.contract import Student
from pipeline.errors import TrainingError

PLATEAU_FACTOR = 0.2
_PROBE_FRAMES = 128


@dataclass(frozen=True)
class Recipe:
    """How a student is optimised and its input augmented; fields as in ``TrainSettings``."""

    steps: int
    lr: float
    weight_decay: float
    clip_norm: float
    schedule: str
    specaugment: bool
    mixup: bool
    seed: int
    ema: float = 0.0
    average_last: float = 0.0
    mask_mels: int = 0
    mask_frames: int = 0
    n_masks: int = 1
    plateau_patience: int = 5


class Distiller(lightning.LightningModule):
    """Trains a student on batches of mels, labels, teacher scores and teacher frames.

    Every random number of a step follows from the seed and the step, so that a run that goes on
    from a checkpoint is the run that was never stopped.

    Attributes:
        history: one row per validation.
        best: ``step`` and ``valid_map`` of the best validation so far.
        averaged: the student's weights averaged over steps, or None.
        maps: learned maps of the loss ``projection``, or None; no part of the student.

    Args:
        teacher_channels: of each teacher store.
    """

    def __init__(
        self,
        student: Student,
        loss: LossSettings,
        recipe: Recipe,
        task: str,
        *,
        teacher_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.student, self.loss, self.recipe, self.task = student, loss, recipe, task
        self.averaged = averaged(student, ema=recipe.ema) if recipe.ema or recipe.average_last else None
        self.maps = _projections(student, loss, teacher_channels)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.spent_s = 0.0
        self._sums: dict[str, Tensor] = {}
        self._n_summed = 0
        self._generator = torch.Generator()
        self._masks = Masks(recipe.mask_mels, recipe.mask_frames, recipe.n_masks)
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch, or leave it where it is."""
        return batch.to(device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The total loss of one batch.

        Raises:
            TrainingError: a term of the loss is not a finite number.
        """
        seed = step_seed(self.recipe.seed, self.global_step + (self.global_rank << 40))
        torch.manual_seed(seed)  # dropout
        batch = self._augmented(batch, self._generator.manual_seed(seed))
        output = self.student(batch.mel.features, batch.mel.n_frames)
        stages = tuple(Frames(stage.features.float(), stage.n_frames) for stage in output.stages)
        with torch.autocast(self.device.type, enabled=False):  # distances of 16-bit products are noise
            lam = lam_at(self.loss, self.global_step, self.recipe.steps)
            terms = compose(self.loss, batch.goal, output.logits.float(), stages, self.task, lam=lam, maps=self.maps)
        self._note(terms)
        return terms["total"]

    @property
    def judged(self) -> Student:
        """What is validated and kept: the averaged student where there is one already."""
        if self.averaged is None or not int(self.averaged.n_averaged):
            return self.student
        student: Student = self.averaged.module  # type: ignore[assignment]
        return student

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step of the optimiser; then the averages follow."""
        super().optimizer_step(*args, **kwargs)  # Lightning counts the step when this returns
        first = round(self.recipe.steps * (1 - self.recipe.average_last)) if self.recipe.average_last else 0
        if self.averaged is not None and self.global_step >= first:
            self.averaged.update_parameters(self.student)

    def _learned(self) -> Iterator[nn.Parameter]:
        yield from self.student.parameters()
        if self.maps is not None:
            yield from self.maps.parameters()

    def _augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        if self.recipe.mixup:
            batch = mixup(batch, generator)
        if self.recipe.specaugment:
            batch = batch._replace(mel=spec_augment(batch.mel, generator, self._masks))
        return batch

    def _note(self, terms: dict[str, Tensor]) -> None:
        values = {name: term.detach() for name, term in terms.items()}
        if not torch.isfinite(values["total"]):
            wrong = ", ".join(f"{name} {float(value):g}" for name, value in values.items() if not value.isfinite())
            raise TrainingError(
                f"Step {self.global_step + 1}: the loss is not finite ({wrong}). Lower --lr (now {self.recipe.lr:g})"
                f" or --lam (now {self.loss.lam:g}), and check the store with `east store verify`."
            )
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._n_summed += 1

    def take_means(self) -> dict[str, float]:
        """Mean of each term since this was last asked."""
        means = {name: float(total) / self._n_summed for name, total in self._sums.items()}
        self._sums, self._n_summed = {}, 0
        return means

    def configure_optimizers(self) -> Any:
        """AdamW with OneCycle, AdamW alone, or the paper's Adam that waits for plateaus.

        Lightning clips no gradients of a fused optimiser in mixed precision, so clipping does without.
        """
        recipe = self.recipe
        if recipe.schedule == "plateau":
            adam = torch.optim.Adam(self._learned(), lr=recipe.lr, weight_decay=recipe.weight_decay)
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                adam, factor=PLATEAU_FACTOR, patience=recipe.plateau_patience
            )
            return adam
        adamw = torch.optim.AdamW(
            self._learned(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=not recipe.clip_norm
        )
        if recipe.schedule == "constant":
            return adamw
        cycle = torch.optim.lr_scheduler.OneCycleLR(adamw, recipe.lr, total_steps=recipe.steps + 1)
        return {"optimizer": adamw, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def watch(self, valid_loss: float) -> None:
        """Tell the plateau schedule how validation went."""
        if self._plateau is not None:
            self._plateau.step(valid_loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know; plain numbers only."""
        checkpoint["east"] = {"history": self.history, "best": self.best, "spent_s": self.spent_s}
        if self._plateau is not None:
            checkpoint["east"]["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        kept = checkpoint["east"]
        self.history, self.best, self.spent_s = kept["history"], kept["best"], kept["spent_s"]
        self._restored_plateau = kept.get("plateau")

    def on_train_start(self) -> None:
        """Schedules outside Lightning get their state back once they exist."""
        state = getattr(self, "_restored_plateau", None)
        if self._plateau is not None and state:
            self._plateau.load_state_dict(state)


def _projections(student: Student, loss: LossSettings, teacher_channels: Sequence[int]) -> Projections | None:
    """The maps that the loss learns, after the student, so that its first weights do not depend on them."""
    if loss.feature != "projection" or not loss.uses_features:
        return None
    widths = _stage_channels(student)
    stages = {stage: widths[stage] for stage, _ in choose_stages(loss.stage, len(widths))}
    teachers = (sum(teacher_channels),) if loss.teachers == "joint" else teacher_channels
    return Projections(stages, teachers)


@torch.no_grad()
def _stage_channels(student: Student) -> list[int]:
    """Channels of each stage, asked for with a second or so of silence."""
    training = student.training
    mel = torch.zeros(1, _PROBE_FRAMES, student.arguments["n_mels"])
    stages = student.eval()(mel, torch.tensor([_PROBE_FRAMES])).stages
    student.train(training)
    return [stage.features.shape[2] for stage in stages]


def step_seed(seed: int, step: int) -> int:
    """A seed for one step of one run.

    >>> step_seed(0, 1) != step_seed(1, 0)
    True
    """
    return (seed * 1_000_003 + step * 7_919 + 17) % (1 << 63)
