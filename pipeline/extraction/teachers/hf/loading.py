"""Networks from a folder, strictly: what the library would only warn about is an error here.

No code of a model is run: classes are the library's own, named in ``architecture``, and a ``.bin``
file is read as tensors alone.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from pipeline.audio.extractor import Mode
from pipeline.errors import EastError, WeightsError, require
from pipeline.extraction.teachers.hf.adapters import Adapter
from pipeline.extraction.teachers.hf.architecture import Architecture

_UNUSED = ("masked_spec_embed", "pooler.", "adapter.", "audio_projection.")
"""Beginnings of weights that no output of ours uses: of training, of heads."""

_QUIET = {"apply_spec_augment": False, "layerdrop": 0.0, "encoder_layerdrop": 0.0, "add_adapter": False}
"""What would change numbers from run to run, and an adapter that would change the hop."""

_SHOWN = 3


def load_network(
    folder: Path, config: Mapping[str, Any], numbers: Architecture, adapter: Adapter, mode: Mode
) -> nn.Module:
    """The encoder with the weights of a folder, in eval mode, float32.

    Raises:
        WeightsError: damaged or foreign files, weights that are missing, of another shape or not finite.
        MissingExtraError: the transformers library is not installed.
    """
    library = require("transformers", extra="hf")
    model_class = getattr(library, numbers.model_class)
    try:
        with _quietly(library):
            made, info = model_class.from_pretrained(
                folder,
                config=_config(library, config, model_class),
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation="sdpa" if mode != "exact" and model_class._supports_sdpa else "eager",
            )
    except EastError:
        raise
    except Exception as error:  # readers of several formats, each with exceptions of its own
        raise WeightsError(
            f"{folder.name} cannot be read as {numbers.model_class}; nothing in it was run. {_reason(error)}"
        ) from error
    _require_complete(folder.name, numbers.model_class, adapter.encoder, info)
    encoder: nn.Module = made.get_submodule(adapter.encoder).eval()
    _require_finite(folder.name, encoder)
    return encoder


def shorten(network: nn.Module, paths: Sequence[str], n_layers: int) -> None:
    """Drop the layers behind the first ``n_layers`` of the list at the first path that exists."""
    named = dict(network.named_modules())
    for path in paths:
        if isinstance(layers := named.get(path), nn.ModuleList):
            parent, _, name = path.rpartition(".")
            setattr(named[parent], name, layers[:n_layers])
            return


def fold(network: nn.Module) -> None:
    """Put weight norms into the weights."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def _config(library: ModuleType, config: Mapping[str, Any], model_class: Any) -> Any:
    """The settings as the class wants them; MERT without its extras is HuBERT."""
    settings = {key: value for key, value in config.items() if key not in ("auto_map", "architectures")}
    model_type = str(settings.pop("model_type"))
    if model_type == "mert_model":
        model_type = "hubert"
    made = library.AutoConfig.for_model(model_type, **settings)
    made = made if isinstance(made, model_class.config_class) else made.audio_config
    for name, value in _QUIET.items():
        if hasattr(made, name):
            setattr(made, name, value)
    return made


def _require_complete(name: str, model_class: str, encoder: str, info: Mapping[str, Any]) -> None:
    prefix = f"{encoder}." if encoder else ""
    missing = [key.removeprefix(prefix) for key in sorted(info["missing_keys"]) if key.startswith(prefix)]
    missing = [key for key in missing if not key.startswith(_UNUSED)]
    wrong = [
        f"{key} has shape {list(found)}, expected {list(wanted)}" for key, found, wanted in info["mismatched_keys"]
    ]
    found = ([f"missing {_some(missing)}"] if missing else []) + ([_some(sorted(wrong))] if wrong else [])
    if found:
        raise WeightsError(
            f"{name} does not hold the weights of {model_class} that its config.json describes: {'; '.join(found)}. "
            "The files belong to different models, or one of them is not whole."
        )


def _reason(error: Exception) -> str:
    """In a sentence; a pickle's own message explains how to run what is in it, which we never do."""
    if isinstance(error, pickle.UnpicklingError):
        return "Its .bin file is not a checkpoint of tensors alone: code may hide in it, or it is damaged."
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


def _require_finite(name: str, network: nn.Module) -> None:
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(f"{name}: {key} holds values that are not finite. The file is damaged.")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@contextmanager
def _quietly(library: ModuleType) -> Iterator[None]:
    """Neither bars nor warnings while a model is read; as it was afterwards."""
    log = library.utils.logging
    level, shown = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if shown:
            log.enable_progress_bar()
