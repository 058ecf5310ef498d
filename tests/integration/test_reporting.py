"""From run folders to table, figures and page; the words follow the numbers."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import fakeruns
import pytest
from fakeruns import make_dataset, make_run, make_table

from pipeline.errors import RunError
from pipeline.evaluation.runs import read_run
from pipeline.events import Warned
from pipeline.layout import HOME_VARIABLE
from pipeline.manifest import read_table
from pipeline.reporting import words
from pipeline.reporting.report import compare_runs, report
from pipeline.reporting.tables import COLUMNS, text_rows

FAST = {"n_resamples": 60}
#: In one worker of pytest-xdist, so that the page is made once.
pytestmark = pytest.mark.xdist_group("reporting")


class _Page(HTMLParser):
    """Checks nesting, collects ids, text and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.fetched += [value for key, value in attrs if key in ("src", "href") and not value.startswith("#")]
        self.fetched += [tag] if tag in ("script", "link", "iframe") else []
        if tag not in ("meta", "br", "img"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for key, value in attrs if key == "id"]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_page(path):
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert not page.stack
    return page


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    make_dataset(home, clips_per_file=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home))
        return report(data="demo", **FAST)


def test_everything_is_written(made):
    assert made.page == made.folder / "index.html"
    names = {path.name for path in (made.folder / "figures").iterdir()}
    assert names >= {"scores.svg", "scores.png", "differences.png", "classes.svg", "learning.png"}
    facts = json.loads((made.folder / "comparison.json").read_text())
    assert facts["sets"] == ["test", "test by file", "test-unseen", "test-unseen by file"]
    with (made.folder / "comparison.csv").open() as handle:
        lines = list(csv.DictReader(handle))
    assert len(lines) == 4 * 4
    assert float(lines[0]["map_mean"]) == pytest.approx(facts["rows"][0]["sets"]["test"]["map"]["mean"])


def test_the_page_stands_alone_and_is_well_formed(made):
    page = read_page(made.page)
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids))
    html = made.page.read_text()
    assert not re.search(r'(src|href)="https?:', html)
    assert html.count('role="img"') == len(list((made.folder / "figures").glob("*.svg"))) >= 4
    assert "prefers-color-scheme: dark" in html
    assert "var(--ink)" in html


def test_the_page_tells_its_limits_and_sources(made):
    text = " ".join(read_page(made.page).text)
    assert "rendered with sampled instruments, not recorded performances" in text
    assert "a tenth of that in our experiment" in text
    assert "+0.222" in text
    assert "scores: public domain; sound bank: MIT" in text
    assert "Pons 2019" in text
    assert "east report --data demo" in text
    assert "--seed 1 --steps 700 --group 'cnn-small kd on all clips 200 labels'  # and --seed 2, 3" in text


def test_a_gain_is_called_a_gain(made):
    text = words.headline(made.comparison)
    assert "With 200 labelled clips, “cnn-small kd on all clips” raised mAP from 0." in text
    assert len(words.details(made.comparison)) == 4
    assert all("beats" in sentence for sentence in words.row_sentences(made.comparison))


def test_a_loss_is_called_a_loss(tmp_path, monkeypatch):
    monkeypatch.setitem(fakeruns.ROWS, "east-kd", fakeruns.ROWS["east-kd"] | {"strength": 0.15})
    table = make_table(tmp_path / "demo")
    folders = [
        make_run(tmp_path / "demo" / "runs", table, row, seed) for row in ("labels only", "east-kd") for seed in (1, 2)
    ]
    found = report(folders=folders, out=tmp_path / "out", **FAST)
    text = " ".join(read_page(found.page).text)
    assert "made the student worse: mAP fell from" in text
    assert "“east-kd” falls behind “labels only” (−0." in text
    assert "raised" not in text


def test_no_difference_is_called_none(tmp_path, monkeypatch):
    monkeypatch.setitem(fakeruns.ROWS, "east-kd", fakeruns.ROWS["east-kd"] | {"strength": 0.32})
    table = make_table(tmp_path / "demo")
    folders = [make_run(tmp_path / "demo" / "runs", table, row, 1) for row in ("labels only", "east-kd")]
    found = compare_runs(folders=folders, **FAST)
    assert "no difference that these clips and seeds can show" in words.headline(found)


def test_seeds_that_disagree_make_no_verdict(made):
    good = made.comparison.rows[-1].sets["test"]
    assert words.verdict(good) == "better"
    seeds = replace(good.difference, differences=(0.2, -0.01, 0.2))
    assert words.verdict(replace(good, difference=seeds)) == "level"
    assert words.verdict(replace(good, difference=None)) == "level"


