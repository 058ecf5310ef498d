"""One page that needs nothing else: headline, table, figures, limits, how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from pipeline.evaluation.results import Comparison, Row, SetResult
from pipeline.reporting import limits, words
from pipeline.reporting.plots import Plot
from pipeline.reporting.theme import VARIABLES, colours, inline

_HEADS = {
    "scores": "All rows",
    "differences": "What the teacher adds",
    "classes": "Class by class",
    "learning": "While training",
    "size": "Size",
    "budget": "More labels",
}


def render(comparison: Comparison, plots: Sequence[Plot], *, commands: Sequence[str], made: Mapping[str, Any]) -> str:
    """The page as HTML text.

    Args:
        commands: command lines that make these numbers, in order.
        made: provenance of this page.
    """
    title = f"{comparison.dataset.name}: students and their teachers"
    css = files("pipeline.reporting").joinpath("page.css").read_text(encoding="utf-8")
    body = [
        _top(comparison),
        _table(comparison),
        *(_figure(plot) for plot in plots),
        _limits(comparison),
        _made(comparison, commands, made),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{css}</style>\n</head>\n<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _top(comparison: Comparison) -> str:
    facts = comparison.dataset
    n_runs = sum(len(row.runs) for row in comparison.rows)
    kicker = f"{facts.name} · {len(facts.classes)} classes · clips of {facts.clip_s:g} s · {n_runs} runs"
    lead = "".join(f'<p class="lead">{escape(sentence)}</p>' for sentence in words.details(comparison))
    rest = "".join(f"<li>{escape(sentence)}</li>" for sentence in words.row_sentences(comparison))
    rest = f"<p>On {escape(words.set_title(comparison.sets[0]))}, row by row:</p><ul>{rest}</ul>" if rest else ""
    chosen = "The row in the headline is the student with the best validation mAP; the test set chose nothing."
    note = f'<p class="note">{chosen}</p>' if words.best_row(comparison) else ""
    return f'<p class="kicker">{escape(kicker)}</p>\n<h1>{escape(words.headline(comparison))}</h1>\n{lead}{rest}{note}'


def _table(comparison: Comparison) -> str:
    titles, tints = words.row_titles(comparison.rows), colours(comparison.rows)
    sets = "".join(
        f'<th class="group" colspan="3" scope="colgroup">{escape(words.set_title(name))}</th>'
        for name in comparison.sets
    )
    per_set = '<th class="first" scope="col">mAP</th><th scope="col">ROC-AUC</th><th scope="col">difference</th>'
    head = (
        f"<tr><td></td><td></td>{sets}</tr>"
        f'<tr><th scope="col">row</th><th scope="col">seeds</th>{per_set * len(comparison.sets)}</tr>'
    )
    rows = "".join(_table_row(row, titles[row.group], tints[row.group], comparison.sets) for row in comparison.rows)
    caption = (
        "Mean ± standard deviation over seeds; below, the 95 % bootstrap interval. Bold: better, by clips and seeds. "
        "Below a row's name: parameters, multiply-accumulates per clip, training time."
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table of results">'
        f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )


def _table_row(row: Row, title: str, tint: str, sets: Iterable[str]) -> str:
    cells = "".join(_set_cells(row.sets[name]) for name in sets)
    dot = f'<i style="background:var({VARIABLES[tint]})" aria-hidden="true"></i>'
    cost = [f"{words.count(row.runs[0].n_parameters)} parameters", f"{row.train_s:,.0f} s"]
    if row.macs is not None:
        cost.insert(1, f"{words.count(row.macs)} MACs")
    name = f"{dot}{escape(title)}<small>{' · '.join(cost)}</small>"
    kind = ' class="base"' if row.is_baseline else ""
    return f'<tr{kind}><th scope="row">{name}</th><td>{len(row.seeds)}</td>{cells}</tr>'


def _set_cells(found: SetResult) -> str:
    better = ' class="better"' if words.verdict(found) == "better" else ""
    change = words.difference(found)
    under = f"<small>{words.ends(found.difference_ci, sign=True)}</small>" if found.difference else ""
    return (
        f'<td class="first">{words.spread(found.map)}<small>{words.ends(found.map_ci)}</small></td>'
        f"<td>{words.spread(found.roc_auc)}</td><td{better}>{change}{under}</td>"
    )


def _figure(plot: Plot) -> str:
    caption = escape(plot.caption)
    picture = inline(plot.svg, plot.name, escape(_HEADS[plot.name]))
    figure = f'<figure><div class="picture">{picture}</div><figcaption>{caption}</figcaption></figure>'
    return f"<h2>{_HEADS[plot.name]}</h2>\n{figure}"


def _limits(comparison: Comparison) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in limits.limits(comparison))
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in limits.EARLIER_COLUMNS)
    rows = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in limits.EARLIER
    )
    return (
        f"<h2>What this does not show</h2>\n<ul>{items}</ul>\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Earlier experiment"><table>'
        f"<caption>mAP, seen sounds unless said otherwise</caption><thead><tr>{heads}</tr></thead>"
        f'<tbody>{rows}</tbody></table></div>\n<p class="note">{escape(limits.EARLIER_NOTE)}</p>'
    )


def _made(comparison: Comparison, commands: Sequence[str], made: Mapping[str, Any]) -> str:
    settings = words.common_settings(comparison.rows)
    lines = escape("\n".join(commands))
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(comparison, made))
    stores = "".join(f"<li>{escape(text)}</li>" for text in _stores(comparison))
    differing = "".join(_row_settings(row, settings) for row in comparison.rows)
    return (
        f"<h2>How it was made</h2>\n<pre><code>{lines}</code></pre>\n<dl>{pairs}</dl>\n"
        f"<p>Stores that were read, with the licences of what made them:</p><ul>{stores}</ul>\n"
        f"<details><summary>Settings</summary><p>Common to all rows:</p><pre><code>{_json(settings)}</code></pre>"
        f"{differing}</details>\n<details><summary>Versions</summary><pre><code>{_json(made)}</code></pre></details>"
    )


def _facts(comparison: Comparison, made: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts, card = comparison.dataset, comparison.card
    licences = sorted({run.licence for row in comparison.rows for run in row.runs if run.licence})
    commits = sorted(
        {str(run.provenance.get("commit") or "unknown")[:12] for row in comparison.rows for run in row.runs}
    )
    found = [
        ("dataset", f"{facts.name}: {card.get('summary', '')}".rstrip(": ")),
        ("its source", str(card.get("source", ""))),
        ("its splits", str(card.get("split_rule", ""))),
        ("its licence", facts.licence),
        ("cite", facts.citation),
        ("clip table digest", facts.digest[:16]),
        ("licence of the students", "; ".join(licences)),
        ("trained with", f"version {made.get('version', '')}, commit {', '.join(commits)}"),
        ("page made", str(made.get("time", ""))),
    ]
    return [(name, value) for name, value in found if value]


def _stores(comparison: Comparison) -> list[str]:
    found = {}
    for run in (run for row in comparison.rows for run in row.runs):
        for store in run.stores:
            name = f"{store.get('extractor')}/{store.get('output')}"
            parts = [name, *(f"{key.replace('_', ' ')}: {store[key]}" for key in _SHOWN if store.get(key))]
            digest = store.get("content_digest")
            found[name] = "; ".join(parts) + (f"; content digest {str(digest)[:16]}" if digest else "")
    return list(found.values())


_SHOWN = ("licence_code", "licence_weights", "citation")


def _row_settings(row: Row, common: Mapping[str, object]) -> str:
    own = {key: value for key, value in row.runs[0].config.items() if key not in common and key != "seed"}
    return f"<p>{escape(row.group)}</p><pre><code>{_json(own)}</code></pre>" if own else ""


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=str))
