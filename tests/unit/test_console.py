"""What long work says where no terminal is, and what an interrupted command says."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli import _interrupted
from pipeline.commands.console import Renderer
from pipeline.events import EpochDone, Event, TaskAdvanced, TaskFinished, TaskStarted


def said_of(*events: Event) -> list[str]:
    said = io.StringIO()
    renderer = Renderer(Console(file=said, width=60), verbose=True, quiet=False)
    for event in events:
        renderer(event)
    return said.getvalue().splitlines()


def test_an_epoch_is_one_line_however_narrow() -> None:
    values = {f"train_{name}": 0.123456 for name in ("labels", "kd", "reg", "total")} | {"seconds": 91.0}
    (line,) = said_of(EpochDone("a-run-of-some-length", 1, 20, values))
    assert line.endswith("train_total 0.1235, seconds 91")


def test_what_is_done_has_nothing_left_and_its_detail_apart() -> None:
    (line,) = said_of(
        TaskStarted("Tagging", 1, "files"), TaskAdvanced("Tagging", 1, "song.wav"), TaskFinished("Tagging")
    )
    assert line.startswith("Tagging: 1/1 files, ")
    assert line.endswith(" files/s, song.wav")
    assert "left" not in line


def test_work_whose_first_unit_is_long_in_coming_says_what_there_is() -> None:
    first, last = said_of(
        TaskStarted("extract", 3016, "clips"),
        TaskAdvanced("extract", 0.0),
        TaskAdvanced("extract", 0.0),
        TaskAdvanced("extract", 3016.0),
        TaskFinished("extract"),
    )
    assert first == "extract: 0/3,016 clips"
    assert last.startswith("extract: 3,016/3,016 clips, ")


@pytest.mark.parametrize("words", ["extract --data x", "-v train", "store -h push", "data build scores"])
def test_commands_that_go_on_say_so(words: str) -> None:
    assert "goes on from there" in _interrupted(words.split())


@pytest.mark.parametrize("words", ["predict run song.wav", "-q compare", "store verify x.zarr", "data check x", ""])
def test_commands_that_begin_again_say_so(words: str) -> None:
    assert "begins again" in _interrupted(words.split())


def test_what_was_found_done_is_no_part_of_the_rate() -> None:
    clock = iter(float(second) for second in range(0, 1000, 10))
    said = io.StringIO()
    renderer = Renderer(Console(file=said, width=60), verbose=True, quiet=False)
    renderer.progress.get_time = lambda: next(clock)
    for event in (
        TaskStarted("Table", 1000, "steps"),
        TaskAdvanced("Table", 900, "made before", found=True),
        TaskAdvanced("Table", 20),
    ):
        renderer(event)
    last = said.getvalue().splitlines()[-1]
    assert "920/1,000 steps" in last
    seconds = 20 / float(last.split("steps, ")[1].split(" ")[0])
    assert 10 <= seconds <= 100  # of the 20 steps made now, not of 920
    assert renderer.progress.tasks[0].completed == 920
