"""The parity table as a page of the documentation."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
from collections.abc import Mapping, Sequence

from parity.comparing import LARGEST, LEAST_COSINE, Row
from parity.environments import FOLDER, ROOT

PAGE = ROOT / "docs" / "parity.md"
_COLUMNS = ("original", "output", "weights", "exact, absolute", "exact, relative", "fast, relative", "fast, cosine")


def line(row: Row) -> str:
    """One row for a terminal."""
    verdict = "" if row.passed else "  BEYOND THE LIMIT"
    return f"{row.case:<32} {row.output:<14} " + "  ".join(_numbers(row)) + verdict


def keep(rows: Sequence[Row]) -> None:
    """Note the rows of a case in place of earlier ones."""
    names = {row.case for row in rows}
    known = [row for row in kept() if row.case not in names]
    FOLDER.mkdir(exist_ok=True)
    made = [dataclasses.asdict(row) for row in sorted([*known, *rows], key=lambda row: row.case)]
    (FOLDER / "rows.json").write_text(json.dumps(made), "utf-8")


def kept() -> list[Row]:
    """The rows of all cases that were run here."""
    path = FOLDER / "rows.json"
    if not path.exists():
        return []
    return [Row(**row | {"signals": tuple(row["signals"])}) for row in json.loads(path.read_text("utf-8"))]


def write(rows: Sequence[Row], environments: Mapping[str, str]) -> None:
    """Write ``docs/parity.md``."""
    cells = [_COLUMNS, ("---",) * len(_COLUMNS)]
    cells += [(row.case, row.output, "random" if row.random else "official", *_numbers(row)) for row in rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    notes = {f"- **{row.case}**: {row.note}": None for row in rows if row.note}
    sides = "\n".join(f"- {name}: {versions}" for name, versions in environments.items())
    PAGE.write_text(_PAGE.format(table=table, notes="\n".join(notes), sides=sides, **_about()), "utf-8")


def _numbers(row: Row) -> tuple[str, ...]:
    cosine = f"{row.cosine:.7f}"
    return f"{row.absolute:.1e}", f"{row.relative:.1e}", f"{row.fast_relative:.1e}", cosine


def _about() -> dict[str, str]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {
        "date": today,
        "machine": f"{platform.system()} {platform.machine()}",
        "limit": f"{LARGEST:g}",
        "least": f"{LEAST_COSINE:g}",
    }


_PAGE = """# Parity with the original implementations

Each teacher's original package and ours were given the same weights and the same waveforms: a chirp,
noise and a rendered music clip of three seconds, and a clip of 0.1 s. The table is written by
`make parity`, which builds the originals' environments itself; it was last run on {date} on {machine}.

*Exact* columns are the largest difference between ours in `exact` mode and the original, absolute and
relative to the largest magnitude of that output; one of both is at most {limit}. *Fast* columns are
the same for the default mode, and the least cosine of any frame, at least {least}. *Random* weights
have batch-norm statistics drawn at random, too, in a file of the official format.

{table}

{notes}

Environments of the originals:

{sides}
"""
