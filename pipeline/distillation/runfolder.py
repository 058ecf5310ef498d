"""A run's folder: what is written when, so that a killed run goes on and a finished one is kept."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import layout
from pipeline.errors import RunError
from pipeline.files import publish_bytes, publish_json, publishing
from pipeline.manifest import ClipTable
from pipeline.provenance import config_hash
from pipeline.stores import StoreReader
from pipeline.stores.lease import Lease

State = Literal["new", "unfinished", "complete"]
CHECKPOINT = "last.ckpt"
LEASE = "lease.json"
_FORMAT = 1


class RunFolder:
    """The folder of one run, and the identity that its settings and data give it.

    Attributes:
        path: the folder.
        identity: hash of the settings, the clip table and the content of the stores.
        state: what was there when it was opened.
    """

    def __init__(self, dataset: str, name: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.identity = config_hash({"config": config, **facts})
        named = bool(name)
        self.name = name if named else f"{automatic_name(config)}-{self.identity[:6]}"
        self.path = layout.runs_dir(dataset) / self.name
        self.config = dict(config)
        self.state = self._look()

    @contextmanager
    def held(self) -> Iterator[State]:
        """Keep other processes from making the same run; gives the state that the last one left.

        A folder that stays empty is taken away.

        Raises:
            StoreBusyError: a living process makes it already.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with Lease(self.path, file=LEASE):
                self.state = self._look()
                yield self.state
        finally:
            with suppress(OSError):
                self.path.rmdir()

    def _look(self) -> State:
        file = self.path / "run.json"
        if not file.is_file():
            return "new"
        try:
            before = json.loads(file.read_text())
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}). Remove the folder, or choose another --name.") from error
        if before.get("config_hash") != self.identity:
            raise RunError(
                f"{self.path} holds a run with other settings or data: {self._differences(before)}. "
                "Choose another --name, or remove the folder."
            )
        if before.get("complete"):
            return "complete"
        return "unfinished" if self.checkpoint.is_file() else "new"

    def _differences(self, before: Mapping[str, Any]) -> str:
        old, new = before.get("config", {}), json.loads(json.dumps(self.config))
        keys = [key for key in new if old.get(key) != new[key]]
        return "; ".join(f"{key} was {old.get(key)!r}, now {new[key]!r}" for key in keys) or "its data have changed"

    @property
    def checkpoint(self) -> Path:
        """Where the state to go on from is kept."""
        return self.path / CHECKPOINT

    def write(self, about: Mapping[str, Any], *, complete: bool) -> None:
        """Publish ``run.json``."""
        facts = {"format": _FORMAT, "name": self.name, "config": self.config, "config_hash": self.identity}
        publish_json(self.path / "run.json", facts | dict(about) | {"complete": complete})

    def kept(self, key: str, usual: int) -> int:
        """A whole number that ``run.json`` says of a run that is not complete; ``usual`` where it says none."""
        file = self.path / "run.json"
        found = json.loads(file.read_text()).get(key) if file.is_file() else None
        return found if isinstance(found, int) else usual

    def write_recipe(self, text: str) -> None:
        """Publish ``recipe.toml``: the settings, to repeat the run."""
        publish_bytes(self.path / "recipe.toml", text.encode())

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Publish ``history.csv``: one row per validation, columns in order of appearance."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.8g}" for key, value in row.items()} for row in rows)
        publish_bytes(self.path / "history.csv", text.getvalue().encode())

    def write_predictions(self, split: str, table: ClipTable, scores: NDArray[np.float32]) -> None:
        """Publish ``predictions/SPLIT.npz``: probabilities [clips, classes] by clip_id."""
        save_arrays(self.path / "predictions" / f"{split}.npz", clip_id=table.clip_id.astype(str), scores=scores)

    def write_teacher_scores(self, clip_id: NDArray[np.object_], logits: NDArray[np.float32]) -> None:
        """Publish ``teacher_scores.npz``: logits [clips, classes] by clip_id."""
        save_arrays(self.path / "teacher_scores.npz", clip_id=clip_id.astype(str), logits=logits)

    def read_teacher_scores(self) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """What :meth:`write_teacher_scores` wrote: clip_id [clips] and logits [clips, classes]."""
        with np.load(self.path / "teacher_scores.npz", allow_pickle=False) as kept:
            return kept["clip_id"].astype(object), kept["logits"]


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as ``.npz`` so that no reader sees half of it; nothing is pickled."""
    with publishing(path) as draft, draft.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def automatic_name(config: Mapping[str, Any]) -> str:
    """A folder name people can read: what, loss, teachers, labels, seed."""
    teachers = "+".join(config["teacher"] or config["store"])
    labels = f"{config['labelled']}-labels" if config["labelled"] else "all-labels"
    what = config.get("student") or f"probe-{config['probe']}"
    parts = [what, config.get("loss", ""), teachers, labels, f"seed{config['seed']}"]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "-".join(part for part in parts if part))


def describe_dataset(table: ClipTable) -> dict[str, Any]:
    """What ``run.json`` says of the dataset; the digest is of the whole table as it was read."""
    return {
        "name": table.name,
        "digest": table.digest(),
        "classes": list(table.classes),
        "task": table.task,
        "clip_s": table.clip_s,
        "licence": str(table.card.get("licence", "")),
        "citation": str(table.card.get("citation", "")),
    }


def describe_store(store: StoreReader) -> dict[str, Any]:
    """What ``run.json`` says of a store."""
    card = store.meta.card
    return {
        "extractor": store.meta.extractor,
        "output": store.meta.output,
        "fingerprint": store.meta.fingerprint,
        "content_digest": store.meta.content_digest,
        "licence_code": str(card.get("licence_code", "")),
        "licence_weights": str(card.get("licence_weights", "")),
        "citation": str(card.get("citation", "")),
    }
