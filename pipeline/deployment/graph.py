"""The ONNX graph of a waveform student: traced, stripped of what tells of this machine, documented."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.deployment.about import INPUT, OUTPUTS
from pipeline.deployment.waveform import WaveformStudent
from pipeline.errors import EastError, require

__all__ = ["OPSET", "build_graph"]

#: ONNX operator set; every runtime of the last two years knows it.
OPSET = 18
_EXAMPLE_FRAMES = 61


def build_graph(network: WaveformStudent, texts: Mapping[str, str]) -> bytes:
    """A network as the bytes of an ``.onnx`` file, batch and length open.

    Args:
        texts: metadata; those named like an input or output also become its doc string.

    Raises:
        EastError: PyTorch cannot export the student's operations.
        MissingExtraError: the extra ``export`` is not installed.
    """
    onnx = require("onnx", extra="export")
    require("onnxscript", extra="export")
    model = _trace(network)
    strip(model.graph)
    model.producer_name, model.producer_version = "east", texts.get("east_version", "")
    model.doc_string = f"{texts.get('name', '')}: {texts.get('licence', '')}"
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = texts.get(value.name, "")
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(texts))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def strip(graph: Any) -> None:
    """Remove the exporter's notes: they hold source lines and the paths of files on this machine."""
    for thing in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del thing.metadata_props[:]
        thing.doc_string = ""
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                strip(inner)


def _trace(network: WaveformStudent) -> Any:
    """The model as ``onnx.ModelProto``."""
    mel = network.mel
    example = torch.zeros(2, mel.hop * _EXAMPLE_FRAMES + mel.n_fft)
    shapes = {INPUT: {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples")}}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EastError(
            f"The student {network.student.card.name!r} cannot be exported: {reason} Its forward pass must depend on "
            "the batch and the number of frames through shapes alone."
        ) from error
    if program is None:
        raise EastError(f"PyTorch {torch.__version__} gave no ONNX program; this needs 2.9 or later.")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecations and of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
