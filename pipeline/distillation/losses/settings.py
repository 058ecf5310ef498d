"""The losses by name (`LOSS=`): what each one is made of, with documented defaults.  Torch-free.

The total is ``(1 - lam) * labels + lam * reg``, where ``reg`` is knowledge distillation, a feature
loss, or ``kd_share * KD + (1 - kd_share) * features``.  Any feature loss goes with any of the
names: ``kd`` with ``feature = "rkd"`` is both.

Sources: Ding and Lerch, ISMIR 2023 (lam 0.6 to 0.9, tau 2, share 0.3, stage 3), and our pilot with
a small network, few labels and short schedules (lam 0.5; KD on all clips with lam 0.9, tau 1,
scale 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pipeline.errors import SettingError, UnknownNameError

Feature = Literal["none", "dcor", "cosine", "cka", "rkd", "rkd-distance", "rkd-angle", "pkt", "attention", "projection"]
Clips = Literal["labelled", "all"]
Align = Literal["repeat", "interpolate", "mean"]
KdTargets = Literal["soft", "hard"]
Teachers = Literal["each", "joint"]
LamSchedule = Literal["constant", "warmup", "cosine"]
_RANGES = {
    "lam": (0.0, 1.0),
    "kd_share": (0.0, 1.0),
    "tau": (0.05, 100.0),
    "kd_scale": (0.0, 1e4),
    "feature_scale": (0.0, 1e4),
    "lam_warmup": (0.0, 1.0),
    "teacher_shift": (-1e6, 1e6),
}
_CHOICES = {
    "feature": Feature,
    "align": Align,
    "clips": Clips,
    "kd_targets": KdTargets,
    "teachers": Teachers,
    "lam_schedule": LamSchedule,
}


@dataclass(frozen=True)
class LossSettings:
    """One row of the loss registry, possibly with values of the user's.

    Attributes:
        lam: weight of ``reg``, in [0, 1].  The labels get ``1 - lam``.  Distance correlation with
            a lam of 0.8 on a short schedule (2,000 steps) cost the pilot 0.12 mAP: raise it only
            with the paper's long schedules.
        kd: whether knowledge distillation of the probe's scores takes part.
        kd_targets: ``soft`` (the probe's probabilities) or ``hard`` (its decisions: yes where its
            logit is above 0, or the most likely class; ``tau`` then plays no part).
        tau: temperature of soft distillation; both scores are divided by it.
        kd_scale: factor of the distillation term; 0 means ``tau`` squared (soft) or 1 (hard).
        kd_share: share of KD in ``reg`` where there is a feature loss as well.
        feature: the loss on features.  Of the batch's geometry, per frame: ``dcor`` (1 - distance
            correlation), ``cosine`` (difference of cosines), ``cka`` (1 - linear CKA), ``rkd`` (RKD:
            ``rkd-distance`` + 2 ``rkd-angle``; angles take frames x batch cubed), ``pkt`` (KL of the
            neighbours' probabilities).  Of single clips: ``attention`` (which frames are loud; needs
            a teacher with frames), ``projection`` (1 - cosine after a learned linear map).
        feature_scale: factor of the feature loss.
        teacher_shift: subtracted from teacher features before the feature loss; cosines notice, distances
            and CKA do not. The paper takes 2.24 from OpenL3.
        stage: the student's stage it looks at, counted from 1; ``final`` is the last one, ``all``
            takes every stage with equal weights, ``0.2,0.3,0.5`` gives each stage its weight.
            Weights are divided by their sum.
        align: how frames meet: ``repeat`` the coarser, ``interpolate`` it linearly, or the time
            ``mean`` of both.
        clips: which clips ``reg`` sees.  With ``labelled``, KD also skips unknown labels.
        teachers: several teacher stores, in the feature loss: ``each`` has a loss of its own, or
            their ``joint`` geometry (each standardised, then side by side) is followed.  The probe
            always reads all of them together.
        teacher_weights: of ``each``, such as ``0.7,0.3`` in the order of the stores; divided by
            their sum.  Empty: all alike.
        lam_schedule: ``constant``; ``warmup``: linear from 0 within the first ``lam_warmup`` of the
            steps; ``cosine``: from ``lam`` down to 0 along half a cosine over all steps.
        lam_warmup: share of the steps, in [0, 1].
    """

    name: str
    summary: str
    lam: float
    kd: bool = False
    tau: float = 2.0
    kd_scale: float = 0.0
    kd_share: float = 0.3
    feature: Feature = "none"
    stage: str = "final"
    align: Align = "repeat"
    clips: Clips = "all"
    kd_targets: KdTargets = "soft"
    feature_scale: float = 1.0
    teachers: Teachers = "each"
    teacher_weights: str = ""
    lam_schedule: LamSchedule = "constant"
    lam_warmup: float = 0.1
    teacher_shift: float = 0.0

    def __post_init__(self) -> None:
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            if not low <= value <= high:
                raise SettingError(f"{field} is {value}, but must lie between {low} and {high}.")
        for field, kind in _CHOICES.items():
            if getattr(self, field) not in get_args(kind):
                raise UnknownNameError(field, str(getattr(self, field)), get_args(kind))
        self._check_weights()
        if self.feature == "attention" and self.align == "mean":
            raise SettingError("Attention transfer compares frames, which align = mean averages away: use repeat.")

    def _check_weights(self) -> None:
        if self.stage not in ("final", "all") and not self.stage.isdecimal():
            if "," not in self.stage:
                raise UnknownNameError("stage", self.stage, ("final", "all", "1", "2", "3", "0.2,0.3,0.5"))
            parse_weights("stage", self.stage)
        if self.teacher_weights:
            parse_weights("teacher_weights", self.teacher_weights)
            if self.teachers == "joint":
                raise SettingError("teacher_weights belong to teachers = each; joint geometry has no weights.")

    @property
    def needs_teacher(self) -> bool:
        """Whether any teacher store is read."""
        return self.lam > 0 and (self.kd or self.feature != "none")

    @property
    def uses_kd(self) -> bool:
        """Whether the probe's scores are needed."""
        return self.needs_teacher and self.kd

    @property
    def uses_features(self) -> bool:
        """Whether teacher frames are needed in every batch."""
        return self.needs_teacher and self.feature != "none"

    @property
    def uses_unlabelled(self) -> bool:
        """Whether clips without labels enter the batches."""
        return self.needs_teacher and self.clips == "all"


