"""Marks that the figures are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap

from matplotlib.axes import Axes

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.results import Row
from pipeline.reporting.theme import INK, PAPER

_LINE = 30
_LINE_SHARE = 0.075  # of the height of the axes


def wrapped(title: str) -> str:
    """A title in lines short enough to leave room for the figure."""
    return "\n".join(wrap(title, _LINE, break_long_words=False)) or title


def label_rows(axes: Axes, rows: Sequence[Row], titles: Mapping[str, str]) -> None:
    """Rows from top to bottom, named at the left."""
    axes.set_yticks(range(len(rows)), [wrapped(titles[row.group]) for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.6)
    grid(axes)
    axes.margins(x=0.12)


def grid(axes: Axes) -> None:
    """Vertical lines only."""
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)


def mark(
    axes: Axes,
    place: int,
    *,
    mean: float,
    values: Sequence[float],
    ci: Interval,
    tint: str,
    words: Callable[[float | None], str],
    hollow: bool,
) -> None:
    """Mean, its seeds below, its interval behind, its value above."""
    if ci.low is not None and ci.high is not None:
        axes.plot([ci.low, ci.high], [place, place], color=tint, linewidth=3, alpha=0.35, solid_capstyle="round")
    if len(values) > 1:
        axes.plot(values, [place + 0.24] * len(values), "o", color=tint, markersize=3.2, alpha=0.9, markeredgewidth=0)
    dot(axes, mean, place, tint, hollow)
    text(axes, mean, place, words(mean), INK, dy=8, ha="center")


def dot(axes: Axes, x: float, y: float, tint: str, hollow: bool) -> None:
    """One mean; an open diamond for a probe."""
    shape, fill = ("D", PAPER) if hollow else ("o", tint)
    axes.plot(
        x, y, shape, color=tint, markerfacecolor=fill, markeredgewidth=1.8, markersize=7 if hollow else 8, zorder=5
    )


def text(axes: Axes, x: float, y: float, words: str, tint: str, *, dx: float = 0, dy: float = 0, ha: str) -> None:
    """Words beside a point, offset in points."""
    va = "center" if dy == 0 else "bottom"
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    axes.annotate(
        words,
        (x, y),
        xytext=(dx, dy),
        textcoords="offset points",
        ha=ha,
        va=va,
        color=tint,
        fontsize=8.5,
        zorder=4,
        bbox=box,
    )


def key(axes: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Names of colours above the axes."""
    for name, tint in entries:
        axes.plot([], [], "o", color=tint, markersize=7, label=name)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(entries), frameon=False, borderaxespad=0, handletextpad=0.2
    )


def end_labels(axes: Axes, points: Mapping[str, tuple[float, float, str]]) -> None:
    """Names at the right of their points, pushed apart until none overlap."""
    low, high = axes.get_ylim()
    line = (high - low) * _LINE_SHARE
    top = low - line
    for name, (x, y, tint) in sorted(points.items(), key=lambda item: item[1][1]):
        half = line * wrapped(name).count("\n") / 2
        height = max(y, top + line + half)
        top = height + half
        axes.annotate(
            wrapped(name),
            (x, height),
            (9, 0),
            textcoords="offset points",
            va="center",
            color=tint,
            annotation_clip=False,
        )
    axes.set_ylim(low, max(high, top + line / 2))


def apart(ticks: Sequence[int]) -> list[int]:
    """Ticks of a log axis that are at least a factor of 1.6 apart."""
    kept: list[int] = []
    for tick in ticks:
        if not kept or tick >= 1.6 * kept[-1]:
            kept.append(tick)
    return kept
