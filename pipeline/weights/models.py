"""Models that are a folder of files: one of the user's, or a snapshot of a repository on the Hugging Face hub.

No digest of them is published; a store keeps that of every file that was used.  Files are chosen by
name, and Python files beside them are never looked at.  Neither torch nor transformers is imported.

The hub's own client fetches, and its cache is asked first: what ``main`` was when it came is what
it stays on this machine, so that all workers and every later run mean the same revision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SettingError, WeightsError, require
from pipeline.events import Listener, TaskFinished, TaskStarted, ignore

__all__ = ["ModelDescription", "describe_model", "fetch_model", "model_files"]

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Older and newer name; the newer one has the settings of each of its parts under a name."""

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_README = "README.md"
_UNKNOWN = "unknown: see where the model came from"
_REPOSITORY = re.compile(r"[A-Za-z0-9_](?:[\w.-]*\w)?(?:/[A-Za-z0-9_](?:[\w.-]*\w)?)?", re.ASCII)


@dataclass(frozen=True)
class ModelDescription:
    """What the small files of a model say.

    ``name`` is fit for a card: never a path.  ``repository`` and ``revision`` (a commit) are empty
    for a folder of the user's.
    """

    name: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    licence: str
    repository: str = ""
    revision: str = ""

    @property
    def address(self) -> str:
        """The model's page, empty for a folder."""
        return f"https://huggingface.co/{self.repository}/tree/{self.revision}" if self.repository else ""


def describe_model(subject: str) -> ModelDescription:
    """Read what kind of model a folder or ``REPOSITORY[@REVISION]`` is.

    Raises:
        SettingError: neither a folder nor the name of a repository.
        WeightsError: the files are not to be had, or not what they should be.
    """
    folder, repository = _small_files(subject)
    name = repository or folder.resolve().name
    return ModelDescription(
        name=name,
        config=_read_json(folder, CONFIG, name),
        preprocessor=_read_preprocessor(folder, name),
        licence=_licence(folder / _README),
        repository=repository,
        revision=folder.name if repository else "",
    )


def fetch_model(subject: str, *, listener: Listener = ignore) -> tuple[Path, ...]:
    """The files of a model: settings first, then weights, all in one folder.

    Raises:
        WeightsError: not to be had; the message says how to place them by hand.
    """
    folder, repository = _small_files(subject)
    if not repository:
        return model_files(folder)
    try:
        return model_files(folder)
    except WeightsError:  # not yet there, or an interrupted download
        _fetch_weights(repository, folder.name, listener)
    return model_files(folder)


def model_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that a model is built from; safetensors where there are both kinds.

    Raises:
        WeightsError: one is missing.
    """
    settings = [folder / CONFIG, *(folder / name for name in PREPROCESSORS if (folder / name).is_file())]
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return (*settings, folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return (*settings, index, *_parts(index))
    raise WeightsError(f"{folder} has no weights: neither {' nor '.join(_WEIGHTS)}, nor an index of parts.")


def _parts(index: Path) -> list[Path]:
    named = _read_json(index.parent, index.name, index.parent.name).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(part, str) and "/" not in part for part in named.values()):
        raise WeightsError(f"{index} does not say in which parts the weights are.")
    parts = [index.parent / part for part in sorted(set(named.values()))]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise WeightsError(f"{index.parent} lacks {', '.join(missing)}, which {index.name} names.")
    return parts


def _small_files(subject: str) -> tuple[Path, str]:
    """The folder of a model's settings, and its repository; empty for the user's own folder."""
    folder = Path(subject).expanduser()
    if folder.is_dir():
        return folder, ""
    repository, _, revision = subject.partition("@")
    if not _REPOSITORY.fullmatch(repository) or re.search(r"--|\.\.|\.git$", repository):
        raise SettingError(f"{subject!r} is neither a folder that exists nor a model as LAB/MODEL[@REVISION].")
    return _snapshot(repository, revision or "main"), repository


def _snapshot(repository: str, revision: str) -> Path:
    """The folder of a revision in the hub's cache; its small files are there. It is named as the commit."""
    hub = require("huggingface_hub", extra="hf")
    kept = hub.try_to_load_from_cache(repository, CONFIG, revision=revision)
    if isinstance(kept, str) and any((Path(kept).parent / name).is_file() for name in PREPROCESSORS):
        return Path(kept).parent
    with _asking(repository, revision, hub):
        config = Path(hub.hf_hub_download(repository, CONFIG, revision=revision))
        commit = config.parent.name
        hub.snapshot_download(repository, revision=commit, allow_patterns=[*PREPROCESSORS, _README])
    return config.parent


