"""The figures: rows as dots with intervals, differences, classes, curves, size.

Every figure names its rows directly and gives a row the same colour everywhere.  Filled marks are
means over seeds, small ones single seeds, bars 95 % bootstrap intervals over clips.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.evaluation.judge import FILES
from pipeline.evaluation.results import Comparison
from pipeline.reporting.marks import apart, dot, end_labels, grid, key, label_rows, mark, text
from pipeline.reporting.theme import MUTED, RC, colours
from pipeline.reporting.words import baseline_of, best_row, count, number, row_titles, set_title, signed

Curves = Mapping[str, Sequence[tuple[NDArray[Any], NDArray[Any]]]]
_ROW_IN, _WIDTH_IN, _DPI = 0.46, 8.4, 160


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: file name without suffix.
        caption: what it shows and how to read it.
    """

    name: str
    caption: str
    svg: str
    png: bytes


def draw_all(comparison: Comparison, curves: Curves, sizes: Mapping[str, int]) -> list[Plot]:
    """All figures that the runs allow.

    Args:
        curves: per group, per seed: steps [n] and validation mAP [n].
        sizes: per group, parameters of all that runs when a clip is classified.
    """
    drawn = (scores(comparison), differences(comparison), classes(comparison), learning(comparison, curves))
    return [plot for plot in (*drawn, size(comparison, sizes)) if plot is not None]


def scores(comparison: Comparison) -> Plot:
    """mAP of every row on every test set, with all seeds."""
    names = clip_sets(comparison)
    rows, titles, tints = comparison.rows, row_titles(comparison.rows), colours(comparison.rows)

    def paint(figure: Figure) -> None:
        for axes, name in zip(panels(figure, len(names)), names, strict=True):
            for place, row in enumerate(rows):
                found = row.sets[name]
                if found.map is not None:
                    values = list(found.map.by_seed.values())
                    mark(
                        axes,
                        place,
                        mean=found.map.mean,
                        values=values,
                        ci=found.map_ci,
                        tint=tints[row.group],
                        words=number,
                        hollow=row.kind == "probe",
                    )
            label_rows(axes, rows, titles)
            axes.set_title(set_title(name))
            axes.set_xlabel("mAP")

    caption = (
        "mAP (macro average precision) of every row. Large marks: mean over seeds; small dots: each seed; bars: "
        "95 % bootstrap interval over clips. The open diamond is a probe, which needs the whole teacher to run."
    )
    return draw("scores", caption, _height(len(rows)), paint)


def differences(comparison: Comparison) -> Plot | None:
    """mAP minus labels only, paired by seed and clip."""
    rows = [row for row in comparison.rows if not row.is_baseline and row.baseline is not None]
    if not rows:
        return None
    names, titles, tints = clip_sets(comparison), row_titles(comparison.rows), colours(comparison.rows)

    def paint(figure: Figure) -> None:
        for axes, name in zip(panels(figure, len(names)), names, strict=True):
            axes.axvline(0, color=MUTED, linewidth=1)
            for place, row in enumerate(rows):
                found = row.sets[name]
                if found.difference is not None:
                    mean, values = found.difference.mean, found.difference.differences
                    mark(
                        axes,
                        place,
                        mean=mean,
                        values=values,
                        ci=found.difference_ci,
                        tint=tints[row.group],
                        words=signed,
                        hollow=row.kind == "probe",
                    )
            label_rows(axes, rows, titles)
            axes.set_title(set_title(name))
            axes.set_xlabel("difference in mAP")

    caption = (
        "Difference to the baseline on the same clips and seeds. Where the bar crosses zero, or single seeds lie on "
        "both sides of it, the two cannot be told apart."
    )
    return draw("differences", caption, _height(len(rows)), paint)


