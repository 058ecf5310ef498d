"""Colours and type of the figures, and how an SVG follows the page into dark mode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.results import Row

INK, MUTED, GRID, PAPER = "#1d2733", "#5c6773", "#dde3e9", "#fefefd"
BASELINE, PROBE = "#76828f", "#b07d12"
STUDENTS = ("#1a6fc4", "#d9622b", "#2c9464", "#8e4ec6", "#c43d5d", "#138a9e")

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    BASELINE: "--c-base",
    PROBE: "--c-probe",
} | {colour: f"--c{index}" for index, colour in enumerate(STUDENTS)}

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "east",
}


def colours(rows: Sequence[Row]) -> dict[str, str]:
    """One colour per row, the same in every figure: grey the baselines, ochre the probes."""
    found, index = {}, 0
    for row in rows:
        if row.is_baseline:
            found[row.group] = BASELINE
        elif row.kind == "probe":
            found[row.group] = PROBE
        else:
            found[row.group] = STUDENTS[index % len(STUDENTS)]
            index += 1
    return found


def inline(svg: str, name: str, title: str) -> str:
    """An SVG to stand inside a page: colours become the page's variables, ids are its own.

    Args:
        name: prefix that keeps ids of several figures apart.
        title: what a screen reader says; plain text, already escaped for HTML.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for colour, variable in VARIABLES.items():
        body = re.sub(re.escape(colour), f"var({variable})", body, flags=re.IGNORECASE)
    head, _, rest = body.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-labelledby="{name}-title"><title id="{name}-title">{title}</title>{rest}'
