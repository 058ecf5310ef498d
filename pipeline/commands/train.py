"""``east train`` and ``east probe``: stage two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from pipeline.commands.console import listening, show
from pipeline.commands.options import loss_values, sources

_F = TypeVar("_F", bound=Callable[..., Any])


@click.command()
@sources
@click.option("--student", default="cnn-small", show_default=True, help="Student; `east students` lists them.")
@click.option("--mel", default="", help="Path or URL of the mel store.  [default: the student's, of the dataset]")
@loss_values
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="Optimiser steps.")
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True, help="Clips per step.")
@click.option(
    "--labelled-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the batch with labels, where unlabelled clips take part; at least one clip of either kind.",
)
@click.option("--lr", type=float, default=4e-3, show_default=True, help="Learning rate, the peak with onecycle.")
@click.option("--weight-decay", type=float, default=0.01, show_default=True, help="Of AdamW (plateau: of Adam).")
@click.option("--clip-norm", type=float, default=0.0, show_default=True, help="Largest gradient norm; 0: any.")
@click.option("--schedule", default="onecycle", show_default=True, help="onecycle, plateau (the paper's) or constant.")
@click.option(
    "--plateau-patience",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Validations without a lower loss until plateau lowers the rate.",
)
@click.option("--specaugment/--no-specaugment", default=True, show_default=True, help="Mask bands of the input.")
@click.option(
    "--views",
    type=click.IntRange(0, 99),
    default=0,
    show_default=True,
    help="Views of the mels to draw from beside the clips as they are; `east extract --views` makes them.",
)
@click.option("--mask-mels", type=click.IntRange(0), default=0, help="Most mels of a band.  [default: a quarter]")
@click.option("--mask-frames", type=click.IntRange(0), default=0, help="Most mel frames of a run.  [default: a fifth]")
@click.option("--n-masks", type=click.IntRange(1), default=1, show_default=True, help="Bands, and runs, in each clip.")
@click.option("--mixup/--no-mixup", default=False, show_default=True, help="Mix clips, labels and teachers in pairs.")
@click.option(
    "--ema", type=float, default=0.0, show_default=True, help="Decay of averaged weights, such as 0.999; 0: none."
)
@click.option(
    "--average-last",
    type=float,
    default=0.0,
    show_default=True,
    help="Or the plain mean over this last share of steps.",
)
@click.option(
    "--validate-every", type=click.IntRange(0), default=0, help="Steps between validations.  [default: steps / 15]"
)
@click.option(
    "--validate-on",
    default="valid",
    show_default=True,
    help="Splits whose mean mAP chooses the checkpoint, comma separated: valid, valid-other, ...",
)
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Stop after so many validations without a better --stop-on; 0: never.",
)
@click.option("--stop-on", default="map", show_default=True, help="What has to get better for --patience: map or loss.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, cuda:N, cuda:0,1 or mps; what is taken is said.",
)
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that train together, a GPU each or all on the CPU: each takes its part of every batch.",
)
@click.option("--precision", default="32-true", show_default=True, help="32-true, bf16-mixed or 16-mixed.")
@click.option(
    "--deterministic/--no-deterministic",
    default=False,
    show_default=True,
    help="Refuse GPU operations that differ from run to run; on a CPU the same seed gives the same bits anyway.",
)
@click.option(
    "--data-on",
    default="auto",
    show_default=True,
    help="Where features that fit are kept: host, device (GPU memory), or auto (device where they take at most half).",
)
@click.option(
    "--tensorboard/--no-tensorboard",
    default=False,
    show_default=True,
    help="Write the history for TensorBoard into RUN/tensorboard, too.",
)
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads.  [default: PyTorch's choice]")
def train(**options: Any) -> None:
    """Train a student from stores alone: no teacher runs, no audio is read.

    Reads the clip table, the student's mel store and the teacher's stores of a dataset. Writes
    data/NAME/runs/RUN/: weights (safetensors), history.csv, predictions for validation and every
    test split, teacher_scores.npz, run.json and recipe.toml. The checkpoint with the best validation mAP is
    kept. May be interrupted: the same command goes on from the last validation, and a run that is
    complete is not run again.

    \b
    Examples:
      east train --data chorales --teacher musicnn --labelled 200 --steps 700
      east train --data chorales --loss labels --labelled 200 --steps 700
      east train --recipe data/chorales/runs/RUN/recipe.toml --seed 2
      east train --data chorales --teacher musicnn --device cuda:0,1 --precision bf16-mixed
      east train --data chorales --teacher panns/frames --loss east-kd \\
          --lam 0.8 --batch 16 --schedule plateau --lr 1e-4 --weight-decay 1e-4 --clip-norm 1
      east train --data chorales --teacher musicnn --labelled 200 --loss kd --feature rkd \\
          --stage 0.2,0.3,0.5 --ema 0.999
    """
    from pipeline.distillation.trainer import train as run
    from pipeline.experiments.recipe import student_settings

    settings = student_settings(options.pop("recipe"), _split_lists(options), _given())
    with listening() as listener:
        folder = run(settings, listener)
    show(str(folder))


@click.command()
@sources
def probe(**options: Any) -> None:
    """Fit a linear probe on a teacher's embeddings: what the teacher itself knows.

    Reads the clip table and teacher stores of a dataset. Writes data/NAME/runs/RUN/ with
    teacher_scores.npz (logits of every clip, by clip_id), predictions for validation and every
    test split, run.json and recipe.toml.

    \b
    Example:
      east probe --data chorales --teacher musicnn/pools,panns/clip --labelled 200
    """
    from pipeline.distillation.probing import probe as run
    from pipeline.experiments.recipe import probe_settings

    settings = probe_settings(options.pop("recipe"), _split_lists(options), _given())
    with listening() as listener:
        folder = run(settings, listener)
    show(str(folder))


@click.command()
def losses() -> None:
    """List the losses of `east train --loss` with their defaults.

    \b
    Example:
      east losses
    """
    from pipeline.commands.console import show_table
    from pipeline.distillation.losses.settings import LOSSES

    rows = [
        [
            loss.name,
            f"{loss.lam:g}",
            f"{loss.kd_targets} {loss.tau:g}" if loss.kd else "",
            loss.feature if loss.feature != "none" else "",
            loss.stage if loss.feature != "none" else "",
            loss.clips,
            loss.summary,
        ]
        for loss in LOSSES.values()
    ]
    show_table("", ["loss", "lam", "kd, tau", "features", "stage", "clips", "what it is"], rows, numeric=(1,))


def _given() -> set[str]:
    """Options that the user gave, which are those that win over a recipe."""
    context = click.get_current_context()
    usual = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    return {name for name in context.params if context.get_parameter_source(name) not in usual}


def _split_lists(options: dict[str, Any]) -> dict[str, Any]:
    """Comma-separated names become tuples."""
    listed = [key for key in ("teacher", "store", "validate_on") if key in options]
    options = {key: value for key, value in options.items() if key != "recipe"}
    names = {key: tuple(part.strip() for part in options[key].split(",") if part.strip()) for key in listed}
    return options | names
