"""``east store``: look at stores, check them, make stores from stores, share them."""

from __future__ import annotations

import click

from pipeline.commands import store_check, store_inout, store_look, store_make, store_share


@click.group()
def store() -> None:
    """Look at stores of features, check them, make new ones from them, share them."""


for _module in (store_look, store_check, store_make, store_inout, store_share):
    for _command in _module.COMMANDS:
        store.add_command(_command)