def test_rows_over_label_budgets_are_lines(tmp_path):
    folder = make_dataset(tmp_path / "400", seeds=(1, 2))
    table = read_table(folder / "clips.parquet")
    (folder / "budgets").mkdir()
    for row in ("labels only", "kd on all clips"):
        for labelled in (200, 50):
            for seed in (1, 2):
                name = f"{row}-{labelled}-s{seed}"
                facts = {"name": name, "config": {"loss": row, "labelled": labelled}, "n_labelled": labelled}
                run = make_run(tmp_path / "made", table, row, seed, group=f"{row}, {labelled} labels", **facts)
                run.rename(folder / "budgets" / name)
    made = report(folders=sorted((folder / "budgets").iterdir()), out=tmp_path / "out", **FAST)
    svg = (tmp_path / "out" / "figures" / "budget.svg").read_text()
    for words_of_line in (">labels only<", ">kd on all clips<", ">50<", ">200<"):
        assert words_of_line in svg
    assert 'id="budget-title"' in made.page.read_text()
    read_page(made.page)


def test_rows_of_equally_many_labels_are_no_line(tmp_path):
    table = make_table(tmp_path / "demo")
    for row, others in (("labels only", 0), ("kd on all clips", 700)):
        config = {"loss": "kd", "labelled": 200, "unlabelled": others}
        make_run(tmp_path / "demo" / "runs", table, row, 1, group=f"KD, {others} others", config=config)
    report(folders=sorted((tmp_path / "demo" / "runs").iterdir()), out=tmp_path / "out", **FAST)
    assert not (tmp_path / "out" / "figures" / "budget.svg").exists()


def test_one_run_alone_still_makes_a_page(tmp_path):
    folder = make_run(tmp_path / "demo" / "runs", make_table(tmp_path / "demo"), "labels only", 1)
    (folder / "history.csv").unlink()
    found = report(folders=[folder], out=tmp_path / "out", **FAST)
    assert report(folders=[folder], out=tmp_path / "bare", with_page=False, **FAST).page is None
    assert not (tmp_path / "bare" / "index.html").exists()
    text = " ".join(read_page(found.page).text)
    assert "no other row is there to be measured against it" in text
    assert "One seed per row" in text


def test_names_cannot_inject_markup(tmp_path):
    table = make_table(tmp_path / "demo")
    evil = "<script>alert(1)</script> $x_1$ & more"
    folders = [
        make_run(tmp_path / "demo" / "runs", table, "labels only", 1),
        make_run(tmp_path / "demo" / "runs", table, "east-kd", 1, group=evil, licence=evil),
    ]
    found = report(folders=folders, out=tmp_path / "out", **FAST)
    assert "<script" not in found.page.read_text()
    assert read_page(found.page).fetched == []


def test_the_table_for_the_terminal(made):
    rows = text_rows(made.comparison)
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [row[2] for row in rows[:4]] == ["test", "test by file", "test-unseen", "test-unseen by file"]
    assert rows[0][:2] == ["cnn-small labels only", "3"]
    assert rows[1][:2] == ["", ""]
    assert rows[0][5] == "–"
    assert rows[4][5].startswith("+0.")


def test_old_and_unfinished_runs_are_left_out_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    folder = make_dataset(tmp_path, seeds=(1,))
    table = make_table(folder)
    old = json.loads((folder / "runs" / "east-kd-s1" / "run.json").read_text())
    old["dataset"]["digest"] = "0" * 64
    old["provenance"]["time"] = "2020-01-01T00:00:00+00:00"
    (folder / "runs" / "east-kd-s1" / "run.json").write_text(json.dumps(old))
    make_run(folder / "runs", table, "labels only", 9, complete=False)
    for path in (folder / "runs").glob("*/run.json"):
        facts = json.loads(path.read_text())
        facts["provenance"].setdefault("time", "2026-01-01T00:00:00+00:00")
        path.write_text(json.dumps(facts))
    heard = []
    found = compare_runs(data="demo", listener=heard.append, **FAST)
    assert len(found.rows) == 3
    texts = [event.text for event in heard if isinstance(event, Warned)]
    assert any("older clip table" in text for text in texts)
    assert any("is unfinished" in text for text in texts)


def test_no_runs_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    with pytest.raises(RunError, match="Train one with: east train --data demo"):
        report(data="demo")


def test_counts_are_short_and_sets_have_names():
    assert [words.count(value) for value in (None, 812, 53_192, 5_534_612, 12_000_000)] == [
        "–", "812", "53k", "5.5M", "12M",
    ]  # fmt: skip
    assert words.set_title("test-unseen by file") == "test, sounds never trained on, whole files"
    assert words.set_title("test-live") == "test, live"


def test_titles_stay_apart(made, tmp_path):
    run = read_run(made.comparison.rows[0].runs[0].folder)
    assert run.group == "cnn-small labels only 200 labels"
    assert words.row_titles(made.comparison.rows[:1]) == {run.group: run.group}
