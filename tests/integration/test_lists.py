"""``east teachers``, ``students``, ``datasets`` and ``weights``, as a user runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import east, main
from pipeline import registry, weights
from pipeline.errors import WeightsError
from pipeline.registry import find_teacher


def run(*arguments: str) -> str:
    result = CliRunner().invoke(east, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("teachers",), registry.teachers()),
        (("teachers", "--front-ends"), registry.front_ends()),
        (("students",), registry.students()),
        (("datasets",), registry.datasets()),
    ],
)
def test_all_cards_are_listed(arguments: tuple[str, ...], names: dict[str, object]) -> None:
    table = run(*arguments)
    rows = json.loads(run(*arguments, "--json"))
    assert {row["name"] for row in rows} == set(names)
    assert all(name in table for name in names)


def test_a_teacher_s_row_has_what_a_user_asks_for() -> None:
    row = next(row for row in json.loads(run("teachers", "--json")) if row["output"] == "pools")
    assert (row["channels"], row["rate_hz"], row["hop_s"], row["licence"]) == (1506, 16_000, 1.488, "ISC")


def test_lists_import_nothing_heavy() -> None:
    code = (
        "import sys; from cli import east\n"
        "for words in (['teachers'], ['datasets'], ['weights', 'list']):\n"
        "    east.main(words, standalone_mode=False)\n"
        "print('heavy', [name for name in ('torch', 'numpy', 'pandas', 'dask', 'zarr', 'h5py') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy []"


def test_weights_are_listed_fetched_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        fetched = weights.fetch_all(find_teacher("musicnn").weights)
    except WeightsError as error:
        pytest.skip(f"MusiCNN's weights are not to be had here: {error}")
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path))
    assert not any(row["here"] for row in json.loads(run("weights", "list", "--json")))
    (tmp_path / "musicnn").mkdir()
    for path in fetched:
        shutil.copy(path, tmp_path / "musicnn")
    assert run("weights", "get", "musicnn", "--offline").count("MTT_musicnn") >= 2
    assert "as on the card" in run("weights", "verify", "musicnn")
    assert "as on the card" in run("weights", "verify", "musicnn", "--file", str(tmp_path / "musicnn"))


def test_a_damaged_file_fails_with_words_and_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Cnn14_mAP=0.431.pth"
    path.write_bytes(b"half")
    with pytest.raises(SystemExit) as caught:
        main(["weights", "verify", "panns", "--file", str(path)])
    assert caught.value.code == 1
    assert "has 4 bytes where panns has 327,428,481. It was cut short." in capsys.readouterr().err


def test_an_unknown_name_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["weights", "get", "musicn"])
    assert caught.value.code == 2
    assert "Did you mean 'musicnn'?" in capsys.readouterr().err
