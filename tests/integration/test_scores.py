"""The rendered scores: readers, works, plans that grow, drums, the sampler, sizes, journal and table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile

from cli import main
from pipeline.datasets import scores_card
from pipeline.datasets.corpora.abc import read_abc
from pipeline.datasets.corpora.arrange import CLIP_S, Arrangement, Part, Played, in_other_bank
from pipeline.datasets.corpora.build import JOURNAL, _start_worker, clip_digest, plan_digest, render_all
from pipeline.datasets.corpora.clips import clip_table, sizes, summarise
from pipeline.datasets.corpora.drums import PERCUSSION, draw_tracks
from pipeline.datasets.corpora.ensemble import ENSEMBLE, Bank, deal_works
from pipeline.datasets.corpora.humdrum import read_kern
from pipeline.datasets.corpora.musicxml import Note, read_lines
from pipeline.datasets.corpora.render import Rendered, _publish_flac, present
from pipeline.datasets.corpora.sampler import Sampler
from pipeline.datasets.corpora.scores import Score, highest, load_scores, read_scores
from pipeline.datasets.corpora.workers import make_pool
from pipeline.datasets.resolve import build_dataset
from pipeline.datasets.scores import _fetch_banks, build, plan
from pipeline.errors import ManifestError, SettingError, WeightsError
from pipeline.events import Event, TaskAdvanced
from pipeline.manifest import UNKNOWN, check_table, require_valid
from pipeline.registry import datasets
from pipeline.weights import CACHE_VARIABLE, fetch

CLIPS = {"train": 60, "valid": 12, "test": 18, "unlabelled": 6}
BANKS = [Bank("a"), Bank("b"), Bank("notes", programs=frozenset({0, 40, 73}), has_drums=False)]

KERN = """!!!COM: Somebody
!!!OPR: Missa Brevis
!!!OTL: Kyrie
**kern\t**kern
*clefF4\t*clefG2
=1\t=1
1C\t2c#
.\t[4ee-
.\t8.ee-]
.\t16b
=2\t=2
0r\t1r
4BB\t4.gq
*-\t*-
"""
ABC = """X:1
T:A Reel
M:6/8
L:1/8
K:D
"Am"f2 F>c |{g}(3abc =f2 [FA]- | F/ ^G,, G,, | G, z c'4- c' :|
"""


def xml(parts: Sequence[str]) -> str:
    body = "".join(
        f'<part id="P{n}"><measure><attributes><divisions>2</divisions></attributes>{part}</measure></part>'
        for n, part in enumerate(parts)
    )
    return f'<?xml version="1.0"?><score-partwise>{body}</score-partwise>'


def note(step: str, length: int, *, octave: int = 4, inside: str = "", after: str = "") -> str:
    pitch = f"<pitch><step>{step}</step><octave>{octave}</octave></pitch>"
    return f"<note>{inside}{pitch}<duration>{length}</duration>{after}</note>"


def line(*keys: int, step: float = 1.0) -> tuple[Note, ...]:
    return tuple(Note(index * step, step, key) for index, key in enumerate(keys))


def made_up(n_scores: int) -> list[Score]:
    """Scores of one to four lines, two in a work."""
    found = []
    for number in range(n_scores):
        keys = [60 + (7 * number + 5 * beat * beat + number * beat) % 17 for beat in range(64)]
        lines = tuple(line(*(key - 7 * part for key in keys)) for part in range(1 + number % 4))
        found.append(Score(f"score{number}", f"work{number // 2}", "made", lines))
    return found


def planned(**clips: int) -> list[Arrangement]:
    return plan(made_up(160), clips=CLIPS | clips, seed=7, banks=BANKS)


def test_staves_voices_chords_and_ties_of_musicxml(tmp_path: Path) -> None:
    tied = note("C", 4, after='<tie type="start"/>') + note("C", 2, after='<tie type="stop"/>')
    chord = note("E", 2) + note("G", 2, inside="<chord/>") + "<note><grace/><pitch/></note>"
    left = "<backup><duration>8</duration></backup>" + note("C", 8, octave=2, after="<staff>2</staff>")
    drum = "<note><unpitched/><duration>4</duration></note>" + note("A", 2)
    path = tmp_path / "duo.musicxml"
    path.write_text(xml([tied + chord + left, drum]))
    right, low, second = read_lines(path)
    assert [(x.onset, x.length, x.key) for x in right] == [(0, 3, 60), (3, 1, 64), (3, 1, 67)]
    assert low == (Note(0, 4, 36),)
    assert second == (Note(2, 1, 69),)
    assert [x.key for x in highest(right)] == [60, 67]
    assert highest((Note(0, 4, 60), Note(1, 1, 62))) == (Note(0, 1, 60), Note(1, 1, 62))


def test_spines_of_kern(tmp_path: Path) -> None:
    path = tmp_path / "kyrie.krn"
    path.write_text(KERN)
    work, (upper, lower) = read_kern(path)
    assert work == "Missa Brevis"
    assert upper == (Note(0, 2, 61), Note(2, 1.75, 75), Note(3.75, 0.25, 71))
    assert lower == (Note(0, 4, 48), Note(12, 1, 47))
    path.write_text(KERN.replace("=2\t=2", "*^\t*"))
    assert len(read_kern(path)[1][1]) == 1


def test_tune_in_abc(tmp_path: Path) -> None:
    path = tmp_path / "reel.abc"
    path.write_text(ABC)
    title, notes = read_abc(path)
    assert title == "A Reel"
    third = 1 / 3
    assert [(round(x.length, 4), x.key) for x in notes] == [
        (1, 78),
        (0.75, 66),
        (0.25, 73),
        *[(round(third, 4), key) for key in (81, 83, 73)],
        (1, 77),
        (0.75, 66),  # the chord's first note, tied over the bar
        (0.5, 44),
        (0.5, 44),
        (0.5, 55),
        (2.5, 85),
    ]
    assert notes[-1].onset == pytest.approx(6.75)
    path.write_text(ABC.replace("K:D", "V:1\nK:D"))
    assert read_abc(path)[1] == ()


def test_corpus_is_read_once_and_works_are_kept_together(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    scale = "CDEFGABCDEFGABGFED"
    for name in ("mozart/k1/movement1.xml", "mozart/k1/movement2.xml", "luca/gloria.xml", "demos/no.xml"):
        path = corpus / name
        path.parent.mkdir(parents=True, exist_ok=True)
        steps = scale if name != "mozart/k1/movement2.xml" else scale[::-1]
        path.write_text(xml(["".join(note(step, 2) for step in steps), note("C", 2)]))
    (corpus / "luca" / "broken.xml").write_text("<score-partwise>")
    said: list[Event] = []
    kept = tmp_path / "notes.json"
    scores = load_scores(corpus, "one", kept, listener=said.append)
    assert [score.name for score in scores] == ["luca_gloria", "mozart_k1_movement1", "mozart_k1_movement2"]
    assert {score.work for score in scores} == {"luca/gloria"}  # by the melody, and the quartet with it
    assert [len(score.lines) for score in scores] == [1, 1, 1]  # a part with one note is no line
    assert any("1 of 4 scores cannot be read" in str(event) for event in said)
    (corpus / "luca" / "gloria.xml").unlink()
    assert load_scores(corpus, "one", kept) == scores
    assert len(load_scores(corpus, "other", kept)) == 2
    kept.write_text("{")
    assert len(load_scores(corpus, "other", kept)) == 2
    with pytest.raises(ManifestError, match="holds no scores"):
        read_scores(corpus / "demos")


def test_scores_are_the_same_however_many_processes_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        path = tmp_path / "luca" / f"{index:02d}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "<score" if index == 7 else xml(["".join(note("CDEFGAB"[(k * index) % 7], 2) for k in range(18))])
        )
    monkeypatch.setattr("pipeline.datasets.corpora.scores._FEW_FILES", 4)
    said: list[Event] = []
    alone = read_scores(tmp_path)
    assert len(alone) == 19
    assert read_scores(tmp_path, n_workers=2, listener=said.append) == alone
    assert any("1 of 20 scores cannot be read and are left out: 07.xml (ParseError)" in str(event) for event in said)


def test_plan_is_the_same_everywhere() -> None:
    files = [Path(name) for name in ("a.sf2", "b.sf2", "c", "d.sf2", "e.sf2")]
    assert plan_digest(planned(), files) == "3a2ecfcd843d272e0ba89e9038bc93e5a8aae2c510310068e54e7e6eea80140f"
    assert planned() != plan(made_up(160), clips=CLIPS, seed=8, banks=BANKS)


def test_more_clips_leave_those_before_as_they_are() -> None:
    before, after = planned(), planned(unlabelled=40, train=80, valid=20)
    assert len({clip.path for clip in after}) == len(after)
    assert set(before) <= set(after)
    assert Counter(clip.split for clip in after)["unlabelled"] == 40


def test_works_stay_in_one_split_and_shares_are_met() -> None:
    dealt = deal_works(made_up(300), seed=3)
    works = {split: {found[0].work for found in deck} for split, deck in dealt.items()}
    assert not works["train"] & works["valid"]
    assert not works["train"] & works["test"]
    assert not works["valid"] & works["test"]
    shares = [len(works[split]) / 150 for split in ("train", "valid", "test")]
    assert shares == pytest.approx([0.72, 0.1, 0.18], abs=0.03)


def test_repeated_splits_differ_in_the_bank_alone() -> None:
    clips = planned()
    for split, name, bank in (("valid", "valid-other", 3), ("test", "test-unseen", 4)):
        first = [clip for clip in clips if clip.split == split]
        again = [clip for clip in clips if clip.split == name]
        assert [in_other_bank(clip, "", "", 9) for clip in first] == [in_other_bank(clip, "", "", 9) for clip in again]
        assert {part.bank for clip in again for part in clip.parts} == {bank}
    others = [clip for clip in clips if clip.split not in ("valid-other", "test-unseen")]
    assert {part.bank for clip in others for part in clip.parts} == {0, 1, 2}


def test_arrangements_are_playable() -> None:
    clips = plan(made_up(40), clips={"train": 300}, seed=3, banks=BANKS, repeated=())
    assert {len(clip.parts) for clip in clips} == {1, 2, 3, 4, 5}
    counts = Counter(part.instrument for clip in clips for part in clip.parts)
    assert set(counts) == set(scores_card.CLASSES)
    pitched = {name: count for name, count in counts.items() if name not in PERCUSSION}
    assert max(pitched.values()) < 2 * min(pitched.values())
    with_drums = sum(any(part.instrument in PERCUSSION for part in clip.parts) for clip in clips)
    assert 0.24 < with_drums / len(clips) < 0.34
    for clip in clips:
        assert len({part.instrument for part in clip.parts}) == len(clip.parts)
        kits = {(part.program, part.bank) for part in clip.parts if part.instrument in PERCUSSION}
        assert len(kits) <= 1
    for part in (part for clip in clips for part in clip.parts):
        assert part.notes
        assert all(0 <= x.start_s < x.end_s and 1 <= x.velocity <= 127 for x in part.notes)
        assert part.bank != 2 or part.program in BANKS[2].programs
        if part.instrument in ENSEMBLE:
            assert part.program in ENSEMBLE[part.instrument].programs
            assert sum(min(x.end_s, CLIP_S) - x.start_s for x in part.notes) > 1.5


def test_one_line_instruments_play_one_note_at_a_time() -> None:
    chords = tuple(Note(beat, 1.0, key) for beat in range(64) for key in (60, 64, 67))
    clips = plan([Score("chords", "chords", "made", (chords,))], clips={"train": 80}, seed=1, banks=BANKS, repeated=())
    for part in (part for clip in clips for part in clip.parts if part.instrument in ENSEMBLE):
        starts = Counter(round(x.start_s, 1) for x in part.notes)
        assert (max(starts.values()) >= 2) == ENSEMBLE[part.instrument].chordal


def test_drums_and_cymbals_have_keys_of_their_own() -> None:
    tracks = [draw_tracks(Random(f"{seed}"), 0.5, PERCUSSION) for seed in range(30)]
    drums = {x.key for track in tracks for x in track["drums"]}
    cymbals = {x.key for track in tracks for x in track["cymbals"]}
    assert drums <= {35, 36, 37, 38, 39, 40, 41, 43, 45, 47, 48, 50}
    assert cymbals <= {42, 46, 49, 51, 52, 53, 55, 57, 59}
    for track in tracks:
        for notes in track.values():
            for key in {x.key for x in notes}:
                times = [(x.start_s, x.end_s) for x in notes if x.key == key]
                assert all(end <= start + 0.02 for (_, end), (start, _) in pairwise(times))


def test_sampler_plays_the_key_from_the_nearest_note(tmp_path: Path) -> None:
    time_s = np.arange(44_100) / 44_100
    for name, hertz in (("A3", 220.0), ("As4", 466.16)):
        soundfile.write(tmp_path / f"{name}.mp3", 0.5 * np.sin(2 * np.pi * hertz * time_s), 44_100, format="MP3")
    part = Part("violin", 40, 0, 0.0, 0.0, (Played(1.0, 1.5, 62, 127), Played(2.0, 2.5, 74, 64)))
    played = Sampler({40: tmp_path}, 32_000).play(part, 96_000)
    assert not played[:31_900].any()
    assert not played[54_000:63_900].any()  # 0.12 s after it was let go
    for start, hertz in ((32_000, 293.66), (64_000, 587.33)):
        spectrum = np.abs(np.fft.rfft(played[start : start + 16_000] * np.hanning(16_000)))
        assert abs(np.argmax(spectrum) * 2 - hertz) < 4
    assert 3 < np.abs(played[32_000:48_000]).max() / np.abs(played[64_000:80_000]).max() < 5
    with pytest.raises(WeightsError, match="holds no recorded notes"):
        Sampler({40: tmp_path / "absent"}, 32_000)


def test_labels_come_from_the_stems_and_can_be_hidden(tmp_path: Path) -> None:
    clips = planned()
    stems = {"violin": -20.0, "drums": -80.0}
    rendered = {clip.path: Rendered(clip.path, 1, stems) for clip in clips}
    table = clip_table(scores_card.CARD, tmp_path, clips, rendered, about={}, hidden=("unlabelled",))
    require_valid(table)
    hidden = table.split == "unlabelled"
    assert (table.labels[hidden] == UNKNOWN).all()
    assert present(rendered[clips[0].path], table.classes).sum() == 1
    assert (table.labels[~hidden].sum(axis=0) > 0).tolist() == [name == "violin" for name in table.classes]
    assert "1.0 classes per clip" in summarise(table)
    leaked = replace(table, group=np.array(["one"] * len(table), dtype=object))
    assert any(problem.kind == "group" for problem in check_table(leaked))


def test_digest_of_a_clip_knows_its_own_banks_only() -> None:
    clip = next(clip for clip in planned() if {part.bank for part in clip.parts} == {0})
    files = [Path("a.sf2"), Path("b.sf2")]
    assert clip_digest(clip, files) == clip_digest(clip, [*files[:1], Path("c.sf2")])
    assert clip_digest(clip, files) != clip_digest(clip, [Path("c.sf2")])
    assert clip_digest(clip, files) != clip_digest(replace(clip, peak_db=-3.0), files)


def test_sizes_that_cannot_be() -> None:
    usual = {"train": 3, "unlabelled": 0}
    assert sizes({"unlabelled": 9}, usual) == {"train": 3, "unlabelled": 9}
    with pytest.raises(SettingError, match="no split 'tset' to size; sizes can be given for train, unlabelled"):
        sizes({"tset": 1}, usual)
    with pytest.raises(SettingError, match="train=0: the split train needs 1 clip"):
        sizes({"train": 0}, usual)
    with pytest.raises(SettingError, match="no split 'valid-other' to size"):
        build(clips={"valid-other": 3})


def test_sizes_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for text, said in (("train=many", "written like train=4000"), ("tset=3", "no split 'tset'")):
        with pytest.raises(SystemExit, match="2"):
            main(["-q", "data", "build", "scores", "--clips", text])
        assert said in capsys.readouterr().err


def test_cards_say_where_everything_is_from() -> None:
    assert datasets()["scores"] is scores_card.CARD
    assert set(scores_card.NOTE_PROGRAMS.values()) == {card.filename for card in scores_card.NOTES}
    for card in (scores_card.CORPUS, *scores_card.NOTES, *scores_card.SEEN_BANKS, scores_card.UNSEEN_BANK):
        assert card.sources[0].archive_sha256
        assert len(card.sha256) == 64
        assert card.n_bytes > 0
        assert card.licence
        assert card.citation


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("in the way")
    with pytest.raises(ManifestError, match="cannot be written"):
        _publish_flac(tmp_path / "train" / "0.flac", np.zeros(320, dtype=np.float32))


def test_drafts_of_the_dead_are_removed_and_no_others(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f".0.flac.{ended.pid}.tmp", f".0.flac.{os.getpid()}.tmp", ".mine.tmp", "0.flac"]
    (tmp_path / "audio" / "train").mkdir(parents=True)
    for name in names:
        (tmp_path / "audio" / "train" / name).touch()
    assert render_all([], tmp_path, []) == {}
    assert {path.name for path in (tmp_path / "audio" / "train").iterdir()} == set(names[1:])


def test_processes_that_render_leave_signals_to_the_builder() -> None:
    with make_pool(1, _start_worker, []) as pool:
        pid = pool.submit(os.getpid).result(timeout=60)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert pool.submit(os.getpid).result(timeout=60) == pid


def test_without_any_heard_bank_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    said: list[Event] = []
    with pytest.raises(WeightsError, match="None of the sound banks heard in training could be had"):
        _fetch_banks(offline=True, listener=said.append)
    assert ["training does without it" in str(event) for event in said] == [True, True]


@pytest.mark.weights
def test_what_follows_from_an_absent_bank_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = fetch(scores_card.SEEN_BANKS[0])
    (tmp_path / bank.parent.name).mkdir()
    (tmp_path / bank.parent.name / bank.name).symlink_to(bank)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    said: list[Event] = []
    found = _fetch_banks(offline=True, listener=said.append)
    assert [bank.name for bank, _ in found.seen] == ["timgm6mb"]
    assert not found.repeating
    text = " ".join(map(str, said))
    assert "merlin could not be had, so that there is no split valid-other" in text
    assert "fluidr3mono could not be had, so that there is no split test-unseen" in text
    assert "heard in training: timgm6mb; no others" in text


@pytest.mark.weights
def test_build_grows_and_hides(tmp_path: Path) -> None:
    clips = {"train": 6, "valid": 2, "test": 2}
    table = build(folder=tmp_path, clips=clips, n_workers=1)
    require_valid(table, audio=True)
    assert Counter(table.split) == clips | {"valid-other": 2, "test-unseen": 2}
    levels = [np.abs(soundfile.read(table.audio_path(row), dtype="float32")[0]).max() for row in range(len(table))]
    assert min(levels) > 0.4
    assert max(levels) < 0.95
    content = {path: (tmp_path / "audio" / path).read_bytes() for path in table.path}
    events: list[Event] = []
    grown = build(folder=tmp_path, clips=clips | {"unlabelled": 3}, n_workers=1, listener=events.append)
    assert [event.amount for event in events if isinstance(event, TaskAdvanced) and event.task == "scores"] == [14, 3]
    assert (grown.labels[grown.split == "unlabelled"] == UNKNOWN).all()
    assert content == {path: (tmp_path / "audio" / path).read_bytes() for path in table.path}
    lines = (tmp_path / JOURNAL).read_text().splitlines()
    assert len(lines) == 17
    assert all(json.loads(line)["stems"] for line in lines)
    first = tmp_path / "audio" / str(table.path[0])
    first.write_bytes(b"")
    assert build(folder=tmp_path, clips=clips, n_workers=1).digest() == table.digest()
    assert first.read_bytes() == content[str(table.path[0])]


def test_options_of_a_dataset_that_is_not_rendered() -> None:
    name = next(name for name, card in datasets().items() if not card.can_build)
    with pytest.raises(SettingError, match="is not rendered here, so that --seed, --workers says nothing"):
        build_dataset(name, folder=Path("somewhere"), seed=3, n_workers=2, clips=None)
