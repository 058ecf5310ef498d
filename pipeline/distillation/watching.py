"""What happens between steps: progress, validation, the best weights, the checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as lightning
import torch

from pipeline.distillation.judging import Exam, examine
from pipeline.distillation.objective import Distiller
from pipeline.distillation.runfolder import RunFolder
from pipeline.distillation.students.contract import save_weights
from pipeline.distillation.together import check_same, mean_of, told_by_first
from pipeline.errors import TrainingError
from pipeline.events import EpochDone, Listener, TaskAdvanced

_TELL_EVERY_S = 0.5


class Watcher(lightning.Callback):
    """Validates every so many steps and at the end, keeps the best weights, tells the listener.

    After each validation the folder holds all that is needed to go on from there.  Of several
    processes the first one validates and writes; the others wait, and hear what came out.
    """

    def __init__(
        self,
        folder: RunFolder,
        exams: Sequence[Exam],
        *,
        every: int,
        patience: int,
        stop_on: str = "map",
        steps_per_epoch: float,
        listener: Listener,
    ) -> None:
        self.folder, self.exams = folder, exams
        self.every, self.patience, self.steps_per_epoch = every, patience, steps_per_epoch
        self.stop_on = stop_on
        self.listener = listener
        self._untold = 0
        self._told_at = 0.0
        self._started_at = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; validate when it is time."""
        assert isinstance(pl_module, Distiller)
        step = trainer.global_step
        self._untold += 1
        last = step >= pl_module.recipe.steps
        if step % self.every == 0 or last:
            self._validate(trainer, pl_module, step)
        if last or time.monotonic() - self._told_at > _TELL_EVERY_S:
            self._tell(pl_module)

    def _tell(self, module: Distiller) -> None:
        detail = f"valid mAP {module.history[-1]['valid_map']:.3f}" if module.history else ""
        self.listener(TaskAdvanced(self.folder.name, self._untold, detail))
        self._untold, self._told_at = 0, time.monotonic()

    def _validate(self, trainer: lightning.Trainer, module: Distiller, step: int) -> None:
        check_same(module, step)
        means = mean_of(module.take_means(), module.device)
        values = self._judge(trainer, module, step, means) if trainer.is_global_zero else {}
        stop, valid_loss = told_by_first([self.is_stale(module.history), values.get("valid_loss", 0.0)], module.device)
        module.watch(valid_loss)
        trainer.save_checkpoint(self.folder.checkpoint)
        if values:
            self.listener(EpochDone(self.folder.name, int(step / self.steps_per_epoch), step, values))
        if stop:
            trainer.should_stop = True

    def _judge(
        self, trainer: lightning.Trainer, module: Distiller, step: int, means: Mapping[str, float]
    ) -> dict[str, float]:
        """Validate, keep the weights where they are the best so far, and give the row of the history."""
        judged = examine(module.judged, self.exams, module.task, module.device)
        if not math.isfinite(judged["valid_map"]):
            raise TrainingError("No class has both a positive and a negative validation label: nothing can be chosen.")
        now = time.monotonic()
        module.spent_s += now - self._started_at
        self._started_at = now
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        values = {f"train_{name}": value for name, value in means.items()} | judged
        values |= {"lr": rate, "seconds": module.spent_s}
        module.history.append({"step": step, "epoch": step / self.steps_per_epoch} | values)
        if judged["valid_map"] > module.best.get("valid_map", -1.0):
            module.best = {"step": step, "valid_map": judged["valid_map"]}
            save_weights(self.folder.path, module.judged)
        self.folder.write_history(module.history)
        return values

    def is_stale(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Whether the last ``patience`` validations brought nothing better than one before them."""
        sign = -1.0 if self.stop_on == "loss" else 1.0
        values = [sign * row[f"valid_{self.stop_on}"] for row in history]
        return bool(self.patience and values) and len(values) - 1 - values.index(max(values)) >= self.patience


def read_progress(folder: RunFolder) -> dict[str, Any]:
    """The checkpoint of an unfinished run, loaded as plain tensors and numbers.

    Raises:
        TrainingError: it is damaged, or holds anything else.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(folder.checkpoint, map_location="cpu", weights_only=True)
        return {"step": int(checkpoint["global_step"]), **checkpoint["east"]}
    except Exception as error:
        raise TrainingError(
            f"{folder.checkpoint} cannot be read ({type(error).__name__}). Remove it: the run then starts again."
        ) from error
