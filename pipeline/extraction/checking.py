"""``east store verify`` with what only stage one knows: extractors for canaries, tables for audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline import registry, weights
from pipeline.datasets.resolve import load
from pipeline.errors import EastError, StoreError
from pipeline.events import Listener
from pipeline.extraction.jobs import ExtractorSpec
from pipeline.stores.checking.audio_files import AudioPlaces
from pipeline.stores.checking.repair import repair_store
from pipeline.stores.checking.report import VerifyReport
from pipeline.stores.checking.verify import CanaryResult, VerifyOptions, verify_store
from pipeline.stores.making.pool import pooling_of
from pipeline.stores.making.pooling import pool_canaries
from pipeline.stores.schema import StoreMeta


def verify_from_options(
    path: str, *, repair: bool, audio: Path | None, data: str | None, canaries: bool, listener: Listener
) -> VerifyReport:
    """Check a store, and perhaps repair it."""
    places = None
    if audio is not None:
        table = load(data)[0] if data else None
        paths = dict(zip(table.clip_id.tolist(), table.path.tolist(), strict=True)) if table else {}
        places = AudioPlaces(audio, paths)
    options = VerifyOptions(recompute_canaries if canaries else None, places)
    if repair:
        return repair_store(Path(path), options, listener)
    return verify_store(path, options, listener)


def recompute_canaries(meta: StoreMeta, stored: dict[str, np.ndarray]) -> CanaryResult:
    """Compute a store's canaries again, where its extractor and weights are here; nothing is fetched."""
    from pipeline.extraction.canaries import compare_canaries, compute_canaries  # PyTorch: only where it is needed

    try:
        pooled = pooling_of(meta)
        output = pooled[1] if pooled else meta.output
        request = registry.request_of(meta.extractor, meta.card.get("parameters", {}))
        card = registry.find_extractor(request)
        if card.version != meta.card.get("version"):
            return CanaryResult(None, f"not computed again: {meta.extractor} is another version here")
        if output not in {about.name for about in card.outputs}:
            return CanaryResult(None, f"not computed again: {meta.extractor} itself gives no output {output!r}")
        files = tuple(found for about in card.weights if (found := weights.installed(about)))
        if len(files) < len(card.weights) or tuple(map(weights.digest_of, files)) != meta.weights_sha256:
            return CanaryResult(None, "not computed again: its weights are not here (east weights get)")
        spec = ExtractorSpec(request, (output,), meta.mode, files, card.batch_clips)  # type: ignore[arg-type]
        again = compute_canaries(spec, "cpu", stored)[output]
        again = pool_canaries(again, pooled[0]) if pooled else again
    except EastError as error:
        return CanaryResult(None, f"not computed again: {error}")
    try:
        warned = compare_canaries("", stored, again, card.tolerance)
    except StoreError as error:
        return CanaryResult(False, str(error).removeprefix(": "))
    return CanaryResult(True, warned or f"computed again, within the card's tolerance of {card.tolerance:.0e}")
