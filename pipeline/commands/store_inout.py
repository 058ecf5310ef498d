"""``east store export`` and ``import``: to and from other people's formats."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
