"""What more labels bring: rows that differ in how many clips are labelled, as one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from matplotlib.figure import Figure

from pipeline.evaluation.results import Comparison, Row
from pipeline.reporting.marks import apart, dot, end_labels
from pipeline.reporting.plots import Plot, clip_sets, draw, panels
from pipeline.reporting.theme import MUTED, colours
from pipeline.reporting.words import n_common, set_title

_BUDGET = ("labelled", "seed", "unlabelled")


def budgets(comparison: Comparison) -> Plot | None:
    """mAP against labelled clips, a line for each recipe; nothing to see where no recipe has two budgets."""
    lines = {name: rows for name, rows in _series(comparison.rows).items() if len(rows) > 1}
    if not lines:
        return None
    names, tints = clip_sets(comparison), colours(comparison.rows)
    ticks = sorted({row.runs[0].n_labelled for rows in lines.values() for row in rows})

    def paint(figure: Figure) -> None:
        for axes, name in zip(panels(figure, len(names)), names, strict=True):
            ends = {}
            for title, rows in lines.items():
                tint = tints[rows[0].group]
                found = [(float(row.runs[0].n_labelled), row.sets[name].map) for row in rows]
                points = [(x, spread) for x, spread in found if spread is not None]
                axes.plot([x for x, _ in points], [spread.mean for _, spread in points], color=tint, linewidth=2)
                for x, spread in points:
                    axes.plot([x] * len(spread.by_seed), list(spread.by_seed.values()), "o", color=tint, markersize=3)
                    dot(axes, x, spread.mean, tint, rows[0].kind == "probe")
                if points:
                    ends[title] = (points[-1][0], points[-1][1].mean, tint)
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_xticks(apart(ticks), [f"{tick:,}" for tick in apart(ticks)])
            axes.grid(axis="y")
            axes.set_title(set_title(name))
            axes.set_xlabel("labelled clips (log scale)")
            axes.tick_params(axis="y", labelcolor=MUTED)
            if name == names[-1]:
                end_labels(axes, ends)

    caption = "mAP against how many clips are labelled. Large marks: mean over seeds; small dots: each seed."
    return draw("budget", caption, 3.8, paint)


def _series(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of the same settings but for the labels, by the words that their titles share, fewest labels first."""
    found: dict[str, list[Row]] = {}
    for members in _lines(rows):
        words = [row.group.split() for row in members]
        shared = " ".join(words[0][: n_common(words)]) if len(words) > 1 else members[0].group
        title = shared.rstrip(" ,:;") or members[0].group
        found[title if title not in found else members[0].group] = sorted(
            members, key=lambda row: row.runs[0].n_labelled
        )
    return found


def _lines(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows alike but for the labels; where some have equally many, those of as many unlabelled clips, too."""
    for members in _alike(rows, _BUDGET):
        counts = {row.runs[0].n_labelled for row in members}
        yield from [members] if len(counts) == len(members) else _alike(members, _BUDGET[:2])


def _alike(rows: Sequence[Row], but: Sequence[str]) -> Iterable[list[Row]]:
    """Rows of the same kind and settings but for some of them."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        config = {key: value for key, value in row.runs[0].config.items() if key not in but}
        found.setdefault(json.dumps([row.kind, config], sort_keys=True), []).append(row)
    return found.values()
