"""Use case: search over settings of a recipe with Optuna; every trial is an ordinary run.

The objective is the best validation mAP of a trial's run, its mean where the recipe has several
seeds; test splits are never looked at.  Trials are kept in Optuna's journal, a text file.  What is
suggested follows from the seed, the trial's number and the trials told before, so a sweep that was
interrupted goes on to the same trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import layout
from pipeline.distillation.recipetext import recipe_text
from pipeline.errors import RunError, SettingError, TrainingError, UnknownNameError, require
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.experiments.grid import run_cells
from pipeline.experiments.local import Command
from pipeline.experiments.present import below_home, complete_runs, find_run
from pipeline.experiments.recipe import Cell, Recipe, Row, load_recipe, plan
from pipeline.experiments.space import Parameter, parse_space
from pipeline.experiments.trials import TrialResult, trials_csv
from pipeline.files import publish_bytes

SAMPLERS = ("tpe", "random", "grid")
_HOPELESS = 3
_ABOUT = "east"


@dataclass(frozen=True)
class Swept:
    """A sweep as far as it has come: all trials that ended, and the best one's files."""

    folder: Path
    trials: tuple[TrialResult, ...]

    @property
    def best(self) -> TrialResult | None:
        """The trial with the best validation mAP, the earliest of equals."""
        done = [trial for trial in self.trials if trial.value is not None]
        return max(done, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    def text(self) -> str:
        """For people: what was best, and how to use it."""
        failed = sum(trial.value is None for trial in self.trials)
        lines = [f"{len(self.trials)} trials, {failed} of them failed."]
        if self.best:
            words = ", ".join(f"{name} {value}" for name, value in self.best.params.items())
            lines.append(f"Best validation mAP {self.best.value:.4f}, trial {self.best.number}: {words}")
            lines.append(f"Train it with: east train --recipe {self.folder / 'best.toml'}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Search:
    """What is searched, and how trials are run."""

    recipe: Recipe
    space: tuple[Parameter, ...]
    seed: int
    sampler: str
    folder: Path

    def about(self) -> dict[str, Any]:
        """What must be the same for a sweep to go on."""
        configs = [cell.settings.config() for cell in plan(self.recipe)]
        return {"params": [one.text for one in self.space], "seed": self.seed, "sampler": self.sampler, "base": configs}

    def cells(self, params: dict[str, Any]) -> tuple[Cell, ...]:
        """Runs of a trial: one per seed of the recipe."""
        row = self.recipe.rows[0]
        chosen = {one.name: one.setting(row.kind, params[one.name]) for one in self.space}
        words = ", ".join(f"{name} {_short(value)}" for name, value in params.items())
        settings = {key: value for key, value in row.settings.items() if key not in ("name", "group")} | chosen
        return plan(replace(self.recipe, rows=(Row(f"{self.folder.name}: {words}", row.kind, settings),)))


def sweep(
    name: str,
    *,
    params: Sequence[str],
    trials: int | None = None,
    title: str = "",
    sampler: str = "tpe",
    seed: int = 0,
    workers: int = 1,
    scheduler: str = "",
    data: str = "",
    changes: Sequence[str] = (),
    listener: Listener = ignore,
    make_command: Command | None = None,
) -> Swept:
    """Search the settings of a recipe of one row, and write ``trials.csv`` and ``best.toml``.

    Args:
        name: of a recipe, or its path.
        params: ``lr=1e-4..1e-2:log``, ``loss=kd,east-kd``.
        trials: how many in all, those made before included; None: 20, or all of a grid.
        title: of the sweep's folder; the recipe's name by default.
        sampler: ``tpe``, ``random`` or ``grid`` (every combination of choices).
        workers: trials side by side; what is suggested then knows of fewer results.
        scheduler, make_command: see :func:`pipeline.experiments.grid.run_cells`.

    Raises:
        SettingError: a recipe or parameter that is not usable; nothing was started.
        MissingExtraError: Optuna is not installed.
        RunError: the folder holds another sweep, or one that is running.
        TrainingError: no trial works.
    """
    optuna = require("optuna", extra="sweep")
    recipe = below_home(load_recipe(name, data=data, changes=changes))
    if sampler not in SAMPLERS:
        raise UnknownNameError("sampler", sampler, SAMPLERS)
    if len(recipe.rows) != 1:
        raise SettingError(f"Recipe {name!r} has {len(recipe.rows)} rows; a sweep starts from a recipe of one row.")
    base = {field: getattr(plan(recipe)[0].settings, field) for field in plan(recipe)[0].settings.__dataclass_fields__}
    space = parse_space(params, recipe.rows[0].kind, base)
    search = _Search(recipe, space, seed, sampler, layout.sweeps_dir(recipe.data) / (title or recipe.name))
    with _alone(search.folder):
        study = _open(optuna, search)
        wanted = _enqueue(study, search, trials)
        while batch := _next(optuna, study, search, wanted, max(1, workers)):
            cells = [cell for number in batch for cell in search.cells(study.trials[number].params)]
            outcome = run_cells(
                f"Sweep {search.folder.name}", cells, workers=min(max(1, workers), len(cells)),
                scheduler=scheduler, listener=listener, make_command=make_command,
            )  # fmt: skip
            _tell(optuna, study, search, batch, listener)
            _give_up(study, optuna, "\n".join(failure.tail for failure in outcome.failures))
            _publish(study, search)
        return _publish(study, search)


def _open(optuna: Any, search: _Search) -> Any:
    """The study in the sweep's folder, begun where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = optuna.storages.journal.JournalFileBackend(str(search.folder / "study.journal"))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend), study_name="sweep", direction="maximize", load_if_exists=True
    )
    about, before = search.about(), study.user_attrs.get(_ABOUT)
    if before is None:
        study.set_user_attr(_ABOUT, about)
    elif different := [key for key, value in about.items() if before.get(key) != value]:
        raise RunError(
            f"{search.folder} holds another sweep: its {' and '.join(different)} differ. Choose another --name, "
            "or remove the folder (its runs stay)."
        )
    return study


def _enqueue(study: Any, search: _Search, trials: int | None) -> int:
    """How many trials there are to be; those of a grid are put in line."""
    if search.sampler != "grid":
        return 20 if trials is None else trials
    ranges = [one.text for one in search.space if not one.choices]
    if ranges:
        raise SettingError(f"A grid has choices, no ranges: list the values of {', '.join(ranges)}.")
    names = [one.name for one in search.space]
    points = list(itertools.product(*(one.choices for one in search.space)))
    for point in points:
        study.enqueue_trial(dict(zip(names, point, strict=True)), skip_if_exists=True)
    return len(points) if trials is None else min(trials, len(points))


def _next(optuna: Any, study: Any, search: _Search, wanted: int, workers: int) -> list[int]:
    """Numbers of the trials to run now: those that were interrupted, then new ones."""
    states = optuna.trial.TrialState
    begun = [trial for trial in study.trials if trial.state != states.WAITING]
    batch = []
    for trial in begun:
        if trial.state == states.RUNNING and trial.params.keys() == {one.name for one in search.space}:
            batch.append(trial.number)
        elif trial.state == states.RUNNING:  # killed before its values were written
            study.tell(trial.number, state=states.FAIL)
    for number in range(len(begun), min(wanted, len(begun) + workers - len(batch))):
        study.sampler = _sampler(optuna, search, number)
        batch.append(study.ask({one.name: _distribution(optuna, one) for one in search.space}).number)
    return batch


def _sampler(optuna: Any, search: _Search, number: int) -> Any:
    seed = (search.seed * 1_000_003 + number) % (1 << 32)
    samplers = optuna.samplers
    return samplers.TPESampler(seed=seed) if search.sampler == "tpe" else samplers.RandomSampler(seed=seed)


def _distribution(optuna: Any, one: Parameter) -> Any:
    kinds = optuna.distributions
    if one.choices:
        return kinds.CategoricalDistribution(one.choices)
    kind = kinds.IntDistribution if one.whole else kinds.FloatDistribution
    return kind(one.low, one.high, log=one.log)


def _tell(optuna: Any, study: Any, search: _Search, batch: Sequence[int], listener: Listener) -> None:
    there = complete_runs(search.recipe.data)
    for number in batch:
        runs = [find_run(cell, there) for cell in search.cells(study.trials[number].params)]
        values = [float(run.best["valid_map"]) for run in runs if run is not None and "valid_map" in run.best]
        if len(values) < len(runs):
            study.tell(number, state=optuna.trial.TrialState.FAIL)
            listener(Warned(f"Trial {number} failed; the sweep goes on without it."))
            continue
        study.tell(number, sum(values) / len(values))
        listener(Note(f"Trial {number}: validation mAP {sum(values) / len(values):.4f}"))


def _give_up(study: Any, optuna: Any, tail: str) -> None:
    states = [trial.state for trial in study.trials]
    failed = states.count(optuna.trial.TrialState.FAIL)
    if failed >= _HOPELESS and optuna.trial.TrialState.COMPLETE not in states:
        raise TrainingError(f"The first {failed} trials all failed, so the sweep ends here.\n{tail}".rstrip())


def _publish(study: Any, search: _Search) -> Swept:
    """Write what is known so far."""
    ended = [trial for trial in study.trials if trial.state.is_finished()]
    results = tuple(TrialResult(trial.number, dict(trial.params), trial.value) for trial in ended)
    swept = Swept(search.folder, results)
    publish_bytes(search.folder / "trials.csv", trials_csv(results, [one.name for one in search.space]).encode())
    if swept.best:
        settings = search.cells(dict(swept.best.params))[0].settings
        publish_bytes(search.folder / "best.toml", recipe_text(settings).encode())
    return swept


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise RunError(f"Another process works on the sweep in {folder}. Wait for it, or choose --name.") from error
