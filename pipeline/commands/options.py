"""Options that several commands share, and those of the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

_SOURCES = (
    click.option(
        "--recipe",
        default="",
        help="Recipe of one run, by the name of one of ours or as a TOML file, such as RUN/recipe.toml; options "
        "given here win over it. Of its seeds the first is taken, and of several rows the one named by --group.",
    ),
    click.option(
        "--data", default="chorales", show_default=True, help="Name of a dataset, clip table, or folder of audio."
    ),
    click.option(
        "--teacher",
        default="",
        help="Teachers whose stores are read, comma separated: musicnn, panns/frames, ...; none for no teacher.  "
        "[default: the only teacher store there is]",
    ),
    click.option("--store", default="", help="Paths or URLs of teacher stores, comma separated, instead of --teacher."),
    click.option(
        "--labelled",
        type=click.IntRange(1),
        help="How many training clips keep their labels; the others count as unlabelled.  [default: all]",
    ),
    click.option(
        "--unlabelled", type=click.IntRange(0), help="How many training clips without labels take part.  [default: all]"
    ),
    click.option(
        "--probe",
        default="ridge",
        show_default=True,
        help="Kind of the teacher's probe: ridge (calibrated), or logistic (C chosen by validation).",
    ),
    click.option(
        "--probe-views",
        type=click.IntRange(0, 99),
        default=0,
        show_default=True,
        help="Views of the labelled clips that the ridge probe is fitted on besides; `east extract --teacher-views`.",
    ),
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of subset, weights, batches, masks."
    ),
    click.option("--name", default="", help="Name of the run's folder.  [default: made from the settings]"),
    click.option("--group", default="", help="Row of the run in tables.  [default: its settings without the seed]"),
    click.option(
        "--memory-gb",
        type=click.FloatRange(0),
        default=0.0,
        help="GiB that features may take; beyond it they are read in shuffled blocks.  [default: half of what is free]",
    ),
    click.option(
        "--missing",
        default="drop",
        show_default=True,
        help="Clips that a store lacks: drop counts and names them and goes on, error refuses.",
    ),
)

_LOSS = (
    click.option(
        "--loss",
        default="kd",
        show_default=True,
        help="labels, kd, dcor, cka, rkd, east-final, east-kd, ...; `east losses` lists and explains them.",
    ),
    click.option(
        "--lam",
        type=float,
        help="Weight of what the teacher says, 0 to 1; labels get the rest. High values of distance correlation harm "
        "short schedules.  [default: the loss's: 0.9 for kd, else 0.5]",
    ),
    click.option("--tau", type=float, help="Temperature of distillation.  [default: 1 for kd, else 2]"),
    click.option(
        "--stage",
        help="Student stages that a feature loss sees: final, 1, 2, ..., all, or a weight for each: 0.2,0.3,0.5.  "
        "[default: the loss's]",
    ),
    click.option(
        "--align", help="How frames meet: repeat or interpolate the coarser, or the time mean.  [default: repeat]"
    ),
    click.option("--kd-share", type=float, help="Share of distillation beside a feature loss, 0 to 1.  [default: 0.3]"),
    click.option("--kd-targets", help="The probe's soft probabilities, or its hard decisions.  [default: soft]"),
    click.option(
        "--kd-scale", type=float, help="Factor of distillation.  [default: 4 for kd, else tau squared; hard: 1]"
    ),
    click.option(
        "--feature",
        help="Feature loss instead of the loss's own: none, dcor, cosine, cka, rkd, rkd-distance, rkd-angle, pkt, "
        "attention or projection.",
    ),
    click.option(
        "--teacher-shift",
        type=float,
        help="Taken from teacher features first: 2.24, the paper's for OpenL3.  [default: 0]",
    ),
    click.option("--feature-scale", type=float, help="Factor of the feature loss.  [default: 1]"),
    click.option("--clips", help="Clips that follow the teacher: all, or labelled.  [default: the loss's]"),
    click.option("--teachers", help="Several teachers: each a feature loss, or one joint geometry.  [default: each]"),
    click.option("--teacher-weights", help="Of several teachers' feature losses: 0.7,0.3.  [default: all alike]"),
    click.option("--lam-schedule", help="constant, warmup (from 0 to lam) or cosine (lam to 0).  [default: constant]"),
    click.option("--lam-warmup", type=float, help="Share of the steps of that warm-up, 0 to 1.  [default: 0.1]"),
)


def sources(command: _F) -> _F:
    """What a student or probe is made from, and where its run goes."""
    return _with(_SOURCES, command)


def loss_values(command: _F) -> _F:
    """The loss, and values that replace its own."""
    return _with(_LOSS, command)


def _with(options: Sequence[Callable[[_F], _F]], command: _F) -> _F:
    for option in reversed(options):
        command = option(command)
    return command
