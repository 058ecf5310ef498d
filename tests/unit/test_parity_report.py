"""The parity table judges what it is given, and a page is written from several runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from parity import report
from parity.case import Arrays, Case
from parity.comparing import Row, compare
from parity.environments import Environment

ROW = Row("name", "clip", True, 1e-5, 1e-6, 1e-4, 0.9999, ("chirp",), "a note")
ORIGINAL = """
import sys
import numpy as np
signals = np.load(sys.argv[2])
np.savez(sys.argv[3], **{f"{name}/clip": signals[name][None, :8] for name in signals})
"""


@pytest.mark.parametrize(
    ("changes", "passed"),
    [({}, True), ({"absolute": 1.0}, True), ({"absolute": 1.0, "relative": 1e-3}, False), ({"cosine": 0.99}, False)],
)
def test_limits(changes: dict[str, float], passed: bool) -> None:
    assert replace(ROW, **changes).passed == passed


def test_a_page_from_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    report.keep([ROW])
    report.keep([replace(ROW, case="other")])
    report.keep([replace(ROW, relative=3e-6)])
    assert [row.case for row in report.kept()] == ["name", "other"]
    report.write(report.kept(), {"torch": "versions"})
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "| name | clip | random | 1.0e-05 | 3.0e-06 | 1.0e-04 | 0.9999000 |" in page
    assert "- **other**: a note" in page
    assert "- torch: versions" in page


def test_both_sides_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the original: the first eight samples, of which ours gets one wrong."""
    monkeypatch.setattr("parity.comparing.SCRIPTS", tmp_path)
    signals = {"noise": np.full(16, 0.5, np.float32), "short": np.full(8, -1, np.float32)}
    monkeypatch.setattr("parity.comparing.make_signals", lambda rate_hz: signals)
    (tmp_path / "original.py").write_text(ORIGINAL, "utf-8")

    def ours(weights: Path, mode: str, given: dict[str, np.ndarray]) -> Arrays:
        wrong = 0.25 if mode == "fast" else 0.125
        return {f"{name}/clip": signal[None, :8] + wrong * np.eye(1, 8) for name, signal in given.items()}

    case = Case("sum", "original.py", "torch", 16_000, lambda folder: folder, ours, random=True)  # type: ignore[arg-type]
    (row,) = compare(case, Environment(Path(sys.executable)))
    assert (row.absolute, row.relative, row.fast_relative) == (0.125, 0.125, 0.25)
    assert row.signals == ("noise", "short")
    assert not row.passed
    with pytest.raises(ValueError, match=r"sum: the original gives noise/clip \(1, 8\), ours nothing"):
        compare(replace(case, ours=lambda *_: {}), Environment(Path(sys.executable)))
