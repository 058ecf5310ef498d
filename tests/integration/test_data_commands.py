"""``east data``: each command on real files, and what it says when something is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from cli import main
from pipeline import layout
from pipeline.manifest import read_table, write_table


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        for number in range(4):
            path = tmp_path / "pets" / name / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.zeros(3 * 8000), 8000)
    return tmp_path / "pets"


def east(*arguments: str) -> int:
    try:
        main(["-q", "data", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_from_show_check_export(music: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = "train=0.5,valid=0.25,test=0.25"
    assert east("from", "pets", "--clip-s", "2", "--hop-s", "1", "--last", "drop", "--split", split) == 0
    assert Path(capsys.readouterr().out.strip()) == layout.table_path("pets")
    table = read_table(layout.table_path("pets"))
    assert (len(table), table.splits(), table.classes) == (16, ("train", "valid", "test"), ("cat", "dog"))
    assert east("show") == 0
    assert "16 clips" in capsys.readouterr().out
    assert east("show", "pets") == 0
    shown = capsys.readouterr().out
    assert "single-label, clips of 2 s" in shown
    assert "4/8" in shown
    assert east("check", "pets", "--audio") == 0
    assert "16 clips, no defects found and all files there" in capsys.readouterr().out
    assert east("export", "pets", "pets.csv") == 0
    assert read_table(Path("pets.csv")).digest() == table.digest()
    assert east("check", "pets.csv") == 0


def test_from_without_splits(music: Path) -> None:
    assert east("from", "pets", "--split", "none", "--name", "flat") == 0
    assert read_table(layout.table_path("flat")).splits() == ()


def test_check_names_defects(music: Path, capsys: pytest.CaptureFixture[str]) -> None:
    east("from", "pets")
    table = read_table(layout.table_path("pets"))
    table.clip_id[1] = table.clip_id[0]
    write_table(table, Path("bad.parquet"))
    (music / "cat" / "0.wav").unlink()
    capsys.readouterr()
    assert east("check", "bad.parquet", "--audio") == 1
    said = capsys.readouterr()
    assert "duplicate-id: clip_id is there more than once (1): 'cat/0.wav@0'" in said.out
    assert "absent: Files are not below" in said.out
    assert "2 kind(s) of defects" in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("from", "nowhere"), 1, "no folder or CSV at nowhere"),
        (("build", "chorales", "--set", "seed"), 2, "--set is 'seed'; it is written like"),
        (("build", "chorales", "--set", "sed=1"), 2, "There is no option of chorales named 'sed'"),
        (("from", "pets", "--clip-s", "0"), 2, "clip length is 0.0 s"),
        (("from", "pets", "--split", "half"), 2, "--split is 'half'"),
        (("from", "pets", "--split", "train=0.9"), 2, "add up to 1"),
        (("from", "pets", "--name", "chorales"), 1, "the name of a dataset of this project"),
        (("from", "pets", "--name", "../x"), 2, "cannot be the name of a folder"),
        (("build", "choral"), 2, "Did you mean 'chorales'"),
        (("check", "nothing"), 1, "There is no clip table at"),
        (("show", "nothing"), 1, "There is no clip table at"),
        (("show", "chorals"), 1, "Did you mean 'chorales'? Make one with: east data from FOLDER --name chorals"),
        (("show", "chorales"), 1, "Make it with: east data build chorales"),
    ],
)
def test_errors_are_one_message_and_a_code(
    music: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert east(*arguments) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["build", "from", "check", "show", "export"])
def test_help_has_an_example_and_says_what_is_written(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert east(command, "--help") == 0
    text = capsys.readouterr().out
    assert "Example:" in text
    assert "rites" in text or "Write" in text
