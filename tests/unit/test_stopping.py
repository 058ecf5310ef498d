"""SIGTERM stops like Ctrl-C, once for several at a time, and leaves handlers as they were."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

import cli
from pipeline.stopping import Terminated, terminable


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


def test_it_is_raised_once_for_several_at_a_time():
    before = signal.getsignal(signal.SIGTERM)
    with terminable() as outer, pytest.raises(Terminated, match="^$"), terminable() as inner:
        assert not inner.came
        term()
    with outer_again() as again:
        assert not again.came
    assert outer.came
    assert inner is outer
    assert signal.getsignal(signal.SIGTERM) is before


def outer_again():
    """A block of its own after the first one."""
    return terminable()


def test_a_duplicate_does_not_disturb_the_cleaning_and_a_later_one_does(monkeypatch):
    cleaned = []
    with terminable() as found:
        try:
            with pytest.raises(Terminated, match="^$"):
                term()
        finally:
            term()
            cleaned.append(1)
        found.at -= 10
        with pytest.raises(Terminated, match="^$"):
            term()
    assert cleaned == [1]


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