def _fetch_weights(repository: str, commit: str, listener: Listener) -> None:
    hub = require("huggingface_hub", extra="hf")
    task = f"download {repository}"
    listener(TaskStarted(task, None, "B"))
    try:
        with _asking(repository, commit, hub):
            for name in _WEIGHTS:
                folder = hub.snapshot_download(repository, revision=commit, allow_patterns=_patterns(name))
                if any(any(Path(folder).glob(pattern)) for pattern in _patterns(name)):
                    return
            raise FileNotFoundError(f"neither {' nor '.join(_WEIGHTS)} is there or came")
    finally:
        listener(TaskFinished(task))


def _patterns(*names: str) -> list[str]:
    """Names of a file of weights, of its parts and of their index."""
    return [
        pattern
        for stem, _, suffix in (name.rpartition(".") for name in names)
        for pattern in (f"{stem}.{suffix}", f"{stem}-*-of-*.{suffix}", f"{stem}.{suffix}.index.json")
    ]


@contextmanager
def _asking(repository: str, revision: str, hub: Any) -> Iterator[None]:
    """Ask the hub quietly; whatever its client raises becomes our error."""
    log = hub.utils.logging
    shown, level = not hub.utils.are_progress_bars_disabled(), log.get_verbosity()
    log.set_verbosity_error()
    if shown:
        hub.utils.disable_progress_bars()
    try:
        yield
    except Exception as error:  # the client passes on errors of several network libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{repository} at {revision} could not be had from the Hugging Face hub: {reason}\n"
            f"On a machine with network access, get its files ({CONFIG}, {PREPROCESSORS[0]}, {' or '.join(_WEIGHTS)}) "
            f"from https://huggingface.co/{repository}, put them into one folder here, and ask for hf:FOLDER."
        ) from error
    finally:
        log.set_verbosity(level)
        if shown:
            hub.utils.enable_progress_bars()


def _read_preprocessor(folder: Path, name: str) -> Mapping[str, Any]:
    for file in PREPROCESSORS:
        if (folder / file).is_file():
            found = _read_json(folder, file, name)
            inner = found.get("feature_extractor")
            return inner if isinstance(inner, dict) else found
    raise WeightsError(
        f"{name} has no {PREPROCESSORS[0]}, which says the sample rate and how audio is prepared. "
        "Is it an audio model? The file is beside config.json where the model was published."
    )


def _read_json(folder: Path, file: str, name: str) -> dict[str, Any]:
    path = folder / file
    if not path.is_file():
        raise WeightsError(f"{name} has no {file}: not the folder of a transformers model, or an incomplete one.")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: {file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{name}: {file} is not a table of settings.")
    return found


def _licence(readme: Path) -> str:
    """The line ``license:`` at the head of a model's README."""
    try:
        text = readme.read_text("utf-8", errors="replace")
    except OSError:
        return _UNKNOWN
    head = text.split("\n---", 1)[0] if text.startswith("---") else ""
    found = re.search(r"^license:\s*['\"]?([\w.+-]+)", head, re.MULTILINE)
    return found.group(1) if found and found.group(1) != "other" else _UNKNOWN
