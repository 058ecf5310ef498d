"""What README tells people to type exists, and its Python blocks run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from cli import east
from pipeline.stores import example_meta, write_store
from pipeline.stores.exchange.export import export_store

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            found.append((page.name, block))
    return found


def _commands() -> list[list[str]]:
    lines = [line.partition("  #")[0].strip() for _, block in _blocks("sh") for line in block.splitlines()]
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    inline = [part for part in re.findall(r"`((?:east|make) [^`]+)`", text) if "\n" not in part]
    words = [shlex.split(line) for line in [*lines, *inline] if line]
    return [[Path(line[0]).name, *line[1:]] for line in words]


EAST = sorted({tuple(line[1:]) for line in _commands() if line[0] == "east" and len(line) > 1})
MAKE = sorted({tuple(line[1:]) for line in _commands() if line[0] == "make"})


@pytest.mark.parametrize("line", EAST, ids=" ".join)
def test_east_commands_and_their_options_exist(line: tuple[str, ...]) -> None:
    command, rest = east, list(line)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    assert not hasattr(command, "commands") or not [word for word in rest if word[0] != "-"], f"east {' '.join(line)}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize("command", sorted({line[0] for line in EAST if not line[0].startswith("-")}))
def test_help_is_there(command: str) -> None:
    found = CliRunner().invoke(east, [command, "--help"])
    assert found.exit_code == 0
    assert "Usage:" in found.output


@pytest.mark.parametrize("line", MAKE, ids=" ".join)
def test_make_targets_and_variables_exist(line: tuple[str, ...]) -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^  (\S+)", shown, re.MULTILINE))
    wanted = {word.partition("=")[0] for word in line if not word.startswith("-")}
    assert wanted <= known | {"TARGET", "NAME"}


def test_python_blocks_run(tmp_path: Path) -> None:
    blocks = _blocks("python")
    assert blocks
    store = tmp_path / "data/chorales/stores/musicnn/pools.zarr"
    ids = [f"clip{i}" for i in range(20)]
    write_store(store, meta=example_meta(), clip_id=ids, features=np.zeros((20, 3, 4)), n_frames=np.full(20, 3))
    export_store(str(store), tmp_path / "pools.parquet", "parquet")
    shutil.copy(ROOT / "tests/golden/student/student.onnx", tmp_path)
    soundfile.write(tmp_path / "song.wav", np.zeros((40_000, 2)), 16_000)
    for page, block in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{page}: {done.stderr}"
