"""OpenMIC-2018: what it is and where to get it.

Sources: Zenodo record 1432913; Humphrey, Durand, McFee, ISMIR 2018.
"""

from __future__ import annotations

from pipeline.cards import DatasetCard, OptionCard

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
    "mandolin",
    "organ",
    "piano",
    "saxophone",
    "synthesizer",
    "trombone",
    "trumpet",
    "ukulele",
    "violin",
    "voice",
)

OPENMIC = DatasetCard(
    name="openmic",
    version="1.0.0",
    summary="OpenMIC-2018: 20,000 clips of 10 s, 20 instruments, most labels unknown; you have the files",
    builder="pipeline.datasets.openmic:build",
    task="multi-label",
    classes=CLASSES,
    licence="CC-BY-4.0",
    citation=(
        "E. J. Humphrey, S. Durand, B. McFee: OpenMIC-2018, an open data-set for multiple instrument recognition, "
        "ISMIR 2018"
    ),
    source="https://zenodo.org/records/1432913 (openmic-2018-v1.0.0.tgz, 2.6 GB)",
    split_rule="split01: train and test are the dataset's own; valid is held out of train",
    checksums={"openmic-2018-v1.0.0.tgz": "md5:e4ccf187e2bb5ab2e115416e8aafe7f4"},
    options=(
        OptionCard("valid", 0.15, "Share of train that is held out for validation, 0 for none"),
        OptionCard("seed", 1223, "Decides which clips are held out"),
        OptionCard("grouped", True, "Hold out whole artists; false draws single clips, as the paper does"),
        OptionCard("labels", "both", "Where labels are read; both must agree", ("both", "csv", "npz")),
    ),
)

CARDS = (OPENMIC,)
