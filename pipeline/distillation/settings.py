"""What `east train` and `east probe` are asked for.  Torch-free, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from pipeline import registry
from pipeline.distillation.losses.settings import LossSettings, choose_stages, find_loss
from pipeline.distillation.shares import check_shares, count_processes
from pipeline.errors import SettingError, UnknownNameError

NO_TEACHER = "none"
Schedule = Literal["onecycle", "plateau", "constant"]
ProbeKind = Literal["ridge", "logistic"]
Missing = Literal["drop", "error"]
StopOn = Literal["map", "loss"]
DataOn = Literal["auto", "host", "device"]

#: Values of a loss that a run may replace.
LOSS_VALUES = (
    "lam", "tau", "stage", "align", "kd_share", "kd_targets", "kd_scale", "feature", "feature_scale", "clips",
    "teachers", "teacher_weights", "lam_schedule", "lam_warmup", "teacher_shift",
)  # fmt: skip

#: Settings that say where a run happens and how it is told of, not what comes out.
_ELSEWHERE = {
    "threads", "memory_gb", "name", "group", "device", "devices", "deterministic", "data_on", "tensorboard", "missing",
}  # fmt: skip

#: Settings that came later, and the value that does what was done before.  Such a value is left
#: out of what identifies a run, so that runs made before are known again.
_ALWAYS = object()
_AS_BEFORE: dict[str, Any] = {
    "kd_targets": None, "kd_scale": None, "feature": None, "feature_scale": None, "clips": None, "teachers": None,
    "teacher_weights": None, "lam_schedule": None, "lam_warmup": None, "ema": 0.0, "average_last": 0.0,
    "validate_on": ["valid"], "plateau_patience": 5, "mask_mels": 0, "mask_frames": 0, "n_masks": 1, "views": 0,
    "probe_views": 0, "unlabelled": None,
    "stop_on": "map", "processes": 1, "teacher_shift": None,
}  # fmt: skip
_LOSS_AS_BEFORE: dict[str, Any] = {
    "kd_targets": "soft", "feature_scale": 1.0, "teachers": "each", "teacher_weights": "", "lam_schedule": "constant",
    "lam_warmup": 0.1, "teacher_shift": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class TrainSettings:
    """One student to train.

    Attributes:
        data: name of a dataset, or path of a clip table.
        student: name of the student.
        teacher: names of teachers (``panns``) or of one output (``panns/frames``); empty takes the
            only teacher store of the dataset; ``("none",)`` takes none.
        store: paths or addresses of teacher stores, instead of ``teacher``.
        mel: path or address of the mel store, instead of the one below the dataset.
        loss: name of a loss; the settings below with a default of None replace its values, see
            :class:`pipeline.distillation.losses.settings.LossSettings`.
        probe: which probe gives the teacher's scores.
        probe_views: how many views of each labelled clip the ridge probe is fitted on besides the clip.
        labelled: how many training clips keep their labels; None keeps all.
        unlabelled: how many training clips without labels take part; None takes all.
        seed: of the subset, the initial weights, the batches and the augmentation.
        steps: optimiser steps.
        batch: clips per step; part of the definition of losses on batch geometry (the paper: 16).
        labelled_share: share of the batch that has labels, where unlabelled clips take part: at least one
            clip of either kind, also with 0 and 1.
        lr, weight_decay, clip_norm: of the optimiser; ``clip_norm`` 0 does not clip.
        schedule: ``onecycle`` (AdamW, peak ``lr``), ``plateau`` (Adam, the paper's) or
            ``constant`` (AdamW).
        plateau_patience: validations without a lower loss after which ``plateau`` takes a fifth of
            the rate (the paper: 8 for OpenMIC, 5 for MagnaTagATune).
        specaugment: whether time and mel bands of the student's input are masked.
        views: how many views of each clip the student may hear besides the clip as it is; batches draw one
            of them all at random, and what it should become is that of the clip as it is.
        mask_mels: most mels of a masked band (the paper: 48); 0 takes a quarter of them.
        mask_frames: most mel frames of a masked run (the paper: 192); 0 takes a fifth of the clip's.
        n_masks: how many bands and runs are masked in each clip.
        mixup: whether clips are mixed in pairs, with their labels, scores and teacher frames.
        ema: decay per step of an exponential average of weights and running statistics, with bias
            correction; 0 takes none.  Validation and the saved student use the average.
        average_last: share of the run, at its end, over which the plain mean of the weights is
            taken instead; before it, the weights themselves are validated.
        validate_every: steps between validations; 0 chooses a fifteenth of ``steps``.
        validate_on: splits whose mean mAP chooses the checkpoint, such as ``valid`` and ``valid-other``.
        missing: ``drop`` goes on without the clips that a store lacks and counts them, ``error`` refuses.
        patience: validations without a better ``stop_on`` after which training stops; 0 never stops.
        stop_on: what has to get better: the validation ``map``, or ``loss``. The mAP chooses the checkpoint.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``cuda:0,1``, ``mps``.
        devices: how many processes train together, a GPU each, or all on the CPU.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        deterministic: whether PyTorch refuses operations that may differ from run to run.
        data_on: where features that fit are kept: in the memory of the ``host`` or of the ``device``.
        tensorboard: whether the history is written for TensorBoard, too.
        threads: CPU threads of torch; 0 leaves torch's choice.
        memory_gb: what the features may take; 0 chooses half of the memory that is free.
        name: of the run's folder; empty makes one from the settings.
        group: of the row in tables; empty makes one from the settings without the seed.
    """

    data: str
    student: str = "cnn-small"
    teacher: tuple[str, ...] = ()
    store: tuple[str, ...] = ()
    mel: str = ""
    loss: str = "kd"
    lam: float | None = None
    tau: float | None = None
    stage: str | None = None
    align: str | None = None
    kd_share: float | None = None
    kd_targets: str | None = None
    kd_scale: float | None = None
    feature: str | None = None
    feature_scale: float | None = None
    clips: str | None = None
    teachers: str | None = None
    teacher_weights: str | None = None
    lam_schedule: str | None = None
    lam_warmup: float | None = None
    teacher_shift: float | None = None
    probe: str = "ridge"
    probe_views: int = 0
    labelled: int | None = None
    unlabelled: int | None = None
    seed: int = 0
    steps: int = 2000
    batch: int = 32
    labelled_share: float = 0.5
    lr: float = 4e-3
    weight_decay: float = 0.01
    clip_norm: float = 0.0
    schedule: str = "onecycle"
    plateau_patience: int = 5
    specaugment: bool = True
    views: int = 0
    mask_mels: int = 0
    mask_frames: int = 0
    n_masks: int = 1
    mixup: bool = False
    ema: float = 0.0
    average_last: float = 0.0
    validate_every: int = 0
    validate_on: tuple[str, ...] = ("valid",)
    patience: int = 0
    stop_on: str = "map"
    device: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    deterministic: bool = False
    data_on: str = "auto"
    tensorboard: bool = False
    threads: int = 0
    memory_gb: float = 0.0
    missing: str = "drop"
    name: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        loss = self.loss_settings()
        choose_stages(loss.stage, len(registry.find_student(self.student).stage_channels))
        _choose("schedule", self.schedule, get_args(Schedule))
        _check_probe(self.probe, self.probe_views)
        _choose("missing", self.missing, get_args(Missing))
        _choose("precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        _choose("stop_on", self.stop_on, get_args(StopOn))
        _choose("data_on", self.data_on, get_args(DataOn))
        _within("steps", self.steps, 1, 10**9)
        _within("batch", self.batch, 2, 65536)
        _within("labelled_share", self.labelled_share, 0.0, 1.0)
        _within("views", self.views, 0, 99)
        _within("lr", self.lr, 1e-9, 10.0)
        _within("weight_decay", self.weight_decay, 0.0, 10.0)
        _within("ema", self.ema, 0.0, 1.0 - 1e-6)
        _within("average_last", self.average_last, 0.0, 1.0)
        if self.ema and self.average_last:
            raise SettingError("ema and average_last are two ways to average weights: give one of them.")
        _within("n_masks", self.n_masks, 1, 100)
        _within("devices", self.devices, 1, 64)
        check_shares(self.batch, self.device, self.devices)
        for name in (
            "mask_mels", "mask_frames", "clip_norm", "plateau_patience", "validate_every", "patience", "threads",
            "memory_gb", "seed",
        ):  # fmt: skip
            _within(name, getattr(self, name), 0, 2**63 - 1)
        if not self.validate_on or not all(name.startswith("valid") for name in self.validate_on):
            raise SettingError(
                f"validate_on (--validate-on) takes splits named valid..., such as valid,valid-other; found "
                f"{', '.join(self.validate_on) or 'none'}. The other splits choose no checkpoint."
            )
        _check_counts(self.labelled, self.unlabelled)
        if self.teacher and self.store:
            raise SettingError("--teacher and --store both say where the teacher is: give one of them.")

    @property
    def processes(self) -> int:
        """How many processes train together: ``devices``, or the GPUs that ``device`` lists."""
        return count_processes(self.device, self.devices)

    def loss_settings(self) -> LossSettings:
        """The loss with the values asked for."""
        return find_loss(self.loss, **{name: getattr(self, name) for name in LOSS_VALUES})

    def validation_steps(self) -> int:
        """Steps between validations."""
        return min(self.steps, self.validate_every or max(1, round(self.steps / 15)))

    def config(self) -> dict[str, Any]:
        """All that decides the outcome, as JSON values: not where it runs, nor what it is called."""
        values = {key: value for key, value in asdict(self).items() if key not in _ELSEWHERE}
        values |= {"teacher": list(self.teacher), "store": [_base_name(path) for path in self.store]}
        values |= {"mel": _base_name(self.mel), "validate_on": list(self.validate_on)}
        values["processes"] = self.processes
        values["loss_settings"] = {
            key: value
            for key, value in asdict(self.loss_settings()).items()
            if key not in ("name", "summary") and _LOSS_AS_BEFORE.get(key, _ALWAYS) != value
        }
        return {key: value for key, value in values.items() if _AS_BEFORE.get(key, _ALWAYS) != value}


@dataclass(frozen=True)
class ProbeSettings:
    """One teacher probe to fit; see :class:`TrainSettings` for the fields they share."""

    data: str
    teacher: tuple[str, ...] = ()
    store: tuple[str, ...] = ()
    probe: str = "ridge"
    probe_views: int = 0
    labelled: int | None = None
    unlabelled: int | None = None
    seed: int = 0
    memory_gb: float = 0.0
    missing: str = "drop"
    name: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        _check_probe(self.probe, self.probe_views)
        _choose("missing", self.missing, get_args(Missing))
        _within("seed", self.seed, 0, 2**63 - 1)
        _check_counts(self.labelled, self.unlabelled)
        if self.teacher == (NO_TEACHER,):
            raise SettingError("A probe reads a teacher's store; --teacher none leaves nothing to probe.")
        if self.teacher and self.store:
            raise SettingError("--teacher and --store both say where the teacher is: give one of them.")

    def config(self) -> dict[str, Any]:
        """All that decides the outcome, as JSON values."""
        left_out = ("memory_gb", "name", "group", "missing")
        values = {key: value for key, value in asdict(self).items() if key not in left_out}
        return values | {"teacher": list(self.teacher), "store": [_base_name(path) for path in self.store]}


def from_mapping(values: Mapping[str, Any]) -> TrainSettings:
    """Settings from a recipe's table; lists become tuples.

    Raises:
        UnknownNameError: a key that is no setting; the nearest is named.
    """
    known = {field.name for field in fields(TrainSettings)}
    for key in values:
        if key not in known:
            raise UnknownNameError("setting", key, known)
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return TrainSettings(**plain)


def _check_probe(kind: str, n_views: int) -> None:
    _choose("probe", kind, get_args(ProbeKind))
    _within("probe_views", n_views, 0, 99)
    if n_views and kind != "ridge":
        raise SettingError(f"--probe-views goes with the ridge probe; the {kind} probe is fitted on the clips alone.")


def _check_counts(labelled: int | None, unlabelled: int | None) -> None:
    if labelled is not None:
        _within("labelled", labelled, 1, 10**12)
    if unlabelled is not None:
        _within("unlabelled", unlabelled, 0, 10**12)


def _choose(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UnknownNameError(field, value, choices)


def _within(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingError(f"{field} is {value}, but must lie between {low:g} and {high:g}.")


def _base_name(path: str) -> str:
    """The last two parts of a path or address: runs are shared, so no machine's folders are kept."""
    return "/".join(path.rstrip("/").replace("\\", "/").split("/")[-2:])
