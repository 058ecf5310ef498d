"""Reading run folders, which may come from anyone: validated, never executed, nothing unpickled."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline import layout
from pipeline.errors import RunError

FORMAT_VERSION = 1
_Kind = TypeVar("_Kind")
_LARGEST_JSON_BYTES = 32 << 20


@dataclass(frozen=True)
class DatasetFacts:
    """Which clips and classes a run was trained on."""

    name: str
    digest: str
    classes: tuple[str, ...]
    task: str
    clip_s: float
    licence: str
    citation: str


@dataclass(frozen=True)
class Run:
    """One trained student or probe, as its ``run.json`` tells it.

    Attributes:
        folder: where it lies.
        kind: ``student`` or ``probe``.
        group: the row of a table it belongs to: its settings without the seed.
        n_labelled, n_unlabelled: training clips with and without labels.
        best: ``step`` and ``valid_map`` of the checkpoint that was kept.
        complete: whether training came to its end.
    """

    folder: Path
    kind: str
    name: str
    group: str
    seed: int
    config: Mapping[str, Any]
    dataset: DatasetFacts
    stores: tuple[Mapping[str, Any], ...]
    front_end: Mapping[str, Any]
    provenance: Mapping[str, Any]
    n_parameters: int
    train_s: float
    n_labelled: int
    n_unlabelled: int
    best: Mapping[str, Any]
    licence: str
    complete: bool


@dataclass(frozen=True)
class Predictions:
    """Scores of one split.

    Shape:
        clip_id: [clips], object strings, unique.
        scores: [clips, classes], float32 probabilities.
    """

    clip_id: NDArray[np.object_]
    scores: NDArray[np.float32]


def without_view(extractor: object) -> str:
    """The extractor that hears clips as they are, of one that hears a view of them.

    >>> without_view("mel-small-view2"), without_view("musicnn")
    ('mel-small', 'musicnn')
    """
    return re.sub(r"-view\d+$", "", str(extractor))


def read_run(folder: Path, *, unfinished: bool = False) -> Run:
    """Read ``run.json``.

    Args:
        unfinished: also accept a run whose training has not ended.

    Raises:
        RunError: no run there, damaged, of another format, or unfinished.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise RunError(f"{folder} is not a run: it has no run.json. Give a folder below data/NAME/runs/.")
    facts = read_json(path)
    if facts.get("format") != FORMAT_VERSION:
        raise RunError(
            f"{path} has format {facts.get('format')!r}; this program reads {FORMAT_VERSION}. Train it again."
        )
    run = _parse(path, facts)
    if not run.complete and not unfinished:
        raise RunError(f"Run {run.name!r} is unfinished. The command that trains it goes on from where it stopped.")
    return run


def list_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """All complete runs below ``folder`` by name, and a sentence for each that is not usable."""
    runs, problems = [], []
    for path in sorted(folder.glob("*/run.json")):
        try:
            runs.append(read_run(path.parent))
        except RunError as error:
            problems.append(str(error))
    return runs, problems


def splits_of(run: Run) -> tuple[str, ...]:
    """Names of the splits a run has predictions for: valid, test, then the others."""
    usual = {"train": 0, "valid": 1, "test": 2}
    names = (path.stem for path in (run.folder / "predictions").glob("*.npz") if not path.name.startswith("."))
    return tuple(sorted(names, key=lambda name: (usual.get(name, 3), name)))


def reported_splits(names: Iterable[str]) -> tuple[str, ...]:
    """Those to report: names that begin with ``test``, or all when there are none."""
    names = tuple(names)
    return tuple(name for name in names if name.startswith("test")) or names


