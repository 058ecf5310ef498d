"""The table of a paper: rows as recipes name them, as Markdown, CSV and LaTeX.

One line per row and test set: mean and standard deviation over seeds, a 95 % interval, the
difference to the baseline, and p of a paired test that the header names.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.evaluation.results import Comparison, Measured, Row
from pipeline.evaluation.significance import Difference, holm
from pipeline.files import publish_bytes
from pipeline.reporting.words import ends, signed, spread

METRICS = {"map": "mAP", "roc_auc": "ROC-AUC"}
LEVEL = 0.05
_CLIPS = "†"
_NONE = "–"
_INTERVAL = "95 % interval"
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    char: f"\\{char}" for char in "&%$#_{}"
}
_LATEX_SIGNS = {"±": r"$\pm$", "–": "--", "−": "$-$", "†": r"$^\dagger$", "Δ": r"$\Delta$", "<": "$<$", "\u00a0": "~"}


@dataclass(frozen=True)
class Sheet:
    """A table as text: column headings, lines, and what a reader must know."""

    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    def narrow(self) -> tuple[list[str], list[list[str]]]:
        """Headings and lines without the intervals of the metrics themselves, for a terminal."""
        kept = [index for index, name in enumerate(self.columns) if name != _INTERVAL]
        return [self.columns[index] for index in kept], [[line[index] for index in kept] for line in self.lines]


def make_sheet(comparison: Comparison | None, titles: Sequence[str]) -> Sheet:
    """Lines for all titles, those without runs with dashes.

    Args:
        titles: of all rows, in order.
    """
    sets = comparison.sets if comparison else ("test",)
    rows = {row.group: row for row in comparison.rows} if comparison else {}
    adjusted = _adjusted(comparison)
    columns = ["row", *(["set"] if len(sets) > 1 else []), "seeds"]
    for title in METRICS.values():
        columns += [title, _INTERVAL, f"Δ {title} (95 % interval)", _test_name(rows.values())]
    lines = [
        (title, *([name] if len(sets) > 1 else []), *_cells(rows.get(title), name, adjusted))
        for title in titles
        for name in sets
    ]
    return Sheet(tuple(columns), tuple(lines), tuple(_notes(comparison)))


def publish(comparison: Comparison | None, titles: Sequence[str], folder: Path) -> Sheet:
    """Write ``table.md``, ``table.csv`` and ``table.tex`` into a folder."""
    sheet = make_sheet(comparison, titles)
    publish_bytes(folder / "table.md", to_markdown(sheet).encode())
    publish_bytes(folder / "table.tex", to_latex(sheet).encode())
    publish_bytes(folder / "table.csv", to_csv(comparison, titles).encode())
    return sheet


def to_markdown(sheet: Sheet) -> str:
    """A pipe table and its notes."""
    head = [list(sheet.columns), ["---"] * len(sheet.columns)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in [*head, *sheet.lines]]
    return "\n".join([*lines, "", *(f"- {note}" for note in sheet.notes)]).rstrip() + "\n"


def to_latex(sheet: Sheet) -> str:
    """A ``tabular`` with the rules of ``booktabs``; notes are comments."""
    n_text = sheet.columns.index("seeds")
    lines = [" & ".join(map(latex, line)) + r" \\" for line in sheet.lines]
    return "\n".join(
        [
            *(f"% {note}" for note in sheet.notes),
            r"\begin{tabular}{" + "l" * n_text + "r" * (len(sheet.columns) - n_text) + "}",
            r"\toprule",
            " & ".join(map(latex, sheet.columns)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def latex(text: str) -> str:
    """Text as LaTeX prints it.

    >>> latex("a_b: 0.5 % ± 1")
    'a\\\\_b: 0.5 \\\\% $\\\\pm$ 1'
    """
    plain = re.sub(r"[\\~^&%$#_{}]", lambda found: _LATEX[found[0]], text)
    return re.sub("|".join(_LATEX_SIGNS), lambda found: _LATEX_SIGNS[found[0]], plain)


def to_csv(comparison: Comparison | None, titles: Sequence[str]) -> str:
    """One line per row and set, plain numbers, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = ("mean", "sd", "ci_low", "ci_high", "ci_over", "difference", "difference_ci_low", "difference_ci_high",
             "p", "p_holm", "test", "n", "note")  # fmt: skip
    writer.writerow(
        ["row", "kind", "baseline", "seeds", "set", "n_items", *(f"{m}_{p}" for m in METRICS for p in parts)]
    )
    rows = {row.group: row for row in comparison.rows} if comparison else {}
    adjusted = _adjusted(comparison)
    for title in titles:
        for name in comparison.sets if comparison else ("",):
            line = _csv_line(rows[title], name, adjusted) if title in rows else [title]
            writer.writerow(["" if cell is None else cell for cell in line])
    return out.getvalue()


