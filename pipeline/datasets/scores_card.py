"""Scores of many composers on random instruments: the larger dataset built here, and its sources.

Scores: music21's corpus.  Sounds: General MIDI banks and single recorded notes.  TimGM6mb,
GeneralUser GS and the tonejs notes are heard in training, Merlin only in ``valid-other``, FluidR3
only in ``test-unseen``.  These are real notes played by real recorded samples; they are not
recorded performances.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.cards import DatasetCard, Source, WeightsCard
from pipeline.datasets.chorales_card import FLUIDR3, GENERALUSER, MERLIN, SCORES, TIMGM

CORPUS = WeightsCard(
    name="music21-corpus",
    filename="corpus",
    n_bytes=60_413_009,
    sha256="f843615edfb7a4f6fef13b3cc2824422e1da24e34f5326b170e9e52ecffdd855",
    sources=(
        Source(
            kind="pypi",
            package="music21",
            version="10.5.1",
            member="music21/corpus/",
            archive_sha256=SCORES.sources[0].archive_sha256,
        ),
    ),
    licence="music in the public domain; encodings distributed with the permission of their encoders, "
    "some for non-commercial use only",
    citation=SCORES.citation,
    note="Scores in MusicXML, Humdrum and ABC; the package itself is not needed.",
)

_TONEJS = (
    ("bass-electric", "1.1.2", 5051078, "d21516704e15b9d7b2169b3f83abbec27a68113fce17f367856b753da0dcba0c",
     "7325081bfa65c00e33bf1d313ad426f55b84cffbcd80eaa992e24a1be8aee93c"),
    ("cello", "1.1.1", 2817681, "9a6bce27c58f7a5af6ff83330f010678b312decd98ca8268884e8b233645978e",
     "faddba054246478b8074d5f8b0182640b7f80caab457d580042a3db16d6b2192"),
    ("clarinet", "1.1.2", 2765690, "c27829b4afc60b92e87d170ea04b87eb8e2719305f691e6f14b5028b2c244b48",
     "fb2dd7ffb98f902bb4ad307d2eb4ea1ccca2963f0db04f805d5ebfade94ed55e"),
    ("contrabass", "1.1.2", 2993766, "66dfb52180f0907b0adaf0fc840b1e8fbd80d6470590b6b2b0526cde48660591",
     "105a41e16e413ba3d0db2488e0012d449ff9b99eeff90cd2ed902c4ee3114faa"),
    ("flute", "1.1.2", 1770200, "7c9389fd91b53215d0e5182c4c5df650b873f85dbcb20bece75c76d75819a800",
     "d31e8938982200c3a7b295945a2526752f62f3779f1c71ae6be1f0cc96369396"),
    ("guitar-acoustic", "1.1.2", 6978178, "5c84efe5b11e0187a44b8528f8810458beb0ce1125c2cb48187adcbab6e419c4",
     "8e8708d63a7a24854781a74202742f8130eca5a68e9880cb8c95db2e9c0705ff"),
    ("guitar-electric", "1.1.1", 1748948, "77633bdfd8e76a056dee2829a39c62d46b50a4005f94ce2e4f83ae819b8cef51",
     "166600df07ea0deb369b195be08d198f21da3318bf29765dd35a0800ef61b070"),
    ("guitar-nylon", "1.1.1", 2385205, "a58eb7a7530a623d082838bd483dba1ae376c55eafa7a8f747e07713adfa3dc2",
     "87328e71336dd5ef6cae0f24e3b8065302df986c914a799917fb45596e521aaa"),
    ("organ", "1.1.1", 6216919, "f4efef08a8ef272aa84330252dab0182b7bf7a5d46b8e8d0fad669551ea2c305",
     "b8268276de3d1f514cea405636aee1d977e33ce6ea531bfd262d23056d4489e1"),
    ("piano", "1.1.2", 15612287, "2966ae69bb350b08f26249445a81dd6185b456b79ebde4a5f4603b8c537dc293",
     "d564aa1c9cb691aa6816052924568cf40033ee5be3e32852872b4dcf93ecb446"),
    ("saxophone", "1.1.2", 4662134, "f478e8cfdd8c071f28a9d7ae7247e97f27845d107eb90536a6d245c27830ab51",
     "5871de2f8445199495d1cf2d6a404c4159807b9681197c9fb7fc1555934e3bbc"),
    ("trombone", "1.1.2", 5229436, "f9d5cc54adca3c0debc08b725dce7c0ba6c0b4875af36091b023b391bff14558",
     "44c2d798aa41491d7b597d7213c969326f2477fec0f498ed221bdbafed25e46b"),
    ("trumpet", "1.1.2", 1558737, "84d62510bafd3c6ba8f43f51faabb2e14fc394cc9a3a4d55d0325a90bf1504c7",
     "da360305defe60c3f92470d44264738aa13279c60b074fb8f10e1286c5cc7355"),
    ("violin", "1.1.1", 4836796, "71059e7a31da7dd64a69065c29abf02ad0d81a3a389ff54e67210e23b1556f0e",
     "9e6cd2495e894adbed3b55061871711bc888cdf44209ee6164b70adfa0b7764c"),
    ("xylophone", "1.1.2", 423552, "126585a0721b12ad96d295c24e097af0ad5b6809d05be68f03bd1f76e3c781d6",
     "c844fd335174b767856d05af77621b00077b885f3af8704dbf5d381ed6ee5505"),
)  # fmt: skip


def _notes_card(name: str, version: str, n_bytes: int, sha256: str, archive_sha256: str) -> WeightsCard:
    package = f"tonejs-instrument-{name}-mp3"
    return WeightsCard(
        name=f"tonejs-{name}",
        filename=name,
        n_bytes=n_bytes,
        sha256=sha256,
        sources=(Source("npm", package, version, member="package/", archive_sha256=archive_sha256),),
        licence="CC-BY-3.0",
        citation="N. P. Brosowsky and contributors: tonejs-instruments, samples under CC BY 3.0",
        note="Single recorded notes of one instrument.",
    )


NOTES = tuple(_notes_card(*row) for row in _TONEJS)

#: Which of the recorded instruments stands for which General MIDI program.
NOTE_PROGRAMS: Mapping[int, str] = MappingProxyType(
    {0: "piano", 1: "piano", 13: "xylophone", 19: "organ", 24: "guitar-nylon", 25: "guitar-acoustic"}
    | {26: "guitar-electric", 27: "guitar-electric", 32: "contrabass", 33: "bass-electric", 34: "bass-electric"}
    | {35: "bass-electric", 40: "violin", 42: "cello", 56: "trumpet", 57: "trombone"}
    | {64: "saxophone", 65: "saxophone", 66: "saxophone", 71: "clarinet", 73: "flute"}
)

SEEN_BANKS = (TIMGM, GENERALUSER)
OTHER_BANK = MERLIN
UNSEEN_BANK = FLUIDR3

CLASSES = (
    "accordion",
    "banjo",
    "bass",
    "cello",
    "clarinet",
    "cymbals",
    "drums",
    "flute",
    "guitar",
    "mallet_percussion",
    "organ",
    "piano",
    "saxophone",
    "synthesizer",
    "trombone",
    "trumpet",
    "violin",
    "voice",
)

CARD = DatasetCard(
    name="scores",
    version="1",
    summary="Scores of many composers on random instruments, 10 s clips, 18 classes as in OpenMIC; built here",
    builder="pipeline.datasets.scores:build",
    task="multi-label",
    classes=CLASSES,
    licence="scores: public domain, some encodings for non-commercial use; sounds: rendered with banks under "
    "GPL-2.0, GPL-3.0, MIT and free-use licences and with notes under CC-BY-3.0",
    citation=CORPUS.citation,
    source="rendered from music21's corpus with TimGM6mb, GeneralUser GS and tonejs-instruments; "
    "valid-other with Merlin, test-unseen with FluidR3",
    split_rule="by work: a quartet, a mass, all settings of one melody are in one split; valid-other and "
    "test-unseen repeat the clips of valid and test in other banks",
    can_build=True,
)

CARDS = (CARD,)
