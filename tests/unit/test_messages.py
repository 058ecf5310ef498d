"""Commands that messages tell people to type are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

from cli import east

ROOT = Path(__file__).parents[2]
_COMMAND = re.compile(r"(?<![\w-])east ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")


def unknown_commands(text: str) -> Iterator[str]:
    for found in _COMMAND.finditer(text):
        first, second = found.groups()
        command = east.commands.get(first)
        if command is None or (isinstance(command, click.Group) and second and second not in command.commands):
            yield found[0]


def test_every_command_named_in_a_message_exists() -> None:
    assert list(unknown_commands("type: east stores list, or east store lost, or east train music")) == [
        "east stores list",
        "east store lost",
    ]
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {command}"
        for path in sorted((ROOT / "pipeline").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for command in unknown_commands(node.value)
    ]
    assert wrong == []
