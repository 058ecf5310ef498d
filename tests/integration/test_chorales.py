"""The rendered chorales: reading scores, hymns, arrangements, and (with sound banks) audio and labels."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.datasets import chorales_card
from pipeline.datasets.chorales import UNSEEN, build, plan
from pipeline.datasets.corpora.arrange import CLIP_S, INSTRUMENTS, arrange, split_hymns
from pipeline.datasets.corpora.build import JOURNAL, plan_digest
from pipeline.datasets.corpora.notes import Chorale, Note, find_hymns, read_chorale, read_chorales
from pipeline.errors import ManifestError
from pipeline.events import Event, TaskAdvanced
from pipeline.manifest import require_valid
from pipeline.registry import datasets

CLIPS = {"train": 60, "valid": 12, "test": 18}
SOPRANO = (("C", 4, ""), ("C", 4, ""), ("D", 2, "start"), ("D", 2, "stop"), ("E", 4, ""), ("G", 8, ""))


def melody(*keys: int, step: float = 1.0) -> tuple[Note, ...]:
    return tuple(Note(index * step, step, key) for index, key in enumerate(keys))


def chorale(name: str, keys: Sequence[int], hymn: str = "") -> Chorale:
    lower = [melody(*([key] * len(keys))) for key in (64, 57, 48)]
    return Chorale(name, (melody(*keys), *lower), hymn or name)


def made_up(n_chorales: int) -> list[Chorale]:
    keys = [
        [60 + (7 * number + 5 * beat * beat + number * beat) % 17 for beat in range(48)] for number in range(n_chorales)
    ]
    return [chorale(f"bwv{number}", keys[number], f"bwv{number // 2 * 2}") for number in range(n_chorales)]


def note_xml(step: str, duration: int, tie: str = "") -> str:
    tied = f'<tie type="{tie}"/>' if tie else ""
    return f"<note><pitch><step>{step}</step><octave>4</octave></pitch><duration>{duration}</duration>{tied}</note>"


def write_score(path: Path, n_parts: int = 4) -> Path:
    soprano = "".join(note_xml(*item) for item in SOPRANO)
    rest = "<note><rest/><duration>4</duration></note>"
    chord = note_xml("C", 8).replace("<note>", "<note><voice>1</voice>") + note_xml("E", 8).replace(
        "<note>", "<note><chord/><voice>1</voice>"
    )
    second = "<backup><duration>8</duration></backup>" + note_xml("G", 8).replace("<note>", "<note><voice>2</voice>")
    bodies = [soprano, rest + note_xml("A", 4), chord + second, note_xml("C", 16)]
    parts = "".join(
        f'<part id="P{number}"><measure><attributes><divisions>4</divisions></attributes>{body}</measure>'
        f"<measure>{note_xml('F', 4)}</measure></part>"
        for number, body in enumerate(bodies[:n_parts])
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr("score.xml", f"<score-partwise>{parts}</score-partwise>")
    return path


def test_score_to_notes(tmp_path: Path) -> None:
    found = read_chorale(write_score(tmp_path / "bwv1.6.mxl"))
    assert found is not None
    soprano, alto, tenor, bass = found.voices
    assert [(note.onset, note.length, note.key) for note in soprano] == [
        (0, 1, 60),
        (1, 1, 60),
        (2, 1, 62),
        (3, 1, 64),
        (4, 2, 67),
        (6, 1, 65),
    ]
    assert (alto[0].onset, alto[0].key) == (1, 69)
    assert [note.key for note in tenor] == [60, 65]
    assert [(note.onset, note.length) for note in bass] == [(0, 4), (4, 1)]
    assert found.length == 7


def test_only_four_parts_are_read(tmp_path: Path) -> None:
    write_score(tmp_path / "trio.mxl", n_parts=3)
    with pytest.raises(ManifestError, match="holds no four-part chorales"):
        read_chorales(tmp_path)
    write_score(tmp_path / "bwv1.6.mxl")
    assert [found.name for found in read_chorales(tmp_path)] == ["bwv1.6"]


def test_settings_of_one_hymn_are_found() -> None:
    tune = (60, 62, 64, 62, 65, 67, 65, 64, 62, 60, 67, 69)
    transposed = [key + 5 for key in tune]
    repeated = [key for key in tune for _ in range(2)]
    ornamented = (*melody(*tune)[:2], Note(2.0, 0.5, 64), Note(2.5, 0.5, 66), *melody(*tune)[3:])
    other = (60, 64, 67, 65, 64, 62, 60, 59, 60, 62, 64, 65)
    chorales = [
        chorale("bwv1", tune),
        chorale("bwv2", other),
        chorale("bwv3", transposed),
        chorale("bwv4", repeated),
        replace(chorale("bwv5", tune), voices=(ornamented, *chorale("x", tune).voices[1:])),
        chorale("bwv2-sc", (60, 59) * 8),
    ]
    assert find_hymns(chorales) == ["bwv1", "bwv2", "bwv1", "bwv1", "bwv1", "bwv2"]


def test_hymns_stay_in_one_split_and_shares_are_met() -> None:
    dealt = split_hymns(made_up(100), {"train": 70, "valid": 10, "test": 20}, seed=1)
    assert {name: len(found) for name, found in dealt.items()} == {"train": 70, "valid": 10, "test": 20}
    hymns = {name: {found.hymn for found in members} for name, members in dealt.items()}
    assert not hymns["train"] & hymns["valid"]
    assert not hymns["train"] & hymns["test"]
    assert not hymns["valid"] & hymns["test"]


def test_plan_is_the_same_everywhere() -> None:
    arrangements = plan(made_up(20), clips=CLIPS, seed=7, unseen=True)
    banks = [Path("a.sf2"), Path("b.sf2"), Path("c.sf2")]
    assert plan_digest(arrangements, banks) == ("46da0018e91761a67be2685dc633ab3a3915b294e6da9da9be25363a2666a802")
    assert plan(made_up(20), clips=CLIPS, seed=8, unseen=True) != arrangements
    assert Counter(clip.split for clip in arrangements) == CLIPS | {UNSEEN: CLIPS["test"]}
    assert len({clip.path for clip in arrangements}) == len(arrangements)


def test_unseen_repeats_the_test_in_another_bank() -> None:
    arrangements = plan(made_up(20), clips=CLIPS, seed=7, unseen=True)
    test = [clip for clip in arrangements if clip.split == "test"]
    unseen = [clip for clip in arrangements if clip.split == UNSEEN]
    assert [clip.hymn for clip in test] == [clip.hymn for clip in unseen]
    assert [[part.notes for part in clip.parts] for clip in test] == [
        [part.notes for part in clip.parts] for clip in unseen
    ]
    assert {part.bank for clip in unseen for part in clip.parts} == {2}
    assert {part.bank for clip in arrangements if clip.split != UNSEEN for part in clip.parts} == {0, 1}


def test_arrangements_are_playable() -> None:
    clips = plan(made_up(40), clips={"train": 400, "valid": 1, "test": 1}, seed=3, unseen=False)
    counts = Counter(part.instrument for clip in clips for part in clip.parts)
    assert set(counts) == set(chorales_card.CLASSES) == set(INSTRUMENTS)
    assert max(counts.values()) < 1.6 * min(counts.values())
    assert {len(clip.parts) for clip in clips} == {2, 3, 4}
    for part in (part for clip in clips for part in clip.parts):
        instrument = INSTRUMENTS[part.instrument]
        inside = [instrument.low <= note.key <= instrument.high for note in part.notes]
        assert np.mean(inside) > 0.8
        assert part.program in instrument.programs
        assert all(0 <= note.start_s < note.end_s and 1 <= note.velocity <= 127 for note in part.notes)
        assert sum(min(note.end_s, CLIP_S) - note.start_s for note in part.notes) > 1.5


def test_short_chorale_is_played_from_its_start() -> None:
    clip = arrange(chorale("bwv9", (60, 62, 64, 65, 67, 69)), "train/x.flac", "train", n_banks=1, seed=0)
    assert min(note.start_s for part in clip.parts for note in part.notes) < 0.05


def test_card_says_where_everything_is_from() -> None:
    assert datasets()["chorales"] is chorales_card.CHORALES
    for card in (chorales_card.SCORES, *chorales_card.SEEN_BANKS, *chorales_card.UNSEEN_BANKS):
        assert card.sources
        assert len(card.sha256) == 64
        assert card.n_bytes > 0
        assert card.licence
        assert card.citation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chorales")


@pytest.mark.weights
def test_corpus_has_its_hymns() -> None:
    from pipeline.weights import fetch

    found = read_chorales(fetch(chorales_card.SCORES))
    hymn = {setting.name: setting.hymn for setting in found}
    assert len(found) == 364
    assert 200 < len(set(hymn.values())) < 260
    passion = ("bwv135.6", "bwv153.5", "bwv244.15", "bwv244.44", "bwv244.54", "bwv244.62", "bwv270", "bwv271")
    assert {hymn[name] for name in passion} == {"bwv135.6"}


@pytest.mark.weights
def test_build_resume_and_labels(folder: Path) -> None:
    clips = {"train": 6, "valid": 2, "test": 3}
    table = build(folder=folder, clips=clips, n_workers=1)
    require_valid(table, audio=True)
    assert Counter(table.split) == clips | {UNSEEN: 3}
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    stems = {line["path"]: line["stems"] for line in lines}
    for row, path in enumerate(table.path):
        samples, rate_hz = soundfile.read(table.audio_path(row), dtype="float32")
        assert (len(samples), rate_hz) == (320_000, 32_000)
        assert 0.4 < np.abs(samples).max() < 0.95
        assert abs(samples.mean()) < 1e-3
        present = {name for name, label in zip(table.classes, table.labels[row], strict=True) if label == 1}
        assert present == {name for name, level_db in stems[path].items() if level_db > -70}
        assert len(present) >= 2
    first = Path(table.audio_path(0))
    content = first.read_bytes()
    first.write_bytes(content[:1000])
    events: list[Event] = []
    assert build(folder=folder, clips=clips, n_workers=1, listener=events.append).digest() == table.digest()
    assert first.read_bytes() == content
    assert [event.amount for event in events if isinstance(event, TaskAdvanced) and event.task == "chorales"] == [13, 1]


@pytest.mark.weights
def test_every_program_sounds_in_every_bank() -> None:
    from pipeline.datasets.corpora.arrange import Part, Played
    from pipeline.datasets.corpora.render import Renderer, rms_db
    from pipeline.weights import fetch

    banks = [fetch(card) for card in (*chorales_card.SEEN_BANKS, chorales_card.UNSEEN_BANKS[0])]
    renderer = Renderer(banks)
    for name, instrument in INSTRUMENTS.items():
        keys = (instrument.low, (instrument.low + instrument.high) // 2, instrument.high)
        for bank in range(len(banks)):
            for program in instrument.programs:
                for key in keys:
                    part = Part(name, program, bank, 0.0, 0.0, (Played(0.0, 5.0, key, 80),))
                    assert rms_db(renderer.stem(part)) > -60, (name, program, banks[bank].name, key)
