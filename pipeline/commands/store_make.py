"""``east store merge``, ``subset``, ``convert``, ``pool``: stores from stores."""

from __future__ import annotations

import click

COMMANDS: tuple[click.Command, ...] = ()
