"""SIGTERM stops like Ctrl-C, once for several at a time, and leaves handlers as they were."""

import os
import signal
import threading
import time

import click
import pytest

import cli
from pipeline.stopping import Terminated, terminable


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


def test_blocks_within_blocks_are_one_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with terminable() as outer:
        with terminable() as inner:
            assert not inner.came
            with pytest.raises(Terminated, match=r"^$"):
                term()
        assert outer.came
    assert signal.getsignal(signal.SIGTERM) is before
    with terminable() as later:
        assert not later.came


def test_a_duplicate_does_not_disturb_the_cleaning_and_a_later_one_does():
    with terminable() as found:
        with pytest.raises(Terminated, match=r"^$"):
            term()
        term()
        assert found.at is not None
        found.at -= 10
        with pytest.raises(Terminated, match=r"^$"):
            term()


@pytest.mark.parametrize(
    ("number", "status", "says"), [(signal.SIGTERM, 143, "Stopped by SIGTERM."), (signal.SIGINT, 130, "Interrupted.")]
)
def test_a_command_says_what_stopped_it(monkeypatch, capsys, number, status, says):
    @click.command()
    def wait() -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setitem(cli.east.commands, "wait", wait)
    with pytest.raises(SystemExit, match=rf"^{status}$"):
        cli.main(["wait"])
    assert f"{says} Nothing is left half-written" in capsys.readouterr().err


def test_what_was_told_to_ignore_it_and_other_threads_are_left_alone():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminable() as found:
            term()
        assert not found.came
    finally:
        signal.signal(signal.SIGTERM, before)
    seen = []

    def work():
        with terminable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