def parse_weights(field: str, text: str) -> tuple[float, ...]:
    """Weights from a text such as ``0.2,0.3,0.5``, divided by their sum.

    >>> parse_weights("stage", "1, 1, 2")
    (0.25, 0.25, 0.5)

    Raises:
        SettingError: not numbers, negative, or all zero.
    """
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if not weights or not all(0 <= weight < 1e9 for weight in weights) or not sum(weights) > 0:
        raise SettingError(
            f"{field} is {text!r}, but weights are numbers of at least 0 with commas between, such as 0.2,0.3,0.5, "
            "and not all 0."
        )
    return tuple(weight / sum(weights) for weight in weights)


def choose_stages(stage: str, n_stages: int) -> list[tuple[int, float]]:
    """Positions of the stages that take part, and their weights, which sum to 1.

    >>> choose_stages("final", 3), choose_stages("1", 3), choose_stages("0,1,3", 3)
    ([(2, 1.0)], [(0, 1.0)], [(1, 0.25), (2, 0.75)])

    Raises:
        SettingError: the student has other stages.
    """
    if stage == "all":
        return [(index, 1.0 / n_stages) for index in range(n_stages)]
    if stage == "final":
        return [(n_stages - 1, 1.0)]
    if "," not in stage:
        if not 1 <= int(stage) <= n_stages:
            raise SettingError(f"stage is {stage}, but the student has {n_stages} stages, counted from 1.")
        return [(int(stage) - 1, 1.0)]
    weights = parse_weights("stage", stage)
    if len(weights) != n_stages:
        raise SettingError(f"stage gives {len(weights)} weights ({stage}), but the student has {n_stages} stages.")
    return [(index, weight) for index, weight in enumerate(weights) if weight > 0]


def weigh_teachers(loss: LossSettings, n_teachers: int) -> tuple[float, ...]:
    """The weight of each teacher's feature loss; they sum to 1.

    Raises:
        SettingError: there are other teachers than weights.
    """
    if not loss.teacher_weights:
        return (1.0 / n_teachers,) * n_teachers
    weights = parse_weights("teacher_weights", loss.teacher_weights)
    if len(weights) != n_teachers:
        raise SettingError(
            f"teacher_weights gives {len(weights)} weights ({loss.teacher_weights}), but there are {n_teachers} "
            "teacher stores. Give one for each, in their order."
        )
    return weights


