"""Citations of a store as BibTeX, from the free texts that cards hold."""

from __future__ import annotations

import re

from pipeline.stores.licensing import sources_of
from pipeline.stores.schema import StoreMeta
from pipeline.texts import one_line

_MOST = 20
_YEAR = re.compile(r"\b(?:19|20)[0-9]{2}\b")


def bibtex(meta: StoreMeta) -> str:
    """Entries of extractor and datasets; empty where nothing is cited.

    An entry that is BibTeX already is taken as it is; another text becomes the note of ``@misc``.
    """
    cited = {one_line(meta.card.get("citation")): one_line(meta.extractor)}
    datasets = [meta.dataset, *(source.get("dataset") for source in sources_of(meta))]
    for dataset in datasets:
        if isinstance(dataset, dict) and len(cited) < _MOST:
            cited.setdefault(one_line(dataset.get("citation")), f"{one_line(dataset.get('name')) or 'data'}-data")
    return "\n\n".join(entry(text, key) for text, key in cited.items() if text)


def entry(text: str, key: str) -> str:
    """One entry.

    >>> print(entry("J. Pons & X. Serra, ISMIR 2018", "musicnn"))
    @misc{musicnn,
      note = {J. Pons \\& X. Serra, ISMIR 2018},
      year = {2018},
    }
    """
    text = text.replace("`", "'")
    if re.match(r"@\w+\s*\{", text) and text.count("{") == text.count("}"):
        return text
    plain = re.sub(r"([&%#$_])", r"\\\1", re.sub(r"[{}\\]", "", text))
    years = _YEAR.findall(text)
    lines = [f"@misc{{{re.sub(r'[^A-Za-z0-9:-]+', '-', key)},", f"  note = {{{plain}}},"]
    return "\n".join(lines + ([f"  year = {{{years[-1]}}},"] if years else []) + ["}"])