def classes(comparison: Comparison) -> Plot | None:
    """Average precision per class, baseline against the student that did best on validation."""
    best = best_row(comparison)
    base = baseline_of(comparison, best) if best else None
    if best is None or base is None:
        return None
    name, tints, titles = comparison.sets[0], colours(comparison.rows), row_titles(comparison.rows)
    old, new = base.sets[name].per_class_ap, best.sets[name].per_class_ap
    pairs = [(label, old[label], new[label]) for label in old]
    known = sorted(
        ((label, a, b) for label, a, b in pairs if a is not None and b is not None), key=lambda p: p[2] - p[1]
    )
    if not known:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (_, before, after) in enumerate(known):
            tint = tints[best.group]
            axes.plot([before, after], [place, place], color=tint, linewidth=2, alpha=0.45, solid_capstyle="round")
            axes.plot(before, place, "o", color=tints[base.group], markersize=7)
            axes.plot(after, place, "o", color=tint, markersize=7)
            side = 1 if after >= before else -1
            text(axes, after, place, signed(after - before), MUTED, dx=9 * side, ha="left" if side > 0 else "right")
        axes.set_yticks(range(len(known)), [label.replace("_", " ") for label, _, _ in known])
        axes.set_ylim(-0.7, len(known) - 0.3)
        grid(axes)
        axes.margins(x=0.1)
        key(axes, [(titles[base.group], tints[base.group]), (titles[best.group], tints[best.group])])
        axes.set_xlabel(f"average precision, {set_title(name)}, mean over seeds")

    caption = (
        "Average precision of each class, sorted by what the teacher changed. Rare classes have few positives, so "
        "their values jump most."
    )
    return draw("classes", caption, 1.3 + 0.3 * len(known), paint)


def learning(comparison: Comparison, curves: Curves) -> Plot | None:
    """Validation mAP while training: each seed faint, the mean strong."""
    rows = [row for row in comparison.rows if any(len(steps) > 1 for steps, _ in curves.get(row.group, ()))]
    if not rows:
        return None
    titles, tints = row_titles(comparison.rows), colours(comparison.rows)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        last = {}
        for row in rows:
            seeds = [(steps, values) for steps, values in curves[row.group] if len(steps) > 1]
            for steps, values in seeds:
                axes.plot(steps, values, color=tints[row.group], linewidth=0.9, alpha=0.35)
            length = min(len(steps) for steps, _ in seeds)
            mean = np.nanmean([values[:length] for _, values in seeds], axis=0)
            axes.plot(seeds[0][0][:length], mean, color=tints[row.group], linewidth=2.2)
            last[row.group] = (float(seeds[0][0][length - 1]), float(mean[-1]))
        end_labels(axes, {titles[group]: (*point, tints[group]) for group, point in last.items()})
        axes.grid(axis="y")
        axes.margins(x=0.01)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("training step")
        axes.set_title("validation mAP")
        axes.tick_params(axis="y", labelcolor=MUTED)

    return draw("learning", "Validation mAP while training. Thin lines are single seeds.", 3.6, paint)


def size(comparison: Comparison, sizes: Mapping[str, int]) -> Plot | None:
    """Parameters that run per clip against mAP; nothing to see when all rows are of one size."""
    rows = [row for row in comparison.rows if sizes.get(row.group) and row.sets[comparison.sets[0]].map]
    if len({sizes[row.group] for row in rows}) < 2:
        return None
    titles, tints, name = row_titles(comparison.rows), colours(comparison.rows), comparison.sets[0]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        points = {}
        for row in rows:
            found = row.sets[name].map
            if found is not None:
                points[row.group] = (float(sizes[row.group]), found.mean)
                dot(axes, *points[row.group], tints[row.group], row.kind == "probe")
        axes.set_xscale("log")
        axes.margins(x=0.15, y=0.15)
        end_labels(axes, {titles[group]: (*point, tints[group]) for group, point in points.items()})
        axes.grid(axis="y")
        axes.minorticks_off()
        ticks = sorted({sizes[row.group] for row in rows})
        axes.set_xticks(apart(ticks), [count(tick) for tick in apart(ticks)])
        axes.set_xlabel("parameters that run for one clip, teacher included where it is needed (log scale)")
        axes.set_title(f"mAP, {set_title(name)}")
        axes.tick_params(axis="y", labelcolor=MUTED)

    return draw("size", "What a row needs at inference against what it reaches.", 3.4, paint)


def draw(name: str, caption: str, height_in: float, paint: Callable[[Figure], None]) -> Plot:
    """A figure of the usual width, in both formats."""
    with mpl.rc_context(RC | {"svg.hashsalt": f"east-{name}"}):
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None}, transparent=True)
        figure.savefig(png, format="png", dpi=_DPI)
    return Plot(name, caption, svg.getvalue(), png.getvalue())


def clip_sets(comparison: Comparison) -> list[str]:
    """Test sets that are judged clip by clip."""
    return [name for name in comparison.sets if not name.endswith(FILES)]


def _height(n_rows: int) -> float:
    return 1.2 + _ROW_IN * n_rows


def panels(figure: Figure, n: int) -> list[Axes]:
    """Axes side by side."""
    return list(figure.subplots(1, n, sharey=True, sharex=True, squeeze=False)[0])