Adjusted = Mapping[tuple[str, str], Mapping[str, float | None]]


def _adjusted(comparison: Comparison | None) -> Adjusted:
    """Holm's p by (set, metric) and row: the rows of one column are one family of questions."""
    if comparison is None:
        return {}
    found = {}
    for name in comparison.sets:
        for metric in METRICS:
            tests = {row.group: row.sets[name].measured[metric].against for row in comparison.rows}
            found[name, metric] = holm({group: test.p if test else None for group, test in tests.items()})
    return found


def _cells(row: Row | None, name: str, adjusted: Adjusted) -> list[str]:
    if row is None:
        return ["0", *[_NONE] * (4 * len(METRICS))]
    cells = [str(len(row.seeds))]
    for metric in METRICS:
        one = row.sets[name].measured[metric]
        cells += [spread(one.spread), _interval(one), *_against(one.against, adjusted[name, metric][row.group])]
    return cells


def _interval(one: Measured) -> str:
    text = ends(one.ci)
    return text if text == _NONE or one.over == "seeds" else text + _CLIPS


def _against(found: Difference | None, adjusted: float | None) -> list[str]:
    if found is None:
        return [_NONE, _NONE]
    few = found.over == "seeds" and bool(found.note)
    mark = "*" if adjusted is not None and adjusted < LEVEL and not few else ""
    p = _NONE if found.p is None else ("< 0.001" if found.p < 0.001 else f"{found.p:.3f}")
    change = f"{signed(found.by_seed.mean)}{mark} ({ends(found.ci, sign=True)})"
    return [change, p + (_CLIPS if found.over == "clips" and found.p is not None else "")]


def _test_name(rows: object) -> str:
    over = {one.over for one in _differences(rows)}
    if over == {"clips"}:
        return f"p (paired bootstrap over clips{_CLIPS})"
    return "p (paired t over seeds)" if over <= {"seeds"} else f"p (paired t over seeds; {_CLIPS} bootstrap over clips)"


def _differences(rows: object) -> list[Difference]:
    sets = [row.sets.values() for row in rows]  # type: ignore[attr-defined]
    return [one.against for found in sets for part in found for one in part.measured.values() if one.against]


def _notes(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return ["No run is there yet."]
    found = _differences(comparison.rows)
    bases = sorted({row.baseline for row in comparison.rows if row.baseline})
    notes = [f"{comparison.dataset.name}; mean ± standard deviation over seeds; 95 % intervals of the mean (Student)."]
    if any(
        one.over == "clips" for row in comparison.rows for part in row.sets.values() for one in part.measured.values()
    ):
        notes.append(
            f"{_CLIPS} One seed: interval or test by bootstrap over {comparison.unit}s ({comparison.n_resamples:,} "
            "resamples); it says nothing of other seeds."
        )
    if bases:
        notes.append(
            f"Δ is against {', '.join(map(repr, bases))}, paired by seed; p is two-sided and of one row alone."
        )
    if found:
        notes.append(f"* p < {LEVEL} after Holm's correction for all rows of a column.")
    few = sorted({one.note for one in found if one.note and one.over == "seeds"})
    return notes + [f"{note}; no star is given." for note in few]


def _csv_line(row: Row, name: str, adjusted: Adjusted) -> list[object]:
    line: list[object] = [
        row.group,
        row.kind,
        row.baseline,
        " ".join(map(str, row.seeds)),
        name,
        row.sets[name].n_items,
    ]
    for metric in METRICS:
        one = row.sets[name].measured[metric]
        line += [one.spread.mean, one.spread.sd] if one.spread else [None, None]
        line += [one.ci.low, one.ci.high, one.over]
        against = one.against
        if against is None:
            line += [None] * 8
            continue
        test = {"seeds": "paired t over seeds", "clips": "paired bootstrap over clips"}[against.over]
        line += [against.by_seed.mean, against.ci.low, against.ci.high, against.p, adjusted[name, metric][row.group]]
        line += [test, len(against.by_seed.seeds), against.note]
    return line
