"""``east store verify`` and ``diff``: whether a store is what it says, and what two stores differ in."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
