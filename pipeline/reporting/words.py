"""Numbers in words. The words follow the numbers: a method that loses is said to lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.judge import FILES
from pipeline.evaluation.results import Comparison, Row, SetResult, Spread

MINUS = "−"
_SET_TITLES = {"test": "test", "test-unseen": "test, sounds never trained on"}


def number(value: float | None) -> str:
    """Three digits: ``0.563``; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign: ``+0.076``."""
    return "–" if value is None else f"{value:+.3f}".replace("-", MINUS)


def spread(value: Spread | None) -> str:
    """Mean ± standard deviation over seeds: ``0.563 ± 0.008``."""
    if value is None:
        return "–"
    return number(value.mean) + (f"\u00a0±\u00a0{value.sd:.3f}" if value.sd is not None else "")


def ends(value: Interval, *, sign: bool = False) -> str:
    """An interval: ``0.541 to 0.584``."""
    if value.low is None or value.high is None:
        return "–"
    show = signed if sign else number
    return f"{show(value.low)} to {show(value.high)}"


def difference(result: SetResult) -> str:
    """Difference to the baseline, mean ± sd over seeds; a dash for the baseline itself."""
    if result.difference is None:
        return "–"
    found = result.difference
    return signed(found.mean) + (f"\u00a0±\u00a0{found.sd:.3f}" if found.sd is not None else "")


def count(value: int | None) -> str:
    """A count in short: ``53k``, ``5.5M``, ``1.2G``."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            scaled = value / limit
            return f"{scaled:.0f}{unit}" if scaled >= 10 else f"{scaled:.1f}{unit}"
    return str(value)


def set_title(name: str) -> str:
    """A set's name for people: ``test-unseen`` is *test, sounds never trained on*."""
    plain = name.removesuffix(FILES)
    words = _SET_TITLES.get(plain, plain.replace("-", ", ", 1).replace("-", " ").replace("_", " "))
    return f"{words}, whole files" if name.endswith(FILES) else words


def row_titles(rows: Sequence[Row]) -> dict[str, str]:
    """Groups without the words that all of them begin or end with."""
    split = {row.group: row.group.split() for row in rows}
    lists = list(split.values())
    n_head = n_common(lists)
    n_tail = n_common([words[::-1] for words in lists])
    short = {group: " ".join(words[n_head : len(words) - n_tail]) for group, words in split.items()}
    return (
        short
        if all(short.values()) and len(set(short.values())) == len(short)
        else {row.group: row.group for row in rows}
    )


def n_common(lists: Sequence[Sequence[str]]) -> int:
    """How many first words all lists share; 0 for a single list."""
    if len(lists) < 2:
        return 0
    shortest = min(map(len, lists))
    return next((at for at in range(shortest) if len({words[at] for words in lists}) > 1), shortest)


def verdict(result: SetResult) -> str:
    """``better`` or ``worse`` where clips and seeds both say so, else ``level``.

    The 95 % interval over clips must exclude zero, every seed must lie on the same side, and with
    several seeds their mean must be beyond two standard errors.
    """
    low, high, found = result.difference_ci.low, result.difference_ci.high, result.difference
    if low is None or high is None or found is None:
        return "level"
    margin = 2 * (found.sd or 0.0) / len(found.seeds) ** 0.5
    if low > 0 and min(found.differences) > 0 and found.mean > margin:
        return "better"
    return "worse" if high < 0 and max(found.differences) < 0 and found.mean < -margin else "level"


def best_row(comparison: Comparison) -> Row | None:
    """The student with a teacher that did best on *validation*, so that the test set chose nothing."""
    rows = [row for row in comparison.rows if row.kind == "student" and not row.is_baseline]
    return max(rows, key=_valid_map, default=None)


def baseline_of(comparison: Comparison, row: Row) -> Row | None:
    """The row another is measured against."""
    return next((other for other in comparison.rows if other.group == row.baseline), None)


def headline(comparison: Comparison) -> str:
    """One sentence with the main numbers, whichever way they point."""
    best = best_row(comparison)
    base = baseline_of(comparison, best) if best else None
    if best is None or base is None:
        return _headline_without_pair(comparison)
    name = comparison.sets[0]
    old, new = base.sets[name].map, best.sets[name].map
    if old is None or new is None:
        return _headline_without_pair(comparison)
    title = row_titles(comparison.rows)[best.group]
    labels = f"With {best.runs[0].n_labelled:,} labelled clips, " if best.runs[0].n_labelled else ""
    values = f"from {number(old.mean)} to {number(new.mean)}"
    match verdict(best.sets[name]):
        case "better":
            return f"{labels}“{title}” raised mAP {values}, against the same student on labels only."
        case "worse":
            return f"{labels}“{title}” made the student worse: mAP fell {values} against labels only."
    return f"{labels}“{title}” made no difference that these clips and seeds can show: mAP went {values}."


def details(comparison: Comparison) -> list[str]:
    """A sentence per set on the row of the headline."""
    best = best_row(comparison)
    base = baseline_of(comparison, best) if best else None
    if best is None or base is None:
        return []
    return [_detail(name, best.sets[name], base.sets[name]) for name in comparison.sets]


def row_sentences(comparison: Comparison) -> list[str]:
    """How every row did against its baseline, on the first set."""
    titles, name = row_titles(comparison.rows), comparison.sets[0]
    words = {"better": "beats", "worse": "falls behind", "level": "cannot be told apart from"}
    found = []
    for row in comparison.rows:
        result = row.sets[name]
        if row.is_baseline or row.baseline is None or result.difference is None:
            continue
        change = f"{difference(result)}, 95 % interval {ends(result.difference_ci, sign=True)}"
        found.append(f"“{titles[row.group]}” {words[verdict(result)]} “{titles[row.baseline]}” ({change}).")
    return found


def common_settings(rows: Sequence[Row]) -> dict[str, object]:
    """Settings that are the same in all runs."""
    configs: list[Mapping[str, object]] = [run.config for row in rows for run in row.runs]
    first = configs[0] if configs else {}
    return {key: value for key, value in first.items() if all(config.get(key) == value for config in configs)}


def _valid_map(row: Row) -> float:
    values = [run.best.get("valid_map") for run in row.runs]
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    return sum(numbers) / len(numbers) if numbers else float("-inf")


def _headline_without_pair(comparison: Comparison) -> str:
    name = comparison.sets[0]
    row = max(comparison.rows, key=lambda row: found.mean if (found := row.sets[name].map) else -1.0)
    title = row_titles(comparison.rows)[row.group]
    return f"“{title}” reached mAP {spread(row.sets[name].map)}; no other row is there to be measured against it."


def _detail(name: str, result: SetResult, base: SetResult) -> str:
    found = result.difference
    if found is None:
        return f"On {set_title(name)}: mAP {spread(result.map)}, no seed in common with labels only."
    seeds = f"{len(found.seeds)} seeds" if len(found.seeds) > 1 else "one seed"
    return (
        f"On {set_title(name)} ({result.n_items:,} {'files' if name.endswith(FILES) else 'clips'}): mAP "
        f"{spread(result.map)} against {spread(base.map)}, a difference of {difference(result)} paired over {seeds}; "
        f"95 % interval over clips {ends(result.difference_ci, sign=True)}."
    )
