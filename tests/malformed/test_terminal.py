"""What a store, a table or a name holds never steers the terminal that it is printed on."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crafted_zarr import META, N
from extracting import ROOT
from rich.console import Console

from pipeline.commands.console import Renderer
from pipeline.events import (
    ClipFailed,
    ClipShort,
    EpochDone,
    Event,
    Note,
    ShardDone,
    TaskAdvanced,
    TaskFinished,
    TaskStarted,
    Warned,
)
from pipeline.stores import write_store
from pipeline.stores.schema import with_fingerprint

#: Sets a window's title, clears the screen, is an escape in one byte, turns the direction of writing.
EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202eevil\r[red]"
#: None of these may come out; rich's own colours and cursors may.
STEERING = (b"\x1b]0;", b"\x1b[2J", "\x9b".encode(), "\u202e".encode(), b"\x07", b"evil\r[")


@pytest.fixture(scope="module")
def evil_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evil") / "s.zarr"
    card = {"name": "example", "version": 1, "parameters": {}, "citation": EVIL, "licence_weights": EVIL}
    meta = with_fingerprint(type(META)(**META.__dict__ | {"card": card, "runs": ({"time": EVIL, "version": EVIL},)}))
    write_store(
        path, meta=meta, clip_id=[f"{EVIL} {row}" for row in range(N)], features=np.ones((N, 3, 4), np.float32),
        n_frames=np.full(N, 3), failure=[f"short: {EVIL}"] * N,
    )  # fmt: skip
    (path / "features" / EVIL.replace("/", "")).write_text("a file that nobody knows")
    place = path / "features" / "c.0.0.0"
    content = bytearray(place.read_bytes())
    content[0] ^= 1
    place.write_bytes(content)
    return path


def on_a_terminal(*commands: list[str]) -> bytes:
    """All that comes out of a terminal while commands run, one after the other in one process."""
    code = (
        "import sys, json, cli\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    try: cli.main(words)\n"
        "    except SystemExit as end: print('status', end.code, flush=True)\n"
    )

    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(commands)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "400"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    child.wait(60)
    return said


def test_commands_print_no_escapes_of_a_store(evil_store: Path) -> None:
    store = str(evil_store)
    said = on_a_terminal(
        ["store", "info", store, "--failures"],
        ["store", "info", store, "--failures", "--json"],
        ["store", "verify", store, "--no-canaries"],
        ["store", "verify", store, "--no-canaries", "--json"],
        ["store", "card", store],
        ["store", "info", f"{store}/{EVIL}"],
        ["store", "info", store, f"--{EVIL}"],
        ["extract", "--data", EVIL, "--teacher", "none", "--dry-run"],
    )
    assert b"Traceback" not in said
    assert said.count(b"pwned") > 5 * N
    assert rb"\u001b]0;pwned\u0007" in said
    assert not [mark for mark in STEERING if mark in said]


EVENTS: tuple[Event, ...] = (
    Note(EVIL), Warned(EVIL), ClipFailed(EVIL, EVIL, EVIL), ClipShort(EVIL, EVIL), TaskStarted(EVIL, 2, "clips"),
    TaskAdvanced(EVIL, 1, EVIL), TaskFinished(EVIL), EpochDone(EVIL, 1, 1, {EVIL: 1.0}), ShardDone(EVIL, 1, 2, 0, 10.0),
)  # fmt: skip


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_prints_no_escapes(terminal: bool) -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=400)
    renderer = Renderer(console, verbose=True, quiet=False)
    with renderer.progress:
        for event in EVENTS:
            renderer(event)
    text = said.getvalue().encode()
    assert text.count(b"pwned") >= len(EVENTS)
    assert b"[red]" in text
    assert not [mark for mark in STEERING if mark in text]
