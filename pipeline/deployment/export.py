"""Use case: write a trained student as one file that other programs can run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.deployment.about import describe_model
from pipeline.deployment.graph import build_graph
from pipeline.deployment.onnx_tagger import open_session
from pipeline.deployment.proof import TOLERANCE, Proof, prove
from pipeline.deployment.tagger import load_tagger
from pipeline.deployment.waveform import WaveformStudent
from pipeline.errors import SettingError, require
from pipeline.evaluation.runs import find_run
from pipeline.events import Listener, Note, ignore
from pipeline.files import publish_bytes
from pipeline.licences import demands

__all__ = ["Exported", "export_onnx", "export_run"]


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to PyTorch."""

    path: Path
    n_bytes: int
    proof: Proof
    licence: str

    def text(self) -> str:
        """A few lines for people."""
        return (
            f"{self.path}: {self.n_bytes:,} bytes\n"
            f"checked against PyTorch on {self.proof.n_signals} signals: largest difference of a score "
            f"{self.proof.largest:.1e} (on {self.proof.signal}), limit {TOLERANCE:g}\n"
            f"licence: {self.licence}. {demands(self.licence)}"
        )


def export_run(run: str, *, out: Path | None = None, replace: bool = False, listener: Listener = ignore) -> Exported:
    """As :func:`export_onnx`, the run given as a folder or name; the file is ``RUN/student.onnx`` by default."""
    folder = find_run(run)
    return export_onnx(folder, out or folder / "student.onnx", replace=replace, listener=listener)


def export_onnx(folder: Path, path: Path, *, replace: bool = False, listener: Listener = ignore) -> Exported:
    """Export the student of a run folder: waveform in, scores and logits out, checked, then published.

    Raises:
        RunError: no finished student there.
        SettingError: the file is there already, or is a folder; the front end is no log-mel one.
        MissingExtraError: the extra ``export`` is not installed.
        EastError: the student cannot be exported, or the export differs from PyTorch.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, extra="export")
    _require_free(path, replace)
    tagger = load_tagger(folder)
    network = WaveformStudent(tagger.front_end, tagger.student, single_label=tagger.single_label)
    listener(Note(f"Exporting {tagger.name} and checking it against PyTorch ..."))
    content = build_graph(network, describe_model(folder, tagger))
    proof = prove(open_session(content, str(path)), tagger, str(path))
    publish_bytes(path, content)
    return Exported(path, len(content), proof, tagger.licence)


def _require_free(path: Path, replace: bool) -> None:
    if path.is_dir():
        raise SettingError(f"{path} is a folder; --out names the file to write.")
    if path.suffix.lower() != ".onnx":
        raise SettingError(f"{path} must end in .onnx, since `east predict` tells models from run folders by it.")
    if path.exists() and not replace:
        raise SettingError(f"{path} is there already. Give --replace to write it again, or another --out.")
