"""An exported student as a tagger: onnxruntime alone, no PyTorch network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.deployment.about import INPUT, OUTPUTS, Facts, read_facts
from pipeline.deployment.tagger import Tagger
from pipeline.errors import RunError, require

__all__ = ["OnnxTagger", "load_onnx_tagger", "open_session", "run_session"]

_MOST_BYTES = 2 << 30
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, eq=False, kw_only=True)
class OnnxTagger(Tagger):
    """A student in an ``.onnx`` file."""

    session: Any

    def run(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`Tagger.run`."""
        return run_session(self.session, audio)[0]


def load_onnx_tagger(path: Path, *, device: str = "cpu") -> OnnxTagger:
    """Open a model that ``east export`` wrote.

    Raises:
        RunError: no such file, not ONNX, or not of this project's making.
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        n_bytes = path.stat().st_size
        content = path.read_bytes() if n_bytes <= _MOST_BYTES else b""
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}). `east export RUN` writes such files.") from error
    if not content:
        raise RunError(f"{path} holds {n_bytes:,} bytes; exported students have 1 to {_MOST_BYTES:,}.")
    session = open_session(content, str(path), device)
    facts = read_facts(path, session.get_modelmeta().custom_metadata_map)
    return OnnxTagger(session=session, **{field.name: getattr(facts, field.name) for field in fields(Facts)})


def open_session(content: bytes, name: str, device: str = "cpu", *, threads: int = 0) -> Any:
    """An ``onnxruntime.InferenceSession`` of a model in memory, so that no other file is read with it.

    Args:
        threads: how many one operation may use; 0 leaves it to onnxruntime.

    Raises:
        RunError: not an ONNX model, not one with our input and outputs, or no such device.
    """
    runtime = require("onnxruntime", extra="export")
    provider = _PROVIDERS.get(device.partition(":")[0])
    if provider not in runtime.get_available_providers():
        raise RunError(f"This onnxruntime runs nothing on {device!r}; use --device cpu, or the run's folder.")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    try:
        session = runtime.InferenceSession(content, options, providers=[provider])
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{name} is not an ONNX model that can be run ({reason}). Export the run again.") from error
    _require_names(name, session.get_inputs(), session.get_outputs())
    return session


def run_session(session: Any, audio: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores and logits of waveforms: [batch, samples] to [batch, classes]."""
    scores, logits = session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(audio, dtype=np.float32)})
    return scores, logits


def _require_names(name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    found = [value.name for value in inputs], [value.name for value in outputs]
    if found != ([INPUT], list(OUTPUTS)):
        raise RunError(
            f"{name} takes {', '.join(found[0])} and gives {', '.join(found[1])}; students that `east export` made "
            f"take {INPUT} and give {', '.join(OUTPUTS)}."
        )
