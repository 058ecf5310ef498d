"""``east store push``, ``pull``, ``ls``, ``card``: stores between teams."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
