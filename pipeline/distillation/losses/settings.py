"""The losses by name (`LOSS=`): what each one is made of, with documented defaults.  Torch-free.

The total is ``(1 - lam) * labels + lam * reg``, where ``reg`` is soft knowledge distillation, a
feature loss, or ``kd_share * KD + (1 - kd_share) * features``.

Sources: Ding and Lerch, ISMIR 2023 (lam 0.6 to 0.9, tau 2, share 0.3, stage 3), and our pilot with
a small network, few labels and short schedules (lam 0.5; KD on all clips with lam 0.9, tau 1,
scale 4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from pipeline.errors import SettingError, UnknownNameError

Feature = Literal["none", "dcor", "cosine"]
Stage = Literal["final", "1", "2", "3", "all"]
Clips = Literal["labelled", "all"]
Align = Literal["repeat", "mean"]


@dataclass(frozen=True)
class LossSettings:
    """One row of the loss registry, possibly with values of the user's.

    Attributes:
        lam: weight of ``reg``, in [0, 1].  The labels get ``1 - lam``.  Distance correlation with
            a lam of 0.8 on a short schedule (2,000 steps) cost the pilot 0.12 mAP: raise it only
            with the paper's long schedules.
        kd: whether soft knowledge distillation of the probe's scores takes part.
        tau: temperature of that; both scores are divided by it.
        kd_scale: factor of the KL; 0 means ``tau`` squared.
        kd_share: share of KD in ``reg`` where there is a feature loss as well.
        feature: the loss on batch geometry.
        stage: the student's stage it looks at, counted from 1; ``final`` is the last one, ``all``
            takes every stage with equal weights that sum to 1.
        align: how frames meet: ``repeat`` the coarser, or the time ``mean`` of both.
        clips: which clips ``reg`` sees.  With ``labelled``, KD also skips unknown labels.
    """

    name: str
    summary: str
    lam: float
    kd: bool = False
    tau: float = 2.0
    kd_scale: float = 0.0
    kd_share: float = 0.3
    feature: Feature = "none"
    stage: Stage = "final"
    align: Align = "repeat"
    clips: Clips = "all"

    def __post_init__(self) -> None:
        for field, low, high in (("lam", 0.0, 1.0), ("kd_share", 0.0, 1.0), ("tau", 0.05, 100.0), ("kd_scale", 0, 1e4)):
            value = getattr(self, field)
            if not low <= value <= high:
                raise SettingError(f"{field} is {value}, but must lie between {low} and {high}.")
        for field, kind in (("feature", Feature), ("stage", Stage), ("align", Align), ("clips", Clips)):
            if getattr(self, field) not in get_args(kind):
                raise UnknownNameError(field, str(getattr(self, field)), get_args(kind))

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


_ALL = (
    LossSettings("labels", "labels only: masked cross-entropy, no teacher", lam=0.0, clips="labelled"),
    LossSettings("kd", "soft KD of the teacher probe on all clips", lam=0.9, kd=True, tau=1.0, kd_scale=4.0),
    LossSettings("kd-labelled", "soft KD on the labelled clips alone", lam=0.5, kd=True, clips="labelled"),
    LossSettings("dcor", "distance correlation at the last stage, on all clips", lam=0.5, feature="dcor"),
    LossSettings("cosine", "cosine-distance difference at the last stage, on all clips", lam=0.5, feature="cosine"),
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
        SettingError: a value is out of its range.
    """
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    return replace(LOSSES[name], **{key: value for key, value in overrides.items() if value is not None})  # type: ignore[arg-type]