def check_teachers(loss: LossSettings, n_frames: Mapping[str, int]) -> None:
    """Whether the loss can do with these teachers.

    Args:
        n_frames: frames per clip of each teacher store, by its name.

    Raises:
        SettingError: weights for other teachers, or attention over a single frame.
    """
    if not loss.uses_features:
        return
    weigh_teachers(loss, len(n_frames))
    single = [name for name, frames in n_frames.items() if frames < 2]
    if loss.feature == "attention" and single:
        raise SettingError(
            f"Attention transfer compares frames over time, but {', '.join(single)} has one vector per clip. "
            "Name an output with frames (--teacher panns/frames), or another feature loss."
        )


_ALL = (
    LossSettings("labels", "labels only: masked cross-entropy, no teacher", lam=0.0, clips="labelled"),
    LossSettings("kd", "soft KD of the teacher probe on all clips", lam=0.9, kd=True, tau=1.0, kd_scale=4.0),
    LossSettings("kd-labelled", "soft KD on the labelled clips alone", lam=0.5, kd=True, clips="labelled"),
    LossSettings(
        "kd-hard", "the teacher probe's decisions as labels, on all clips", lam=0.5, kd=True, kd_targets="hard"
    ),
    LossSettings("dcor", "distance correlation at the last stage, on all clips", lam=0.5, feature="dcor"),
    LossSettings("cosine", "cosine-distance difference at the last stage, on all clips", lam=0.5, feature="cosine"),
    LossSettings("cka", "1 - linear CKA at the last stage, on all clips", lam=0.5, feature="cka"),
    LossSettings("rkd", "RKD: distances and angles at the last stage, on all clips", lam=0.5, feature="rkd"),
    LossSettings("rkd-distance", "RKD: distances alone, on all clips", lam=0.5, feature="rkd-distance"),
    LossSettings("rkd-angle", "RKD: angles alone, on all clips", lam=0.5, feature="rkd-angle"),
    LossSettings("pkt", "PKT: probabilities of neighbours at the last stage, on all clips", lam=0.5, feature="pkt"),
    LossSettings(
        "attention", "attention transfer over time at the last stage, on all clips", lam=0.5, feature="attention"
    ),
    LossSettings(
        "projection", "cosine after a learned linear map of the last stage, on all clips", lam=0.5, feature="projection"
    ),
    LossSettings(
        "east-final",
        "EAsT-Final: distance correlation at the last stage, on the labelled clips",
        lam=0.5,
        feature="dcor",
        clips="labelled",
    ),
    LossSettings(
        "east-all",
        "EAsT-All: distance correlation at every stage, on the labelled clips",
        lam=0.5,
        feature="dcor",
        stage="all",
        clips="labelled",
    ),
    LossSettings(
        "east-cosine",
        "cosine-distance difference at the last stage, on the labelled clips",
        lam=0.5,
        feature="cosine",
        clips="labelled",
    ),
    LossSettings(
        "east-kd",
        "EAsT-KD: 0.3 soft KD + 0.7 distance correlation, on the labelled clips",
        lam=0.5,
        kd=True,
        feature="dcor",
        clips="labelled",
    ),
    LossSettings(
        "east-kd-all", "0.3 soft KD + 0.7 distance correlation, on all clips", lam=0.5, kd=True, feature="dcor"
    ),
)
LOSSES: dict[str, LossSettings] = {loss.name: loss for loss in _ALL}


def find_loss(name: str, **overrides: float | str | None) -> LossSettings:
    """The loss of that name with some values replaced; None keeps the default.

    Raises:
        UnknownNameError: no such loss; the nearest is named.
        SettingError: a value is out of its range, or would have no effect.
    """
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    given = {key: value for key, value in overrides.items() if value is not None}
    found = replace(LOSSES[name], **given)  # type: ignore[arg-type]
    if given.get("feature", "none") != "none" and not found.needs_teacher:
        raise SettingError(f"The loss {name!r} has lam 0, so that feature = {found.feature} has no effect: give a lam.")
    return found