def read_predictions(run: Run, split: str) -> Predictions:
    """Scores of a split.

    Raises:
        RunError: absent or damaged, of another shape than the classes, or not probabilities.
    """
    path = run.folder / "predictions" / f"{split}.npz"
    if not path.is_file():
        raise RunError(f"Run {run.name!r} has no predictions for split {split!r}, only {', '.join(splits_of(run))}.")
    arrays = _read_npz(path)
    ids, scores = arrays.get("clip_id"), arrays.get("scores")
    if ids is None or scores is None or ids.dtype.kind != "U":
        raise RunError(f"{path} must hold clip_id (text) and scores; it holds {sorted(arrays)}. Train the run again.")
    n_classes = len(run.dataset.classes)
    if scores.shape != (len(ids), n_classes) or scores.dtype.kind != "f":
        raise RunError(f"{path}: scores are {scores.shape} {scores.dtype} for {len(ids)} clips, {n_classes} classes.")
    if not (np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()):
        raise RunError(f"{path}: scores must be probabilities from 0 to 1. Did training diverge? Train the run again.")
    if len(set(ids.tolist())) != len(ids):
        raise RunError(f"{path}: a clip_id is there twice, so its score is not certain. Train the run again.")
    return Predictions(ids.astype(object), scores.astype(np.float32))


def read_history(run: Run) -> dict[str, NDArray[np.float64]]:
    """Columns of ``history.csv``, one row per validation; cells that are empty become NaN.

    Raises:
        RunError: ragged rows or text where numbers belong.  An absent file gives no columns.
    """
    path = run.folder / "history.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle, strict=True))
        names = [name for name in (rows[0] if rows else {}) if name]
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    except (ValueError, TypeError, csv.Error, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not a table of numbers ({error}). Remove it: curves are then left out.") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RunError: not JSON, not an object, or far larger than anything this program writes.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON_BYTES:
            raise RunError(f"{path} is {path.stat().st_size:,} bytes, beyond {_LARGEST_JSON_BYTES:,}: not one of ours.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read as JSON ({error}). Is it damaged? Make it again.") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value


def _parse(path: Path, facts: dict[str, Any]) -> Run:
    def take(name: str, kind: type[_Kind], of: Mapping[str, Any] = facts, default: Any = None) -> _Kind:
        value = of.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise RunError(f"{path}: {name} must be {kind.__name__}, found {value!r}. Train the run again.")
        return value

    dataset = take("dataset", dict)
    classes = tuple(take("classes", list, dataset))
    if not classes or not all(isinstance(name, str) for name in classes):
        raise RunError(f"{path}: dataset.classes must be a list of names, found {classes!r}.")
    stores = take("stores", list, default=[])
    return Run(
        folder=path.parent,
        kind=take("kind", str),
        name=take("name", str),
        group=take("group", str),
        seed=take("seed", int),
        config=take("config", dict),
        dataset=DatasetFacts(
            name=take("name", str, dataset),
            digest=take("digest", str, dataset),
            classes=classes,
            task=take("task", str, dataset),
            clip_s=take("clip_s", float, dataset),
            licence=take("licence", str, dataset, ""),
            citation=take("citation", str, dataset, ""),
        ),
        stores=tuple(store for store in stores if isinstance(store, dict)),
        front_end=facts.get("front_end") if isinstance(facts.get("front_end"), dict) else {},  # type: ignore[arg-type]
        provenance=take("provenance", dict, default={}),
        n_parameters=take("n_parameters", int, default=0),
        train_s=take("train_s", float, default=0.0),
        n_labelled=take("n_labelled", int, default=0),
        n_unlabelled=take("n_unlabelled", int, default=0),
        best=take("best", dict, default={}),
        licence=take("licence", str, default=""),
        complete=take("complete", bool, default=False),
    )


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read as arrays ({error}). Is it damaged? Train the run again.") from error


def find_run(text: str) -> Path:
    """Folder of a run given as a path, or by its name below any dataset.

    Raises:
        RunError: no such run, or several of that name.
    """
    if Path(text).is_dir() or len(Path(text).parts) != 1:
        return Path(text)
    found = sorted(layout.home().glob(f"*/runs/{escape(text)}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise RunError(f"Run {text!r} is there {len(found)} times: {', '.join(map(str, found))}. Give the folder.")
    names = [path.name for path in layout.home().glob("*/runs/*")]
    near = get_close_matches(text, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RunError(f"There is no run {text!r}, neither as a folder nor below {layout.home()}/*/runs.{hint}")
