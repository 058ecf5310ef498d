"""The rules of the architecture, held: who imports whom, who may use what, what stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from extracting import ROOT

import cli

FILES = sorted((ROOT / "pipeline").rglob("*.py"))

#: Rows may import rows above; parts in one row know nothing of each other.
ROWS: tuple[tuple[str, ...], ...] = (
    ("errors", "events", "cards", "files", "interpreter", "licences", "stopping", "texts"),
    ("registry", "provenance"),
    ("layout",),
    ("manifest", "audio", "weights", "cluster"),
    ("stores", "datasets"),
    ("extraction", "evaluation"),
    ("distillation",),
    ("deployment",),
    ("experiments", "reporting"),
    ("hear", "listing"),
    ("commands",),
)

#: Within the rows, these two halves never meet, and these never know of those.
LAWS: dict[str, set[str]] = {
    "distillation": {"extraction", "deployment", "experiments"},
    "deployment": {"extraction", "experiments"},
    "extraction": {"distillation", "deployment", "experiments", "evaluation", "reporting"},
    "experiments": {"extraction"},
    "stores": {"extraction", "distillation", "audio", "datasets"},
    "audio": {"stores", "extraction", "distillation", "manifest"},
    "datasets": {"stores", "extraction", "distillation"},
    "evaluation": {"extraction", "stores"},
}

#: Who may use a library; ``()`` means nobody.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "zarr": ("stores",),
    "h5py": ("stores", "extraction.teachers", "weights"),
    "dask": ("cluster", "extraction", "experiments"),
    "distributed": ("cluster", "extraction", "experiments"),
    "lightning": ("distillation",),
    "matplotlib": ("reporting",),
    "rich": ("commands",),
    "click": ("commands",),
    "soundfile": ("audio", "datasets", "provenance", "hear", "deployment"),
    "soxr": ("audio",),
    "librosa": ("audio", "extraction.teachers"),
    "pyarrow": ("manifest", "stores.exchange"),
    "sklearn": ("distillation", "evaluation"),
    "onnx": ("deployment",),
    "onnxruntime": ("deployment",),
    "music21": ("datasets",),
    "tinysoundfont": ("datasets",),
    "optuna": ("experiments",),
    "tqdm": (),
    "pickle": ("extraction.teachers",),  # for the name of an exception; see test_nothing_is_unpickled
    "pandas": (),
    "torchaudio": (),
}

HEAVY = (
    "torch", "numpy", "pandas", "dask", "distributed", "zarr", "h5py", "pyarrow", "lightning", "sklearn", "matplotlib",
    "librosa", "soundfile", "scipy", "xarray", "optuna",
)  # fmt: skip


class Import(NamedTuple):
    """One import: where it stands, and what it names."""

    file: str
    line: int
    part: str
    target: str


def part_of(file: Path) -> str:
    """``pipeline/audio/mel.py`` -> ``audio.mel``."""
    return ".".join(file.relative_to(ROOT / "pipeline").with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


@cache
def imports() -> tuple[Import, ...]:
    return tuple(_imports())


def _imports() -> Iterator[Import]:
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            yield from (Import(str(file.relative_to(ROOT)), node.lineno, part_of(file), name) for name in names)


def within(part: str, places: tuple[str, ...]) -> bool:
    return any(part == place or part.startswith(f"{place}.") for place in places)


def show(found: list[Import]) -> str:
    return "\n".join(f"{item.file}:{item.line} imports {item.target}" for item in found)


def own(target: str) -> str:
    """The first part below ``pipeline`` that an import names; empty for others."""
    parts = target.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 and not parts[1].startswith("_") else ""


def test_every_part_has_its_row() -> None:
    known = {name for row in ROWS for name in row}
    assert {part_of(file).split(".")[0] for file in FILES} - {"__init__"} <= known


def test_rows_import_rows_above() -> None:
    row_of = {name: number for number, row in enumerate(ROWS) for name in row}
    wrong = [
        item
        for item in imports()
        if (mine := item.part.split(".")[0]) in row_of
        and (theirs := own(item.target)) in row_of
        and theirs != mine
        and row_of[theirs] > row_of[mine]
    ]
    assert not wrong, show(wrong)


@pytest.mark.parametrize("part", sorted(LAWS))
def test_the_law(part: str) -> None:
    wrong = [item for item in imports() if within(item.part, (part,)) and own(item.target) in LAWS[part]]
    assert not wrong, show(wrong)


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_libraries_stay_where_they_belong(library: str) -> None:
    wrong = [
        item for item in imports() if item.target.split(".")[0] == library and not within(item.part, LIBRARIES[library])
    ]
    assert not wrong, show(wrong)


def test_nothing_prints_outside_the_commands() -> None:
    wrong = []
    for file in FILES:
        if within(part_of(file), ("commands", "experiments.children")):  # a child's standard output is its log
            continue
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, wrong


def test_nothing_is_unpickled() -> None:
    """Checkpoints come in with ``weights_only``; arrays without objects."""
    wrong = []
    for file in FILES:
        for node in ast.walk(tree_of(file)):
            if not isinstance(node, ast.Call):
                continue
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            unsafe = name == "torch.load" and given.get("weights_only") != "True"
            if unsafe or given.get("allow_pickle") == "True" or name.startswith(("pickle.", "joblib.", "dill.")):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} {name}")
    assert not wrong, wrong


def test_command_modules_load_nothing_heavy() -> None:
    """All of them at once, in a process of their own; and not much else either."""
    code = (
        "import sys; import cli, pkgutil, importlib, pipeline.commands as home\n"
        "for info in pkgutil.iter_modules(home.__path__): importlib.import_module(f'pipeline.commands.{info.name}')\n"
        "print(len(sys.modules), *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    count, *names = done.stdout.split()
    assert not set(names) & set(HEAVY)
    assert int(count) < 700


def test_a_command_body_imports_one_use_case() -> None:
    """Late imports in a command: few, and of our own only."""
    wrong = []
    for file in (ROOT / "pipeline" / "commands").glob("*.py"):
        for function in ast.walk(tree_of(file)):
            if not isinstance(function, ast.FunctionDef):
                continue
            late = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
            heavy = [node for node in late if ast.unparse(node).split()[1].partition(".")[0] in HEAVY]
            if heavy or len(late) > 4:
                wrong.append(f"{file.name}:{function.lineno} {function.name}")
    assert not wrong, wrong


@pytest.mark.parametrize("file", FILES, ids=part_of)
def test_public_modules_have_docstrings_and_are_short(file: Path) -> None:
    tree = tree_of(file)
    if not file.stem.startswith("_") or file.stem == "__init__":
        assert ast.get_docstring(tree), "a public module says what it is"
    assert len(file.read_text("utf-8").splitlines()) <= 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = len(node.decorator_list)
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines ({decorators} decorators not counted)"


def commands() -> Iterator[tuple[str, click.Command]]:
    def below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                yield from below(f"{path} {name}", child)
        else:
            yield path, command

    yield from below("east", cli.east)


COMMANDS = list(commands())


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_help_has_an_example_and_explains_every_option(path: str, command: click.Command) -> None:
    with click.Context(command, info_name=path) as context:
        text = command.get_help(context)
    assert "Example" in text
    assert f"{path} " in text.partition("Example")[2] or f"{path}\n" in text.partition("Example")[2]
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{path} {option.opts[0]} has no help"
