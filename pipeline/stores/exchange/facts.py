"""What must be known of embeddings that were made elsewhere: a card in TOML, or options."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import SettingError
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, read_file
from pipeline.stores.schema import Dtype, StoreMeta, choose_sizes, with_fingerprint

MODE = "imported"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_MOST_S = 1e9
_DATASET = ("name", "version", "licence", "citation")


@dataclass(frozen=True)
class Facts:
    """A card: what the numbers are, and whose.

    Attributes:
        extractor, output: names, fit for a folder.
        version: of the extractor, a whole number.
        rate_hz: of the audio that the extractor heard.
        hop_s, window_s, offset_s: seconds; frame ``k`` covers ``offset_s + k * hop_s`` to ``+ window_s``. ``hop_s``
            is 0 where there is one frame per clip.
        clip_s: the one clip length, seconds.
        licence, licence_code: of the extractor's weights and code.
        scale, shift: numbers are stored as ``scale * number + shift``, such as to undo a quantisation.
        parameters: settings of the extractor, plain values.
        dataset: name, version, licence and citation of the audio.
    """

    extractor: str
    output: str
    version: int
    rate_hz: int
    hop_s: float
    window_s: float
    clip_s: float
    licence: str
    citation: str
    offset_s: float = 0.0
    licence_code: str = ""
    summary: str = ""
    kind: str = "teacher"
    scale: float = 1.0
    shift: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, str] = field(default_factory=dict)


def read_facts(card: Path | None, options: Mapping[str, Any]) -> Facts:
    """A card, with what the options say laid over it.

    Raises:
        SettingError: no such file, an unknown key, a fact that is missing or makes no sense.
    """
    where = str(card) if card else "The options"
    given = (_read(card) if card else {}) | {key: value for key, value in options.items() if value is not None}
    known = {about.name: about for about in dataclasses.fields(Facts)}
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise SettingError(f"{where}: there is no fact {key!r}.{hint} Known: {', '.join(known)}.")
    needed = [name for name, about in known.items() if about.default is about.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in given]:
        raise SettingError(
            f"{where} must also say {', '.join(missing)}: in a card (--card CARD.toml, a line {missing[0]} = ...), or "
            "by the options of the same names."
        )
    return _checked(given, where)


def _read(card: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_file(card.resolve(), MAX_DOCUMENT_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise SettingError(f"{card} cannot be read as a card in TOML: {error}") from error


def _checked(given: dict[str, Any], where: str) -> Facts:
    for name in ("extractor", "output"):
        if not isinstance(given[name], str) or not _NAME.fullmatch(given[name]):
            raise SettingError(f"{where}: {name} is {given[name]!r}, not a name of letters, digits and . _ + -")
    for name in ("licence", "licence_code", "citation", "summary", "kind"):
        value = given.get(name, "")
        if not isinstance(value, str) or len(value) > 2000 or (not value.strip() and name in ("licence", "citation")):
            raise SettingError(f"{where}: {name} is {value!r:.60}, not a text (say 'unknown' where it is not known).")
    if given.get("kind", "teacher") not in ("teacher", "mel"):
        raise SettingError(f"{where}: kind is {given['kind']!r}, neither teacher nor mel.")
    for name, least in (("version", 0), ("rate_hz", 1)):
        if type(given[name]) is not int or not least <= given[name] < 1 << 31:
            raise SettingError(f"{where}: {name} is {given[name]!r}, not a whole number of at least {least}.")
    for name in ("hop_s", "window_s", "clip_s", "offset_s", "scale", "shift"):
        given[name] = _number(given, name, where)
    if given["clip_s"] <= 0 or given["hop_s"] < 0 or given["window_s"] < 0 or not given["scale"]:
        raise SettingError(f"{where}: clip_s must be above 0, hop_s and window_s not below, scale not 0.")
    for name, keys in (("parameters", None), ("dataset", _DATASET)):
        given[name] = _table(given.get(name, {}), name, keys, where)
    return Facts(**given)


def _number(given: Mapping[str, Any], name: str, where: str) -> float:
    value = given.get(name, 1.0 if name == "scale" else 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST_S:
        raise SettingError(f"{where}: {name} is {value!r}, not a sensible number.")
    return float(value)


def _table(value: Any, name: str, keys: tuple[str, ...] | None, where: str) -> dict[str, Any]:
    plain = isinstance(value, dict) and all(isinstance(item, str | int | float | bool) for item in value.values())
    if not plain or (keys and not set(value) <= set(keys)):
        wanted = f"with {', '.join(keys)}" if keys else "of plain values"
        raise SettingError(f"{where}: {name} must be a table {wanted}.")
    return dict(value)


def meta_of(
    facts: Facts, *, clips: int, frames: int, channels: int, dtype: Dtype, derived: Mapping[str, Any]
) -> StoreMeta:
    """Root attributes of the imported store; its mode, which no extraction has, keeps its fingerprint apart.

    Raises:
        SettingError: hop and window that contradict the frames or the clip length.
    """
    _require_times(facts, frames)
    parameters = dict(facts.parameters) | {"imported": True, "scale": facts.scale, "shift": facts.shift}
    output = {"name": facts.output, "channels": channels, "hop_s": facts.hop_s, "window_s": facts.window_s}
    card = {
        "name": facts.extractor, "version": facts.version, "kind": facts.kind, "summary": facts.summary,
        "rate_hz": facts.rate_hz, "outputs": [output | {"offset_s": facts.offset_s}], "parameters": parameters,
        "licence_code": facts.licence_code, "licence_weights": facts.licence, "citation": facts.citation,
    }  # fmt: skip
    chunk, shard = choose_sizes(clips, frames * channels * (2 if dtype == "float16" else 4))
    return with_fingerprint(
        StoreMeta(
            extractor=facts.extractor, output=facts.output, mode=MODE, card=card, weights_sha256=(),
            rate_hz=facts.rate_hz, hop_s=facts.hop_s, window_s=facts.window_s, offset_s=facts.offset_s, frames=frames,
            channels=channels, dtype=dtype, clip_s=facts.clip_s, chunk_clips=chunk, shard_clips=shard, fingerprint="",
            dataset=dict(facts.dataset), uuid=str(uuid.uuid4()), derived=derived,
        )
    )  # fmt: skip


def _require_times(facts: Facts, frames: int) -> None:
    if frames > 1 and not facts.hop_s:
        raise SettingError(f"Clips have up to {frames:,} frames, but hop_s is 0, which means one frame per clip.")
    span = (frames - 1) * facts.hop_s + facts.window_s
    if span > facts.clip_s + facts.hop_s + 2 * facts.window_s:
        raise SettingError(
            f"{frames:,} frames every {facts.hop_s:g} s, each of {facts.window_s:g} s, cover {span:g} s, but clips "
            f"have {facts.clip_s:g} s. Is hop_s right, or clip_s?"
        )
